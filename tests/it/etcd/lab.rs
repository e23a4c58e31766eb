//! The sandbox's hosts in this process on virtual time, a disk that loses what was not synced, and runs upon them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use journal::{NoTripwire, Signer, Store, Tools, Tripwire, Why};
use runner::catalog::{Catalog, Workflow};
use runner::engine::approve::Yes;
use runner::engine::{Actor, Begin, LeaseLock, Options, Run};
use runner::error::Failure;
use runner::events::{Collected, Ending};
use runner::exit_code::ExitCode;
use runner::manifest::Given;
use runner::script;
use sandbox::hosts::{Options as WorldOptions, Pki, World};
use stdlib::PrimError;
use stdlib::cert::{Certificate, Key};
use stdlib::files::SimDisk;
use stdlib::host::Pool;
use stdlib::secret::MemorySecrets;
use stdlib::world::Disk as _;
use tempfile::TempDir;

use super::members::FILES;
use crate::lab::{START, STATE, virtual_time};

const INVENTORY: &str = "/srv/hosts.yaml";

/// The certificates of every such world; their addresses are the same each time.
fn pki() -> Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    let made = || {
        std::thread::scope(|scope| {
            let world =
                || virtual_time(async { Lab::start(1, SimDisk::new(), None).await.world.pki().clone() });
            scope.spawn(world).join().unwrap()
        })
    };
    PKI.get_or_init(made).clone()
}

/// Files by host and name: bytes and permissions.
pub(super) type Files = BTreeMap<String, (Vec<u8>, u32)>;

pub(super) struct Lab {
    pub(super) world: World,
    pub(super) disk: Arc<SimDisk>,
    pub(super) reporter: Arc<Collected>,
    root: TempDir,
    signer: Arc<Signer>,
}

impl Lab {
    pub(super) async fn new(seed: u64) -> Self {
        Self::start(seed, SimDisk::new(), Some(pki())).await
    }

    /// The same with a disk that keeps, when it crashes, some of what was appended and not synced.
    pub(super) async fn torn(seed: u64) -> Self {
        Self::start(seed, SimDisk::with_torn_tails(seed), Some(pki())).await
    }

    async fn start(seed: u64, disk: SimDisk, pki: Option<Pki>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = WorldOptions {
            pki,
            start: Some(START),
            ..WorldOptions::in_process(root.path().to_owned(), seed)
        };
        let world = World::start(options).await.unwrap();
        disk.make_dir(Path::new("/srv"), 0o755).unwrap();
        disk.write_atomic(Path::new(INVENTORY), world.inventory().as_bytes(), 0o644).unwrap();
        let signer = Arc::new(Signer::from_seed("lab", &[7; 32]).unwrap());
        Self { world, disk: Arc::new(disk), reporter: Arc::default(), root, signer }
    }

    fn eyes(&self) -> stdlib::World {
        stdlib::World {
            clock: self.world.clock(),
            net: self.world.net(),
            disk: self.disk.clone(),
            cluster: None,
            secrets: Arc::new(MemorySecrets::default()),
            hosts: Arc::new(Pool::new(self.world.connect())),
            no_cluster: "there is none".into(),
            manager: "rollover".into(),
            folder: "/".into(),
        }
    }

    pub(super) fn store(&self) -> Store {
        Store::new(self.disk.clone(), Path::new(STATE))
    }

    fn actor() -> Actor {
        Actor { program: "rollover test".into(), host: "lab".into(), user: "tester".into(), pid: 1 }
    }

    fn tools(&self, tripwire: Arc<dyn Tripwire>) -> Tools {
        Tools { clock: self.world.clock(), signer: self.signer.clone(), tripwire }
    }

    fn options(&self, eyes: &stdlib::World) -> Options {
        Options {
            reporter: self.reporter.clone(),
            approver: Arc::new(Yes { outage: false, who: "tester".into() }),
            lock: Arc::new(LeaseLock { world: eyes.clone(), host: "lab".into(), user: "tester".into() }),
            ..Options::default()
        }
    }

    /// A shipped workflow.
    pub(super) fn workflow(&self, name: &str) -> Workflow {
        Catalog::default().load(&*self.disk, name).unwrap().unwrap()
    }

