//! A cluster of TiDB operator v2: stories told on the sandbox's API server and on a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runner::events::EndState;
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, SECRETS};
use sandbox::world::volume::secret_files;
use sandbox::world::{EndState as WorldState, Expired, IssuedBy, Operator, Scenario};
use tokio::time::{Instant, sleep};

use crate::stage::Stage;

/// The main job.
pub const WORKFLOW: &str = "tidb/cfssl-rotate";
/// Its parameters here.
pub const SET: &[(&str, &str)] = &[("operator", "v2"), ("remove_old_ca", "true")];

/// The parameter that says which operator it is.
pub const V2: &[(&str, &str)] = &[("operator", "v2")];
/// What brings an expired cluster back.
pub const EXPIRED: &str = "tidb/cfssl-expired";
/// What renews the MySQL side, and its parameters here.
pub const SQL: &str = "tidb/server-tls";
/// Its CA is replaced too.
pub const SQL_SET: &[(&str, &str)] = &[("operator", "v2"), ("remove_old_ca", "true")];

/// What such a world begins with.
pub fn scenario() -> Scenario {
    Scenario { operator: Operator::V2, ..Scenario::default() }
}

/// The same where everything has expired.
pub fn expired() -> Scenario {
    Scenario { expired: Expired::Everything, ..scenario() }
}

/// The same where cert-manager keeps the certificates.
pub fn with_cert_manager() -> Scenario {
    Scenario { issued_by: IssuedBy::CertManager, ..scenario() }
}

/// The same with a MySQL side.
pub fn with_sql() -> Scenario {
    Scenario { sql_tls: true, ..scenario() }
}

/// What is presented and trusted by the pods of each component.
pub fn served(state: &WorldState) -> BTreeSet<(String, Vec<String>, Vec<String>)> {
    let told = |pod: &sandbox::world::Served| (pod.component.clone(), pod.chain.clone(), pod.anchors.clone());
    state.pods.values().map(told).collect()
}

/// Secrets' files, and those of the PKI folder that do not lie in a folder of old ones.
pub async fn files(stage: &impl Stage) -> BTreeMap<String, Vec<u8>> {
    let secrets = Kube::new(stage.world().client()).list(SECRETS, "tidb").await.unwrap().0;
    let mut files: BTreeMap<String, Vec<u8>> = secrets
        .iter()
        .flat_map(|secret| {
            let name = js::name(secret).to_owned();
            secret_files(secret).into_iter().map(move |(file, bytes)| (format!("{name}/{file}"), bytes))
        })
        .collect();
    for name in ["ca.pem", "ca-key.pem", "pd-server.pem", "tikv-server-key.pem", "client.pem"] {
        files.insert(name.into(), stage.pki(name));
    }
    files
}

/// The world's state, in which everybody accepts each other and nobody was refused.
pub async fn sound(stage: &impl Stage) -> WorldState {
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let counters = stage.world().counters();
    assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    end
}

/// Runs a workflow to its good end; how many records that took.
pub async fn forward(stage: &impl Stage, name: &str, set: &[(&str, &str)]) -> u64 {
    let ending = stage.forward(name, set).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{name}: {:?}", ending.failure);
    ending.head.size
}

/// Runs a workflow until a record.
async fn dies_at(stage: &impl Stage, name: &str, set: &[(&str, &str)], record: u64) {
    let ending = stage.dies_at(name, set, record).await;
    assert_eq!(ending.state, EndState::Killed, "{name} at {record}: {:?}", ending.failure);
}

async fn resumed(stage: &impl Stage, what: &str) {
    let ending = stage.resume().await;
    assert_eq!(ending.state, EndState::Done, "{what}: {:?}", ending.failure);
}

async fn taken_back(stage: &impl Stage, what: &str) {
    let ending = stage.back().await;
    assert_eq!(ending.state, EndState::RolledBack, "{what}: {:?}", ending.failure);
}

/// Waits until the world, in which everybody accepts each other, is found so: the kubelet brings in its own time what was
/// written last.
async fn until(stage: &impl Stage, what: &str, found: impl Fn(&WorldState) -> bool) -> WorldState {
    let begun = Instant::now();
    loop {
        stage.world().steady(stage.patience()).await.unwrap();
        let end = stage.world().end_state().await;
        if end.holds() && found(&end) {
            return end;
        }
        assert!(begun.elapsed() < stage.patience(), "{what}: {:?} {:#?}", end.broken, end.pods);
        sleep(Duration::from_secs(1)).await;
    }
}

