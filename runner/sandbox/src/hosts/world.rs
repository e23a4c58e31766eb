//! Hosts with a cluster of etcd, from their start to their end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{Connect, Host};
use stdlib::world::{Clock, Net, Stream, SystemClock, TokioClock};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::application::{Application, History};
use super::etcd::{CLIENTS, Member, PEERS, Raft};
use super::folder::Root;
use super::genesis::Etcd;
use super::kept::{self, Keeper};
use super::machine::Machine;
use super::pki::Pki;
use super::unit::{Program, Unit};
use crate::world::counters::{Counters, Snapshot};
use crate::world::memo::Memo;
use crate::world::net::{Listener, LoopbackNet, MemoryNet, Network};
use crate::world::timing::{Dice, Timing};
use crate::world::{Mode, StartError};

/// How long a world may take to come up.
const STEADY: Duration = Duration::from_secs(60);
/// How often a leader speaks to the others.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// How long they go without one before they elect another, as etcd has it unless told otherwise.
const ELECTION: Duration = Duration::from_secs(1);
/// What an application wrote last, where the members refused it since.
const WRITTEN: u64 = 7;
/// Where a host's lock and mark lie.
const STATE: &str = "/var/lib/rollover";

/// How such a world is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// A folder for the hosts' files, one folder each.
    pub root: PathBuf,
    /// Where the connections are.
    pub mode: Mode,
    /// From which everything random comes.
    pub seed: u64,
    /// How long things take.
    pub timing: Timing,
    /// What it begins with.
    pub etcd: Etcd,
    /// Certificates that were made before, for the same hosts with the same addresses.
    pub pki: Option<Pki>,
    /// What the world's clock shows at the start; the machine's time if `None`.
    pub start: Option<OffsetDateTime>,
}

impl Options {
    /// In this process, with lifelike durations: for tests with virtual time.
    pub fn in_process(root: PathBuf, seed: u64) -> Self {
        let (mode, timing) = (Mode::InProcess, Timing::lifelike());
        Self { root, mode, seed, timing, etcd: Etcd::default(), pki: None, start: None }
    }

    /// On the loopback interface, with brisk durations: for people.
    pub fn process(root: PathBuf, seed: u64) -> Self {
        Self { mode: Mode::Process, timing: Timing::brisk(), ..Self::in_process(root, seed) }
    }
}

/// What everything in one world shares.
pub(crate) struct Shared {
    pub clock: Arc<dyn Clock>,
    pub net: Arc<dyn Network>,
    pub counters: Counters,
    /// Verdicts of identical handshakes; `None` shakes hands every time.
    pub memo: Option<Memo>,
    /// Why servers refused, by the address of the client, until the client has asked.
    pub refused: Mutex<HashMap<SocketAddr, String>>,
    /// Rings when a file was changed or a service was started or stopped.
    pub bell: watch::Sender<u64>,
    pub history: Mutex<History>,
    timing: Timing,
    seed: u64,
    ours: BTreeSet<IpAddr>,
}

impl Shared {
    pub(crate) fn dice(&self, actor: &str) -> Dice {
        Dice::new(self.seed, actor)
    }

    /// Until anything changed, or it is time to look again.
    pub(crate) async fn pause(&self, heard: &mut watch::Receiver<u64>, dice: &Dice) {
        let span = dice.span(self.timing.dial);
        tokio::select! {
            changed = heard.changed() => if changed.is_err() { std::future::pending::<()>().await },
            () = self.clock.sleep(span) => {}
        }
    }

    /// A port of one of the hosts.
    pub(crate) fn bind(&self, at: SocketAddr) -> Result<Box<dyn Listener>, String> {
        self.net.bind(at).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("listen {at}: address in use"),
            _ => format!("listen {at}: {error}"),
        })
    }

    /// Whether an address is one of the world's hosts.
    pub(crate) fn is_ours(&self, ip: IpAddr) -> bool {
        self.ours.contains(&ip)
    }
}

/// What a process presents and trusts, by SHA-256 fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The chain that it presents now, leaf first.
    pub presents: Vec<String>,
    /// The anchors that it has loaded.
    pub trusts: Vec<String>,
}

/// Running hosts. Dropping it ends them.
pub struct World {
    shared: Arc<Shared>,
    raft: Arc<Mutex<Raft>>,
    machines: BTreeMap<String, Arc<Machine>>,
    members: Vec<Arc<Member>>,
    applications: Vec<Arc<Application>>,
    addresses: BTreeMap<String, IpAddr>,
    pki: Pki,
    etcd: Etcd,
    tasks: JoinSet<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        // Members know one another, and their services know them.
        for machine in self.machines.values() {
            machine.forget_units();
        }
    }
}

