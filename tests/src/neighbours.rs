//! Restarts of workloads whose selectors find the pods of others too: one story on the sandbox's server with its own
//! controllers, and on a real one. Theirs are neither counted nor taken away; and a DaemonSet is restarted both ways.

use std::collections::BTreeMap;
use std::time::Duration;

use sandbox::world::json as js;
use sandbox::world::kube::{DAEMON_SETS, DEPLOYMENTS, Kind, Kube, NAMESPACES, PODS, STATEFUL_SETS};
use serde_json::{Value, json};
use stdlib::{World, registry};
use tokio::time::Instant;

use crate::budgets::Keeping;

const NS: &str = "neighbours";
/// Long enough for pods on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

struct Place<'a> {
    kube: Kube,
    world: &'a World,
}

impl Place<'_> {
    async fn make(&self, kind: Kind, name: &str, selector: Value, labels: Value, more: Value) {
        // A real server taints the node, which nobody there calls ready; the controller of DaemonSets minds it.
        let pod = json!({"containers": [{"name": "web", "image": "web:1"}], "tolerations": [{"operator": "Exists"}]});
        let template = json!({"metadata": {"labels": labels}, "spec": pod});
        let mut spec = json!({"selector": selector, "template": template});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.kube.create(kind, NS, json!({"metadata": {"name": name}, "spec": spec})).await.unwrap();
    }

    /// The uids of the pods of one workload, and whether each is ready.
    async fn uids(&self, whose: &str) -> BTreeMap<String, bool> {
        let pods = self.kube.list(PODS, NS).await.unwrap().0;
        let theirs = pods.iter().filter(|pod| js::label(pod, "whose") == whose);
        theirs.map(|pod| (js::uid(pod).to_owned(), js::ready(pod))).collect()
    }

    async fn steady(&self, whose: &str, all: usize) -> BTreeMap<String, bool> {
        let begun = Instant::now();
        loop {
            let found = self.uids(whose).await;
            if found.len() == all && found.values().all(|ready| *ready) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{whose}: {found:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Restarts a workload: all of its own pods are new ones afterwards, and those of nobody else.
    async fn restarted(&self, (kind, name): (&str, &str), marker: &str, all: usize) -> Keeping {
        let others: Vec<&str> =
            ["web", "tools", "agent"].into_iter().filter(|whose| *whose != name).collect();
        let before = self.steady(name, all).await;
        let mut theirs = Vec::new();
        for other in &others {
            theirs.push(self.uids(other).await);
        }
        let gate = Keeping::new(marker);
        let workload = json!({"kind": kind, "namespace": NS, "name": name});
        let restart = registry().get("k8s::rollout_restart").unwrap().run;
        tokio::time::timeout(PATIENCE, restart(self.world, &[workload], &gate))
            .await
            .unwrap_or_else(|_| panic!("{marker} waits for ever: {:?}", gate.said.lock().unwrap().last()))
            .unwrap();
        let after = self.steady(name, all).await;
        assert!(after.keys().all(|uid| !before.contains_key(uid)), "{marker}: every pod is a new one");
        for (other, known) in others.iter().zip(theirs) {
            assert_eq!(self.uids(other).await, known, "{marker}: those of {other} are left alone");
        }
        gate
    }
}

/// Tells the story.
pub async fn story(client: kube::Client, world: &World) {
    let place = Place { kube: Kube::new(client), world };
    place.kube.create(NAMESPACES, "", json!({"metadata": {"name": NS}})).await.unwrap();
    let labels = |whose: &str| json!({"app": "web", "whose": whose});
    let among = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]});
    let by_hand = json!({"type": "OnDelete"});
    // The selectors of the first two find the pods of all three.
    let more = json!({"replicas": 2, "serviceName": "web", "podManagementPolicy": "Parallel", "updateStrategy": by_hand});
    place.make(STATEFUL_SETS, "web", among.clone(), labels("web"), more).await;
    place.make(DAEMON_SETS, "agent", among, labels("agent"), json!({})).await;
    let own = json!({"matchLabels": labels("tools")});
    place.make(DEPLOYMENTS, "tools", own, labels("tools"), json!({"replicas": 2})).await;
    for (whose, all) in [("web", 2), ("agent", 1), ("tools", 2)] {
        place.steady(whose, all).await;
    }

    let gate = place.restarted(("statefulset", "web"), "one", 2).await;
    let evicted = gate.places.lock().unwrap().iter().filter(|place| place.contains("/Pod/")).count();
    assert_eq!(evicted, 2, "its own, one after the other");

    // A DaemonSet, whose controller takes its pods away.
    let gate = place.restarted(("daemonset", "agent"), "two", 1).await;
    let said = gate.said.lock().unwrap().join("\n");
    assert!(said.contains("agent-"), "{said}");
    assert!(gate.places.lock().unwrap().iter().all(|place| !place.contains("/Pod/")));
    // And one whose pods nobody else takes away.
    let strategy = json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    place.kube.merge(DAEMON_SETS, (NS, "agent"), "", &strategy).await.unwrap();
    let gate = place.restarted(("daemonset", "agent"), "three", 1).await;
    let said = gate.said.lock().unwrap().join("\n");
    assert!(said.contains("is evicted, since the update strategy is OnDelete"), "{said}");

    place.restarted(("deployment", "tools"), "four", 2).await;
}
