//! A TiDB cluster of operator v2: groups without StatefulSets, and an operator that keeps the client with which it asks PD.
//!
//! The bounded tier stops at a record in each way, `ROLLOVER_TEST_TIER=all` at every one.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use journal::{Moment, Why};
use runner::events::EndState;
use sandbox::world::genesis::Pki;
use sandbox::world::json as js;
use sandbox::world::kube::{DEPLOYMENTS, Kube, PODS, SECRETS};
use sandbox::world::operator::v2::GROUPS;
use sandbox::world::{EndState as WorldState, Fault, Memo, Options as WorldOptions, Scenario, World};
use serde_json::json;
use stdlib::world::Disk as _;
use tests::operator_v2::{
    self as stories, SET, SQL, V2, WORKFLOW, files, forward, renewed, scenario, served, sound, there_and_back,
};

use crate::lab::{Lab, PKI, START, StopAt, virtual_time};
use crate::stage::{SQL_PKI, with};
use tests::hands::Hands;

/// Whether everything is tried, however long it takes.
pub(crate) fn all() -> bool {
    std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all")
}

async fn lab(seed: u64) -> Lab {
    static MADE: OnceLock<Pki> = OnceLock::new();
    let pki = MADE.get_or_init(|| Pki::make(&scenario(), START).unwrap()).clone();
    let options = |memo| WorldOptions {
        scenario: scenario(),
        pki: Some(pki.clone()),
        start: Some(START),
        memo: Some(memo),
        ..WorldOptions::in_process(seed)
    };
    // What a world learns of the handshakes that it begins with is the same for all.
    static MEMO: OnceLock<Arc<Memo>> = OnceLock::new();
    let known = match MEMO.get() {
        Some(known) => known,
        None => {
            let learnt = Arc::<Memo>::default();
            drop(World::start(options(learnt.clone())).await.unwrap().end_state().await);
            MEMO.get_or_init(|| learnt)
        }
    };
    Lab::with(options(Arc::new(known.fork()))).await
}

/// Another beginning, in which everything is measured afresh.
pub(crate) async fn lab_of(seed: u64, scenario: Scenario) -> Lab {
    let mut lab =
        Lab::with(WorldOptions { scenario, start: Some(START), ..WorldOptions::in_process(seed) }).await;
    lab.outage = true;
    lab.world.set_fault(Fault::NoRestarts);
    if let Some(sql) = lab.world.pki().sql() {
        sql.write(&*lab.disk, Path::new(SQL_PKI)).unwrap();
    }
    lab
}

#[test]
fn the_ca_is_replaced_there_and_back_and_no_handshake_is_refused() {
    virtual_time(async { there_and_back(&lab(1).await).await });
}

/// Pods restart by themselves, often enough that one always might be. A run begins a moment later then, and is refused
/// only where nobody comes back.
#[test]
fn a_run_waits_a_moment_for_a_pod_that_has_just_gone_by_itself() {
    virtual_time(async {
        let lab = lab_of(14, scenario()).await;
        let pod = a_pod_of_pd_goes(&lab).await;
        forward(&lab, "tidb/cfssl-components", V2).await;

        lab.world.set_fault(Fault::NeverReady { pod });
        a_pod_of_pd_goes(&lab).await;
        let refused = Lab::forward(&lab, "tidb/cfssl-components", V2).await.unwrap_err();
        assert!(
            refused.to_string().contains("the cluster is not ready (pd: readyReplicas is 2"),
            "{refused}"
        );
    });
}

/// Deletes the first pod of PD, which comes back under its name, and waits until the operator misses it.
async fn a_pod_of_pd_goes(lab: &Lab) -> String {
    let kube = Kube::new(lab.world.client());
    let pods = kube.list(PODS, "tidb").await.unwrap().0;
    let pod = pods.iter().find(|pod| js::name(pod).contains("-pd-")).unwrap();
    kube.delete(PODS, ("tidb", js::name(pod)), js::uid(pod), None).await.unwrap();
    for _ in 0..1_000 {
        let group = kube.list(GROUPS[0].group, "tidb").await.unwrap().0.remove(0);
        if js::number(&group, "/status/readyReplicas") != Some(3) {
            return js::name(pod).to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody misses {}", js::name(pod));
}

#[test]
fn the_parts_of_the_page_one_after_the_other_replace_the_ca_too() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    virtual_time(async {
        let lab = lab(2).await;
        let before = sound(&lab).await;
        for name in ["tidb/cfssl-ca", "tidb/cfssl-components", "tidb/cfssl-remove-old-ca"] {
            forward(&lab, name, V2).await;
        }
        renewed(&before, &sound(&lab).await);
    });
}

#[test]
fn a_cluster_in_which_everything_has_expired_is_brought_back() {
    virtual_time(async { stories::brought_back(&lab_of(10, stories::expired()).await).await });
}

#[test]
fn brought_back_it_goes_on_wherever_it_was_stopped() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    let records = virtual_time(async { stories::brought_back(&lab_of(11, stories::expired()).await).await });
    for record in (5..records - 3).step_by(7) {
        virtual_time(async {
            stories::brought_back_after(&lab_of(11, stories::expired()).await, record).await;
        });
    }
}

