//! A world from its start state to its end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stdlib::world::{Clock, Net, Stream, SystemClock, TokioClock};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::bell::Bell;
use super::cache::Cache;
use super::controllers::template::NODE;
use super::counters::{Counters, Snapshot, State};
use super::ctx::Ctx;
use super::faults::Fault;
use super::genesis::{self, Expired, IssuedBy, Operator, Pki, Scenario};
use super::json as js;
use super::kube::{CERTIFICATES, DEPLOYMENTS, Kind, Kube, NODES, TIDB_CLUSTERS};
use super::kubelet::streams::logs::Asked;
use super::memo::Memo;
use super::net::{LoopbackNet, MemoryNet, Network};
use super::operator::v2::GROUPS;
use super::pod::dial::{Ask, Outcome, dial, fingerprint};
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

/// A party's key material at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// `pd`.
    pub component: String,
    /// SHA-256 fingerprints of the chain it presents, leaf first.
    pub chain: Vec<String>,
    /// SHA-256 fingerprints of the anchors it has loaded, in order.
    pub anchors: Vec<String>,
    /// Whether it is ready.
    pub ready: bool,
}

/// What the world has come to: who serves and trusts what, and whether every link holds now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndState {
    /// By pod.
    pub pods: BTreeMap<String, Served>,
    /// Links that do not hold, with the reason.
    pub broken: Vec<String>,
}

impl EndState {
    /// Whether every link holds.
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }
}

/// A running world. Dropping it ends it.
pub struct World {
    ctx: Arc<Ctx>,
    server: Option<Arc<api::Server>>,
    clients: Clients,
    pki: Pki,
    scenario: Scenario,
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
        genesis::create(&kube, &world.scenario, &world.pki)
            .await
            .map_err(|e| StartError::Objects(Box::new(e)))?;
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
        if world.server.is_some() {
            let controllers = world.kube("system:kube-controller-manager");
            world.tasks.spawn(super::controllers::run(controllers, options.timing, options.seed));
        }
        // The world's own controllers place their pods themselves; operator v2 makes pods without them.
        if world.server.is_none() || world.scenario.operator == Operator::V2 {
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
        let told = kube.merge(NODES, ("", NODE), "/status", &status).await;
        told.map_err(|e| StartError::Objects(Box::new(e)))?;
        self.tasks.spawn(super::kubelet::streams::serve::serve(listener, tls, Arc::clone(&self.ctx)));
        Ok(())
    }

    fn kube(&self, user: &str) -> Kube {
        Kube::new((self.clients)(user))
    }