/// Whether everybody presents another certificate than anybody before.
fn all_anew(before: &WorldState, now: &WorldState) -> bool {
    now.pods.values().all(|now| before.pods.values().all(|old| old.chain != now.chain))
}

fn nobody_was_refused(stage: &impl Stage) {
    let counters = stage.world().counters();
    assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
}

/// That everybody presents other certificates than before and trusts one CA.
pub fn renewed(before: &WorldState, after: &WorldState) {
    for (pod, served) in &after.pods {
        assert!(before.pods.values().all(|old| old.chain != served.chain), "{pod} has a new certificate");
        assert_eq!(served.anchors.len(), 1, "{pod} trusts the new CA alone");
    }
}

/// The names and uids of the pods of a namespace.
pub async fn pods(stage: &impl Stage, namespace: &str) -> BTreeMap<String, String> {
    let pods = Kube::new(stage.world().client()).list(PODS, namespace).await.unwrap().0;
    pods.iter().map(|pod| (js::name(pod).to_owned(), js::uid(pod).to_owned())).collect()
}

/// Everything has expired: all pods start afresh under their names, and the operator too. Ends with the records of the run.
pub async fn brought_back(stage: &impl Stage) -> u64 {
    let before = stage.world().end_state().await;
    assert!(!before.holds(), "nobody talks with anybody");
    let (pods_before, operator) = (pods(stage, "tidb").await, pods(stage, "tidb-admin").await);
    let refused = stage.forward(WORKFLOW, V2).await.unwrap_err().to_string();
    assert!(refused.contains("expired"), "{refused}");
    let records = forward(stage, EXPIRED, V2).await;
    renewed(&before, &until(stage, EXPIRED, |now| all_anew(&before, now)).await);
    let of_groups = |pods: &BTreeMap<String, String>| {
        pods.keys().filter(|name| !name.starts_with("basic-client")).cloned().collect::<Vec<_>>()
    };
    let pods_after = pods(stage, "tidb").await;
    assert_eq!(of_groups(&pods_before), of_groups(&pods_after), "pods keep their names");
    assert!(pods_after.values().all(|uid| !pods_before.values().any(|old| old == uid)), "and are new ones");
    assert_ne!(operator, pods(stage, "tidb-admin").await, "the operator was restarted");
    records
}

/// The same, stopped at a record and gone on; and there is nothing to go back to.
pub async fn brought_back_after(stage: &impl Stage, record: u64) {
    let before = stage.world().end_state().await;
    dies_at(stage, EXPIRED, V2, record).await;
    resumed(stage, EXPIRED).await;
    renewed(&before, &until(stage, EXPIRED, |now| all_anew(&before, now)).await);
}

/// What cert-manager keeps is replaced, and the operator restarted. Ends with what was served before, and the records.
pub async fn issued(stage: &impl Stage, workflow: &str) -> (WorldState, u64) {
    let before = until(stage, "before", |_| true).await;
    let operator = pods(stage, "tidb-admin").await;
    let records = forward(stage, workflow, V2).await;
    until(stage, workflow, |now| all_anew(&before, now)).await;
    assert_ne!(operator, pods(stage, "tidb-admin").await, "the operator was restarted");
    (before, records)
}

/// What cert-manager keeps: replaced, taken back from the end, stopped at two thirds and taken back, stopped in the middle
/// and gone on. With `outage`, old and new refuse each other on the way.
pub async fn issued_there_and_back(stage: &impl Stage, workflow: &str, outage: bool) {
    let secrets = secrets(stage).await;
    let (before, records) = issued(stage, workflow).await;
    let is_back = async |what: &str| {
        taken_back(stage, what).await;
        until(stage, what, |now| served(now) == served(&before)).await;
        assert!(self::secrets(stage).await == secrets, "{what}: other Secrets");
    };
    is_back("from the end").await;
    dies_at(stage, workflow, V2, records * 2 / 3).await;
    is_back("from two thirds").await;
    dies_at(stage, workflow, V2, records / 2).await;
    resumed(stage, workflow).await;
    until(stage, workflow, |now| all_anew(&before, now)).await;
    if !outage {
        nobody_was_refused(stage);
    }
}

