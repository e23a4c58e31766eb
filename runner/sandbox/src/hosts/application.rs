//! An application beside the members: it puts and reads keys through every one of them, and holds them to what they
//! acknowledged.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::Client;
use etcd_client::proto::PbRangeRequest;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use stdlib::etcd::Line;
use tokio::task::JoinSet;
use tonic::Status;

use super::etcd::{CLIENTS, Member, put, range};
use super::layout::{Dialler, KUBERNETES, Pair};
use super::machine::Machine;
use super::serve::{Answer, Handler, Port, serve};
use super::side::{Link, Outcome, Respond, Side, dial};
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

/// One question to a member.
type Question<'a, T> = &'a (dyn Fn(Client) -> BoxFuture<'a, Result<T, etcd_client::Error>> + Send + Sync);

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

    /// Asks one member; nothing where it does not answer. `known` is its answer where the handshake is known already.
    async fn ask<T: Send>(
        &self,
        side: &Side,
        member: &Arc<Member>,
        question: Question<'_, T>,
        known: Respond<'_, Result<T, Status>>,
    ) -> Option<T> {
        let there = member.running()?;
        let authority = format!("{}:{CLIENTS}", there.clients.ip);
        let asked = |link: Link| -> BoxFuture<'_, _> {
            let authority = authority.as_str();
            Box::pin(async move {
                let line = Line::over(link, authority).await?;
                let answer = question(line.client());
                line.ask(answer).await.map(Some)
            })
        };
        match dial(&self.shared, side, &there.clients, CLIENTS, &asked, known).await {
            Outcome::Held(answer) => answer.ok(),
            Outcome::Refused(_) | Outcome::Unreachable => None,
        }
    }

    fn place(&self) -> String {
        format!("/applications/{}", self.name)
    }

    /// A write; whether it was acknowledged.
    async fn put(&self, side: &Side, member: &Arc<Member>, value: u64) -> bool {
        let (place, value) = (self.place(), value.to_string());
        let (key, text) = (place.as_str(), value.as_str());
        let question = |mut client: Client| -> BoxFuture<'_, _> {
            Box::pin(async move { client.put(key, text, None).await.map(drop) })
        };
        let known = || -> BoxFuture<'_, _> {
            Box::pin(async move { put(member, key.as_bytes(), text.as_bytes()).await.map(drop) })
        };
        self.ask(side, member, &question, &known).await.is_some()
    }

    /// A read that must not be stale.
    async fn get(&self, side: &Side, member: &Arc<Member>) -> Option<u64> {
        let place = self.place();
        let key = place.as_str();
        let question = |mut client: Client| -> BoxFuture<'_, _> {
            Box::pin(async move { client.get(key, None).await.map(|answer| answer.0) })
        };
        let known = || -> BoxFuture<'_, _> {
            let asked = PbRangeRequest { key: key.as_bytes().to_vec(), ..PbRangeRequest::default() };
            Box::pin(async move { range(member, &asked).await })
        };
        let answer = self.ask(side, member, &question, &known).await?;
        let Some(found) = answer.kvs.first() else { return Some(0) };
        Some(std::str::from_utf8(&found.value).ok()?.parse().unwrap_or(0))
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
        let acknowledged = self.put(side, one, tried).await;
        let now = self.shared.clock.now();
        {
            let (mut known, mut history) = (held(&self.known), held(&self.shared.history));
            if acknowledged {
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
        let side = Side::grpc("application", who, (ca, &pair.cert, &pair.key), &self.shared.clock)?;
        let mut tasks = JoinSet::new();
        if self.api {
            let own = Pair::crt(&format!("{KUBERNETES}/apiserver"));
            let ca = format!("{KUBERNETES}/ca.crt");
            let api = Side::open("api", who, (&ca, &own.cert, &own.key), &self.shared.clock)?;
            let listener = self.shared.bind(SocketAddr::new(self.ip, API))?;
            let handler: Handler = Arc::new(|_, _, _| Box::pin(async { Answer::healthy() }));
            let shared = Arc::clone(&self.shared);
            tasks.spawn(serve(Port { shared, side: api, handler, grpc: None, addresses: false }, listener));
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
