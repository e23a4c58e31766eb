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
use crate::gate::{Effect, EffectClass, Gate, Past, Permit};
use crate::world::World;

use super::args;
use super::client::{Deletion, Objects};
use super::data::ABSENT;
use super::object::{Ref, text};
use super::owned;
use super::patience::{Ailment, Patience, ailing, hopeless};
use super::pod::{late, pod};
use super::restart::{Poll, is_done};
use super::rollout::Waiting;

/// How often a deletion that lost against a new status of the pod is tried anew.
const ROUNDS: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// What says whose pods they are.
pub(super) const SET: (&str, &str) = ("apps/v1", "StatefulSet");

/// Pods that are deleted together.
struct Set {
    namespace: String,
    name: String,
    selector: String,
    replicas: u64,
}

impl Set {
    /// Its pods. What the selector finds of others is neither deleted nor taken for a successor.
    async fn pods(&self, objects: &Objects<'_>) -> Result<Vec<Value>, PrimError> {
        let mut pods = objects.list("v1", "Pod", &self.namespace, &self.selector).await?;
        if pods.is_empty() {
            return Ok(pods);
        }
        let stateful_set = objects.find(&Ref::new(SET.0, SET.1, &self.namespace, &self.name)).await?;
        pods.retain(|pod| owned::is_of_set(&self.name, stateful_set.as_ref(), pod));
        Ok(pods)
    }
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
        for value in set.pods(&objects).await? {
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
    let mut poll = Poll::default();
    let mut patience = Patience::default();
    let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
    let about = Ref::new("", "Pods", sets.first().map_or("", |set| &set.namespace), &names.join(", "));
    let hint = sets
        .iter()
        .map(|set| format!("`kubectl --namespace {} get pods -l {}`", set.namespace, set.selector));
    let hint = format!("{}, and their logs, say why", hint.collect::<Vec<_>>().join(", "));
    loop {
        let state = async {
            let mut seen = Vec::new();
            for set in sets {
                let mut pods = set.pods(objects).await?;
                pods.retain(|value| is_successor(set, value, doomed));
                seen.push((set, pods));
            }
            let (waiting, ailments) = judge(&seen);
            let waiting = patience.judge(waiting, &ailments, world.clock.now());
            Ok((waiting, seen.into_iter().flat_map(|(_, pods)| pods).collect()))
        };
        let state = state.await;
        if is_done(world, gate, &mut poll, (&about, &hint), state).await? {
            return Ok(());
        }
    }
}

/// Whether a pod has come after those that are deleted.
fn is_successor(set: &Set, value: &Value, doomed: &BTreeMap<Ref, String>) -> bool {
    let object = Ref::new("v1", "Pod", &set.namespace, pod(value).name);
    doomed.get(&object).is_none_or(|uid| uid != text(value, &["metadata", "uid"]))
}

/// What the successors of each set come to, and what ails.
fn judge(seen: &[(&Set, Vec<Value>)]) -> (Waiting, Vec<Ailment>) {
    let wanted: u64 = seen.iter().map(|(set, _)| set.replicas).sum();
    let (mut back, mut why, mut ailments) = (0, None, Vec::new());
    for (set, pods) in seen {
        if let Some(why) = hopeless(pods) {
            return (Waiting::Stuck(why), ailments);
        }
        let ready = pods.iter().map(pod).filter(|p| p.ready && !p.terminating).count() as u64;
        if ready < set.replicas {
            let (name, all) = (&set.name, set.replicas);
            let starting = pods.iter().find(|value| !pod(value).ready && !pod(value).terminating);
            why = why.or_else(|| {
                let first = starting.map(|value| late(value, "starts", ("", "")));
                let first = first.map(|first| format!("; {first}")).unwrap_or_default();
                Some(format!("{name}: {ready} of {all} pods are back{first}"))
            });
            if (pods.len() as u64) < all {
                let there = pods.len();
                ailments.push(Ailment::new(format!("{name}: {there} of {all} pods are made anew")));
            }
        }
        ailments.extend(ailing(pods, |_| true));
        back += ready.min(set.replicas);
    }
    (why.map_or(Waiting::Done, |why| Waiting::For(why, back, wanted)), ailments)
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
        let successors: Vec<Value> =
            pods.into_iter().filter(|value| is_successor(&set, value, &doomed)).collect();
        let (waiting, ailments) = judge(&[(&set, successors)]);
        let why = "basic-pd: 1 of 3 pods are back; basic-pd-2: starts (it is not ready)";
        assert_eq!(waiting, Waiting::For(why.into(), 1, 3));
        let told: Vec<&str> = ailments.iter().map(|ailment| ailment.what.as_str()).collect();
        assert_eq!(
            told,
            [
                "basic-pd: 2 of 3 pods are made anew",
                "basic-pd-2 was restarted, runs and does not become ready"
            ]
        );
    }

    #[test]
    fn successors_that_are_hopeless_or_never_begin_are_given_up_as_those_of_a_rollout_are() {
        let set = Set { namespace: "tidb".into(), name: "web".into(), selector: "a=b".into(), replicas: 1 };
        let crashing = json!({"metadata": {"name": "web-0"}, "status": {"containerStatuses":
            [{"restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        assert!(matches!(judge(&[(&set, vec![crashing])]).0, Waiting::Stuck(_)));
        for (value, why) in crate::k8s::pod::tests::never_begun() {
            let (waiting, ailments) = judge(&[(&set, vec![value])]);
            assert!(matches!(waiting, Waiting::For(..)));
            assert!(ailments.iter().any(|ailment| ailment.what.contains(why)), "{ailments:?}");
        }
    }
}