    /// Waits until the cluster is ready, all its pods are as its templates want them, and its clients run.
    ///
    /// # Errors
    /// What is missing when the time is up.
    pub async fn steady(&self, within: Duration) -> Result<(), String> {
        self.steady_as(&self.scenario, within).await
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

    /// Waits until the operator has found out that nobody talks with it any more.
    async fn ailing(&self, within: Duration) -> Result<(), String> {
        let kube = self.kube("system:admin");
        let (namespace, name) = (&self.scenario.namespace, &self.scenario.cluster);
        let deadline = tokio::time::Instant::now() + within;
        while tokio::time::Instant::now() < deadline {
            let cluster = kube.get(TIDB_CLUSTERS, namespace, name).await.map_err(|e| e.to_string())?;
            if cluster.is_some_and(|c| js::condition(&c, "Ready") == "False") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(format!("TidbCluster {namespace}/{name} is still content although everything has expired"))
    }

    async fn steady_as(&self, scenario: &Scenario, within: Duration) -> Result<(), String> {
        let (bell, mut tasks) = (Bell::default(), JoinSet::new());
        let kube = self.kube("system:admin");
        let mut heard = bell.listen();
        let kinds: Vec<Kind> = match scenario.operator {
            Operator::V1 => vec![TIDB_CLUSTERS],
            Operator::V2 => GROUPS.iter().map(|group| group.group).collect(),
        };
        let clusters: Vec<Cache> =
            kinds.into_iter().map(|kind| Cache::follow(&kube, kind, &bell, &mut tasks)).collect();
        let deployments = Cache::follow(&kube, DEPLOYMENTS, &bell, &mut tasks);
        let certificates = (scenario.issued_by == IssuedBy::CertManager)
            .then(|| Cache::follow(&kube, CERTIFICATES, &bell, &mut tasks));
        let (namespace, name) = (&scenario.namespace, &scenario.cluster);
        let missing = || -> Option<String> {
            let unready = match scenario.operator {
                Operator::V1 => {
                    let cluster = clusters.first()?.get(namespace, name)?;
                    let ready = js::items(&cluster, "/status/conditions")
                        .iter()
                        .find(|c| js::text(c, "/type") == "Ready");
                    let ready = ready.cloned().unwrap_or_else(|| json!({ "reason": "no status yet" }));
                    (js::text(&ready, "/status") != "True")
                        .then(|| format!("TidbCluster {namespace}/{name}: {}", js::text(&ready, "/reason")))
                }
                Operator::V2 => {
                    let groups: Vec<_> =
                        clusters.iter().flat_map(|cache| cache.within(namespace, |_| true)).collect();
                    if groups.len() < scenario.components.len() {
                        return None;
                    }
                    let unwell = groups.iter().find(|group| !is_well(group));
                    unwell.map(|group| format!("group {namespace}/{} is not ready", js::name(group)))
                }
            };
            if unready.is_some() {
                return unready;
            }
            let clients: &[&str] = match (scenario.clients, scenario.sql_tls) {
                (0, _) => &[],
                (_, false) => &["client"],
                (_, true) => &["client", "sql-client"],
            };
            for component in clients {
                let client = deployments.get(namespace, &format!("{name}-{component}"))?;
                let up = js::number(&client, "/status/readyReplicas").unwrap_or(0);
                let updated = js::number(&client, "/status/updatedReplicas").unwrap_or(0);
                let wanted = i64::from(scenario.clients);
                let all = js::number(&client, "/status/replicas").unwrap_or(0);
                if up != wanted || updated != wanted || all != wanted {
                    return Some(format!(
                        "Deployment {namespace}/{name}-{component}: {up} of {wanted} ready"
                    ));
                }
            }
            let settled = |c: &serde_json::Value| {
                js::condition(c, "Ready") == "True" && js::condition(c, "Issuing") != "True"
            };
            let unsettled = certificates.as_ref().and_then(|cache| {
                if !cache.synced() {
                    return Some("Certificates are not there yet".to_owned());
                }
                let open = cache.within(namespace, |certificate| !settled(certificate));
                open.first().map(|c| format!("Certificate {namespace}/{} is not ready", js::name(c)))
            });
            Some(unsettled.unwrap_or_default())
        };
        let deadline = tokio::time::Instant::now() + within;
        loop {
            heard.mark_heard();
            let found = missing().unwrap_or_else(|| "objects are not there yet".to_owned());
            if found.is_empty() {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, heard.rings()).await.is_err() {
                return Err(found);
            }
        }
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

    /// Who serves and trusts what, and whether every link between pods holds now.
    pub async fn end_state(&self) -> EndState {
        let (mut pods, mut broken) = (BTreeMap::new(), Vec::new());
        for endpoint in self.ctx.directory.all() {
            let prints =
                |certs: &stdlib::trust::Certs| certs.0.iter().map(|c| fingerprint(c.as_ref())).collect();
            let chain = endpoint.party.leaf().map(|leaf| prints(&leaf.chain)).unwrap_or_default();
            let served = Served {
                component: endpoint.program.component.to_owned(),
                chain,
                anchors: prints(&endpoint.party.anchors.certs),
                ready: endpoint.is_ready(),
            };
            pods.insert(endpoint.pod.clone(), served);
            if let Some(party) = endpoint.sql.as_ref().map(|side| side.party()) {
                let chain = party.leaf().map(|leaf| prints(&leaf.chain)).unwrap_or_default();
                let anchors = prints(&party.anchors.certs);
                let component = "tidb-sql".to_owned();
                let served = Served { component, chain, anchors, ready: endpoint.is_ready() };
                pods.insert(format!("{} (MySQL)", endpoint.pod), served);
            }
            let own = Some(endpoint.ip);
            let dials = endpoint.program.dials;
            for target in self.ctx.directory.targets(&endpoint.namespace, &endpoint.cluster, dials, own) {
                let link = format!("{} -> {}:{}", endpoint.pod, target.name, target.port);
                match dial(&self.ctx, &endpoint.party, &target, &Ask::status()).await {
                    Outcome::Held(..) => {}
                    Outcome::Refused(refusal) => broken.push(format!("{link}: {}", refusal.why)),
                    Outcome::Unreachable(kind) => broken.push(format!("{link}: {kind}")),
                }
            }
        }
        EndState { pods, broken }
    }

    /// Ends it: every process, connection and task.
    pub async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Whether a group of operator v2 is as it should be.
fn is_well(group: &serde_json::Value) -> bool {
    let holds = |kind: &str| js::condition(group, kind) == "True";
    js::number(group, "/status/observedGeneration") == Some(js::generation(group))
        && holds("Ready")
        && holds("Synced")
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
