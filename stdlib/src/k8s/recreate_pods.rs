//! `k8s::recreate_pods`: pods of StatefulSets deleted together, and waiting until their successors are ready.
//!
//! Where old and new pods cannot talk with each other, a rolling restart never ends: the first new pod waits for peers that
//! refuse it. So all go at once, which is an outage.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Past, Permit, Progress};
use crate::world::World;

use super::args;
use super::client::{Deletion, Objects};
use super::data::ABSENT;
use super::object::{Ref, number, text};
use super::restart::Poll;
use super::rollout::pod;

/// How often a deletion that lost against a new status of the pod is tried anew.
const ROUNDS: usize = 20;
/// A container that failed to start this often will not heal by waiting.
const HOPELESS_RESTARTS: i64 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// Pods that are deleted together.
struct Set {
    namespace: String,
    name: String,
    selector: String,
    replicas: u64,
}

/// `k8s::recreate_pods(workloads, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let sets = sets(args)?;
    let force = args.get(1).and_then(|options| options.get("force")) == Some(&Value::Bool(true));
    let marker = gate.marker();
    if marker.is_empty() {
        return Err(PrimError::new(Code::Refused, "only a step of a run may delete pods"));
    }
    let objects = Objects::behind(world, gate)?;
    let mut doomed = announced(&gate.history(), &marker);
    let mut deletions = Vec::new();
    for set in &sets {
        for value in objects.list("v1", "Pod", &set.namespace, &set.selector).await? {
            let object = Ref::new("v1", "Pod", &set.namespace, text(&value, &["metadata", "name"]));
            let uid = text(&value, &["metadata", "uid"]).to_owned();
            // Another of its name was announced: this one has come after it.
            if doomed.get(&object).is_some_and(|known| *known != uid) {
                continue;
            }
            let effect = Effect {
                place: object.part(&uid),
                before: format!("sha256:{}", hex::encode(Sha256::digest(&uid))),
                after: ABSENT.into(),
                class: EffectClass::Compensable,
                backup: None,
                summary: json!({ "marker": marker, "before": { "uid": uid }, "after": {} }),
            };
            if gate.effect(effect).await? == Permit::Apply {
                deletions.push((object.clone(), uid.clone()));
            }
            doomed.insert(object, uid);
        }
    }
    // All are on record before the first goes.
    try_join_all(deletions.iter().map(|(pod, uid)| delete(world, &objects, pod, uid, force))).await?;
    wait(world, &objects, gate, &sets, &doomed).await?;
    let pods: Vec<&str> = doomed.keys().map(|pod| pod.name.as_str()).collect();
    Ok(json!({ "pods": pods, "marker": marker }))
}

fn sets(args: &[Value]) -> Result<Vec<Set>, PrimError> {
    let Some(Value::Array(list)) = args.first() else {
        return Err(PrimError::argument("`workloads` is no list")
            .expected("a list of `{namespace, name, selector, replicas}`", "something else"));
    };
    let set = |value: &Value| -> Result<Set, PrimError> {
        let map = value.as_object().ok_or_else(|| PrimError::argument("a workload is no map"))?;
        let field = |name: &str| args::field(map, name, "workload").map(str::to_owned);
        let replicas = map.get("replicas").and_then(Value::as_u64);
        Ok(Set {
            namespace: field("namespace")?,
            name: field("name")?,
            // An empty selector would be all pods of the namespace.
            selector: field("selector")?,
            replicas: replicas.ok_or_else(|| PrimError::argument("`workload.replicas` is no number"))?,
        })
    };
    list.iter().map(set).collect()
}

/// The pods that this step has announced to delete, and their uids.
fn announced(history: &[Past], marker: &str) -> BTreeMap<Ref, String> {
    let ours = |past: &Past| match past {
        Past::Restarted { marker: known, place } if known == marker => {
            let object = Ref::from_place(place).ok().filter(|object| object.kind == "Pod")?;
            let (_, uid) = place.0.split_once('#')?;
            Some((object, uid.to_owned()))
        }
        _ => None,
    };
    history.iter().filter_map(ours).collect()
}

