//! `k8s::exec`: a command in a container, for what only the inside of a pod shows.

use futures::{SinkExt as _, StreamExt as _};
use kube::client::Connection;
use kube::core::Request;
use kube::core::subresource::AttachParams;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::args;
use super::channels;
use super::client::Objects;
use super::errors::Attempt;
use super::forward::VERBS;
use super::object::{Ref, collection, text, touch};
use super::pod;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::looking::{self, KEPT, Looking, words};
use crate::registry::Touch;
use crate::secret::Secret;
use crate::world::World;

/// One message of input.
const PART: usize = 16 * 1024;
/// What is told of what the API server says.
const WORDS: usize = 300;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const END: u8 = 255;

/// What is asked of each pod.
struct Wanted {
    container: String,
    command: Looking,
}

/// What a stream printed, as far as it is kept.
#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    cut: bool,
}

impl Printed {
    fn add(&mut self, more: &[u8]) {
        let room = KEPT.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(more.get(..room).unwrap_or(more));
        self.cut |= more.len() > room;
    }
}

/// How a command ended.
#[derive(Default)]
struct Ended {
    exit: i64,
    out: Printed,
    err: Printed,
}

/// `k8s::exec(pod, container, command, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let pods = args::map(args, 0, "pod")?;
    let wanted = wanted(world, args)?;
    let mut told = Vec::new();
    for pod in pods_of(world, pods).await? {
        gate.holds().await?;
        let ended = one(world, &pod, &wanted, gate).await?;
        told.push(judged(&pod, &wanted, &ended)?);
    }
    Ok(json!({ "pods": told }))
}

fn wanted(world: &World, args: &[Value]) -> Result<Wanted, PrimError> {
    let container = args.get(1).and_then(Value::as_str);
    let container = container.ok_or_else(|| {
        PrimError::argument("`container` is no text").hint("an empty one stands for the pod's only container")
    })?;
    Ok(Wanted { container: container.to_owned(), command: Looking::of(world, args, 2)? })
}

/// The pod that is named, or the ready ones that a selector finds.
async fn pods_of(world: &World, pods: &Map<String, Value>) -> Result<Vec<Ref>, PrimError> {
    let (namespace, name) = named(pods);
    if namespace.is_empty() {
        return Err(PrimError::argument("`pod` has no namespace"));
    }
    let selector = pods.get("selector").and_then(Value::as_str).unwrap_or_default();
    if selector.is_empty() {
        if name.is_empty() {
            return Err(PrimError::argument("`pod` has neither `name` nor `selector`"));
        }
        return Ok(vec![Ref::new("v1", "Pod", namespace, name)]);
    }
    let found = Objects::of(world)?.list("v1", "Pod", namespace, selector).await?;
    let ready = found.iter().map(pod::pod).filter(|pod| pod.ready && !pod.terminating);
    let mut ready: Vec<Ref> = ready.map(|pod| Ref::new("v1", "Pod", namespace, pod.name)).collect();
    ready.sort();
    if ready.is_empty() {
        return Err(PrimError::new(Code::Unproved, "no pod is ready to be asked")
            .on(format!("pods {namespace}/{selector}")));
    }
    Ok(ready)
}

/// Namespace and name, of an object or of a map of both.
fn named(pod: &Map<String, Value>) -> (&str, &str) {
    let of = |field: &str| {
        let own = pod.get(field).and_then(Value::as_str);
        own.or_else(|| pod.get("metadata")?.get(field)?.as_str()).unwrap_or_default()
    };
    (of("namespace"), of("name"))
}

pub(super) fn touches(args: &[Value]) -> Vec<Touch> {
    let none = Map::new();
    let pods = args.first().and_then(Value::as_object).unwrap_or(&none);
    let (namespace, name) = named(pods);
    let selected = pods.get("selector").and_then(Value::as_str).is_some_and(|selector| !selector.is_empty());
    let exec = |name: &str| Touch::Kube {
        group: String::new(),
        resource: "pods/exec".into(),
        namespace: namespace.into(),
        name: name.into(),
        verbs: VERBS.map(str::to_owned).to_vec(),
    };
    if selected { vec![touch("v1", "Pod", namespace, "", &["list"]), exec("")] } else { vec![exec(name)] }
}

