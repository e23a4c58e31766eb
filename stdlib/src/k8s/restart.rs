//! `k8s::rollout_restart`: a marker in the pod template, and waiting until no old pod lives.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Progress};
use crate::registry::Touch;
use crate::world::World;

use super::args;
use super::budget;
use super::client::Objects;
use super::data::ABSENT;
use super::marker::{self, Spot};
use super::object::{self, Ref, text};
use super::owned::Own;
use super::partition;
use super::patience::Patience;
use super::rollout::{Waiting, ailments, next_to_go, workload};
use super::why;

/// Polling starts fast, for a small cluster, and slows down, for the sake of the server.
const FIRST_POLL: Duration = Duration::from_millis(300);
const SECOND_POLL: Duration = Duration::from_secs(1);
const SLOWEST_POLL: Duration = Duration::from_secs(2);
/// How many polls have the first pause (6 s), and how many that or the second (about two minutes).
const FIRST_POLLS: u32 = 20;
const SECOND_POLLS: u32 = 135;
/// How many polls in a row may fail before the wait fails.
const LOST_POLLS: u32 = 5;

/// `k8s::rollout_restart(workload)`.
pub async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let workload = args::map(args, 0, "workload")?;
    let kind = match args::field(workload, "kind", "workload")? {
        "deployment" | "Deployment" => "Deployment",
        "statefulset" | "StatefulSet" => "StatefulSet",
        "daemonset" | "DaemonSet" => "DaemonSet",
        other => {
            return Err(PrimError::argument(format!("`workload.kind` is `{other}`"))
                .expected("`deployment`, `statefulset` or `daemonset`", format!("`{other}`")));
        }
    };
    let namespace = args::field(workload, "namespace", "workload")?;
    let name = args::field(workload, "name", "workload")?;
    let options = args.get(1).unwrap_or(&Value::Null);
    let manner = Manner {
        ignore_budgets: choice(options, "budgets", "respect", "ignore")?,
        lower_partition: choice(options, "partition", "refuse", "lower")?,
    };
    restart(world, gate, &Ref::new("apps/v1", kind, namespace, name), manner).await
}

/// How a restart goes about what stands in its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Begins whatever PodDisruptionBudgets say.
    pub ignore_budgets: bool,
    /// Lowers a partition that keeps pods back, and puts it back at the end.
    pub lower_partition: bool,
}

/// An option with two words: whether it is the second.
pub fn choice(options: &Value, name: &str, usual: &str, other: &str) -> Result<bool, PrimError> {
    match options.get(name).filter(|word| !word.is_null()) {
        None => Ok(false),
        Some(word) if word == usual => Ok(false),
        Some(word) if word == other => Ok(true),
        Some(word) => Err(PrimError::argument(format!("`{name}` is {word}"))
            .expected(format!("`{usual}` or `{other}`"), word.to_string())),
    }
}

/// What restarting a workload touches.
pub fn touches(kind: &str, namespace: &str, name: &str) -> Vec<Touch> {
    let mut touches = vec![
        object::touch("apps/v1", kind, namespace, name, &["get", "patch"]),
        object::touch("v1", "Pod", namespace, "", &["list"]),
        object::touch("policy/v1", "PodDisruptionBudget", namespace, "", &["list"]),
    ];
    if kind == "Deployment" {
        // They say which pods are its own.
        touches.push(object::touch("apps/v1", "ReplicaSet", namespace, "", &["list"]));
    } else {
        // Only these can be told to leave it to others.
        touches.push(Touch::Kube {
            group: String::new(),
            resource: "pods/eviction".into(),
            namespace: namespace.into(),
            name: String::new(),
            verbs: vec!["create".into()],
        });
    }
    touches
}

/// Restarts a Deployment, StatefulSet or DaemonSet, as soon as the budgets of its pods let one be missing, and waits.
pub async fn restart(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    manner: Manner,
) -> Result<Value, PrimError> {
    let objects = Objects::of(world)?;
    let value = objects.get(object).await?;
    let held = partition::partition(&value);
    if held > 0 && !manner.lower_partition {
        return Err(partition::refused(object, held));
    }
    let begun = Spot::template().value(&value) == gate.marker();
    if !begun && !gate.marker().is_empty() && !manner.ignore_budgets {
        budget::wait(world, gate, &objects, object).await?;
    }
    roll(world, gate, object).await
}

