//! A world from its start state to its end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use stdlib::world::{Clock, Net, Stream, SystemClock, TokioClock};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::controllers::template::NODE;
use super::counters::{Counters, Snapshot, State};
use super::ctx::Ctx;
use super::faults::Fault;
use super::genesis::{self, Expired, IssuedBy, Operator, Pki, Scenario};
use super::kube::{BUDGETS, Kube, NODES};
use super::kubelet::streams::logs::Asked;
use super::memo::Memo;
use super::net::{LoopbackNet, MemoryNet, Network};
use super::timing::Timing;
use crate::api;

/// Where the world's connections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In memory, on tokio's (perhaps paused) time, identical handshakes made once.
    InProcess,
    /// On the loopback interface and the machine's time, every handshake made.
    Process,
}

/// Gives a client of an API server that acts as the user of this name.
pub type Clients = Arc<dyn Fn(&str) -> kube::Client + Send + Sync>;

/// How a world is made.
#[derive(Clone)]
pub struct Options {
    /// An API server that has controllers of its own, for instance a real one: the world then brings the node, its
    /// kubelet, a scheduler and the operator. `None` for a server and controllers of the world's own.
    pub api: Option<Clients>,
    /// Whether the world's controllers work on that API server too, which then has none.
    pub controllers: bool,
    /// Whom the kubelet's own endpoint lets in and as whom it answers, where an API server that is not the world's own is
    /// to open streams into pods. `None` for no endpoint.
    pub kubelet: Option<Arc<rustls::ServerConfig>>,
    /// Where the connections are.
    pub mode: Mode,
    /// From which everything random comes.
    pub seed: u64,
    /// How long things take.
    pub timing: Timing,
    /// What it begins with.
    pub scenario: Scenario,
    /// The PKI, if it was made before; it must be the scenario's.
    pub pki: Option<Pki>,
    /// What the world's clock shows at the start; the machine's time if `None`.
    pub start: Option<OffsetDateTime>,
    /// By how much the world's clock is wrong.
    pub clock_error: time::Duration,
    /// A memo shared with other worlds; a fresh one if `None`. Without effect in [`Mode::Process`].
    pub memo: Option<Arc<Memo>>,
}

impl Options {
    /// A world in this process, with lifelike durations: for tests with virtual time.
    pub fn in_process(seed: u64) -> Self {
        Self {
            api: None,
            controllers: false,
            kubelet: None,
            mode: Mode::InProcess,
            seed,
            timing: Timing::lifelike(),
            scenario: Scenario::default(),
            pki: None,
            start: None,
            clock_error: time::Duration::ZERO,
            memo: None,
        }
    }

    /// A world on the loopback interface, with brisk durations: for people.
    pub fn process(seed: u64) -> Self {
        Self { mode: Mode::Process, timing: Timing::brisk(), ..Self::in_process(seed) }
    }
}

