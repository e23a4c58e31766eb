//! Places pods on the sandbox's one node, for an API server whose controllers leave that to a scheduler.

use tokio::task::JoinSet;

use super::bell::Bell;
use super::cache::Cache;
use super::controllers::template::NODE;
use super::json as js;
use super::kube::{Kube, PODS};

/// Runs until it is dropped.
pub(crate) async fn run(kube: Kube) {
    let (bell, mut tasks) = (Bell::default(), JoinSet::new());
    let mut heard = bell.listen();
    let pods = Cache::follow(&kube, PODS, &bell, &mut tasks);
    loop {
        heard.mark_heard();
        let unplaced =
            |pod: &serde_json::Value| js::text(pod, "/spec/nodeName").is_empty() && !js::terminating(pod);
        for pod in pods.all().into_iter().filter(|pod| unplaced(pod)) {
            let place = (js::namespace(&pod), js::name(&pod));
            // Placed already, or gone: the next look at the pods tells.
            if let Err(e) = kube.bind(place, NODE).await {
                tracing::debug!("bind {}/{}: {e}", place.0, place.1);
            }
        }
        heard.rings().await;
    }
}