/// Restarts it without a question, and waits.
async fn roll(world: &World, gate: &dyn Gate, object: &Ref) -> Result<Value, PrimError> {
    let spot = Spot::template();
    let marker = marker::put(world, gate, object, &spot).await?;
    let objects = Objects::behind(world, gate)?;
    let held = partition::lower(world, gate, object, &objects.get(object).await?).await?;
    let (namespace, kind, name) = (&object.namespace, object.kind.to_lowercase(), &object.name);
    let hint = format!("`kubectl --namespace {namespace} describe {kind} {name}`");
    let (mut poll, mut own, mut patience) = (Poll::default(), Own::default(), Patience::default());
    loop {
        let state = async {
            let value = objects.get(object).await?;
            let pods = own.pods(&objects, object, &value).await?;
            let (kind, key) = (object.kind.as_str(), spot.key);
            let ailments = ailments(kind, &value, &pods, key, &marker);
            let waiting = workload(kind, &value, &pods, key, &marker);
            let mut waiting = patience.judge(waiting, &ailments, world.clock.now());
            if let (Waiting::For(why, ..), Some(old)) =
                (&mut waiting, next_to_go(&value, &pods, key, &marker))
            {
                *why = evict(&objects, gate, object, old, &marker).await?;
            }
            if let Waiting::For(why, ..) = &mut waiting
                && !why.starts_with(&format!("{}-", object.name))
            {
                *why = format!("{}: {why}", object.name);
            }
            Ok((waiting, pods))
        };
        let state = state.await;
        if is_done(world, gate, &mut poll, (object, &hint), state).await? {
            if let Some(was) = &held {
                partition::put_back(world, gate, object, was).await?;
            }
            return Ok(json!({ "marker": marker }));
        }
    }
}

/// What one look at a restart comes to: whether it is done. `state` also has the pods, from which it is told why one does
/// not get there; `hint` is what to type then. Waits for the next look where it goes on.
pub async fn is_done(
    world: &World,
    gate: &dyn Gate,
    poll: &mut Poll,
    (object, hint): (&Ref, &str),
    state: Result<(Waiting, Vec<Value>), PrimError>,
) -> Result<bool, PrimError> {
    match poll.seen(state)? {
        Some((Waiting::Done, _)) => return Ok(true),
        Some((Waiting::Stuck(why), pods)) => {
            let why = because(why, why::waits(&Objects::of(world)?, object, &pods).await);
            return Err(PrimError::new(Code::Unproved, why).on(object.to_string()).hint(hint));
        }
        Some((Waiting::For(text, done, total), pods)) => {
            gate.progress(Progress { text, done: Some((done, total)) });
            if gate.is_late() && !poll.explained {
                let why = why::waits(&Objects::of(world)?, object, &pods).await;
                if let Some(why) = why {
                    poll.explained = true;
                    gate.explain(&why);
                }
            }
        }
        None => gate.progress(Progress { text: "waiting for the API server".into(), done: None }),
    }
    world.clock.sleep(poll.pause()).await;
    Ok(false)
}

/// Evicts an old pod that nobody else takes away. What came of it, in words.
async fn evict(
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
    old: &Value,
    marker: &str,
) -> Result<String, PrimError> {
    let pod = Ref::new("v1", "Pod", &object.namespace, text(old, &["metadata", "name"]));
    let uid = text(old, &["metadata", "uid"]);
    let effect = Effect {
        place: pod.part(uid),
        before: format!("sha256:{}", hex::encode(Sha256::digest(uid))),
        after: ABSENT.into(),
        class: EffectClass::Compensable,
        backup: None,
        summary: json!({ "marker": marker, "before": { "uid": uid }, "after": {} }),
    };
    gate.effect(effect).await?;
    match objects.evict(&pod, uid).await {
        Ok(()) => Ok(format!("{} is evicted, since the update strategy is OnDelete", pod.name)),
        Err(error) if error.code == Code::Conflict => Ok(format!("{}: {}", pod.name, error.message)),
        Err(error) => Err(error),
    }
}

/// A reason, with what the cluster says of the pod in question.
fn because(why: String, told: Option<String>) -> String {
    told.map_or(why.clone(), |told| format!("{why}. {told}"))
}

/// The rhythm of a wait: fast at first, forgiving a server that is away for a moment.
#[derive(Debug, Default)]
pub struct Poll {
    polls: u32,
    lost: u32,
    /// Whether it was said why the wait may not end in time.
    explained: bool,
}

impl Poll {
    /// Takes an observation; a passing failure of the server is no observation.
    pub fn seen<T>(&mut self, state: Result<T, PrimError>) -> Result<Option<T>, PrimError> {
        self.polls += 1;
        match state {
            Ok(state) => {
                self.lost = 0;
                Ok(Some(state))
            }
            Err(error) if error.retryable() && self.lost < LOST_POLLS => {
                self.lost += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How long to wait now.
    pub fn pause(&self) -> Duration {
        match self.polls {
            0..=FIRST_POLLS => FIRST_POLL,
            polls if polls <= SECOND_POLLS => SECOND_POLL,
            _ => SLOWEST_POLL,
        }
    }
}