/// Why there is no world.
#[derive(Debug, Error)]
pub enum StartError {
    /// No PKI can be made.
    #[error("the sandbox's certificates cannot be made: {0}")]
    Pki(#[source] stdlib::PrimError),
    /// No subnet of the loopback interface is free.
    #[error("no loopback subnet can be had")]
    Net(#[source] std::io::Error),
    /// The API refuses an object of the start state.
    #[error("the sandbox's start state is refused")]
    Objects(#[source] Box<kube::Error>),
    /// It does not come up.
    #[error("the sandbox does not become steady: {0}")]
    Unsteady(String),
}

/// A running world. Dropping it ends it.
pub struct World {
    pub(super) ctx: Arc<Ctx>,
    server: Option<Arc<api::Server>>,
    clients: Clients,
    pki: Pki,
    pub(super) scenario: Scenario,
    tasks: JoinSet<()>,
}

/// How long a world may take to come up.
const STEADY: Duration = Duration::from_secs(120);

/// A clock that is wrong by as many seconds as it was told last.
struct ShiftedClock {
    inner: Arc<dyn Clock>,
    seconds: Arc<AtomicI64>,
}

impl Clock for ShiftedClock {
    fn now(&self) -> OffsetDateTime {
        self.inner.now() + time::Duration::seconds(self.seconds.load(Ordering::Relaxed))
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(duration)
    }
}

impl World {
    /// Starts a world and waits until it is steady: every pod ready, the operator content.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let base = options.start.unwrap_or_else(|| SystemClock.now());
        let inner: Arc<dyn Clock> = match options.mode {
            Mode::InProcess => Arc::new(TokioClock::starting_at(base)),
            Mode::Process => Arc::new(SystemClock),
        };
        // What has expired when the world begins was valid when its processes started.
        let age = options.scenario.age();
        let seconds = Arc::new(AtomicI64::new((options.clock_error - age).whole_seconds()));
        let clock: Arc<dyn Clock> = Arc::new(ShiftedClock { inner, seconds: Arc::clone(&seconds) });
        let pki = match options.pki {
            Some(pki) => pki,
            // Certificates come from a machine whose clock is right.
            None => Pki::make(&options.scenario, base - age).map_err(StartError::Pki)?,
        };
        let (net, memo): (Arc<dyn Network>, _) = match options.mode {
            Mode::InProcess => (Arc::new(MemoryNet::default()), Some(options.memo.unwrap_or_default())),
            Mode::Process => (Arc::new(LoopbackNet::claim().map_err(StartError::Net)?), None),
        };
        let shared = (Arc::clone(&clock), options.seed, options.timing.clone());
        let ctx = Arc::new(Ctx::new(shared, net, memo, options.scenario.leaders_per_store));
        let (server, clients) = match options.api {
            Some(clients) => (None, clients),
            None => {
                let server = api::Server::new(api::Options::new(clock).seed(options.seed));
                let own = Arc::clone(&server);
                (Some(server), Arc::new(move |user: &str| own.client(user)) as Clients)
            }
        };
        let mut world = Self { ctx, server, clients, pki, scenario: options.scenario, tasks: JoinSet::new() };
        let kube = world.kube("system:admin");
        let refused = |e| StartError::Objects(Box::new(e));
        genesis::create(&kube, &world.scenario, &world.pki).await.map_err(refused)?;
        if let Some(server) = &world.server {
            let ctx = Arc::clone(&world.ctx);
            // As a server of today speaks it: the end of a command's input can be told.
            let protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
            server.set_pod_streams(Arc::new(move |wanted, request| {
                super::kubelet::streams::answer(&ctx, wanted, &protocols, request)
            }));
            let ctx = Arc::clone(&world.ctx);
            server.set_log_source(Arc::new(move |namespace, pod, container, previous| {
                let asked = Asked { namespace, pod, container, previous, lines: None };
                super::kubelet::streams::logs::text(&ctx, &asked)
            }));
        }
        if let Some(tls) = options.kubelet {
            world.serve_kubelet(&kube, tls).await?;
        }
        let controls = world.server.is_some() || options.controllers;
        if controls {
            let controllers = world.kube("system:kube-controller-manager");
            let budgets = if world.server.is_some() {
                BUDGETS
            } else {
                controllers.budgets().await.map_err(refused)?
            };
            world.tasks.spawn(super::controllers::run(controllers, budgets, options.timing, options.seed));
        }
        // The world's own controllers place their pods themselves; operator v2 makes pods without them.
        if !controls || world.scenario.operator == Operator::V2 {
            world.tasks.spawn(super::scheduler::run(world.kube("system:kube-scheduler")));
        }
        let kubelet = world.kube("system:kubelet");
        world.tasks.spawn(super::kubelet::run(kubelet, Arc::clone(&world.ctx)));
        let operator = world.kube("system:serviceaccount:tidb-admin:tidb-controller-manager");
        match world.scenario.operator {
            Operator::V1 => world.tasks.spawn(super::operator::run(operator, Arc::clone(&world.ctx))),
            Operator::V2 => world.tasks.spawn(super::operator::v2::run(operator, Arc::clone(&world.ctx))),
        };
        if world.scenario.issued_by == IssuedBy::CertManager {
            let issuer = world.kube("system:serviceaccount:cert-manager:cert-manager");
            world.tasks.spawn(super::issuer::run(issuer, Arc::clone(&world.ctx)));
        }
        world.steady(STEADY).await.map_err(StartError::Unsteady)?;
        world.ctx.pace.settle();
        if !age.is_zero() {
            seconds.store(options.clock_error.whole_seconds(), Ordering::Relaxed);
            if world.scenario.expired != Expired::Nothing {
                world.ailing(STEADY).await.map_err(StartError::Unsteady)?;
            }
        }
        world.ctx.bell.ring();
        Ok(world)
    }

    /// Opens the kubelet's endpoint and tells the API server where it is.
    async fn serve_kubelet(&mut self, kube: &Kube, tls: Arc<rustls::ServerConfig>) -> Result<(), StartError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(StartError::Net)?;
        let port = listener.local_addr().map_err(StartError::Net)?.port();
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        } });
        let refused = |e| StartError::Objects(Box::new(e));
        kube.merge(NODES, ("", NODE), "/status", &status).await.map_err(refused)?;
        // A new node is tainted until a controller of nodes has seen that it is ready, and there is none.
        kube.merge(NODES, ("", NODE), "", &json!({ "spec": { "taints": null } })).await.map_err(refused)?;
        self.tasks.spawn(super::kubelet::streams::serve::serve(listener, tls, Arc::clone(&self.ctx)));
        Ok(())
    }

    pub(super) fn kube(&self, user: &str) -> Kube {
        Kube::new((self.clients)(user))
    }

    /// Makes a further cluster of its own name and namespace, and waits until it is steady too.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn add(&self, scenario: &Scenario, pki: &Pki) -> Result<(), StartError> {
        let made = genesis::create(&self.kube("system:admin"), scenario, pki).await;
        made.map_err(|e| StartError::Objects(Box::new(e)))?;
        self.steady_as(scenario, STEADY).await.map_err(StartError::Unsteady)
    }

    /// A client of its API, as an administrator.
    pub fn client(&self) -> kube::Client {
        (self.clients)("system:admin")
    }

    /// Its API server, if it has one of its own.
    pub fn server(&self) -> Option<&Arc<api::Server>> {
        self.server.as_ref()
    }

    /// Its clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.ctx.clock)
    }

    /// Its network, for dialling pods by address or by DNS name.
    pub fn net(&self) -> Arc<dyn Net> {
        Arc::new(WorldNet(Arc::clone(&self.ctx)))
    }

    /// Its PKI, as a folder to be.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// What it began with.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What its links have seen so far, and what its processes have had loaded whenever this was asked.
    pub fn counters(&self) -> Snapshot {
        for endpoint in self.ctx.directory.all() {
            if let Some(state) = endpoint.party.state() {
                self.ctx.counters.loaded(endpoint.program.component, state);
            }
        }
        Counters::snapshot(&self.ctx.counters)
    }

    /// Puts a fault in force.
    pub fn set_fault(&self, fault: Fault) {
        self.ctx.faults.set(fault);
    }

    /// Lifts a fault.
    pub fn lift_fault(&self, fault: &Fault) {
        self.ctx.faults.lift(fault);
        self.ctx.bell.ring();
    }

    /// Restarts the container of a pod now.
    pub fn restart_pod(&self, pod: &str) {
        let _ = self.ctx.kicks.send(pod.to_owned());
    }

    /// The states that the processes of each component have loaded now.
    pub fn states(&self) -> BTreeMap<String, State> {
        let all = self.ctx.directory.all();
        all.iter().filter_map(|e| Some((e.pod.clone(), e.party.state()?))).collect()
    }

    /// Ends it: every process, connection and task.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

struct WorldNet(Arc<Ctx>);

impl Net for WorldNet {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        let found = self.0.directory.resolve(host);
        Box::pin(async move {
            let mut last = std::io::Error::from(std::io::ErrorKind::HostUnreachable);
            for ip in found {
                match self.0.net.connect(None, std::net::SocketAddr::new(ip, port)).await {
                    Ok(connection) => return Ok(connection.stream),
                    Err(e) => last = e,
                }
            }
            Err(last)
        })
    }
}