/// Deletes this pod and no other of its name.
async fn delete(
    world: &World,
    objects: &Objects<'_>,
    object: &Ref,
    uid: &str,
    force: bool,
) -> Result<(), PrimError> {
    let deletion = Deletion { force, ..Deletion::default() };
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let Some(value) = objects.find(object).await? else { return Ok(()) };
        if text(&value, &["metadata", "uid"]) != uid || (pod(&value).terminating && !force) {
            return Ok(());
        }
        let version = text(&value, &["metadata", "resourceVersion"]);
        match objects.delete_as(object, uid, version, deletion).await {
            // Its status is written often; the uid still says that it is the same.
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            other => return other,
        }
        world.clock.sleep(PAUSE).await;
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

async fn wait(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    sets: &[Set],
    doomed: &BTreeMap<Ref, String>,
) -> Result<(), PrimError> {
    let wanted = sets.iter().map(|set| set.replicas).sum();
    let mut poll = Poll::default();
    loop {
        let state = async {
            let (mut back, mut late) = (0, None);
            for set in sets {
                let pods = objects.list("v1", "Pod", &set.namespace, &set.selector).await?;
                let ready = back_again(set, &pods, doomed)?;
                if ready < set.replicas && late.is_none() {
                    late = Some(format!("{}: {ready} of {} pods are back", set.name, set.replicas));
                }
                back += ready.min(set.replicas);
            }
            Ok((back, late))
        };
        match poll.seen(state.await)? {
            Some((_, None)) => return Ok(()),
            Some((back, Some(text))) => gate.progress(Progress { text, done: Some((back, wanted)) }),
            None => gate.progress(Progress { text: "waiting for the API server".into(), done: None }),
        }
        world.clock.sleep(poll.pause()).await;
    }
}

/// How many successors are ready.
fn back_again(set: &Set, pods: &[Value], doomed: &BTreeMap<Ref, String>) -> Result<u64, PrimError> {
    let mut ready = 0;
    for value in pods {
        let state = pod(value);
        let object = Ref::new("v1", "Pod", &set.namespace, state.name);
        if doomed.get(&object).is_some_and(|uid| uid == text(value, &["metadata", "uid"])) {
            continue;
        }
        let restarts = value.pointer("/status/containerStatuses").and_then(Value::as_array);
        let often = restarts.into_iter().flatten().any(|c| number(c, &["restartCount"]) >= HOPELESS_RESTARTS);
        if let (Some(trouble), true) = (state.trouble, often) {
            return Err(PrimError::new(Code::Unproved, format!("it does not start ({trouble})"))
                .on(object.to_string())
                .hint(format!("`kubectl --namespace {} logs {}` says why", set.namespace, state.name)));
        }
        ready += u64::from(state.ready && !state.terminating);
    }
    Ok(ready)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::gate::Place;

    fn value(name: &str, uid: &str, ready: &str) -> Value {
        json!({
            "metadata": {"name": name, "uid": uid},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    #[test]
    fn only_successors_that_are_ready_count() {
        let set =
            Set { namespace: "tidb".into(), name: "basic-pd".into(), selector: "a=b".into(), replicas: 3 };
        let doomed = announced(
            &[
                Past::Restarted { marker: "m".into(), place: Place("k8s:v1/Pod/tidb/basic-pd-0#old".into()) },
                Past::Restarted { marker: "m".into(), place: Place("k8s:v1/Pod/tidb/basic-pd-1#old".into()) },
                Past::Restarted {
                    marker: "before".into(),
                    place: Place("k8s:v1/Pod/tidb/basic-pd-2#x".into()),
                },
            ],
            "m",
        );
        assert_eq!(doomed.len(), 2, "what another phase has deleted is another matter");
        let pods = [
            value("basic-pd-0", "old", "True"),
            value("basic-pd-1", "new", "True"),
            value("basic-pd-2", "y", "False"),
        ];
        assert_eq!(back_again(&set, &pods, &doomed).unwrap(), 1);
    }
}
