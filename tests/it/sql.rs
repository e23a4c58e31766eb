//! TiDB's MySQL side: its servers' certificate, its clients' and their CA are replaced, by the statement and by restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::program::{Program, says};
use journal::{Direction, Event, Moment, NoTripwire, Tripwire, Why};
use runner::events::EndState;
use sandbox::world::genesis::Pki;
use sandbox::world::kube::{PODS, SECRETS, TIDB_CLUSTERS};
use sandbox::world::memo::Memo;
use sandbox::world::{Fault, Options as WorldOptions, Scenario, json as js};
use serde_json::{Value, json};
use stdlib::cert::{Certificate, parse_many};
use stdlib::world::Disk as _;
use tests::hands::Hands;

use crate::lab::{Lab, START, STATE, StopAt, learnt, virtual_time};

const WORKFLOW: &str = "tidb/server-tls";
const FOLDER: &str = "/srv/sql-pki";
const LOGIN: [(&str, &str); 2] = [("sql_pki", FOLDER), ("login_secret", "basic-tidb-root")];
const REMOVE: (&str, &str) = ("remove_old_ca", "true");
const SECRET: &str = "basic-tidb-server-secret";
const CLIENTS: &str = "basic-tidb-client-secret";

fn all() -> bool {
    std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all")
}

async fn lab(seed: u64) -> Lab {
    let scenario = Scenario { sql_tls: true, ..Scenario::default() };
    static MADE: OnceLock<(Pki, Arc<Memo>)> = OnceLock::new();
    let options = |pki: &Pki| WorldOptions {
        scenario: scenario.clone(),
        pki: Some(pki.clone()),
        start: Some(START),
        ..WorldOptions::in_process(seed)
    };
    let (pki, memo) = MADE.get_or_init(|| {
        let pki = Pki::make(&scenario, START).unwrap();
        let memo = learnt(options(&pki));
        (pki, memo)
    });
    let lab = Lab::with(WorldOptions { memo: Some(Arc::new(memo.fork())), ..options(pki) }).await;
    lab.world.set_fault(Fault::NoRestarts);
    lab.world.pki().sql().unwrap().write(&*lab.disk, Path::new(FOLDER)).unwrap();
    lab
}

fn with<'a>(set: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    LOGIN.iter().chain(set).copied().collect()
}

async fn forward(lab: &Lab, set: &[(&str, &str)]) -> u64 {
    let ending = lab.forward(WORKFLOW, &with(set)).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    ending.head.size
}

/// What the Secrets of the MySQL side hold, what each server presents and trusts there, and the folder.
#[derive(Debug, PartialEq)]
struct Held {
    secrets: BTreeMap<String, Value>,
    served: BTreeMap<String, (Vec<String>, Vec<String>)>,
    folder: BTreeMap<String, Vec<u8>>,
}

async fn held(lab: &Lab) -> Held {
    lab.world.steady(Duration::from_secs(600)).await.unwrap();
    let end = lab.world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let secrets = lab.kube().list(SECRETS, "tidb").await.unwrap().0;
    let ours = secrets.iter().filter(|s| [SECRET, CLIENTS].contains(&js::name(s)));
    let names = lab
        .disk
        .list(Path::new(FOLDER))
        .unwrap()
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "pem"));
    Held {
        secrets: ours.map(|s| (js::name(s).to_owned(), s["data"].clone())).collect(),
        served: end
            .pods
            .iter()
            .filter(|(_, served)| served.component == "tidb-sql")
            .map(|(pod, served)| (pod.clone(), (served.chain.clone(), served.anchors.clone())))
            .collect(),
        folder: names
            .map(|name| (name.clone(), lab.disk.read(&Path::new(FOLDER).join(&name)).unwrap()))
            .collect(),
    }
}

async fn uids(lab: &Lab) -> BTreeMap<String, String> {
    let pods = lab.kube().list(PODS, "tidb").await.unwrap().0;
    let servers = pods.iter().filter(|pod| js::label(pod, "app.kubernetes.io/component") == "tidb");
    servers.map(|pod| (js::name(pod).to_owned(), js::uid(pod).to_owned())).collect()
}

fn bare(certificate: &Certificate) -> String {
    certificate.fingerprint().trim_start_matches("sha256:").to_owned()
}