/// Whoever does not restart the operator waits for TiKV for ever.
#[test]
fn trap_an_operator_that_keeps_its_client_makes_no_store_anew() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    virtual_time(async {
        let lab = lab_of(12, stories::expired()).await;
        let mut workflow = lab.workflow(stories::EXPIRED);
        let (call, mut cut) = ("    restart_operator(job, p, options.deadline);\n", 0);
        for text in workflow.sources.files.values_mut() {
            cut += text.matches(call).count();
            *text = text.replace(call, "");
        }
        assert_eq!(cut, 1);
        let ending = lab.run(&workflow, V2, Arc::new(journal::NoTripwire)).await.unwrap();
        assert_ne!(ending.state, EndState::Done);
        let there = stories::pods(&lab, "tidb").await;
        let count = |stem: &str| there.keys().filter(|name| name.starts_with(stem)).count();
        assert_eq!((count("pd-pd-"), count("tikv-tikv-")), (3, 0), "{there:?}: {:?}", ending.failure);
        lab.restart_operator().await;
        lab.world.steady(Duration::from_secs(600)).await.unwrap();
    });
}

#[test]
fn the_documented_way_to_a_ca_of_cert_manager_goes_there_and_back() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    virtual_time(async {
        stories::issued_there_and_back(
            &lab_of(13, stories::with_cert_manager()).await,
            "tidb/cert-manager-ca",
            true,
        )
        .await;
    });
}

#[test]
fn a_ca_of_cert_manager_is_replaced_without_a_gap_there_and_back() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    virtual_time(async {
        let lab = lab_of(14, stories::with_cert_manager()).await;
        stories::issued_there_and_back(&lab, "tidb/cert-manager-ca-gapless", false).await;
    });
}

#[test]
fn leaves_that_cert_manager_keeps_are_renewed_and_taken_back() {
    virtual_time(async {
        let lab = lab_of(15, stories::with_cert_manager()).await;
        if all() {
            stories::issued_there_and_back(&lab, "tidb/cert-manager-components", false).await;
        } else {
            stories::issued(&lab, "tidb/cert-manager-components").await;
        }
    });
}

#[test]
fn the_mysql_side_of_a_group_gets_a_new_ca_there_and_back() {
    virtual_time(async { stories::sql_there_and_back(&lab_of(16, stories::with_sql()).await).await });
}

#[test]
fn the_mysql_side_of_a_group_is_renewed_by_a_rolling_restart() {
    virtual_time(async { stories::sql_by_restart(&lab_of(17, stories::with_sql()).await).await });
}

#[test]
fn of_several_groups_with_a_mysql_side_one_is_to_be_named() {
    virtual_time(async {
        let lab = lab_of(18, stories::with_sql()).await;
        let kube = lab.kube();
        let tidb = GROUPS.iter().find(|group| group.component == "tidb").unwrap().group;
        let mut second = kube.get(tidb, "tidb", "tidb").await.unwrap().unwrap();
        second["metadata"] = json!({ "name": "reports" });
        second["spec"]["replicas"] = json!(0);
        second.as_object_mut().unwrap().remove("status");
        kube.create(tidb, "tidb", second).await.unwrap();
        lab.world.steady(Duration::from_secs(600)).await.unwrap();
        let asked = async |group: &'static str| {
            let set = with(&[("operator", "v2"), ("group", group)]);
            lab.plan_with(&lab.workflow(SQL), &set, &lab.eyes()).await
        };
        let several = asked("").await.unwrap_err().to_string();
        assert!(several.contains("several of its TiDB groups") && several.contains("reports"), "{several}");
        let unknown = asked("sales").await.unwrap_err().to_string();
        assert!(unknown.contains("no such TiDB group"), "{unknown}");
        let lacking = asked("reports").await.unwrap_err().to_string();
        assert!(lacking.contains("reports-tidb-server-secret"), "{lacking}");
        asked("tidb").await.unwrap();
    });
}

/// How many records a run has that nothing stops.
fn records() -> u64 {
    static RECORDS: OnceLock<u64> = OnceLock::new();
    *RECORDS.get_or_init(|| {
        let whole = || {
            virtual_time(async {
                let lab = lab(3).await;
                lab.forward(WORKFLOW, SET).await.unwrap().head.size
            })
        };
        std::thread::scope(|scope| scope.spawn(whole).join()).unwrap()
    })
}