/// What TiDB presents and trusts on its MySQL side.
fn sql_side(state: &WorldState) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let sides = state.pods.iter().filter(|(_, served)| served.component == "tidb-sql");
    sides.map(|(pod, served)| (pod.clone(), (served.chain.clone(), served.anchors.clone()))).collect()
}

/// The CA of the MySQL side is replaced, taken back from the end, stopped at two thirds and taken back, stopped in the middle
/// and gone on, and no handshake is refused. Servers that are told by the statement are not restarted.
pub async fn sql_there_and_back(stage: &impl Stage) {
    let (before, secrets) = (sound(stage).await, secrets(stage).await);
    assert_eq!(sql_side(&before).len(), 2);
    let servers = async || -> BTreeMap<String, String> {
        pods(stage, "tidb").await.into_iter().filter(|(name, _)| name.starts_with("tidb-tidb-")).collect()
    };
    let uids = servers().await;
    let replaced = |now: &WorldState| {
        sql_side(now).iter().all(|(pod, (chain, anchors))| {
            let (old_chain, old_anchors) = &sql_side(&before)[pod];
            chain != old_chain && anchors != old_anchors && anchors.len() == 1
        })
    };
    let records = forward(stage, SQL, SQL_SET).await;
    until(stage, SQL, replaced).await;
    assert_eq!(servers().await, uids, "nobody was restarted");
    let is_back = async |what: &str| {
        taken_back(stage, what).await;
        until(stage, what, |now| served(now) == served(&before)).await;
        assert!(self::secrets(stage).await == secrets, "{what}: other Secrets");
    };
    is_back("from the end").await;
    dies_at(stage, SQL, SQL_SET, records * 2 / 3).await;
    is_back("from two thirds").await;
    dies_at(stage, SQL, SQL_SET, records / 2).await;
    resumed(stage, SQL).await;
    until(stage, SQL, replaced).await;
    nobody_was_refused(stage);
}

/// The same by a rolling restart of the group, for which no account is needed.
pub async fn sql_by_restart(stage: &impl Stage) {
    let before = sound(stage).await;
    forward(stage, SQL, &[("operator", "v2"), ("reload", "restart"), ("login_secret", "")]).await;
    let now = until(stage, SQL, |_| true).await;
    let presented = |state: &WorldState| -> BTreeSet<Vec<String>> {
        sql_side(state).into_values().map(|(chain, _)| chain).collect()
    };
    assert!(presented(&now).is_disjoint(&presented(&before)));
    nobody_was_refused(stage);
}

/// The data of all Secrets that hold certificates.
async fn secrets(stage: &impl Stage) -> BTreeMap<String, serde_json::Value> {
    let all = Kube::new(stage.world().client()).list(SECRETS, "tidb").await.unwrap().0;
    let ours = all.into_iter().filter(|secret| js::name(secret).ends_with("-secret"));
    ours.map(|secret| (js::name(&secret).to_owned(), secret["data"].clone())).collect()
}

/// The CA is replaced there and back, and no handshake is refused.
pub async fn there_and_back(stage: &impl Stage) {
    let (before, files_before) = (sound(stage).await, files(stage).await);
    let (pods_before, operator) = (pods(stage, "tidb").await, pods(stage, "tidb-admin").await);
    assert!(pods_before.keys().any(|name| name.starts_with("pd-pd-")), "{pods_before:?}");
    forward(stage, WORKFLOW, SET).await;
    renewed(&before, &sound(stage).await);
    let pods_after = pods(stage, "tidb").await;
    let of_groups = |pods: &BTreeMap<String, String>| {
        pods.keys().filter(|name| !name.starts_with("basic-client")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of_groups(&pods_before), of_groups(&pods_after), "pods keep their names");
    assert!(pods_after.values().all(|uid| !pods_before.values().any(|old| old == uid)), "and are new ones");
    assert_ne!(operator, pods(stage, "tidb-admin").await, "the operator was restarted");

    let back = stage.back().await;
    assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
    assert_eq!(served(&sound(stage).await), served(&before), "the original certificates are served");
    assert_eq!(files(stage).await, files_before);
}