/// Every server presents what the Secret holds, which the folder's CA has signed, and trusts these many authorities; no
/// handshake was refused meanwhile.
async fn is_well(lab: &Lab, authorities: usize) -> Certificate {
    let now = held(lab).await;
    let ca = Certificate::from_pem(&now.folder["ca.pem"], "ca.pem").unwrap();
    let secrets = lab.secrets().await;
    for (name, file) in [(SECRET, "server.pem"), (CLIENTS, "client.pem")] {
        let leaf = &parse_many(&secrets[name]["tls.crt"], name).unwrap()[0];
        leaf.check_signed_by(&ca).unwrap();
        assert_eq!(*leaf, Certificate::from_pem(&now.folder[file], file).unwrap(), "{file}");
        assert_eq!(parse_many(&secrets[name]["ca.crt"], name).unwrap().len(), authorities, "{name}");
    }
    let leaf = bare(&parse_many(&secrets[SECRET]["tls.crt"], SECRET).unwrap()[0]);
    assert_eq!(now.served.len(), 2);
    for (pod, (chain, anchors)) in &now.served {
        assert_eq!(chain.as_slice(), std::slice::from_ref(&leaf), "{pod}");
        assert_eq!(anchors.len(), authorities, "{pod}");
        assert!(anchors.contains(&bare(&ca)), "{pod}");
    }
    let counters = lab.world.counters();
    assert!(counters.links["sql-client -> tidb"].made > 0);
    assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    ca
}

async fn taken_back(lab: &Lab, what: &str) {
    let back = lab.open(Why::Rollback).unwrap().back("test").await;
    assert_eq!(back.state, EndState::RolledBack, "{what}: {:?}", back.failure);
    assert_eq!(lab.world.counters().refused, 0, "{what}: {:#?}", lab.world.counters().refusals);
}

/// Dies at the end of a phase.
struct AtEndOf(String);

impl Tripwire for AtEndOf {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let over = matches!(event, Event::PhaseEnd(end) if end.phase == self.0 && end.direction == Direction::Forward);
        over && moment == Moment::AfterSync
    }
}

#[test]
fn servers_load_a_new_certificate_by_the_statement_and_none_is_restarted() {
    virtual_time(async {
        let lab = lab(1).await;
        let (before, pods) = (held(&lab).await, uids(&lab).await);
        forward(&lab, &[]).await;
        let ca = is_well(&lab, 1).await;
        assert_eq!(ca.pem().as_bytes(), before.folder["ca.pem"], "the CA stays");
        let after = held(&lab).await;
        assert!(before.served.iter().all(|(pod, (chain, _))| after.served[pod].0 != *chain));
        assert_eq!(uids(&lab).await, pods, "nobody was restarted");
        taken_back(&lab, "from the end").await;
        assert_eq!(held(&lab).await, before);
        assert_eq!(uids(&lab).await, pods);

        // Where the password lies in no Secret it is a parameter, and a handle from there on.
        let password = lab.secrets().await["basic-tidb-root"]["root"].clone();
        let password = String::from_utf8(password).unwrap();
        forward(&lab, &[("login_secret", ""), ("password", &password)]).await;
        is_well(&lab, 1).await;
        let records = lab.store().list().unwrap();
        assert_eq!(records.len(), 2);
        for run in records {
            let journal = Path::new(STATE).join("runs").join(run.as_str()).join("journal.jsonl");
            let journal = String::from_utf8(lab.disk.read(&journal).unwrap()).unwrap();
            assert!(journal.contains("ALTER INSTANCE RELOAD TLS") && !journal.contains(&password));
        }
    });
}

#[test]
fn the_ca_is_replaced_in_five_phases_without_a_restart_of_a_server() {
    virtual_time(async {
        let lab = lab(2).await;
        let (before, pods) = (held(&lab).await, uids(&lab).await);
        forward(&lab, &[REMOVE]).await;
        let ca = is_well(&lab, 1).await;
        assert_ne!(ca.pem().as_bytes(), before.folder["ca.pem"], "the CA is another one");
        assert_eq!(uids(&lab).await, pods, "no server was restarted");
        taken_back(&lab, "from the end").await;
        assert_eq!(held(&lab).await, before);
        if all() {
            // Without removing, both stay trusted.
            forward(&lab, &[("new_ca", "true")]).await;
            is_well(&lab, 2).await;
        }
    });
}

#[test]
fn by_a_rolling_restart_no_account_is_needed() {
    virtual_time(async {
        let lab = lab(3).await;
        let pods = uids(&lab).await;
        forward(&lab, &[REMOVE, ("reload", "restart"), ("login_secret", ""), ("user", "nobody")]).await;
        is_well(&lab, 1).await;
        let now = uids(&lab).await;
        assert!(now.keys().eq(pods.keys()) && pods.iter().all(|(pod, uid)| now[pod] != *uid));
    });
}

