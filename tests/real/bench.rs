//! A real control plane with a sandbox world upon it, and runs against them.

use std::path::Path;
use std::sync::Arc;

use journal::{NoTripwire, Signer, Store, Tools, Tripwire, Why};
use runner::catalog::{Catalog, Workflow};
use runner::engine::approve::Yes;
use runner::engine::{Actor, Begin, LeaseLock, Options, Run};
use runner::error::Failure;
use runner::events::{Collected, Ending};
use runner::manifest::Given;
use runner::plan::Plan;
use sandbox::world::{Fault, Options as WorldOptions, Scenario, World};
use stdlib::files::SystemDisk;
use stdlib::secret::MemorySecrets;
use tempfile::TempDir;
use tests::clock::Turned;
use tests::control_plane::{ControlPlane, assets};
use tests::streams::{Nowhere, through};

/// A TiDB cluster of the sandbox on a real API server.
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) plane: ControlPlane,
    pub(crate) dir: TempDir,
    /// Whether phases that would break a link are refused.
    pub(crate) forecast: bool,
    /// Whether outages are accepted.
    pub(crate) outage: bool,
    /// Whether pods are dialled through the API server, and there is no other way to them.
    pub(crate) forward: Option<Arc<Nowhere>>,
    /// The time of runs: the world's, unless a story turns it.
    pub(crate) clock: Arc<Turned>,
    secrets: Arc<MemorySecrets>,
    signer: Arc<Signer>,
}

/// Runs a test on the machine's own time.
pub(crate) fn multi<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test)
}

/// Makes the definitions of cert-manager that lie in a folder, as they are.
async fn define(admin: &kube::Client, folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("cert-manager.io_") {
            continue;
        }
        let definition: serde_json::Value =
            serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let request = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
            .header("content-type", "application/json")
            .body(definition.to_string().into_bytes())
            .unwrap();
        let name = &definition["metadata"]["name"];
        match admin.request::<serde_json::Value>(request).await {
            Ok(_) => eprintln!("defined {name}"),
            // Servers before 1.21 take no empty default, which `Issuer` has; the sandbox's own is made then.
            Err(kube::Error::Api(said)) if said.code == 422 => {
                eprintln!("{name} is refused by this server ({})", said.reason);
            }
            Err(e) => panic!("{name}: {e}"),
        }
    }
}

fn shipped(name: &str) -> Workflow {
    Catalog::default().load(&SystemDisk, name).unwrap().unwrap()
}

impl Bench {
    /// Starts everything and waits until the cluster is steady.
    pub(crate) async fn new(seed: u64) -> Self {
        Self::of(seed, Scenario::default()).await
    }

    /// The same with another beginning.
    pub(crate) async fn of(seed: u64, scenario: Scenario) -> Self {
        Self::with(&assets().expect("tests/control-plane makes the programs"), seed, scenario).await
    }

    /// The same where no process restarts by itself: a rotation does not begin while one is down.
    pub(crate) async fn calm(seed: u64, scenario: Scenario) -> Self {
        let bench = Self::of(seed, scenario).await;
        bench.world.set_fault(Fault::NoRestarts);
        bench
    }

