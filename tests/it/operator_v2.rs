//! A TiDB cluster of operator v2: groups without StatefulSets, and an operator that keeps the client with which it asks PD.
//!
//! The bounded tier stops at a record in each way, `ROLLOVER_TEST_TIER=all` at every one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use journal::{Moment, Why};
use runner::events::EndState;
use sandbox::world::genesis::Pki;
use sandbox::world::json as js;
use sandbox::world::kube::{DEPLOYMENTS, PODS, SECRETS};
use sandbox::world::operator::v2::GROUPS;
use sandbox::world::volume::secret_files;
use sandbox::world::{EndState as WorldState, Memo, Operator, Options as WorldOptions, Scenario, World};
use serde_json::{Value, json};
use stdlib::world::Disk as _;

use crate::lab::{Lab, PKI, START, StopAt, virtual_time};

const WORKFLOW: &str = "tidb/cfssl-rotate";
const SET: &[(&str, &str)] = &[("operator", "v2"), ("remove_old_ca", "true")];
const V2: &[(&str, &str)] = &[("operator", "v2")];

/// Whether everything is tried, however long it takes.
fn all() -> bool {
    std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all")
}

fn scenario() -> Scenario {
    Scenario { operator: Operator::V2, ..Scenario::default() }
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

/// What is presented and trusted by the pods of each component.
fn served(state: &WorldState) -> BTreeSet<(String, Vec<String>, Vec<String>)> {
    let told = |pod: &sandbox::world::Served| (pod.component.clone(), pod.chain.clone(), pod.anchors.clone());
    state.pods.values().map(told).collect()
}

/// Secrets' files, and those of the PKI folder that do not lie in a folder of old ones.
async fn files(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let secrets = lab.kube().list(SECRETS, "tidb").await.unwrap().0;
    let mut files: BTreeMap<String, Vec<u8>> = secrets
        .iter()
        .flat_map(|secret| {
            let name = js::name(secret).to_owned();
            secret_files(secret).into_iter().map(move |(file, bytes)| (format!("{name}/{file}"), bytes))
        })
        .collect();
    for name in ["ca.pem", "ca-key.pem", "pd-server.pem", "tikv-server-key.pem", "client.pem"] {
        files.insert(name.into(), lab.disk.read(&Path::new(PKI).join(name)).unwrap());
    }
    files
}

async fn sound(lab: &Lab) -> WorldState {
    lab.world.steady(std::time::Duration::from_secs(3600)).await.unwrap();
    let end = lab.world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let counters = lab.world.counters();
    assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    end
}

async fn forward(lab: &Lab, name: &str, set: &[(&str, &str)]) {
    let ending = lab.forward(name, set).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{name}: {:?}", ending.failure);
}

/// The names and uids of the pods of a namespace.
async fn pods(lab: &Lab, namespace: &str) -> BTreeMap<String, String> {
    let pods = lab.kube().list(PODS, namespace).await.unwrap().0;
    pods.iter().map(|pod| (js::name(pod).to_owned(), js::uid(pod).to_owned())).collect()
}

#[test]
fn the_ca_is_replaced_there_and_back_and_no_handshake_is_refused() {
    virtual_time(async {
        let lab = lab(1).await;
        let (before, files_before) = (sound(&lab).await, files(&lab).await);
        let (pods_before, operator) = (pods(&lab, "tidb").await, pods(&lab, "tidb-admin").await);
        assert!(pods_before.keys().any(|name| name.starts_with("pd-pd-")), "{pods_before:?}");
        forward(&lab, WORKFLOW, SET).await;
        let after = sound(&lab).await;
        for (pod, served) in &after.pods {
            assert!(before.pods.values().all(|old| old.chain != served.chain), "{pod} has a new certificate");
            assert_eq!(served.anchors.len(), 1, "{pod} trusts the new CA alone");
        }
        let pods_after = pods(&lab, "tidb").await;
        let of_groups = |pods: &BTreeMap<String, String>| {
            pods.keys().filter(|name| !name.starts_with("basic-client")).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of_groups(&pods_before), of_groups(&pods_after), "pods keep their names");
        assert!(
            pods_after.values().all(|uid| !pods_before.values().any(|old| old == uid)),
            "and are new ones"
        );
        assert_ne!(operator, pods(&lab, "tidb-admin").await, "the operator was restarted");

        let back = lab.open(Why::Rollback).unwrap().back("test").await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        assert_eq!(served(&sound(&lab).await), served(&before), "the original certificates are served");
        assert_eq!(files(&lab).await, files_before);
    });
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
        for (pod, served) in sound(&lab).await.pods {
            assert!(before.pods.values().all(|old| old.chain != served.chain), "{pod} has a new certificate");
            assert_eq!(served.anchors.len(), 1, "{pod} trusts the new CA alone");
        }
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
            for (pod, served) in sound(&lab).await.pods {
                assert!(before.pods.values().all(|old| old.chain != served.chain), "{context}: {pod}");
                assert_eq!(served.anchors.len(), 1, "{context}: {pod}");
            }
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
        assert!(lab.world.steady(std::time::Duration::from_secs(600)).await.is_err());
        lab.restart_operator().await;
        lab.world.steady(std::time::Duration::from_secs(600)).await.unwrap();
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
        tokio::time::sleep(std::time::Duration::from_secs(120)).await;
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
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let client = lab.kube().get(SECRETS, "tidb", "basic-cluster-client-secret").await.unwrap().unwrap();
        let other = lab.kube().get(SECRETS, "tidb", "tikv-tikv-cluster-secret").await.unwrap().unwrap();
        let data = json!({ "tls.crt": other["data"]["tls.crt"], "tls.key": other["data"]["tls.key"] });
        let at = ("tidb", js::name(&client));
        lab.kube().merge(SECRETS, at, "", &json!({ "data": data })).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(180)).await;
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
    virtual_time(async {
        let lab = lab(8).await;
        let whole = json!({ "version": "v8.5.0",
            "volumes": [{ "name": "data", "mounts": [{ "type": "data" }], "storage": "10Gi" }] });
        let refused = async |spec: Value, replicas: Value| {
            let spec =
                json!({ "cluster": { "name": "basic" }, "replicas": replicas, "template": { "spec": spec } });
            let group = json!({ "metadata": { "name": "other" }, "spec": spec });
            match lab.kube().create(GROUPS[0].group, "tidb", group).await {
                Err(kube::Error::Api(said)) => format!("{} {}", said.code, said.message),
                answer => panic!("{answer:?}"),
            }
        };
        let without = |key: &str| {
            let mut spec = whole.clone();
            spec.as_object_mut().unwrap().remove(key);
            spec
        };
        for (spec, replicas, why) in [
            (without("version"), json!(1), "spec.template.spec.version"),
            (without("volumes"), json!(1), "spec.template.spec.volumes"),
            (whole.clone(), json!("three"), "spec.replicas"),
            (whole.clone(), json!(-1), "spec.replicas"),
        ] {
            let said = refused(spec, replicas).await;
            assert!(said.starts_with("422") && said.contains(why), "{said}");
        }
    });
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
        tokio::time::sleep(std::time::Duration::from_secs(120)).await;
        let before = sound(&lab).await;
        let told =
            |state: &WorldState| state.pods.keys().filter(|name| name.starts_with("read-tidb-")).count();
        assert_eq!(told(&before), 2, "{:?}", before.pods.keys());
        forward(&lab, WORKFLOW, SET).await;
        for (pod, served) in sound(&lab).await.pods {
            assert!(before.pods.values().all(|old| old.chain != served.chain), "{pod} has a new certificate");
            assert_eq!(served.anchors.len(), 1, "{pod} trusts the new CA alone");
        }
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