async fn one(world: &World, pod: &Ref, wanted: &Wanted, gate: &dyn Gate) -> Result<Ended, PrimError> {
    let command = &wanted.command;
    let asked = async {
        let client = world.cluster()?;
        let request = Request::new(collection(&pod.resource(), &pod.namespace));
        let mut params = AttachParams::default().stdin(command.stdin.is_some());
        if !wanted.container.is_empty() {
            params = params.container(&wanted.container);
        }
        let request = request.exec(&pod.name, &command.argv, &params);
        let attempt = Attempt { verb: VERBS[1], object: pod, part: "exec", plural: "" };
        let web = channels::open(&client, request, &attempt).await?;
        let text = format!("{}: `{}` runs", pod.name, words(&command.argv));
        gate.progress(Progress { text, done: None });
        talk(pod, web, command.stdin.as_ref()).await
    };
    tokio::select! {
        biased;
        ended = asked => ended,
        () = world.clock.sleep(command.within) => {
            let error = PrimError::new(
                Code::Timeout,
                format!("`{}` has not ended within {:?}; it may still run", words(&command.argv), command.within),
            )
            .on(pod.to_string());
            Err(match &command.stdin {
                Some(_) => error.hint("API servers before 1.30 cannot tell a command that its input has ended: have it read a line (`head -n 1`) or as many bytes as there are (`head -c N`)"),
                None => error.hint("give it longer with `within`"),
            })
        }
    }
}

/// Sends the input, and hears the command out.
async fn talk(pod: &Ref, web: Connection, stdin: Option<&Secret>) -> Result<Ended, PrimError> {
    let closes = web.supports_stream_close();
    let (mut to, mut from) = web.into_stream().split();
    let input = async {
        for part in stdin.map(Secret::expose).unwrap_or_default().chunks(PART) {
            let mut message = Vec::with_capacity(part.len() + 1);
            message.push(STDIN);
            message.extend_from_slice(part);
            // A command that does not read its input has said how it ended.
            if to.send(Message::Binary(message.into())).await.is_err() {
                break;
            }
        }
        if stdin.is_some() && closes {
            let _ = to.send(Message::Binary(vec![END, STDIN].into())).await;
        }
        std::future::pending::<()>().await;
    };
    let output = async {
        let mut ended = Ended::default();
        while let Some(message) = from.next().await {
            let message = message.map_err(|error| lost(pod, &error.to_string()))?;
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            match bytes.split_first() {
                Some((&STDOUT, more)) => ended.out.add(more),
                Some((&STDERR, more)) => ended.err.add(more),
                Some((&STATUS, status)) if !status.is_empty() => {
                    ended.exit = exit(pod, status)?;
                    return Ok(ended);
                }
                _ => {}
            }
        }
        Err(lost(pod, "the connection was closed"))
    };
    tokio::select! {
        biased;
        ended = output => ended,
        () = input => Err(lost(pod, "the input has ended")),
    }
}

fn lost(pod: &Ref, why: &str) -> PrimError {
    PrimError::new(Code::Unavailable, format!("the command was cut off before it said how it ended: {why}"))
        .on(pod.to_string())
        .hint("the pod may have gone away, or the API server have restarted; the step can be tried again")
}

/// The exit code in a status.
fn exit(pod: &Ref, status: &[u8]) -> Result<i64, PrimError> {
    let status: Value = serde_json::from_slice(status)
        .map_err(|error| lost(pod, &format!("what it said cannot be read: {error}")))?;
    if text(&status, &["status"]) == "Success" {
        return Ok(0);
    }
    let causes = status.get("details").and_then(|details| details.get("causes")).and_then(Value::as_array);
    let code = causes.into_iter().flatten().find(|cause| text(cause, &["reason"]) == "ExitCode");
    code.and_then(|cause| text(cause, &["message"]).parse().ok()).ok_or_else(|| {
        let said: String = text(&status, &["message"]).chars().take(WORDS).collect();
        PrimError::new(Code::Unproved, format!("the command could not be run: {said}")).on(pod.to_string())
    })
}

/// Whether it is as it should be; what is told of it becomes part of the record.
fn judged(pod: &Ref, wanted: &Wanted, ended: &Ended) -> Result<Value, PrimError> {
    let ended = looking::Ended {
        exit: ended.exit,
        stdout: &ended.out.bytes,
        stderr: &ended.err.bytes,
        cut: ended.out.cut || ended.err.cut,
    };
    wanted.command.judged(("pod", &pod.name), &pod.to_string(), &ended)
}
