//! A world in this process on virtual time, a disk that loses what was not synced, and runs upon them.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use journal::{Event as Recorded, Moment, NoTripwire, Signer, Store, Tools, Tripwire, Why};
use runner::catalog::{Catalog, Workflow};
use runner::engine::approve::Yes;
use runner::engine::{Actor, Begin, LeaseLock, Options, Run};
use runner::error::Failure;
use runner::events::{Collected, Ending};
use runner::manifest::Given;
use runner::plan::Plan;
use sandbox::world::genesis::Pki;
use sandbox::world::memo::Memo;
use sandbox::world::{Options as WorldOptions, World};
use stdlib::files::SimDisk;
use stdlib::secret::MemorySecrets;
use stdlib::world::Net;
use time::OffsetDateTime;
use time::macros::datetime;

/// When every world begins.
pub(crate) const START: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
/// Where the PKI folder lies.
pub(crate) const PKI: &str = "/srv/pki";
/// Where runs lie.
pub(crate) const STATE: &str = "/var/lib/rollover";

/// Runs a test on virtual time.
pub(crate) fn virtual_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

fn pki() -> Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| Pki::make(&sandbox::world::genesis::Scenario::default(), START).unwrap()).clone()
}

/// What is known of the handshakes of a world that has just begun, for one world alone: what another learnt beside it
/// would make a run depend on what else the machine does.
fn memo() -> Arc<Memo> {
    static MEMO: OnceLock<Arc<Memo>> = OnceLock::new();
    let options = || WorldOptions { pki: Some(pki()), start: Some(START), ..WorldOptions::in_process(1) };
    Arc::new(MEMO.get_or_init(|| learnt(options())).fork())
}

/// What is known of the handshakes of such a world once it stands.
pub(crate) fn learnt(options: WorldOptions) -> Arc<Memo> {
    let learnt = Arc::<Memo>::default();
    let options = WorldOptions { memo: Some(learnt.clone()), ..options };
    let steady = || virtual_time(async { drop(World::start(options).await.unwrap().end_state().await) });
    std::thread::scope(|scope| scope.spawn(steady).join()).unwrap();
    learnt
}

/// Stops a run at one moment of one record.
pub(crate) struct StopAt(pub(crate) u64, pub(crate) Moment);

impl Tripwire for StopAt {
    fn stops(&self, seq: u64, _: &Recorded, moment: Moment) -> bool {
        seq == self.0 && moment == self.1
    }
}

/// A world, a disk, and what is needed to run workflows.
pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) reporter: Arc<Collected>,
    /// Whether phases that would break a link are refused.
    pub(crate) forecast: bool,
    /// Whether outages are accepted.
    pub(crate) outage: bool,
    /// How pods are dialled, if not by their addresses.
    pub(crate) net: Option<Arc<dyn Net>>,
    signer: Arc<Signer>,
}

impl Lab {
    /// The world of `tidb/cfssl-rotate`, steady.
    pub(crate) async fn new(seed: u64) -> Self {
        Self::with(Self::world_of(seed)).await
    }

    /// The same with a disk that keeps, when it crashes, some of what was appended and not synced.
    pub(crate) async fn torn(seed: u64) -> Self {
        Self::on(SimDisk::with_torn_tails(seed), Self::world_of(seed)).await
    }

    pub(crate) async fn with(options: WorldOptions) -> Self {
        Self::on(SimDisk::new(), options).await
    }

    fn world_of(seed: u64) -> WorldOptions {
        WorldOptions {
            pki: Some(pki()),
            start: Some(START),
            memo: Some(memo()),
            ..WorldOptions::in_process(seed)
        }
    }

    async fn on(disk: SimDisk, options: WorldOptions) -> Self {
        let world = World::start(options).await.unwrap();
        let disk = Arc::new(disk);
        world.pki().write(&*disk, Path::new(PKI)).unwrap();
        let signer = Arc::new(Signer::from_seed("lab", &[7; 32]).unwrap());
        Self { world, disk, reporter: Arc::default(), forecast: true, outage: false, net: None, signer }
    }

