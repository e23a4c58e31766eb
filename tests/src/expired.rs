//! Everything has expired: nobody talks with anybody, so everything is replaced and switched at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use journal::{Event, Moment, Tripwire};
use runner::events::EndState;
use sandbox::world::kube::{PODS, TIDB_CLUSTERS};
use sandbox::world::{Expired, Scenario, json as js};
use stdlib::cert::{Certificate, parse_many};
use tokio::time::{Instant, sleep};

use crate::hands::{Authority, COMPONENTS, Hands, secret_name};
use crate::stage::Stage;

/// The workflow that all stories are about.
pub const WORKFLOW: &str = "tidb/cfssl-expired";
const FORCE: &str = "tidb.pingcap.com/force-upgrade";

/// A cluster in which this has expired.
pub fn scenario(expired: Expired) -> Scenario {
    Scenario { expired, ..Scenario::default() }
}

/// The uids of the pods of PD, TiKV and TiDB.
pub async fn servers(stage: &impl Stage) -> BTreeMap<String, String> {
    let pods = stage.kube().list(PODS, "tidb").await.unwrap().0;
    let servers = pods.iter().filter(|pod| js::label(pod, "app.kubernetes.io/component") != "client");
    servers.map(|pod| (js::name(pod).to_owned(), js::uid(pod).to_owned())).collect()
}

/// Everybody serves a certificate of the folder's CA, trusts it alone, and talks with everybody.
pub async fn is_well(stage: &impl Stage) -> Certificate {
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let ca = Certificate::from_pem(&stage.pki_file("ca.pem"), "ca.pem").unwrap();
    let now = stage.world().clock().now();
    let secrets = stage.secrets().await;
    for component in COMPONENTS {
        let secret = &secrets[&secret_name(component)];
        let trusted = parse_many(&secret["ca.crt"], component).unwrap();
        assert_eq!((trusted.len(), &trusted[0]), (1, &ca), "{component}");
        let leaf = &parse_many(&secret["tls.crt"], component).unwrap()[0];
        leaf.check_signed_by(&ca).unwrap();
        leaf.check_valid_at(now).unwrap();
    }
    let cluster = stage.kube().get(TIDB_CLUSTERS, "tidb", "basic").await.unwrap().unwrap();
    assert_eq!(js::annotation(&cluster, FORCE), "", "the operator upgrades as it always does");
    ca
}

/// The cluster is brought back with a new CA, every server made anew, and the outage told; a rotation begins again from
/// there. Gives how many records it took.
pub async fn brought_back(stage: &impl Stage) -> u64 {
    assert!(!stage.world().end_state().await.holds(), "nobody talks with anybody");
    let refused = stage.forward("tidb/cfssl-rotate", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");

    let before = servers(stage).await;
    let old = stage.world().pki().authority().0;
    let ending = stage.forward(WORKFLOW, &[]).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    assert_ne!(is_well(stage).await, old, "a CA that has expired is replaced");
    let after = servers(stage).await;
    assert!(before.keys().eq(after.keys()) && before.iter().all(|(pod, uid)| after[pod] != *uid));

    let loaded = stage.store().load(&stage.store().list().unwrap().pop().unwrap()).unwrap();
    let notes = loaded.records.iter().map(|record| serde_json::to_value(&record.event).unwrap());
    let notes: Vec<String> =
        notes.filter(|e| e["type"] == "note").map(|e| e["text"].as_str().unwrap().to_owned()).collect();
    let told = notes.iter().find(|note| note.contains("the outage of phase `replace` lasted")).unwrap();
    let seconds: f64 = told.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!((1.0..600.0).contains(&seconds), "{told}");

    let rotated = stage.forward("tidb/cfssl-rotate", &[("remove_old_ca", "true")]).await.unwrap();
    assert_eq!(rotated.state, EndState::Done, "{:?}", rotated.failure);
    ending.head.size
}

/// Stops once all pods are back and nobody has written that down.
#[derive(Debug)]
pub struct PodsAreBack;

impl Tripwire for PodsAreBack {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let back = |event: &Event| matches!(event, Event::Outcome(outcome) if outcome.step == "replace/settle/all pods");
        moment == Moment::BeforeWrite && back(event)
    }
}

/// Stopped anywhere it goes on, and makes every server anew once, whichever it had deleted before.
pub async fn goes_on(stage: &impl Stage, tripwire: impl Tripwire + Debug + 'static) {
    let place = format!("{tripwire:?}");
    let mut lives = BTreeMap::<String, BTreeSet<String>>::new();
    let looks = async {
        loop {
            for (pod, uid) in servers(stage).await {
                lives.entry(pod).or_default().insert(uid);
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    let story = async {
        let stopped = stage.dies(WORKFLOW, &[], Arc::new(tripwire)).await;
        assert_eq!(stopped.state, EndState::Killed, "{place}: {:?}", stopped.failure);
        let done = stage.resume().await;
        assert_eq!(done.state, EndState::Done, "{place}: {:?}", done.failure);
        is_well(stage).await;
    };
    tokio::select! {
        () = looks => unreachable!("it looks for as long as the story takes"),
        () = story => {}
    }
    assert!(lives.len() == 8 && lives.values().all(|uids| uids.len() == 2), "{place}: {lives:?}");
}

/// Where only certificates have expired, the CA stays.
pub async fn the_ca_stays(stage: &impl Stage) {
    let ending = stage.forward(WORKFLOW, &[]).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    assert_eq!(is_well(stage).await, stage.world().pki().authority().0);
}

/// Who would go back is told that there is nothing to go back to.
pub async fn nothing_to_go_back_to(stage: &impl Stage) {
    let stopped = stage.dies_at(WORKFLOW, &[], 30).await;
    assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
    let told = stage.back().await.failure.unwrap().to_string();
    assert!(told.contains("only goes forward"), "{told}");
}

/// A cluster in which nothing has expired is left alone.
pub async fn nothing_to_do(stage: &impl Stage) {
    let refused = stage.forward(WORKFLOW, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("none of its certificates has expired"), "{refused}");
}

/// Why it is not done one by one: the first pod that starts afresh is refused by all the others, and waits however
/// long they are as they were. Once they start afresh too, all of them are well in less time.
pub async fn one_after_the_other_they_wait(stage: &impl Stage, long: Duration) {
    let now = stage.world().clock().now();
    let ca = Authority::make(now);
    for component in COMPONENTS {
        let (cert, key) = ca.issue(component, now);
        let bundle = ca.cert.pem().into_bytes();
        stage.patch(component, &[("ca.crt", &bundle), ("tls.crt", &cert), ("tls.key", &key)]).await;
    }
    let pods = stage.pods().await;
    let waits = "basic-tikv-0";
    delete(stage, waits, &pods[waits]).await;
    sleep(long).await;
    let pod = stage.kube().get(PODS, "tidb", waits).await.unwrap().unwrap();
    assert!(js::uid(&pod) != pods[waits] && !js::ready(&pod), "{long:?} later it still waits");

    let begun = Instant::now();
    for (pod, uid) in &pods {
        if pod != waits {
            delete(stage, pod, uid).await;
        }
    }
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    assert!(begun.elapsed() < long, "all at once it took {:?}", begun.elapsed());
}

/// `kubectl delete pod`.
async fn delete(stage: &impl Stage, pod: &str, uid: &str) {
    stage.kube().delete(PODS, ("tidb", pod), uid, None).await.unwrap();
}
