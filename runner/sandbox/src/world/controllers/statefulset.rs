//! What a StatefulSet's controller does next: a pure function of the set and its pods.

use std::sync::Arc;

use serde_json::{Value, json};

use super::template;
use crate::world::json as js;

/// The label that names a pod's revision.
pub const REVISION: &str = "controller-revision-hash";

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Make the pod of this ordinal from the template of this revision.
    Create {
        /// Its number.
        ordinal: u32,
        /// Name of the revision.
        revision: String,
    },
    /// Delete this pod.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// What to do, and what the status is.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// In order.
    pub acts: Vec<Act>,
    /// The whole status.
    pub status: Value,
}

/// The name of the revision of the set's template as it is now.
pub fn update_revision(set: &Value) -> String {
    let template = set.pointer("/spec/template").cloned().unwrap_or_default();
    format!("{}-{}", js::name(set), template::hash(&template))
}

/// A pod's number, if it is a pod of this set.
pub fn ordinal(set: &str, pod: &str) -> Option<u32> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

fn delete(pod: &Value) -> Act {
    Act::Delete { name: js::name(pod).to_owned(), uid: js::uid(pod).to_owned() }
}

/// Decides. `update` is its [`update_revision`]; `pods` are those that it owns.
pub fn decide(set: &Value, update: &str, pods: &[Arc<Value>]) -> Decision {
    let name = js::name(set);
    let replicas = u32::try_from(js::number(set, "/spec/replicas").unwrap_or(1)).unwrap_or(0);
    let current = match js::text(set, "/status/currentRevision") {
        "" => update,
        known => known,
    };
    let on_delete = js::text(set, "/spec/updateStrategy/type") == "OnDelete";
    let partition = js::number(set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    let partition = u32::try_from(partition).unwrap_or(0);
    let parallel = js::text(set, "/spec/podManagementPolicy") == "Parallel";

    let mut by_ordinal: Vec<(u32, &Arc<Value>)> =
        pods.iter().filter_map(|pod| Some((ordinal(name, js::name(pod))?, pod))).collect();
    by_ordinal.sort_by_key(|(n, _)| *n);
    let find = |n: u32| by_ordinal.iter().find(|(ordinal, _)| *ordinal == n).map(|(_, pod)| *pod);

    let alive = || by_ordinal.iter().filter(|(_, pod)| !js::terminating(pod));
    let with = |revision: &str| alive().filter(|(_, pod)| js::label(pod, REVISION) == revision).count();
    let ready = by_ordinal.iter().filter(|(_, pod)| js::ready(pod)).count();
    let updated = with(update);
    let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
    let complete = !on_delete && updated == wanted && by_ordinal.len() == wanted && ready == wanted;
    let settled = if complete { update } else { current };
    let status = json!({
        "observedGeneration": js::generation(set),
        "replicas": by_ordinal.len(),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": with(settled),
        "updatedReplicas": updated,
        "currentRevision": settled,
        "updateRevision": update,
        "collisionCount": 0,
    });
    let acts = acts(&by_ordinal, &find, &Plan { replicas, partition, on_delete, parallel, current, update });
    Decision { acts, status }
}

struct Plan<'a> {
    replicas: u32,
    partition: u32,
    on_delete: bool,
    parallel: bool,
    current: &'a str,
    update: &'a str,
}

