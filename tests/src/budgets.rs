//! Restarts and PodDisruptionBudgets: one story on the sandbox's server with its own controllers, and on a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::{BoxFuture, Either, select};
use sandbox::world::kube::{Kind, Kube, PODS, STATEFUL_SETS};
use serde_json::{Value, json};
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, Gate, Past, Permit, Progress};
use stdlib::{World, registry};

const NS: &str = "budgets";
/// Long enough for pods on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A gate that lets everything pass and keeps what was said.
pub(crate) struct Keeping {
    marker: String,
    pub(crate) places: Mutex<Vec<String>>,
    pub(crate) said: Mutex<Vec<String>>,
}

impl Keeping {
    pub(crate) fn new(marker: &str) -> Self {
        Self { marker: marker.into(), places: Mutex::default(), said: Mutex::default() }
    }
}

impl Gate for Keeping {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        self.places.lock().unwrap().push(effect.place.0);
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, progress: Progress) {
        self.said.lock().unwrap().push(progress.text);
    }
    fn marker(&self) -> String {
        self.marker.clone()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

struct Place<'a> {
    kube: Kube,
    world: &'a World,
    budgets: Kind,
}

impl Place<'_> {
    /// Ready pods and the uids of all.
    async fn pods(&self) -> (usize, BTreeSet<String>) {
        let (pods, _) = self.kube.list(PODS, NS).await.unwrap();
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            pod["metadata"]["deletionTimestamp"].is_null()
                && conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let uids = pods.iter().map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect();
        (pods.iter().filter(ready).count(), uids)
    }

    /// Waits until so many are ready and the budget knows.
    async fn steady(&self, all: usize) {
        let begun = tokio::time::Instant::now();
        loop {
            let budget = self.kube.get(self.budgets, NS, "most").await.unwrap();
            let known = budget.is_none_or(|budget| budget["status"]["currentHealthy"] == all);
            if self.pods().await.0 == all && known {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the pods do not become ready");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn restart(&self, gate: &Keeping, options: Value) -> Result<Value, PrimError> {
        let workload = json!({"kind": "statefulset", "namespace": NS, "name": "web"});
        let args = [workload, options];
        (registry().get("k8s::rollout_restart").unwrap().run)(self.world, &args, gate).await
    }

    /// The same, and how few pods were ready at the worst moment.
    async fn watched(&self, gate: &Keeping, options: Value) -> (Result<Value, PrimError>, usize) {
        let mut fewest = usize::MAX;
        let watch = async {
            loop {
                fewest = fewest.min(self.pods().await.0);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let restart = Box::pin(tokio::time::timeout(PATIENCE, self.restart(gate, options)));
        let done = match select(restart, Box::pin(watch)).await {
            Either::Left((done, _)) => done.expect("it must not wait for ever"),
            Either::Right(((), _)) => unreachable!("the watch never ends"),
        };
        (done, fewest)
    }

    async fn budget(&self, spec: Value) {
        let mut spec = spec;
        // A selector is more than `matchLabels`.
        spec["selector"] = json!({"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["web"]}, {"key": "canary", "operator": "DoesNotExist"}]});
        if self.kube.get(self.budgets, NS, "most").await.unwrap().is_some() {
            self.kube.merge(self.budgets, (NS, "most"), "", &json!({"spec": spec})).await.unwrap();
        } else {
            let budget = json!({"metadata": {"name": "most"}, "spec": spec});
            self.kube.create(self.budgets, NS, budget).await.unwrap();
        }
    }
}

/// Tells the story.
pub async fn story(client: kube::Client, world: &World) {
    let kube = Kube::new(client);
    let budgets = kube.budgets().await.unwrap();
    let place = Place { kube, world, budgets };
    let namespace = json!({"metadata": {"name": NS}});
    place.kube.create(sandbox::world::kube::NAMESPACES, "", namespace).await.unwrap();
    let labels = BTreeMap::from([("app", "web")]);
    let set = json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 3, "serviceName": "web", "selector": {"matchLabels": labels},
                 "updateStrategy": {"type": "OnDelete"}, "podManagementPolicy": "Parallel",
                 "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
    });
    place.kube.create(STATEFUL_SETS, NS, set).await.unwrap();
    place.budget(json!({"minAvailable": 2})).await;
    place.steady(3).await;

    // Nobody else takes the old pods away, so each is evicted, and never are fewer left than the budget wants.
    let (_, before) = place.pods().await;
    let gate = Keeping::new("one");
    let (done, fewest) = place.watched(&gate, json!({})).await;
    done.unwrap();
    let (ready, after) = place.pods().await;
    assert_eq!((ready, after.intersection(&before).count()), (3, 0), "every pod is a new one");
    assert_eq!(fewest, 2, "one at a time, as the budget has it");
    let places = gate.places.into_inner().unwrap();
    let announced: BTreeSet<&str> =
        places.iter().filter_map(|place| place.rsplit_once('#')).map(|(_, uid)| uid).collect();
    assert!(before.iter().all(|uid| announced.contains(uid.as_str())), "{places:?}");

    // A budget that is used up by somebody else's work is waited for.
    place.steady(3).await;
    let (pods, _) = place.kube.list(PODS, NS).await.unwrap();
    let uid = pods[0]["metadata"]["uid"].as_str().unwrap();
    let name = pods[0]["metadata"]["name"].as_str().unwrap();
    place.kube.delete(PODS, (NS, name), uid, None).await.unwrap();
    place.budget(json!({"minAvailable": 3})).await;
    let gate = Keeping::new("two");
    let waits = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Three of three never lets one go; two of three does, once the third is back.
        place.budget(json!({"minAvailable": 2})).await;
    };
    // Seen at the wrong moment, the budget of three is refused: it is asked until it is two.
    let restart = async {
        loop {
            match place.restart(&gate, json!({})).await {
                Err(refused) if refused.code == Code::Refused => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => return other,
            }
        }
    };
    let (done, ()) = futures::future::join(tokio::time::timeout(PATIENCE, restart), waits).await;
    done.expect("it must not wait for ever").unwrap();
    place.steady(3).await;

    // One that never lets a pod go is told, and may be overruled by name; then the server's own answer holds it back.
    place.budget(json!({"minAvailable": null, "maxUnavailable": 0})).await;
    let begun = tokio::time::Instant::now();
    let refused = loop {
        let gate = Keeping::new("three");
        match tokio::time::timeout(Duration::from_secs(20), place.restart(&gate, json!({}))).await {
            Ok(refused) => break refused.unwrap_err(),
            Err(_) => assert!(begun.elapsed() < PATIENCE, "{:?}", gate.said.into_inner()),
        }
    };
    let hint = refused.hint.clone().unwrap_or_default();
    assert_eq!(refused.code, Code::Refused, "{refused}");
    assert!(refused.message.contains("PodDisruptionBudget most wants 3 healthy pods of 3"), "{refused}");
    assert!(hint.contains("budgets: \"ignore\""), "{hint}");
    let gate = Keeping::new("four");
    let kept =
        tokio::time::timeout(Duration::from_secs(20), place.restart(&gate, json!({"budgets": "ignore"})))
            .await;
    assert!(kept.is_err(), "an eviction is judged by the server");
    let said = gate.said.into_inner().unwrap();
    assert!(said.iter().any(|text| text.contains("a PodDisruptionBudget keeps it")), "{said:?}");
}
