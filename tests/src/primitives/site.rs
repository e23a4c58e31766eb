//! A workflow of somebody's own that runs in a scene, dies there, goes on and is taken back.

use std::path::Path;
use std::sync::Arc;

use journal::{Event, Moment, NoTripwire, Record, Signer, Store, Tools, Tripwire, Why};
use runner::catalog::{Catalog, Workflow};
use runner::engine::approve::Yes;
use runner::engine::{Actor, Begin, LeaseLock, Options, Run};
use runner::events::{EndState, Ending};
use runner::manifest::Given;
use runner::script;
use sandbox::world::kube::Kube;
use stdlib::World;
use stdlib::files::SimDisk;
use stdlib::secret::MemorySecrets;
use stdlib::world::Disk as _;

use super::scene::Scene;

const FOLDER: &str = "/site/own";

/// Stops a run at one moment of one record.
struct StopAt(u64, Moment);

impl Tripwire for StopAt {
    fn stops(&self, seq: u64, _: &Event, moment: Moment) -> bool {
        seq == self.0 && moment == self.1
    }
}

/// A scene with a disk that loses what was not synced, and a workflow on it.
pub(super) struct Site {
    pub(super) scene: Scene,
    disk: Arc<SimDisk>,
    workflow: Workflow,
    signer: Arc<Signer>,
}

impl Site {
    /// `NAMESPACE` in both texts is the scene's.
    pub(super) fn new(scene: Scene, manifest: &str, script: &str) -> Self {
        let disk = Arc::new(SimDisk::new());
        disk.make_dir(Path::new(FOLDER), 0o755).unwrap();
        for (name, text) in [("workflow.yaml", manifest), ("main.rhai", script)] {
            let text = text.replace("NAMESPACE", &scene.ns);
            disk.write_atomic(&Path::new(FOLDER).join(name), text.as_bytes(), 0o644).unwrap();
        }
        let workflow = Catalog::default().load(&*disk, FOLDER).unwrap().unwrap();
        let signer = Arc::new(Signer::from_seed("site", &[7; 32]).unwrap());
        Self { scene, disk, workflow, signer }
    }

    /// Everybody else.
    pub(super) fn kube(&self) -> Kube {
        Kube::new(self.scene.place.client("somebody"))
    }

    fn eyes(&self) -> World {
        World {
            disk: self.disk.clone(),
            secrets: Arc::new(MemorySecrets::default()),
            kinds: Arc::default(),
            folder: "/".into(),
            ..self.scene.world.clone()
        }
    }

    fn store(&self) -> Store {
        Store::new(self.disk.clone(), Path::new("/var/lib/rollover"))
    }

    fn tools(&self, tripwire: Arc<dyn Tripwire>) -> Tools {
        Tools { clock: self.scene.world.clock.clone(), signer: self.signer.clone(), tripwire }
    }

    fn actor() -> Actor {
        Actor { program: "rollover test".into(), host: "site".into(), user: "tester".into(), pid: 1 }
    }

    fn options(eyes: &World) -> Options {
        Options {
            approver: Arc::new(Yes { outage: false, who: "tester".into() }),
            lock: Arc::new(LeaseLock { world: eyes.clone(), host: "site".into(), user: "tester".into() }),
            ..Options::default()
        }
    }

    /// Runs the workflow to its end.
    pub(super) async fn run(&self) -> Ending {
        self.until(Arc::new(NoTripwire)).await
    }

    /// Runs it until this moment of this record, where its process dies.
    pub(super) async fn dies_at(&self, record: u64, moment: Moment) -> Ending {
        let killed = self.until(Arc::new(StopAt(record, moment))).await;
        assert_eq!(killed.state, EndState::Killed, "{moment:?} of record {record}");
        self.die();
        killed
    }

    async fn until(&self, tripwire: Arc<dyn Tripwire>) -> Ending {
        let eyes = self.eyes();
        let params = self.workflow.manifest.resolve(&Given::default(), &*eyes.secrets).unwrap();
        let input = script::Input {
            workflow: &self.workflow.name,
            sources: &self.workflow.sources,
            manifest: &self.workflow.manifest,
            params: &params,
            world: &eyes,
            registry: stdlib::registry(),
        };
        let plan = script::evaluate(&input).await.unwrap();
        let begin = Begin { plan, sources: self.workflow.pinned(), reach: None, actor: Self::actor() };
        let options = Self::options(&eyes);
        Run::start(begin, eyes, &self.store(), self.tools(tripwire), options).unwrap().forward().await
    }

    /// The process dies, and with it everything that was not on disk.
    pub(super) fn die(&self) {
        self.disk.crash();
    }

    /// The newest run.
    pub(super) fn newest(&self) -> String {
        self.store().list().unwrap().pop().unwrap().as_str().to_owned()
    }

    /// What is on record of a run.
    pub(super) fn records(&self, run: &str) -> Vec<Record> {
        let store = self.store();
        store.load(&store.find(run).unwrap()).unwrap().records
    }

    /// A run, as a new process finds it.
    pub(super) fn open(&self, run: &str, why: Why) -> Run {
        let eyes = self.eyes();
        let options = Self::options(&eyes);
        let tools = self.tools(Arc::new(NoTripwire));
        Run::open(run, &Self::actor(), why, eyes, &self.store(), tools, options).unwrap()
    }

    /// Goes on with a run to its end.
    pub(super) async fn resumed(&self, run: &str, context: &str) {
        let ending = self.open(run, Why::Resume).resume().await;
        assert_eq!(ending.state, EndState::Done, "{context}: {:?}", ending.failure);
    }

    /// Takes a run back.
    pub(super) async fn back(&self, run: &str, context: &str) {
        let ending = self.open(run, Why::Rollback).back("test").await;
        assert_eq!(ending.state, EndState::RolledBack, "{context}: {:?}", ending.failure);
    }
}
