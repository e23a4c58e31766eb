//! What the controllers of Deployments and DaemonSets do next: pure functions of the object and its pods.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::world::json as js;

/// The label that names a pod's template.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// What to do, and what the status is.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// How many pods of the present template to make.
    pub create: usize,
    /// Names and uids of pods to delete.
    pub delete: Vec<(String, String)>,
    /// The whole status.
    pub status: Value,
}

fn share(value: Option<&Value>, of: usize, default_percent: usize, up: bool) -> usize {
    let percent = |p: usize| if up { (of * p).div_ceil(100) } else { of * p / 100 };
    match value {
        Some(Value::Number(n)) => n.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        Some(Value::String(text)) => percent(text.trim_end_matches('%').parse().unwrap_or(default_percent)),
        _ => percent(default_percent),
    }
}

/// Decides for a Deployment. `hash` is that of its template, `pods` are those of its ReplicaSets.
pub fn decide(deployment: &Value, hash: &str, pods: &[Arc<Value>]) -> Decision {
    let wanted = usize::try_from(js::number(deployment, "/spec/replicas").unwrap_or(1)).unwrap_or(0);
    let paused = deployment.pointer("/spec/paused") == Some(&json!(true));
    let recreate = js::text(deployment, "/spec/strategy/type") == "Recreate";
    let limits = deployment.pointer("/spec/strategy/rollingUpdate");
    let surge = share(limits.and_then(|l| l.get("maxSurge")), wanted, 25, true);
    let mut unavailable = share(limits.and_then(|l| l.get("maxUnavailable")), wanted, 25, false);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }

    let alive: Vec<&Arc<Value>> = pods.iter().filter(|pod| !js::terminating(pod)).collect();
    let (new, old): (Vec<_>, Vec<_>) = alive.iter().partition(|pod| js::label(pod, TEMPLATE_HASH) == hash);
    let ready = |pods: &[&Arc<Value>]| pods.iter().filter(|pod| js::ready(pod)).count();
    let all_ready = ready(&new) + ready(&old);

    let mut create = 0;
    let mut delete = Vec::new();
    let mut drop_pod = |pod: &Value| delete.push((js::name(pod).to_owned(), js::uid(pod).to_owned()));
    if !paused || old.is_empty() {
        for surplus in new.iter().skip(wanted) {
            drop_pod(surplus);
        }
    }
    if !paused && recreate {
        for pod in &old {
            drop_pod(pod);
        }
        if old.is_empty() && pods.len() == alive.len() {
            create = wanted.saturating_sub(new.len());
        }
    } else if !paused {
        let room = (wanted + surge).saturating_sub(alive.len());
        create = wanted.saturating_sub(new.len()).min(room);
        let mut spare = all_ready.saturating_sub(wanted.saturating_sub(unavailable));
        for pod in &old {
            if !js::ready(pod) {
                drop_pod(pod);
            } else if spare > 0 {
                spare -= 1;
                drop_pod(pod);
            }
        }
    } else {
        create = wanted.saturating_sub(alive.len());
    }

    let available = all_ready >= wanted.saturating_sub(unavailable);
    let complete = old.is_empty() && new.len() == wanted && ready(&new) == wanted;
    let status = json!({
        "observedGeneration": js::generation(deployment),
        "replicas": alive.len(),
        "updatedReplicas": new.len(),
        "readyReplicas": all_ready,
        "availableReplicas": all_ready,
        "unavailableReplicas": wanted.saturating_sub(all_ready),
        "conditions": [{
            "type": "Available",
            "status": if available { "True" } else { "False" },
            "reason": if available { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" },
        }, {
            "type": "Progressing",
            "status": "True",
            "reason": if complete { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" },
        }],
    });
    Decision { create, delete, status }
}

/// Decides for a DaemonSet on the one node.
pub fn decide_daemon(set: &Value, hash: &str, pods: &[Arc<Value>]) -> Decision {
    let on_delete = js::text(set, "/spec/updateStrategy/type") == "OnDelete";
    let mut delete = Vec::new();
    let mut updated = 0;
    for pod in pods.iter().filter(|pod| !js::terminating(pod)) {
        if js::label(pod, super::statefulset::REVISION) == hash {
            updated += 1;
        } else if !on_delete {
            delete.push((js::name(pod).to_owned(), js::uid(pod).to_owned()));
        }
    }
    let ready = pods.iter().filter(|pod| js::ready(pod)).count();
    let status = json!({
        "observedGeneration": js::generation(set),
        "desiredNumberScheduled": 1,
        "currentNumberScheduled": pods.len().min(1),
        "updatedNumberScheduled": updated,
        "numberReady": ready,
        "numberAvailable": ready,
        "numberUnavailable": 1usize.saturating_sub(ready),
        "numberMisscheduled": 0,
    });
    Decision { create: usize::from(pods.is_empty()), delete, status }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::world::controllers::template;

    fn hash_of(object: &Value) -> String {
        template::hash(object.pointer("/spec/template").unwrap())
    }

    fn decided(object: &Value, pods: &[Arc<Value>]) -> Decision {
        decide(object, &hash_of(object), pods)
    }

    fn deployment(marker: &str) -> Value {
        json!({
            "metadata": { "name": "basic-client", "generation": 2 },
            "spec": { "replicas": 1, "template": { "metadata": { "annotations": { "m": marker } } } },
        })
    }

    fn pod(name: &str, of: &Value, ready: bool) -> Arc<Value> {
        let hash = hash_of(of);
        Arc::new(json!({
            "metadata": { "name": name, "uid": name, "labels": { TEMPLATE_HASH: hash } },
            "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
        }))
    }

    #[test]
    fn the_new_pod_is_ready_before_the_old_one_goes() {
        let (before, after) = (deployment("one"), deployment("two"));
        let first = decided(&after, &[pod("a", &before, true)]);
        assert_eq!((first.create, first.delete.len()), (1, 0));
        let second = decided(&after, &[pod("a", &before, true), pod("b", &after, false)]);
        assert_eq!((second.create, second.delete.len()), (0, 0));
        let third = decided(&after, &[pod("a", &before, true), pod("b", &after, true)]);
        assert_eq!(third.delete, [("a".to_owned(), "a".to_owned())]);
        let done = decided(&after, &[pod("b", &after, true)]);
        assert_eq!((done.create, done.delete.len()), (0, 0));
        assert_eq!(done.status["updatedReplicas"], json!(1));
    }

    #[test]
    fn recreate_stops_the_old_one_first() {
        let before = deployment("one");
        let mut after = deployment("two");
        after["spec"]["strategy"] = json!({ "type": "Recreate" });
        let first = decided(&after, &[pod("a", &before, true)]);
        assert_eq!((first.create, first.delete.len()), (0, 1));
        assert_eq!(decided(&after, &[]).create, 1);
    }

    #[test]
    fn a_daemon_is_replaced_on_its_node() {
        let set = json!({ "metadata": { "generation": 1 }, "spec": { "template": { "x": 1 } } });
        assert_eq!(decide_daemon(&set, &hash_of(&set), &[]).create, 1);
        let stale = Arc::new(json!({ "metadata": { "name": "d", "uid": "u", "labels": {} } }));
        let decision = decide_daemon(&set, &hash_of(&set), &[stale]);
        assert_eq!((decision.create, decision.delete.len()), (0, 1));
    }
}
