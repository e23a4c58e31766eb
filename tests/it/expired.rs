//! Everything has expired: nobody talks with anybody, so everything is replaced and switched at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::program::{Program, says};
use journal::{Moment, NoTripwire, Why};
use runner::events::EndState;
use sandbox::world::kube::{Kube, PODS, TIDB_CLUSTERS};
use sandbox::world::{Expired, Fault, Options as WorldOptions, Scenario, json as js};
use stdlib::cert::{Certificate, parse_many};

use crate::lab::{Lab, START, StopAt, virtual_time};
use tests::hands::{COMPONENTS, Hands, secret_name};

const WORKFLOW: &str = "tidb/cfssl-expired";
const FORCE: &str = "tidb.pingcap.com/force-upgrade";

async fn lab(seed: u64, expired: Expired) -> Lab {
    let scenario = Scenario { expired, ..Scenario::default() };
    let lab =
        Lab::with(WorldOptions { scenario, start: Some(START), ..WorldOptions::in_process(seed) }).await;
    lab.world.set_fault(Fault::NoRestarts);
    lab
}

/// The uids of the pods of PD, TiKV and TiDB.
async fn servers(lab: &Lab) -> BTreeMap<String, String> {
    let pods = lab.kube().list(PODS, "tidb").await.unwrap().0;
    let servers = pods.iter().filter(|pod| js::label(pod, "app.kubernetes.io/component") != "client");
    servers.map(|pod| (js::name(pod).to_owned(), js::uid(pod).to_owned())).collect()
}

/// How often the run deletes each pod.
fn deletions(lab: &Lab) -> Arc<Mutex<BTreeMap<String, usize>>> {
    let counted = Arc::<Mutex<BTreeMap<String, usize>>>::default();
    let log = Arc::clone(&counted);
    lab.world.server().unwrap().on_request(Arc::new(move |asked| {
        if asked.user == "system:admin" && asked.verb == "delete" && asked.resource == "pods" {
            *log.lock().unwrap().entry(asked.name.clone()).or_default() += 1;
        }
    }));
    counted
}

/// Everybody serves a certificate of the folder's CA, trusts it alone, and talks with everybody.
async fn is_well(lab: &Lab) -> Certificate {
    lab.world.steady(Duration::from_secs(600)).await.unwrap();
    let end = lab.world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let ca = Certificate::from_pem(&lab.pki_file("ca.pem"), "ca.pem").unwrap();
    let now = lab.world.clock().now();
    let secrets = lab.secrets().await;
    for component in COMPONENTS {
        let secret = &secrets[&secret_name(component)];
        let trusted = parse_many(&secret["ca.crt"], component).unwrap();
        assert_eq!((trusted.len(), &trusted[0]), (1, &ca), "{component}");
        let leaf = &parse_many(&secret["tls.crt"], component).unwrap()[0];
        leaf.check_signed_by(&ca).unwrap();
        leaf.check_valid_at(now).unwrap();
    }
    let cluster = lab.kube().get(TIDB_CLUSTERS, "tidb", "basic").await.unwrap().unwrap();
    assert_eq!(js::annotation(&cluster, FORCE), "", "the operator upgrades as it always does");
    ca
}

