//! An application beside the members: it puts and reads keys through every one of them, and holds them to what they
//! acknowledged.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::etcd::{Answer, CLIENTS, Member, respond};
use super::layout::{Dialler, KUBERNETES, Pair};
use super::machine::Machine;
use super::serve::{Handler, Port, serve};
use super::side::{Ask, Outcome, Side, dial};
use super::unit::Program;
use super::world::Shared;

/// What the members did to applications.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Writes that were acknowledged since it began.
    pub acknowledged: u64,
    /// Writes and reads that were not answered; they may have happened or not.
    pub unanswered: u64,
    /// The longest time between two acknowledged writes, in milliseconds.
    pub longest_gap_ms: u64,
    /// Acknowledged writes that were lost or read stale.
    pub wrong: Vec<String>,
    /// The most members that were down at one moment.
    pub most_down: usize,
}

#[derive(Default)]
struct Known {
    tried: u64,
    acknowledged: u64,
    seen: u64,
    turn: usize,
    last: Option<time::OffsetDateTime>,
}

/// The port of an API server.
const API: u16 = 6443;

/// The program of an application. It loads its CA when it starts, and reads its pair for each connection, as an API
/// server does. Where it is one it also serves, to whoever asks.
pub(super) struct Application {
    shared: Arc<Shared>,
    name: String,
    machine: Arc<Machine>,
    ip: IpAddr,
    files: Dialler,
    /// Whether it is an API server, with a port of its own.
    api: bool,
    members: Vec<Arc<Member>>,
    known: Mutex<Known>,
    running: Mutex<Option<Arc<Side>>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Application {
    pub(super) fn new(
        shared: &Arc<Shared>,
        (name, machine, ip): (&str, &Arc<Machine>, IpAddr),
        (files, api): (&Dialler, bool),
        members: &[Arc<Member>],
    ) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            name: name.to_owned(),
            machine: Arc::clone(machine),
            ip,
            files: files.clone(),
            api,
            members: members.to_vec(),
            known: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// It wrote this before the world began, and was answered. Returns the key and the value, as members hold it.
    pub(super) fn wrote(&self, value: u64) -> (Vec<u8>, Vec<u8>) {
        let mut known = held(&self.known);
        (known.tried, known.acknowledged) = (value, value);
        (self.place().into_bytes(), value.to_string().into_bytes())
    }

    pub(super) fn running(&self) -> Option<Arc<Side>> {
        held(&self.running).clone()
    }

    /// Asks one member; nothing where it does not answer.
    async fn ask(&self, side: &Side, member: &Arc<Member>, path: &str, body: &Value) -> Option<Value> {
        let there = member.running()?;
        let text = body.to_string();
        let answered = || -> futures::future::BoxFuture<'_, (u16, Value)> {
            let text = text.clone();
            Box::pin(async move {
                let answer = respond(member, "POST", path, text.as_bytes()).await;
                (answer.status, answer.value())
            })
        };
        let ask = Ask { method: "POST", path, body };
        match dial(&self.shared, side, &there.clients, CLIENTS, &ask, &answered).await {
            Outcome::Held(200, value) => Some(value),
            _ => None,
        }
    }

    fn place(&self) -> String {
        format!("/applications/{}", self.name)
    }

    fn key(&self) -> String {
        STANDARD.encode(self.place())
    }

    /// A read that must not be stale.
    async fn get(&self, side: &Side, member: &Arc<Member>) -> Option<u64> {
        let answer = self.ask(side, member, "/v3/kv/range", &json!({ "key": self.key() })).await?;
        let Some(value) = answer.pointer("/kvs/0/value").and_then(Value::as_str) else { return Some(0) };
        Some(String::from_utf8(STANDARD.decode(value).ok()?).ok()?.parse().unwrap_or(0))
    }

    fn judge(&self, value: u64, by: &str) {
        let mut known = held(&self.known);
        let fits = value >= known.acknowledged && value >= known.seen && value <= known.tried;
        if !fits {
            let text = format!(
                "{} read {value} from {by}: {} was acknowledged, {} was seen, {} was written last",
                self.name, known.acknowledged, known.seen, known.tried
            );
            held(&self.shared.history).wrong.push(text);
        }
        known.seen = known.seen.max(value);
    }

    async fn round(&self, side: &Side) {
        let (turn, tried) = {
            let mut known = held(&self.known);
            known.turn += 1;
            known.tried += 1;
            (known.turn, known.tried)
        };
        let at = |n: usize| self.members.get(n % self.members.len().max(1));
        let (Some(one), Some(other)) = (at(turn), at(turn + 1)) else { return };
        let body = json!({ "key": self.key(), "value": STANDARD.encode(tried.to_string()) });
        let put = self.ask(side, one, "/v3/kv/put", &body).await;
        let now = self.shared.clock.now();
        {
            let (mut known, mut history) = (held(&self.known), held(&self.shared.history));
            if put.is_some() {
                known.acknowledged = tried;
                history.acknowledged += 1;
                let gap = known.last.map_or(time::Duration::ZERO, |last| now - last);
                history.longest_gap_ms =
                    history.longest_gap_ms.max(gap.whole_milliseconds().try_into().unwrap_or(0));
                known.last = Some(now);
            } else {
                history.unanswered += 1;
            }
        }
        match self.get(side, other).await {
            Some(value) => self.judge(value, other.name()),
            None => held(&self.shared.history).unanswered += 1,
        }
    }

    /// In the end every member must have it all.
    pub(super) async fn judge_all(&self) {
        let Some(side) = self.running() else { return };
        for member in &self.members {
            match self.get(&side, member).await {
                Some(value) => self.judge(value, member.name()),
                None => {
                    let text = format!("{} gets no answer from {}", self.name, member.name());
                    held(&self.shared.history).wrong.push(text);
                }
            }
        }
    }
}

struct Up(Arc<Application>);

impl Drop for Up {
    fn drop(&mut self) {
        *held(&self.0.running) = None;
    }
}

impl Program for Application {
    fn start(self: Arc<Self>) -> Result<JoinSet<()>, String> {
        let who = (self.name.as_str(), &self.machine, self.ip);
        let Dialler { ca, pair, .. } = &self.files;
        let side = Side::load("application", who, (ca, &pair.cert, &pair.key), &self.shared.clock)?;
        let mut tasks = JoinSet::new();
        if self.api {
            let own = Pair::crt(&format!("{KUBERNETES}/apiserver"));
            let ca = format!("{KUBERNETES}/ca.crt");
            let api = Side::open("api", who, (&ca, &own.cert, &own.key), &self.shared.clock)?;
            let listener = self.shared.bind(SocketAddr::new(self.ip, API))?;
            let handler: Handler = Arc::new(|_, _, _| Box::pin(async { Answer::healthy() }));
            let shared = Arc::clone(&self.shared);
            tasks.spawn(serve(Port { shared, side: api, handler, addresses: false }, listener));
        }
        *held(&self.running) = Some(Arc::clone(&side));
        let up = Up(Arc::clone(&self));
        tasks.spawn(async move {
            let _up = up;
            let dice = self.shared.dice(&self.name);
            let mut heard = self.shared.bell.subscribe();
            loop {
                heard.mark_unchanged();
                self.round(&side).await;
                self.shared.pause(&mut heard, &dice).await;
            }
        });
        Ok(tasks)
    }
}