#[test]
fn from_the_end_of_each_phase_it_goes_back_and_on() {
    let phases = ["inventory", "trust-both", "switch-leaves", "distrust-old", "finish"];
    // From the other ends it goes as from this one.
    let phases = if all() { phases.as_slice() } else { &["switch-leaves"] };
    for (n, phase) in phases.iter().enumerate() {
        virtual_time(async {
            let lab = lab(4 + n as u64).await;
            let before = held(&lab).await;
            let at_end = || Arc::new(AtEndOf((*phase).to_owned()));
            let stopped = lab.run(&lab.workflow(WORKFLOW), &with(&[REMOVE]), at_end()).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{phase}: {:?}", stopped.failure);
            lab.die();
            taken_back(&lab, phase).await;
            assert_eq!(held(&lab).await, before, "{phase}");
            // Runs are listed by when they began.
            tokio::time::sleep(Duration::from_secs(2)).await;
            lab.world.steady(Duration::from_secs(600)).await.unwrap();
            let stopped = lab.run(&lab.workflow(WORKFLOW), &with(&[REMOVE]), at_end()).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{phase}: {:?}", stopped.failure);
            lab.die();
            let done = lab.open(Why::Resume).unwrap().resume().await;
            assert_eq!(done.state, EndState::Done, "{phase}: {:?}", done.failure);
            is_well(&lab, 1).await;
        });
    }
}

#[test]
fn stopped_at_any_record_it_goes_on_or_back() {
    let cases = [(20, [REMOVE].as_slice()), (21, &[])];
    for (seed, set) in cases.into_iter().take(if all() { 2 } else { 1 }) {
        let records = virtual_time(async { forward(&lab(seed).await, set).await });
        let step = if all() { 1 } else { records };
        // Among the reloads, and in the midst of it.
        let mut stop = if all() { 6 } else { records / 2 + seed };
        while stop < records - 2 {
            virtual_time(async {
                let lab = lab(seed).await;
                let before = held(&lab).await;
                let what = format!("{set:?} at {stop} of {records}");
                let tripwire = Arc::new(StopAt(stop, Moment::AfterSync));
                let stopped = lab.run(&lab.workflow(WORKFLOW), &with(set), tripwire).await.unwrap();
                assert_eq!(stopped.state, EndState::Killed, "{what}: {:?}", stopped.failure);
                lab.die();
                if stop.is_multiple_of(2) {
                    let done = lab.open(Why::Resume).unwrap().resume().await;
                    assert_eq!(done.state, EndState::Done, "{what}: {:?}", done.failure);
                    is_well(&lab, 1).await;
                } else {
                    taken_back(&lab, &what).await;
                    assert_eq!(held(&lab).await, before, "{what}");
                }
            });
            stop += step;
        }
    }
}

/// Says no before anything is changed; tells what it says.
async fn refused(lab: &Lab, set: &[(&str, &str)]) -> String {
    let before = lab.secrets().await;
    let told = match lab.forward(WORKFLOW, &with(set)).await {
        Err(failure) => format!("{failure}"),
        Ok(ending) => {
            assert_eq!(ending.state, EndState::Stopped, "{:?}", ending.failure);
            let failure = ending.failure.unwrap();
            let back = lab.open(Why::Rollback).unwrap().back("test").await;
            assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
            format!("{failure} {}", failure.hint.clone().unwrap_or_default())
        }
    };
    assert!(lab.secrets().await == before, "{set:?} changed something");
    told
}

#[test]
fn what_cannot_go_well_is_refused_before_anything_is_changed() {
    virtual_time(async {
        let lab = lab(30).await;
        let told = refused(&lab, &[("login_secret", "")]).await;
        assert!(told.contains("refuses the login of `root`") && told.contains("login_secret"), "{told}");
        let told = refused(&lab, &[("login_secret", "basic-none")]).await;
        assert!(told.contains("Secret tidb/basic-none") && told.contains("does not exist"), "{told}");
        let told = refused(&lab, &[("user", "app"), ("login_secret", "")]).await;
        assert!(told.contains("`app` may not") && told.contains("GRANT SUPER ON *.* TO 'app'"), "{told}");
        let told = refused(&lab, &[("user", "app")]).await;
        assert!(told.contains("it has no key `app`") && told.contains("`root`"), "{told}");
        let told = refused(&lab, &[("sql_pki", crate::lab::PKI)]).await;
        assert!(told.contains("no request for tidb-server: `server.json` is missing"), "{told}");

        // The servers' key beside the clients' certificate.
        let kube = lab.kube();
        let clients = kube.get(SECRETS, "tidb", CLIENTS).await.unwrap().unwrap();
        let patch = json!({ "data": { "tls.crt": clients["data"]["tls.crt"] } });
        kube.merge(SECRETS, ("tidb", SECRET), "", &patch).await.unwrap();
        let told = refused(&lab, &[]).await;
        assert!(told.contains(SECRET) && told.contains("is not the key of the certificate"), "{told}");

        let patch = json!({ "spec": { "tidb": { "tlsClient": { "enabled": false } } } });
        kube.merge(TIDB_CLUSTERS, ("tidb", "basic"), "", &patch).await.unwrap();
        let told = refused(&lab, &[]).await;
        assert!(told.contains("TLS for its MySQL clients is not enabled"), "{told}");
    });
}