#[test]
fn a_cluster_in_which_everything_has_expired_is_brought_back() {
    virtual_time(async {
        let lab = lab(1, Expired::Everything).await;
        assert!(!lab.world.end_state().await.holds(), "nobody talks with anybody");
        let refused = lab.forward("tidb/cfssl-rotate", &[]).await.unwrap_err();
        assert!(refused.to_string().contains("expired"), "{refused}");

        let (before, deleted) = (servers(&lab).await, deletions(&lab));
        let old = lab.world.pki().authority().0;
        let ending = lab.forward(WORKFLOW, &[]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        assert_ne!(is_well(&lab).await, old, "a CA that has expired is replaced");
        let after = servers(&lab).await;
        assert!(before.keys().eq(after.keys()) && before.iter().all(|(pod, uid)| after[pod] != *uid));
        assert!(deleted.lock().unwrap().values().all(|times| *times == 1), "{deleted:?}");

        let loaded = lab.store().load(&lab.store().list().unwrap().pop().unwrap()).unwrap();
        let notes = loaded.records.iter().map(|record| serde_json::to_value(&record.event).unwrap());
        let notes: Vec<String> =
            notes.filter(|e| e["type"] == "note").map(|e| e["text"].as_str().unwrap().to_owned()).collect();
        let told = notes.iter().find(|note| note.contains("the outage of phase `replace` lasted")).unwrap();
        let seconds: f64 = told.split(' ').find_map(|word| word.parse().ok()).unwrap();
        assert!((1.0..600.0).contains(&seconds), "{told}");

        // A rotation begins again from here.
        let ending = lab.forward("tidb/cfssl-rotate", &[("remove_old_ca", "true")]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    });
}

#[test]
fn where_only_certificates_have_expired_the_ca_stays() {
    virtual_time(async {
        let lab = lab(2, Expired::Leaves).await;
        let ending = lab.forward(WORKFLOW, &[]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        assert_eq!(is_well(&lab).await, lab.world.pki().authority().0);
    });
}

#[test]
fn stopped_anywhere_it_goes_on_and_deletes_no_pod_twice() {
    let records = virtual_time(async {
        let lab = lab(3, Expired::Everything).await;
        let ending = lab.forward(WORKFLOW, &[]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        ending.head.size
    });
    let all = std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all");
    // Each pod is one record; among these are places before, between and after them.
    for stop in (5..records - 3).step_by(if all { 1 } else { 12 }) {
        virtual_time(async {
            let lab = lab(3, Expired::Everything).await;
            let deleted = deletions(&lab);
            let tripwire = Arc::new(StopAt(stop, Moment::AfterSync));
            let stopped = lab.run(&lab.workflow(WORKFLOW), &[], tripwire).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{stop}: {:?}", stopped.failure);
            lab.die();
            let done = lab.open(Why::Resume).unwrap().resume().await;
            assert_eq!(done.state, EndState::Done, "{stop}: {:?}", done.failure);
            is_well(&lab).await;
            let deleted = deleted.lock().unwrap().clone();
            assert!(deleted.len() == 8 && deleted.values().all(|times| *times == 1), "{stop}: {deleted:?}");
        });
    }
}

#[test]
fn there_is_nothing_to_go_back_to_and_nothing_to_do_where_nothing_has_expired() {
    virtual_time(async {
        let lab = lab(4, Expired::Everything).await;
        let tripwire = Arc::new(StopAt(30, Moment::AfterSync));
        let stopped = lab.run(&lab.workflow(WORKFLOW), &[], tripwire).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        let told = match lab.open(Why::Rollback) {
            Err(refused) => refused.to_string(),
            Ok(run) => run.back("test").await.failure.unwrap().to_string(),
        };
        assert!(told.contains("only goes forward"), "{told}");
    });
    virtual_time(async {
        let lab = Lab::new(5).await;
        let refused = lab.run(&lab.workflow(WORKFLOW), &[], Arc::new(NoTripwire)).await.unwrap_err();
        assert!(refused.to_string().contains("none of its certificates has expired"), "{refused}");
    });
}

/// Why it is not done one by one: the first pod that starts afresh is refused by all the others, and waits for ever.
#[test]
fn one_after_the_other_they_wait_for_ever() {
    virtual_time(async {
        let lab = lab(6, Expired::Everything).await;
        let ca = tests::hands::Authority::make(lab.world.clock().now());
        for component in COMPONENTS {
            let (cert, key) = ca.issue(component, lab.world.clock().now());
            let bundle = ca.cert.pem().into_bytes();
            lab.patch(component, &[("ca.crt", &bundle), ("tls.crt", &cert), ("tls.key", &key)]).await;
        }
        let kube: Kube = lab.kube();
        let pod = kube.get(PODS, "tidb", "basic-tikv-0").await.unwrap().unwrap();
        kube.delete(PODS, ("tidb", "basic-tikv-0"), js::uid(&pod), None).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let pod = kube.get(PODS, "tidb", "basic-tikv-0").await.unwrap().unwrap();
        assert!(!js::ready(&pod), "an hour later it still waits");
    });
}

#[test]
fn one_command_shows_it() {
    let person = Program::new();
    let said = person.types(&["run", WORKFLOW, "--sandbox", "--yes", "--accept-outage"]);
    says(&said, 0, &["expired", "the outage of phase `replace` lasted", "Done."]);
    says(&person.types(&["sandbox", "stop"]), 0, &[]);
}