    /// The same with the programs of this folder. Where it has no controllers, the sandbox's own work in their place.
    pub(crate) async fn with(assets: &Path, seed: u64, scenario: Scenario) -> Self {
        let plane = ControlPlane::start(assets).await.unwrap();
        let clients = plane.clients().await.unwrap();
        if let Some(folder) = std::env::var_os("ROLLOVER_CRDS") {
            define(&clients("system:admin"), Path::new(&folder)).await;
        }
        let kubelet = Some(plane.kubelet_tls().unwrap());
        let controllers = !plane.has_controllers();
        let api = Some(clients);
        let options = WorldOptions { api, controllers, kubelet, scenario, ..WorldOptions::process(seed) };
        let world = World::start(options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        world.pki().write(&SystemDisk, &dir.path().join("pki")).unwrap();
        if let Some(sql) = world.pki().sql() {
            sql.write(&SystemDisk, &dir.path().join("sql-pki")).unwrap();
        }
        let signer = Arc::new(Signer::from_seed("bench", &[7; 32]).unwrap());
        Self {
            clock: Arc::new(Turned::new(world.clock())),
            world,
            plane,
            dir,
            forecast: true,
            outage: false,
            forward: None,
            secrets: Arc::default(),
            signer,
        }
    }

    fn eyes_of(&self, cluster: kube::Client) -> stdlib::World {
        let net = match &self.forward {
            Some(nowhere) => through(cluster.clone(), nowhere),
            None => self.world.net(),
        };
        stdlib::World {
            clock: self.clock.clone(),
            net,
            disk: Arc::new(SystemDisk),
            cluster: Some(cluster),
            secrets: self.secrets.clone(),
            hosts: Arc::default(),
            kinds: Arc::default(),
            no_cluster: String::new(),
            manager: "rollover".into(),
            folder: "/".into(),
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(Arc::new(SystemDisk), &self.dir.path().join("state"))
    }

    fn actor() -> Actor {
        Actor { program: "rollover test".into(), host: "bench".into(), user: "tester".into(), pid: 1 }
    }

    fn tools(&self, tripwire: Arc<dyn Tripwire>) -> Tools {
        Tools { clock: self.clock.clone(), signer: self.signer.clone(), tripwire }
    }

    fn options(&self, eyes: stdlib::World) -> Options {
        Options {
            reporter: Arc::new(Collected::default()),
            approver: Arc::new(Yes { outage: self.outage, who: "tester".into() }),
            lock: Arc::new(LeaseLock { world: eyes, host: "bench".into(), user: "tester".into() }),
            forecast: self.forecast,
            ..Options::default()
        }
    }

    /// Where a file of the PKI folder lies.
    pub(crate) fn pki(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("pki").join(name)
    }

    /// The plan of a shipped workflow, as a user of the cluster gets it.
    pub(crate) async fn plan(
        &self,
        name: &str,
        set: &[(&str, &str)],
        user: &kube::Client,
    ) -> Result<Plan, Failure> {
        self.plan_of(&shipped(name), set, user).await
    }

    async fn plan_of(
        &self,
        workflow: &Workflow,
        set: &[(&str, &str)],
        user: &kube::Client,
    ) -> Result<Plan, Failure> {
        let eyes = self.eyes_of(user.clone());
        let mut given = Given::default();
        given.set.push(("pki".into(), self.dir.path().join("pki").display().to_string()));
        given.set.push(("sql_pki".into(), self.dir.path().join("sql-pki").display().to_string()));
        given.set.push(("login_secret".into(), "basic-tidb-root".into()));
        given.set.extend(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        tests::stage::plan(workflow, &given, &eyes).await
    }

    /// Begins a run of a shipped workflow and goes forward until it ends or the tripwire stops it.
    pub(crate) async fn run(
        &self,
        name: &str,
        set: &[(&str, &str)],
        tripwire: Arc<dyn Tripwire>,
    ) -> Result<Ending, Failure> {
        self.run_as(&self.world.client(), name, set, tripwire).await
    }

    /// The same as a user of the cluster.
    pub(crate) async fn run_as(
        &self,
        user: &kube::Client,
        name: &str,
        set: &[(&str, &str)],
        tripwire: Arc<dyn Tripwire>,
    ) -> Result<Ending, Failure> {
        self.begin(&shipped(name), set, user, tripwire).await
    }

    /// The same with any workflow.
    pub(crate) async fn begin(
        &self,
        workflow: &Workflow,
        set: &[(&str, &str)],
        user: &kube::Client,
        tripwire: Arc<dyn Tripwire>,
    ) -> Result<Ending, Failure> {
        let plan = self.plan_of(workflow, set, user).await?;
        let begin = Begin { plan, sources: workflow.pinned(), reach: None, actor: Self::actor() };
        let eyes = self.eyes_of(user.clone());
        let options = self.options(eyes.clone());
        let run = Run::start(begin, eyes, &self.store(), self.tools(tripwire), options)?;
        Ok(run.forward().await)
    }

    /// The newest run's id, if there is a run.
    pub(crate) fn newest(&self) -> Option<String> {
        self.store().list().unwrap().pop().map(|run| run.as_str().to_owned())
    }

    /// The newest run, as a new process finds it.
    pub(crate) fn open(&self, why: Why) -> Run {
        self.open_as(&self.world.client(), why)
    }

    /// The same as a user of the cluster.
    pub(crate) fn open_as(&self, user: &kube::Client, why: Why) -> Run {
        let run = self.store().list().unwrap().pop().unwrap();
        self.open_run(run.as_str(), user, why)
    }

    /// Any run, as a new process of a user of the cluster finds it.
    pub(crate) fn open_run(&self, run: &str, user: &kube::Client, why: Why) -> Run {
        let (eyes, tools) = (self.eyes_of(user.clone()), self.tools(Arc::new(NoTripwire)));
        let options = self.options(eyes.clone());
        Run::open(run, &Self::actor(), why, eyes, &self.store(), tools, options).unwrap()
    }

    #[allow(clippy::unused_self, reason = "reads better as a method")]
    pub(crate) fn read(&self, path: &Path) -> Vec<u8> {
        std::fs::read(path).unwrap()
    }
}
