//! A cluster of TiDB operator v2: stories told on the sandbox's API server and on a real one.

use std::collections::{BTreeMap, BTreeSet};

use runner::events::EndState;
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, SECRETS};
use sandbox::world::volume::secret_files;
use sandbox::world::{EndState as WorldState, Operator, Scenario};

use crate::stage::Stage;

/// The main job.
pub const WORKFLOW: &str = "tidb/cfssl-rotate";
/// Its parameters here.
pub const SET: &[(&str, &str)] = &[("operator", "v2"), ("remove_old_ca", "true")];

/// What such a world begins with.
pub fn scenario() -> Scenario {
    Scenario { operator: Operator::V2, ..Scenario::default() }
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

/// Runs a workflow to its good end.
pub async fn forward(stage: &impl Stage, name: &str, set: &[(&str, &str)]) {
    let ending = stage.forward(name, set).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{name}: {:?}", ending.failure);
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