    /// Begins a run and goes forward until it ends or the tripwire stops it.
    pub(super) async fn run(
        &self,
        workflow: &Workflow,
        tripwire: Arc<dyn Tripwire>,
    ) -> Result<Ending, Failure> {
        let eyes = self.eyes();
        let mut given = Given::default();
        for (name, value) in [("inventory", INVENTORY), ("clients", "applications")] {
            given.set.push((name.into(), value.into()));
        }
        let params: BTreeMap<_, _> = workflow.manifest.resolve(&given, &*eyes.secrets).unwrap();
        let input = script::Input {
            workflow: &workflow.name,
            sources: &workflow.sources,
            manifest: &workflow.manifest,
            params: &params,
            world: &eyes,
            registry: stdlib::registry(),
        };
        let plan = script::evaluate(&input).await.map_err(|findings| {
            let first = findings.iter().find(|finding| finding.is_error()).unwrap();
            let code = first.failure.map(|code| ExitCode::before_start(&PrimError::new(code, "")));
            let text = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            Failure::new(code.unwrap_or(ExitCode::CheckFailed), text)
        })?;
        let options = self.options(&eyes);
        let begin = Begin { plan, sources: workflow.pinned(), reach: None, actor: Self::actor() };
        let run = Run::start(begin, eyes, &self.store(), self.tools(tripwire), options)?;
        Ok(run.forward().await)
    }

    /// The newest run, as a new process finds it.
    pub(super) fn open(&self, why: Why) -> Result<Run, Failure> {
        let run = self.store().list().unwrap().pop().unwrap();
        let eyes = self.eyes();
        let options = self.options(&eyes);
        Run::open(
            run.as_str(),
            &Self::actor(),
            why,
            eyes,
            &self.store(),
            self.tools(Arc::new(NoTripwire)),
            options,
        )
    }

    fn hosts() -> [&'static str; 4] {
        ["m1", "m2", "m3", "app1"]
    }

    fn at(&self, host: &str, path: &str) -> std::path::PathBuf {
        self.root.path().join(host).join(path)
    }

    /// Everything that rotates.
    pub(super) fn files(&self) -> Files {
        let mut found = Files::new();
        for host in Self::hosts() {
            for name in FILES {
                let path = self.at(host, "etc/etcd/pki").join(name);
                if let Ok(bytes) = fs::read(&path) {
                    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                    found.insert(format!("{host}/{name}"), (bytes, mode));
                }
            }
        }
        found
    }

    /// What is wrong with what lies there and with what is loaded, where all should be of one CA that is not this one.
    pub(super) fn rotated(&self, before: &Files) -> Vec<String> {
        let mut wrong = Vec::new();
        let files = self.files();
        let cert = |name: &str| -> Option<Certificate> {
            let mut all = stdlib::cert::parse_many(&files.get(name)?.0, name).ok()?;
            (all.len() == 1).then(|| all.remove(0))
        };
        let Some(ca) = cert("m1/ca.pem") else { return vec!["m1/ca.pem is no single CA".into()] };
        for (name, (bytes, mode)) in &files {
            if before[name].0 == *bytes || before[name].1 != *mode {
                wrong.push(format!("{name} was not replaced, or has another mode"));
            }
            if name.ends_with("-key.pem") {
                continue;
            }
            let Some(found) = cert(name) else {
                wrong.push(format!("{name} holds more than one certificate"));
                continue;
            };
            if name.ends_with("/ca.pem") {
                if found.fingerprint() != ca.fingerprint() {
                    wrong.push(format!("{name} is another CA"));
                }
                continue;
            }
            if let Err(error) = found.check_signed_by(&ca) {
                wrong.push(format!("{name}: {error}"));
            }
            let key = name.replace(".pem", "-key.pem");
            let key = Key::from_pem(&files[&key].0, &key).unwrap();
            if !key.matches(&found) {
                wrong.push(format!("{name} does not belong to its key"));
            }
        }
        let ours = vec![ca.fingerprint().trim_start_matches("sha256:").to_owned()];
        for (name, loaded) in self.world.loaded() {
            if loaded.trusts != ours {
                wrong.push(format!("{name} has loaded other anchors"));
            }
        }
        wrong
    }

    /// What a run left on hosts that should not be there, and whether each knows which run was there last.
    pub(super) fn left_behind(&self, run: &str) -> Vec<String> {
        let mut found = Vec::new();
        for host in Self::hosts() {
            let state = |name: &str| self.at(host, "var/lib/rollover").join(name);
            if state("mark.json").exists() {
                found.push(format!("{host} has a mark"));
            }
            if !fs::read_to_string(state("last-run.json")).is_ok_and(|last| last.contains(run)) {
                found.push(format!("{host} does not say who was there"));
            }
            let names = fs::read_dir(self.at(host, "etc/etcd/pki")).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            found.extend(names.filter(|name| name.starts_with('.')).map(|name| format!("{host} has {name}")));
        }
        found
    }

    /// What is wrong with the cluster: quorum, data, links.
    pub(super) async fn ailing(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Err(why) = self.world.steady(Duration::from_secs(60)).await {
            wrong.push(why);
        }
        let history = self.world.judged().await;
        wrong.extend(history.wrong);
        if history.most_down > 1 {
            wrong.push(format!("{} members were down at one moment", history.most_down));
        }
        let counters = self.world.counters();
        wrong.extend(counters.refusals.iter().map(|refusal| format!("{refusal:?}")));
        if history.acknowledged == 0 {
            wrong.push("nothing was ever written".into());
        }
        wrong
    }
}