/// A kubelet that no longer brings files: it is waited for, told, and taken back; and with it working again, gone on.
#[test]
fn files_that_never_arrive_are_told_and_waited_for_no_longer_than_said() {
    virtual_time(async {
        let lab = lab(31).await;
        let before = held(&lab).await;
        let stuck = Fault::PropagationStuck { pod: "basic-tidb-1".into() };
        lab.world.set_fault(stuck.clone());
        let ending = lab.run(&lab.workflow(WORKFLOW), &with(&[]), Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Stopped);
        let failure = ending.failure.unwrap();
        let told = format!("{failure} {}", failure.hint.clone().unwrap_or_default());
        for part in ["basic-tidb-1", "still presents another certificate than its Secret holds", "kubelet"] {
            assert!(told.contains(part), "{told}");
        }
        let end = lab.world.end_state().await;
        let old = &before.served["basic-tidb-1 (MySQL)"].0;
        assert_eq!(end.pods["basic-tidb-1 (MySQL)"].chain, *old, "it keeps what it had");
        lab.world.lift_fault(&stuck);
        let done = lab.open(Why::Resume).unwrap().resume().await;
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        is_well(&lab, 1).await;
    });
}

/// A pod has a certificate beside another's key: the server says no, keeps what it had, and the step says so.
#[test]
fn files_that_do_not_fit_are_refused_by_the_server_which_keeps_its_own() {
    virtual_time(async {
        let lab = lab(32).await;
        let before = held(&lab).await;
        let (kube, pod) = (lab.kube(), "basic-tidb-0");
        let whole = kube.get(SECRETS, "tidb", SECRET).await.unwrap().unwrap()["data"].clone();
        let clients = kube.get(SECRETS, "tidb", CLIENTS).await.unwrap().unwrap();
        let patch = json!({ "data": { "tls.crt": clients["data"]["tls.crt"] } });
        kube.merge(SECRETS, ("tidb", SECRET), "", &patch).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        lab.world.set_fault(Fault::PropagationStuck { pod: pod.into() });
        kube.merge(SECRETS, ("tidb", SECRET), "", &json!({ "data": whole })).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        lab.world.steady(Duration::from_secs(600)).await.unwrap();
        let ending = lab.run(&lab.workflow(WORKFLOW), &with(&[]), Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Stopped);
        let told = ending.failure.unwrap().to_string();
        for part in [pod, "it could not load its files", "it keeps the certificate that it had"] {
            assert!(told.contains(part), "{told}");
        }
        let end = lab.world.end_state().await;
        assert_eq!(end.pods["basic-tidb-0 (MySQL)"].chain, before.served["basic-tidb-0 (MySQL)"].0);
        assert!(end.holds(), "{:?}", end.broken);
    });
}

#[test]
fn one_command_shows_it() {
    let person = Program::new();
    let said = person.types(&["run", WORKFLOW, "--sandbox", "--yes", "--set", "remove_old_ca=true"]);
    says(&said, 0, &["servers", "Done."]);
    says(&person.types(&["sandbox", "stop"]), 0, &[]);
}

#[test]
fn what_only_a_restart_brings_into_a_pod_is_not_waited_for_by_a_statement() {
    virtual_time(async {
        let lab = lab(1).await;
        let frozen = json!({"immutable": true});
        lab.kube().merge(SECRETS, ("tidb", SECRET), "", &frozen).await.unwrap();
        let refused = lab.refused(WORKFLOW, &with(&[("immutable", "replace")])).await;
        assert!(refused.contains("`--set reload=restart`"), "{refused}");
        let given = [("immutable", "replace"), ("reload", "restart")];
        let ending = lab.forward(WORKFLOW, &with(&given)).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    });
}