/// Stops at a record, and goes on or back as a new process.
fn stopped(seq: u64, why: Why) {
    let context = format!("stopped after record {seq}, then {why:?}");
    virtual_time(async {
        let lab = lab(seq).await;
        let (before, files_before) = (sound(&lab).await, files(&lab).await);
        let stop = Arc::new(StopAt(seq, Moment::AfterSync));
        let first = lab.run(&lab.workflow(WORKFLOW), SET, stop).await.unwrap();
        assert_eq!(first.state, EndState::Killed, "{context}: {:?}", first.failure);
        lab.die();
        let run = lab.open(why).unwrap();
        if why == Why::Resume {
            let ending = run.resume().await;
            assert_eq!(ending.state, EndState::Done, "{context}: {:?}", ending.failure);
            println!("{context}");
            renewed(&before, &sound(&lab).await);
        } else {
            let ending = run.back("test").await;
            assert_eq!(ending.state, EndState::RolledBack, "{context}: {:?}", ending.failure);
            assert_eq!(served(&sound(&lab).await), served(&before), "{context}");
            assert_eq!(files(&lab).await, files_before, "{context}");
        }
    });
}

/// Some records of the run, or all; `offset` tells the ways apart.
fn sampled(offset: u64) -> impl Iterator<Item = u64> {
    let last = records();
    let step = if all() { 1 } else { last };
    (4 + offset.min(step - 1)..last).step_by(usize::try_from(step).unwrap())
}

#[test]
fn stopped_anywhere_a_run_can_be_resumed() {
    sampled(60).for_each(|seq| stopped(seq, Why::Resume));
}

#[test]
fn stopped_anywhere_a_run_can_be_taken_back() {
    sampled(45).for_each(|seq| stopped(seq, Why::Rollback));
}

/// The rotation as somebody would write it who does not know that the operator keeps its client.
fn without_the_operators_restart(lab: &Lab) -> runner::catalog::Workflow {
    let mut workflow = lab.workflow(WORKFLOW);
    let (whole, cut) = (
        "for c in job.components {\n        p.settle(c.component, tidb::rolling_restart(part(c)))",
        "for c in job.components {\n        if c.role != \"tidb-operator-pd\" { p.settle(c.component, tidb::rolling_restart(part(c)))",
    );
    let mut changed = 0;
    for text in workflow.sources.files.values_mut() {
        if text.contains(whole) {
            let rest = ".deadline(options.deadline);";
            let (head, tail) = text.split_once(whole).unwrap();
            let (_, after) = tail.split_once(rest).unwrap();
            *text = format!("{head}{cut}{rest} }}{after}");
            changed += 1;
        }
    }
    assert_eq!(changed, 1, "the module has one place that restarts everything");
    workflow
}

#[test]
fn trap_an_operator_that_keeps_its_client_is_foreseen() {
    virtual_time(async {
        let lab = lab(5).await;
        let workflow = without_the_operators_restart(&lab);
        let ending = lab.run(&workflow, SET, Arc::new(journal::NoTripwire)).await.unwrap();
        assert_ne!(ending.state, EndState::Done, "{ending:?}");
        let why = format!("{:?}", ending.failure);
        assert!(why.contains("switch-leaves") && why.contains("tidb-operator"), "{why}");
        sound(&lab).await;
    });
}

#[test]
fn trap_an_operator_that_keeps_its_client_stops_restarting() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    virtual_time(async {
        let mut lab = lab(6).await;
        lab.forecast = false;
        let workflow = without_the_operators_restart(&lab);
        let ending = lab.run(&workflow, SET, Arc::new(journal::NoTripwire)).await.unwrap();
        assert_ne!(ending.state, EndState::Done, "{ending:?}");
        let why = format!("{:?}", ending.failure);
        assert!(why.contains("perhaps PD refuses the client that it keeps"), "{why}");
        assert!(lab.world.counters().refused > 0, "it was refused, or refused others");
        // It takes what it left half done up again once somebody restarts it.
        assert!(lab.world.steady(Duration::from_secs(600)).await.is_err());
        lab.restart_operator().await;
        lab.world.steady(Duration::from_secs(600)).await.unwrap();
        let end = lab.world.end_state().await;
        assert!(end.holds(), "{:?}", end.broken);
    });
}

