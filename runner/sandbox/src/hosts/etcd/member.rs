//! One member: a program of a host, with a port for clients and one for its peers.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::world::Clock;
use tokio::task::JoinSet;

use super::raft::Raft;
use super::service::routes;
use crate::hosts::machine::Machine;
use crate::hosts::serve::{Answer, Handler, Port, serve};
use crate::hosts::side::{Ask, Link, Outcome, Side, dial, exchange};
use crate::hosts::unit::Program;
use crate::hosts::world::Shared;

/// The port for clients.
pub(crate) const CLIENTS: u16 = 2379;
/// The port for peers.
pub(crate) const PEERS: u16 = 2380;

/// Where a member's files lie.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    pub ca: String,
    pub cert: String,
    pub key: String,
    pub peer_ca: String,
    pub peer_cert: String,
    pub peer_key: String,
}

/// What a member that runs has loaded.
pub(crate) struct Running {
    pub clients: Arc<Side>,
    pub peers: Arc<Side>,
}

/// A member.
pub(crate) struct Member {
    shared: Arc<Shared>,
    raft: Arc<Mutex<Raft>>,
    number: usize,
    name: String,
    machine: Arc<Machine>,
    ip: IpAddr,
    paths: Paths,
    running: Mutex<Option<Arc<Running>>>,
    /// All members, this one among them.
    all: Mutex<Vec<Weak<Member>>>,
}

/// Members' ids look as etcd's do.
fn id(number: usize) -> u64 {
    0x8e9e_05c5_2164_0000 + number as u64
}

impl Member {
    pub(crate) fn new(
        (shared, raft): (&Arc<Shared>, &Arc<Mutex<Raft>>),
        number: usize,
        (name, machine, ip): (&str, &Arc<Machine>, IpAddr),
        paths: Paths,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            raft: Arc::clone(raft),
            number,
            name: name.to_owned(),
            machine: Arc::clone(machine),
            ip,
            paths,
            running: Mutex::default(),
            all: Mutex::default(),
        })
    }

    pub(crate) fn meet(&self, all: &[Arc<Member>]) {
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) = all.iter().map(Arc::downgrade).collect();
    }

    pub(crate) fn raft(&self) -> MutexGuard<'_, Raft> {
        self.raft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    #[expect(clippy::unused_self, reason = "a member knows its cluster")]
    pub(crate) fn cluster_id(&self) -> u64 {
        0xcdf8_181e_3227_0001
    }

    pub(crate) fn id(&self) -> u64 {
        id(self.number)
    }

    #[expect(clippy::unused_self, reason = "a member knows the others")]
    pub(crate) fn id_of(&self, number: usize) -> u64 {
        id(number)
    }

    fn others(&self) -> Vec<Arc<Member>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Ids, names and addresses of all members.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, String, IpAddr)> {
        self.others().into_iter().map(|member| (member.id(), member.name.clone(), member.ip))
    }

    pub(crate) fn number_of(&self, wanted: u64) -> Option<usize> {
        (0..self.others().len()).find(|number| id(*number) == wanted)
    }

    /// What it has loaded, while it runs.
    pub(crate) fn running(&self) -> Option<Arc<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Dials one peer once.
    async fn dial_peer(&self, own: &Running, peer: &Arc<Member>) {
        let Some(there) = peer.running() else {
            return self.raft().set_reach(self.number, peer.number, false);
        };
        let host = peer.ip.to_string();
        let probe = |mut link: Link| -> BoxFuture<'_, _> {
            let host = host.as_str();
            Box::pin(async move {
                let ask = Ask { method: "GET", path: "/raft/probing", body: &Value::Null };
                exchange(&mut link, &ask, host).await
            })
        };
        let fine = || -> BoxFuture<'_, (u16, Value)> { Box::pin(async { (200, json!({ "OK": true })) }) };
        let outcome = dial(&self.shared, &own.peers, &there.peers, PEERS, &probe, &fine).await;
        self.raft().set_reach(self.number, peer.number, matches!(outcome, Outcome::Held((200, _))));
    }
}

/// Dials a peer again and again: at once when anything changed, and from time to time.
async fn link(member: Arc<Member>, own: Arc<Running>, peer: Arc<Member>) {
    let mut heard = member.shared.bell.subscribe();
    let dice = member.shared.dice(&format!("{} -> {}", member.name, peer.name));
    loop {
        heard.mark_unchanged();
        member.dial_peer(&own, &peer).await;
        member.shared.pause(&mut heard, &dice).await;
    }
}

/// Takes the member out when its process ends, however that ends.
struct Up(Arc<Member>);

impl Drop for Up {
    fn drop(&mut self) {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.raft().set_up(self.0.number, false);
    }
}

impl Program for Member {
    fn start(self: Arc<Self>) -> Result<JoinSet<()>, String> {
        let (paths, who) = (&self.paths, (self.name.as_str(), &self.machine, self.ip));
        let clients = Side::grpc("member", who, (&paths.ca, &paths.cert, &paths.key), &self.shared.clock)?;
        let peers =
            Side::load("peer", who, (&paths.peer_ca, &paths.peer_cert, &paths.peer_key), &self.shared.clock)?;
        let bind = |port: u16| self.shared.bind(SocketAddr::new(self.ip, port));
        let (for_clients, for_peers) = (bind(CLIENTS)?, bind(PEERS)?);
        let running = Arc::new(Running { clients: Arc::clone(&clients), peers: Arc::clone(&peers) });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&running));
        self.raft().set_up(self.number, true);
        let mut tasks = JoinSet::new();
        let up = Up(Arc::clone(&self));
        tasks.spawn(async move {
            let _up = up;
            std::future::pending::<()>().await;
        });
        let unknown: Handler = Arc::new(|_, _, _| Box::pin(async { Answer::unknown() }));
        let probing: Handler = Arc::new(|_, _, _| {
            let body = json!({ "OK": true }).to_string().into_bytes();
            Box::pin(async { Answer { status: 200, kind: "application/json", body } })
        });
        let port = |side, handler, grpc, addresses| Port {
            shared: Arc::clone(&self.shared),
            side,
            handler,
            grpc,
            addresses,
        };
        tasks.spawn(serve(port(clients, unknown, Some(routes(&self)), false), for_clients));
        tasks.spawn(serve(port(peers, probing, None, true), for_peers));
        for peer in self.others().into_iter().filter(|peer| peer.number != self.number) {
            tasks.spawn(link(Arc::clone(&self), Arc::clone(&running), peer));
        }
        self.machine.rings();
        Ok(tasks)
    }
}