fn acts<'a>(
    pods: &[(u32, &'a Arc<Value>)],
    find: &dyn Fn(u32) -> Option<&'a Arc<Value>>,
    plan: &Plan<'_>,
) -> Vec<Act> {
    let mut acts = Vec::new();
    for n in 0..plan.replicas {
        match find(n) {
            None => {
                // Below the partition an ordinal comes back as it was.
                let revision = if n >= plan.partition { plan.update } else { plan.current };
                acts.push(Act::Create { ordinal: n, revision: revision.to_owned() });
            }
            Some(pod)
                if matches!(js::text(pod, "/status/phase"), "Failed" | "Succeeded")
                    && !js::terminating(pod) =>
            {
                acts.push(delete(pod));
            }
            Some(_) => {}
        }
        let waits = find(n).is_none_or(|pod| !js::ready(pod));
        if waits && !plan.parallel {
            return acts;
        }
    }
    if !acts.is_empty() {
        return acts;
    }
    if let Some((_, surplus)) = pods.iter().rev().find(|(n, _)| *n >= plan.replicas) {
        if !js::terminating(surplus) {
            acts.push(delete(surplus));
        }
        return acts;
    }
    if plan.on_delete {
        return acts;
    }
    for n in (plan.partition..plan.replicas).rev() {
        let Some(pod) = find(n) else { return acts };
        if js::label(pod, REVISION) != plan.update && !js::terminating(pod) {
            return vec![delete(pod)];
        }
        if !js::ready(pod) {
            return acts;
        }
    }
    acts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn set(marker: &str, partition: u32) -> Value {
        json!({
            "metadata": { "name": "basic-pd", "namespace": "tidb", "uid": "set", "generation": 3 },
            "spec": {
                "replicas": 3, "podManagementPolicy": "Parallel",
                "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": partition } },
                "template": { "metadata": { "annotations": { "tidb.pingcap.com/restartedAt": marker } } },
            },
        })
    }

    fn pod(n: u32, revision: &str, ready: bool) -> Arc<Value> {
        Arc::new(json!({
            "metadata": { "name": format!("basic-pd-{n}"), "uid": format!("u{n}"), "labels": { REVISION: revision } },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
        }))
    }

    fn decided(set: &Value, pods: &[Arc<Value>]) -> Decision {
        decide(set, &update_revision(set), pods)
    }

    fn rolling(partition: u32) -> (Value, String, String) {
        let old = update_revision(&set("one", 0));
        let mut set = set("two", partition);
        set["status"] = json!({ "currentRevision": old });
        let new = update_revision(&set);
        assert_ne!(old, new);
        (set, old, new)
    }

    #[test]
    fn the_highest_ordinal_rolls_first_and_the_next_waits_until_it_is_ready() {
        let (set, old, new) = rolling(0);
        let all_old: Vec<_> = (0..3).map(|n| pod(n, &old, true)).collect();
        let decision = decided(&set, &all_old);
        assert_eq!(decision.acts, [Act::Delete { name: "basic-pd-2".into(), uid: "u2".into() }]);
        assert_eq!(decision.status["currentRevision"], json!(old));
        assert_eq!(decision.status["updateRevision"], json!(new));
        assert_eq!(decision.status["updatedReplicas"], json!(0));

        let starting = [pod(0, &old, true), pod(1, &old, true), pod(2, &new, false)];
        assert_eq!(decided(&set, &starting).acts, []);
        let ready = [pod(0, &old, true), pod(1, &old, true), pod(2, &new, true)];
        assert_eq!(decided(&set, &ready).acts, [Act::Delete { name: "basic-pd-1".into(), uid: "u1".into() }]);
    }

    #[test]
    fn below_the_partition_nothing_rolls_and_a_lost_pod_comes_back_as_it_was() {
        let (set, old, new) = rolling(2);
        let updated = [pod(0, &old, true), pod(1, &old, true), pod(2, &new, true)];
        assert_eq!(decided(&set, &updated).acts, []);
        let lost = [pod(0, &old, true), pod(2, &new, true)];
        assert_eq!(decided(&set, &lost).acts, [Act::Create { ordinal: 1, revision: old }]);
    }

    #[test]
    fn the_current_revision_moves_only_when_every_pod_is_new_and_ready() {
        let (set, old, new) = rolling(0);
        let nearly = [pod(0, &new, false), pod(1, &new, true), pod(2, &new, true)];
        assert_eq!(decided(&set, &nearly).status["currentRevision"], json!(old));
        let all: Vec<_> = (0..3).map(|n| pod(n, &new, true)).collect();
        let done = decided(&set, &all);
        assert_eq!(done.status["currentRevision"], json!(new));
        assert_eq!(done.status["observedGeneration"], json!(3));
    }

    #[test]
    fn on_delete_waits_for_a_person() {
        let (mut set, old, new) = rolling(0);
        set["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
        let all_old: Vec<_> = (0..3).map(|n| pod(n, &old, true)).collect();
        assert_eq!(decided(&set, &all_old).acts, []);
        let deleted = [pod(0, &old, true), pod(1, &old, true)];
        assert_eq!(decided(&set, &deleted).acts, [Act::Create { ordinal: 2, revision: new }]);
    }

    #[test]
    fn ordered_sets_start_one_by_one() {
        let mut set = set("one", 0);
        set["spec"]["podManagementPolicy"] = json!("OrderedReady");
        let new = update_revision(&set);
        assert_eq!(decided(&set, &[]).acts, [Act::Create { ordinal: 0, revision: new.clone() }]);
        assert_eq!(decided(&set, &[pod(0, &new, false)]).acts, []);
        assert_eq!(decided(&set, &[pod(0, &new, true)]).acts, [Act::Create { ordinal: 1, revision: new }]);
    }
}
