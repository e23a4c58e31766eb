//! A running process: its ports, and the loop that dials all its links throughout.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dial::{Ask, Outcome, dial};
use super::party::Party;
use super::program::{Program, SQL_PORT};
use super::serve::serve;
use super::sql::{self, SqlSide};
use crate::world::counters::State;
use crate::world::ctx::Ctx;
use crate::world::directory::{Endpoint, Target};
use crate::world::timing::Dice;

/// A process. Dropping it kills it: ports close, connections break.
pub struct Process {
    ctx: Arc<Ctx>,
    /// As others see it.
    pub endpoint: Arc<Endpoint>,
    _tasks: JoinSet<()>,
}

/// Who a process is.
#[derive(Debug, Clone)]
pub struct Who {
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its cluster.
    pub cluster: String,
    /// What its Services' names begin with.
    pub stem: String,
    /// Name of its pod.
    pub pod: String,
}

impl Process {
    /// Starts to listen and to dial.
    ///
    /// # Errors
    /// A port cannot be had.
    pub fn start(
        ctx: &Arc<Ctx>,
        program: &'static Program,
        who: Who,
        (party, sql): (Party, Option<SqlSide>),
        ip: IpAddr,
    ) -> io::Result<Self> {
        let Who { namespace, cluster, stem, pod } = who;
        let (party, sql) = (Arc::new(party), sql.map(Arc::new));
        let ready = AtomicBool::new(false);
        let endpoint = Arc::new(Endpoint { party, sql, program, namespace, cluster, stem, pod, ip, ready });
        let mut tasks = JoinSet::new();
        if let Some(side) = &endpoint.sql {
            let listener = ctx.net.bind(SocketAddr::new(ip, SQL_PORT))?;
            tasks.spawn(sql::serve(Arc::clone(ctx), Arc::clone(&endpoint), Arc::clone(side), listener));
        }
        for port in program.ports {
            let listener = ctx.net.bind(SocketAddr::new(ip, *port))?;
            tasks.spawn(serve(Arc::clone(ctx), Arc::clone(&endpoint), listener));
        }
        tasks.spawn(dial_all(Arc::clone(ctx), Arc::clone(&endpoint)));
        ctx.directory.add(Arc::clone(&endpoint));
        if program.component == "pd" {
            let url = format!("https://{}:2379", endpoint.name());
            ctx.pd(&endpoint.namespace, &endpoint.cluster).member_up(&endpoint.pod, &url);
        }
        ctx.bell.ring();
        Ok(Self { ctx: Arc::clone(ctx), endpoint, _tasks: tasks })
    }

    /// Says whether its readiness probe passes.
    pub fn set_ready(&self, ready: bool) {
        if self.endpoint.ready.swap(ready, Ordering::Relaxed) != ready {
            if ready && matches!(self.endpoint.program.component, "tikv" | "tiflash") {
                let pd = self.ctx.pd(&self.endpoint.namespace, &self.endpoint.cluster);
                pd.store_up(&self.endpoint.pod, self.endpoint.program.component);
            }
            self.ctx.bell.ring();
        }
    }

    /// Whether it reaches its peers: nobody refuses it, it refuses nobody, and of each kind that it needs at least
    /// one answers. A peer that is not there (it restarts) is no obstacle.
    pub async fn reaches_peers(&self) -> Result<(), String> {
        let e = &self.endpoint;
        let mut answered: BTreeMap<(&str, u16), bool> = BTreeMap::new();
        for needed in e.program.dials.iter().filter(|d| d.needed) {
            answered.insert((needed.target, needed.port), false);
        }
        for target in self.ctx.directory.targets(&e.namespace, &e.cluster, e.program.dials, Some(e.ip)) {
            match dial(&self.ctx, &e.party, &target, &Ask::status()).await {
                Outcome::Held(..) => {
                    if let Some(known) = answered.get_mut(&(target.endpoint.program.component, target.port)) {
                        *known = true;
                    }
                }
                Outcome::Refused(refusal) => return Err(format!("{}: {}", target.name, refusal.why)),
                Outcome::Unreachable(_) => {}
            }
        }
        match answered.iter().find(|(_, answered)| !**answered) {
            Some(((component, port), _)) => Err(format!("no {component} answers on port {port}")),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.endpoint.ready.store(false, Ordering::Relaxed);
        self.ctx.directory.remove(&self.endpoint);
        let pd = self.ctx.pd(&self.endpoint.namespace, &self.endpoint.cluster);
        match self.endpoint.program.component {
            "pd" => pd.member_down(&self.endpoint.pod),
            "tikv" | "tiflash" => pd.store_down(&self.endpoint.pod),
            _ => {}
        }
        self.ctx.bell.ring();
    }
}

async fn dial_all(ctx: Arc<Ctx>, endpoint: Arc<Endpoint>) {
    let dice = ctx.dice(&format!("dial/{}/{}", endpoint.pod, endpoint.ip));
    let find = || {
        let own = Some(endpoint.ip);
        ctx.directory.targets(&endpoint.namespace, &endpoint.cluster, endpoint.program.dials, own)
    };
    Dialler::new(&ctx, dice).run(|| Some(Arc::clone(&endpoint.party)), find).await;
}

/// A name, a port and an address.
type Link = (String, u16, IpAddr);
/// What both sides had loaded at the last dial, and when the next is due.
type Dialled = (Option<(State, State)>, Instant);

/// Dials links for ever: each at once when what either side has loaded changed, and each again every so often.
pub struct Dialler<'a> {
    ctx: &'a Arc<Ctx>,
    dice: Dice,
    seen: BTreeMap<Link, Dialled>,
}

impl<'a> Dialler<'a> {
    /// With its own dice.
    pub fn new(ctx: &'a Arc<Ctx>, dice: Dice) -> Self {
        Self { ctx, dice, seen: BTreeMap::new() }
    }

    /// Runs until it is dropped. `party` gives who dials (none at the moment, for one who has no identity yet).
    pub async fn run(mut self, party: impl Fn() -> Option<Arc<Party>>, targets: impl Fn() -> Vec<Target>) {
        let mut heard = self.ctx.bell.listen();
        loop {
            heard.mark_heard();
            if let Some(party) = party() {
                let mut targets = targets();
                // Whoever was passed over for lack of time is first another time.
                let first = self.dice.below(targets.len());
                targets.rotate_left(first);
                self.seen.retain(|(name, port, ip), _| {
                    targets.iter().any(|t| t.name == *name && t.port == *port && t.endpoint.ip == *ip)
                });
                for target in targets {
                    self.maybe(&party, &target).await;
                }
            }
            let wait = self.dice.span(self.ctx.timing.dial) / 4;
            let _ = tokio::time::timeout(wait, heard.rings()).await;
        }
    }

    async fn maybe(&mut self, party: &Party, target: &Target) {
        let key = (target.name.clone(), target.port, target.endpoint.ip);
        let states = party.state().zip(target.party().state());
        let now = Instant::now();
        let unchanged = self.seen.get(&key).filter(|(known, _)| *known == states);
        let paced = self.ctx.memo.is_none();
        if unchanged.is_some_and(|(_, due)| now < *due || (paced && self.ctx.pacer.busy())) {
            return;
        }
        let outcome = dial(self.ctx, party, target, &Ask::status()).await;
        if paced {
            self.ctx.pacer.spent(now.elapsed());
        }
        let due = Instant::now() + self.dice.span(self.ctx.timing.dial);
        let states = if matches!(outcome, Outcome::Unreachable(_)) { None } else { states };
        self.seen.insert(key, (states, due));
    }
}
