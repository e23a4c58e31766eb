//! `k8s::rollout_restart`: a marker in the pod template, and waiting until no old pod lives.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::world::World;

use super::args;
use super::client::Objects;
use super::marker::{self, Spot};
use super::object::{Ref, at};
use super::rollout::{Waiting, pod, workload};
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
    restart(world, gate, &Ref::new("apps/v1", kind, namespace, name)).await
}

/// Restarts a Deployment, StatefulSet or DaemonSet and waits.
pub async fn restart(world: &World, gate: &dyn Gate, object: &Ref) -> Result<Value, PrimError> {
    let spot = Spot::template();
    let marker = marker::put(world, gate, object, &spot).await?;
    let objects = Objects::of(world)?;
    let mut poll = Poll::default();
    let mut pods = Vec::new();
    loop {
        let state = async {
            let value = objects.get(object).await?;
            let selector = selector(&value);
            pods = objects.list("v1", "Pod", &object.namespace, &selector).await?;
            Ok(workload(&object.kind, &value, &pods, spot.key, &marker))
        };
        let state: Result<Waiting, PrimError> = state.await;
        match poll.seen(state)? {
            Some(Waiting::Done) => return Ok(json!({ "marker": marker })),
            Some(Waiting::Stuck(why)) => {
                let why = because(why, why::unready(&objects, &pods).await);
                return Err(PrimError::new(Code::Unproved, why).on(object.to_string()).hint(format!(
                    "`kubectl --namespace {} describe {} {}`",
                    object.namespace,
                    object.kind.to_lowercase(),
                    object.name
                )));
            }
            Some(Waiting::For(why, done, total)) => {
                gate.progress(Progress {
                    text: format!("{}: {why}", object.name),
                    done: Some((done, total)),
                });
            }
            None => gate.progress(Progress { text: "waiting for the API server".into(), done: None }),
        }
        world.clock.sleep(poll.pause()).await;
    }
}

/// A reason, with what the cluster says of the pod in question.
pub fn because(why: String, told: Option<String>) -> String {
    told.map_or(why.clone(), |told| format!("{why}. {told}"))
}

/// The label selector of a workload as a query.
pub fn selector(workload: &Value) -> String {
    at(workload, &["spec", "selector", "matchLabels"])
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect::<Vec<_>>()
        .join(",")
}

/// Names of pods that are not ready, for messages.
pub fn unready(pods: &[Value]) -> Vec<&str> {
    pods.iter().map(pod).filter(|p| !p.ready).map(|p| p.name).collect()
}

/// The rhythm of a wait: fast at first, forgiving a server that is away for a moment.
#[derive(Debug, Default)]
pub struct Poll {
    polls: u32,
    lost: u32,
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