    /// The world as primitives see it.
    pub(crate) fn eyes(&self) -> stdlib::World {
        stdlib::World {
            clock: self.world.clock(),
            net: self.net.clone().unwrap_or_else(|| self.world.net()),
            disk: self.disk.clone(),
            cluster: Some(self.world.client()),
            secrets: Arc::new(MemorySecrets::default()),
            hosts: Arc::default(),
            kinds: Arc::default(),
            no_cluster: String::new(),
            manager: "rollover".into(),
            folder: "/".into(),
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.disk.clone(), Path::new(STATE))
    }

    #[allow(clippy::unused_self, reason = "reads better as a method")]
    pub(crate) fn actor(&self) -> Actor {
        Actor { program: "rollover test".into(), host: "lab".into(), user: "tester".into(), pid: 1 }
    }

    pub(crate) fn tools(&self, tripwire: Arc<dyn Tripwire>) -> Tools {
        Tools { clock: self.world.clock(), signer: self.signer.clone(), tripwire }
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            reporter: self.reporter.clone(),
            approver: Arc::new(Yes { outage: self.outage, who: "tester".into() }),
            lock: Arc::new(LeaseLock { world: self.eyes(), host: "lab".into(), user: "tester".into() }),
            forecast: self.forecast,
            ..Options::default()
        }
    }

    /// A shipped workflow.
    pub(crate) fn workflow(&self, name: &str) -> Workflow {
        Catalog::default().load(&*self.disk, name).unwrap().unwrap()
    }

    /// Parameters for it: the PKI folder and these.
    pub(crate) fn given(set: &[(&str, &str)]) -> Given {
        let mut given = Given::default();
        given.set.push(("pki".into(), PKI.into()));
        given.set.extend(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        given
    }

    pub(crate) async fn plan_with(
        &self,
        workflow: &Workflow,
        set: &[(&str, &str)],
        eyes: &stdlib::World,
    ) -> Result<Plan, Failure> {
        tests::stage::plan(workflow, &Self::given(set), eyes).await
    }

    /// What somebody who begins a shipped workflow is told, where it is refused, with what to type next.
    pub(crate) async fn refused(&self, name: &str, set: &[(&str, &str)]) -> String {
        let failure = self.forward(name, set).await.unwrap_err();
        format!("{failure}\n{}", failure.hint.clone().unwrap_or_default())
    }

    /// Begins a run and goes forward until it ends or the tripwire stops it.
    pub(crate) async fn run(
        &self,
        workflow: &Workflow,
        set: &[(&str, &str)],
        tripwire: Arc<dyn Tripwire>,
    ) -> Result<Ending, Failure> {
        let eyes = self.eyes();
        let plan = self.plan_with(workflow, set, &eyes).await?;
        let begin = Begin { plan, sources: workflow.pinned(), reach: None, actor: self.actor() };
        let run = Run::start(begin, eyes, &self.store(), self.tools(tripwire), self.options())?;
        Ok(run.forward().await)
    }

    /// The same without a tripwire, by name.
    pub(crate) async fn forward(&self, name: &str, set: &[(&str, &str)]) -> Result<Ending, Failure> {
        self.run(&self.workflow(name), set, Arc::new(NoTripwire)).await
    }

    /// A run, as a new process finds it, with the workflow's sources as they are now.
    pub(crate) fn open_run(
        &self,
        run: &str,
        why: Why,
        current: Option<BTreeMap<String, Vec<u8>>>,
    ) -> Result<Run, Failure> {
        let options = Options { current_sources: current, ..self.options() };
        Run::open(
            run,
            &self.actor(),
            why,
            self.eyes(),
            &self.store(),
            self.tools(Arc::new(NoTripwire)),
            options,
        )
    }

    /// The newest run, as a new process finds it.
    pub(crate) fn open(&self, why: Why) -> Result<Run, Failure> {
        let run = self.store().list().unwrap().pop().unwrap();
        self.open_run(run.as_str(), why, None)
    }

    /// The process dies, and with it everything that was not on disk.
    pub(crate) fn die(&self) {
        self.disk.crash();
    }
}