impl World {
    /// Starts all services and waits until every member talks with every other.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let base = options.start.unwrap_or_else(|| SystemClock.now());
        let (clock, net, memo): (Arc<dyn Clock>, Arc<dyn Network>, _) = match options.mode {
            Mode::InProcess => (
                Arc::new(TokioClock::starting_at(base)),
                Arc::new(MemoryNet::default()),
                Some(Memo::default()),
            ),
            Mode::Process => {
                (Arc::new(SystemClock), Arc::new(LoopbackNet::claim().map_err(StartError::Net)?), None)
            }
        };
        let etcd = options.etcd;
        let mut addresses = BTreeMap::new();
        for name in etcd.members().into_iter().chain(etcd.applications()) {
            addresses.insert(name, net.allocate().map_err(StartError::Net)?);
        }
        let pki = match options.pki {
            Some(pki) => pki,
            None => Pki::make(&etcd, &addresses, base).map_err(StartError::Pki)?,
        };
        let shared = Arc::new(Shared {
            clock: Arc::clone(&clock),
            net,
            counters: Counters::default(),
            memo,
            refused: Mutex::default(),
            bell: watch::Sender::new(0),
            history: Mutex::default(),
            timing: options.timing,
            seed: options.seed,
            ours: addresses.values().copied().collect(),
        });
        let mut machines = BTreeMap::new();
        let last = etcd.members().pop();
        for name in addresses.keys() {
            let folder = options.root.join(name);
            let root = Root::new(folder.clone());
            if let Some((path, target)) = etcd.layout.elsewhere().filter(|_| last.as_ref() == Some(name)) {
                let linked = root.link(path, target);
                linked.map_err(|error| StartError::Unsteady(format!("{}: {error}", folder.display())))?;
            }
            for file in pki.files.get(name).into_iter().flatten() {
                let placed = root
                    .spot(&file.path)
                    .and_then(|spot| Root::settle(&Root::stage(&spot, 0, &file.bytes, file.mode)?, &spot));
                placed.map_err(|error| StartError::Unsteady(format!("{}: {error}", folder.display())))?;
            }
            machines.insert(
                name.clone(),
                Machine::new(name, folder, STATE, Arc::clone(&clock), shared.bell.clone()),
            );
        }
        let raft = Arc::new(Mutex::new(Raft::new(etcd.members)));
        let mut world = Self {
            shared,
            raft,
            machines,
            members: Vec::new(),
            applications: Vec::new(),
            addresses,
            pki,
            etcd,
            tasks: JoinSet::new(),
        };
        world.populate().await?;
        Ok(world)
    }

    async fn populate(&mut self) -> Result<(), StartError> {
        let who = |name: &str| Some((self.machines.get(name)?, *self.addresses.get(name)?));
        let (layout, dialler) = (self.etcd.layout, self.etcd.layout.dialler());
        for (number, name) in self.etcd.members().iter().enumerate() {
            let Some((machine, ip)) = who(name) else { continue };
            let paths = layout.member(number + 1, ip, self.etcd.peer_ca);
            let shared = (&self.shared, &self.raft);
            self.members.push(Member::new(shared, number, (name, machine, ip), paths));
        }
        for name in &self.etcd.diallers() {
            let Some((machine, ip)) = who(name) else { continue };
            let files = (&dialler, layout.stacked());
            let application = Application::new(&self.shared, (name, machine, ip), files, &self.members);
            if !self.etcd.is_well() {
                let (key, value) = application.wrote(WRITTEN);
                self.raft.lock().unwrap_or_else(PoisonError::into_inner).held(&key, &value);
            }
            self.applications.push(application);
        }
        for member in &self.members {
            member.meet(&self.members);
            self.run(member.name(), "etcd", layout.keeper(), Arc::clone(member) as _).await?;
        }
        let (shared, raft) = (Arc::clone(&self.shared), Arc::clone(&self.raft));
        self.tasks.spawn(async move {
            loop {
                raft.lock().unwrap_or_else(PoisonError::into_inner).tick(shared.clock.now(), ELECTION);
                shared.clock.sleep(HEARTBEAT).await;
            }
        });
        if self.etcd.is_well() {
            self.steady(STEADY).await.map_err(StartError::Unsteady)?;
        }
        for (name, application) in self.etcd.diallers().iter().zip(&self.applications) {
            self.run(name, dialler.name, dialler.keeper, Arc::clone(application) as _).await?;
        }
        for machine in self.machines.values() {
            let units = machine.units_of(Keeper::Kubelet);
            if !units.is_empty() {
                self.tasks.spawn(kept::kubelet(Arc::clone(machine), units, self.shared.bell.subscribe()));
            }
        }
        Ok(())
    }

    async fn run(
        &self,
        host: &str,
        name: &str,
        keeper: Keeper,
        program: Arc<dyn Program>,
    ) -> Result<(), StartError> {
        let Some(machine) = self.machines.get(host) else { return Ok(()) };
        let dice = self.shared.dice(&format!("{host}/{name}"));
        let unit =
            Unit::new(name, program, (Arc::clone(&self.shared.clock), self.shared.timing.clone(), dice));
        machine.add_unit(keeper, Arc::clone(&unit));
        match unit.start().await {
            Err(why) if self.etcd.is_well() => Err(StartError::Unsteady(format!("{host}: {name}: {why}"))),
            _ => Ok(()),
        }
    }

    /// Waits until every member talks with every other and has what all have.
    ///
    /// # Errors
    /// They do not in time.
    pub async fn steady(&self, within: Duration) -> Result<(), String> {
        let end = self.shared.clock.now() + within;
        while !self.raft.lock().unwrap_or_else(PoisonError::into_inner).is_whole() {
            if self.shared.clock.now() >= end {
                return Err("the members do not all talk with each other".into());
            }
            self.shared.clock.sleep(HEARTBEAT).await;
        }
        Ok(())
    }

    /// Its clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock)
    }

    /// Its network, for dialling hosts by address.
    pub fn net(&self) -> Arc<dyn Net> {
        Arc::new(HostsNet(Arc::clone(&self.shared)))
    }

    /// Makes hosts of an inventory's entries: those of this world, and no others.
    pub fn connect(&self) -> Connect {
        let machines = self.machines.clone();
        Box::new(move |entry| {
            let found = machines.get(&entry.name).map(|machine| Arc::clone(machine) as Arc<dyn Host>);
            found.ok_or_else(|| stranger(&entry.title()))
        })
    }

    /// A host by its name.
    pub fn machine(&self, name: &str) -> Option<Arc<Machine>> {
        self.machines.get(name).cloned()
    }

    /// Hosts by name.
    pub(super) fn machines(&self) -> &BTreeMap<String, Arc<Machine>> {
        &self.machines
    }

    /// The inventory in Ansible's YAML form.
    pub fn inventory(&self) -> String {
        self.etcd.inventory(&self.addresses)
    }

    /// Parameters of workflows upon it, with `hosts.yaml` and the CAs' keys (`pki/`) in this folder.
    pub fn params(&self, dir: &std::path::Path) -> Vec<(String, String)> {
        self.etcd.params(dir)
    }

    /// Its certificates, for another world of the same hosts.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The keys of its CAs, by file name.
    pub fn authorities(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.pki.authorities.iter().map(|(name, key)| (name.as_str(), key.as_slice()))
    }

    /// Where members listen for clients.
    pub fn endpoints(&self) -> Vec<String> {
        let members = self.etcd.members();
        members.iter().filter_map(|name| Some(format!("{}:{CLIENTS}", self.addresses.get(name)?))).collect()
    }

    /// What its links have seen so far.
    pub fn counters(&self) -> Snapshot {
        let running = self.members.iter().filter_map(|member| member.running());
        let sides = running.flat_map(|running| [Arc::clone(&running.clients), Arc::clone(&running.peers)]);
        let applications = self.applications.iter().filter_map(|application| application.running());
        for side in sides.chain(applications) {
            if let Some(state) = side.state() {
                self.shared.counters.loaded(side.component, state);
            }
        }
        self.shared.counters.snapshot()
    }

    /// What applications saw so far.
    pub fn history(&self) -> History {
        let mut history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        history.most_down = self.raft.lock().unwrap_or_else(PoisonError::into_inner).most_down();
        history
    }

    /// The same in the end: every member must have all that was acknowledged.
    pub async fn judged(&self) -> History {
        for application in &self.applications {
            application.judge_all().await;
        }
        self.history()
    }

    /// Who presents and trusts what now, by the place where it listens or the application's name.
    pub fn loaded(&self) -> BTreeMap<String, Loaded> {
        let mut all = BTreeMap::new();
        let mut note = |name: String, side: &super::side::Side| {
            all.insert(name, Loaded { presents: side.presents(), trusts: side.trusts() });
        };
        for member in &self.members {
            if let Some(running) = member.running() {
                note(format!("{}:{CLIENTS}", member.name()), &running.clients);
                note(format!("{}:{PEERS}", member.name()), &running.peers);
            }
        }
        for side in self.applications.iter().filter_map(|application| application.running()) {
            note(side.label.clone(), &side);
        }
        all
    }
}

/// A host that the sandbox has not: the real one of that name is never asked in its stead.
pub fn stranger(title: &str) -> PrimError {
    PrimError::new(Code::Unavailable, "the sandbox has no such host")
        .on(title)
        .hint("leave `inventory` out: the sandbox brings one of its own")
}

struct HostsNet(Arc<Shared>);

impl Net for HostsNet {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        let ip = host.parse::<IpAddr>();
        Box::pin(async move {
            let ip = ip.map_err(|_| std::io::Error::from(std::io::ErrorKind::AddrNotAvailable))?;
            Ok(self.0.net.connect(None, SocketAddr::new(ip, port)).await?.stream)
        })
    }
}