impl Lab {
    /// `kubectl --namespace tidb-admin rollout restart deployment/tidb-operator`.
    async fn restart_operator(&self) {
        let marker = json!({ "kubectl.kubernetes.io/restartedAt": "by hand" });
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": marker } } } });
        self.kube().merge(DEPLOYMENTS, ("tidb-admin", "tidb-operator"), "", &patch).await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
}

/// Who gave the clients another certificate by hand did not reach the operator: which one it presents is not known.
#[test]
fn old_certificates_are_not_gone_while_the_operator_may_present_one() {
    virtual_time(async {
        let lab = lab(7).await;
        for name in ["tidb/cfssl-ca", "tidb/cfssl-components"] {
            forward(&lab, name, V2).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let client = lab.kube().get(SECRETS, "tidb", "basic-cluster-client-secret").await.unwrap().unwrap();
        let other = lab.kube().get(SECRETS, "tidb", "tikv-tikv-cluster-secret").await.unwrap().unwrap();
        let data = json!({ "tls.crt": other["data"]["tls.crt"], "tls.key": other["data"]["tls.key"] });
        let at = ("tidb", js::name(&client));
        lab.kube().merge(SECRETS, at, "", &json!({ "data": data })).await.unwrap();
        tokio::time::sleep(Duration::from_secs(180)).await;
        // A pod that has just restarted by itself would refuse the run.
        lab.world.steady(Duration::from_secs(600)).await.unwrap();
        let ending = lab.forward("tidb/cfssl-remove-old-ca", V2).await.unwrap();
        let why = format!("{:?}", ending.failure);
        assert!(why.contains("pod/tidb-operator-") && why.contains("restart it"), "{why}");
        lab.restart_operator().await;
        let done = lab.open(Why::Resume).unwrap().resume().await;
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        sound(&lab).await;
    });
}

#[test]
fn a_group_that_its_schema_does_not_allow_is_refused() {
    virtual_time(async { tests::definitions::groups(&lab(8).await.kube()).await });
}

#[test]
fn a_cluster_that_its_schema_does_not_allow_is_refused() {
    virtual_time(async { tests::definitions::clusters(&Lab::new(12).await.kube()).await });
}

#[test]
fn several_groups_of_one_component_are_several_parties() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    virtual_time(async {
        let lab = lab(9).await;
        // A second group of TiDB, with a Secret and a request of its own.
        let (ca, key) = lab.world.pki().authority();
        let input = |name: &str| {
            sandbox::world::genesis::INPUTS.iter().find(|(known, _)| *known == name).unwrap().1.to_owned()
        };
        let config = stdlib::cfssl::Config::from_json(input("ca-config.json").as_bytes(), "").unwrap();
        for group in ["read", "tidb"] {
            let request = input("tidb-server.json").replace("basic-", &format!("{group}-"));
            let file = Path::new(PKI).join(format!("tidb-{group}-server.json"));
            lab.disk.write_atomic(&file, request.as_bytes(), 0o644).unwrap();
        }
        let request = input("tidb-server.json").replace("basic-", "read-");
        let request = stdlib::cfssl::Request::from_json(request.as_bytes(), "").unwrap();
        let profile = config.profile("internal").unwrap();
        let (cert, leaf_key) =
            stdlib::cfssl::issue(&ca, &key, &request, profile, lab.world.clock().now()).unwrap();
        let coded = |bytes: &[u8]| json!(STANDARD.encode(bytes));
        let secret = json!({
            "metadata": { "name": "read-tidb-cluster-secret" }, "type": "kubernetes.io/tls",
            "data": { "tls.crt": coded(cert.pem().as_bytes()), "ca.crt": coded(ca.pem().as_bytes()),
                "tls.key": coded(leaf_key.to_pem().unwrap().as_bytes()) },
        });
        lab.kube().create(SECRETS, "tidb", secret).await.unwrap();
        let spec = json!({ "cluster": { "name": "basic" }, "replicas": 2, "template": { "spec": { "version": "v8.5.0" } } });
        let group = json!({ "metadata": { "name": "read" }, "spec": spec });
        let tidb = GROUPS.iter().find(|group| group.component == "tidb").unwrap();
        lab.kube().create(tidb.group, "tidb", group).await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let before = sound(&lab).await;
        let told =
            |state: &WorldState| state.pods.keys().filter(|name| name.starts_with("read-tidb-")).count();
        assert_eq!(told(&before), 2, "{:?}", before.pods.keys());
        forward(&lab, WORKFLOW, SET).await;
        renewed(&before, &sound(&lab).await);
    });
}

#[test]
fn a_cluster_of_the_other_operator_is_not_found() {
    virtual_time(async {
        let lab = lab(10).await;
        let refused = lab.forward(WORKFLOW, &[]).await.unwrap_err().to_string();
        assert!(refused.contains("operator v1 is not installed"), "{refused}");
        let elsewhere = [("operator", "v2"), ("operator_namespace", "ops")];
        let refused = lab.forward(WORKFLOW, &elsewhere).await.unwrap_err().to_string();
        assert!(refused.contains("no Deployment of TiDB operator v2"), "{refused}");
        let v1 = Lab::new(11).await;
        let refused = v1.forward(WORKFLOW, V2).await.unwrap_err().to_string();
        assert!(refused.contains("operator v2 is not installed"), "{refused}");
    });
}
