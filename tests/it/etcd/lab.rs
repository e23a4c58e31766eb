//! The sandbox's hosts in this process on virtual time, a disk that loses what was not synced, and runs upon them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
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
use sandbox::hosts::{Etcd, Options as WorldOptions, Pki, World};
use sandbox::world::Expired;
use stdlib::PrimError;
use stdlib::cert::{Certificate, Key};
use stdlib::files::SimDisk;
use stdlib::host::Pool;
use stdlib::secret::MemorySecrets;
use stdlib::world::Disk as _;
use tempfile::TempDir;

use crate::lab::{START, STATE, virtual_time};

const INVENTORY: &str = "/srv/hosts.yaml";

/// The certificates of every such world; their addresses are the same each time.
fn pki(etcd: &Etcd) -> Pki {
    static KNOWN: OnceLock<Mutex<HashMap<String, Pki>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap();
    let made = || {
        let world = || {
            virtual_time(async {
                Lab::start(1, SimDisk::new(), etcd.clone(), None).await.world.pki().clone()
            })
        };
        std::thread::scope(|scope| scope.spawn(world).join().unwrap())
    };
    known.entry(format!("{etcd:?}")).or_insert_with(made).clone()
}

/// Files by host and path: bytes and permissions.
pub(super) type Files = BTreeMap<String, (Vec<u8>, u32)>;

pub(super) struct Lab {
    pub(super) world: World,
    pub(super) disk: Arc<SimDisk>,
    pub(super) reporter: Arc<Collected>,
    etcd: Etcd,
    root: TempDir,
    signer: Arc<Signer>,
}

/// Every file below a folder, by its path in it. Links are not followed: what they lead to is found where it lies.
fn walk(root: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(root, &path, found),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Where a certificate's key lies.
fn key_of(cert: &str) -> String {
    cert.strip_suffix(".crt").map_or_else(|| cert.replace(".pem", "-key.pem"), |stem| format!("{stem}.key"))
}

impl Lab {
    pub(super) async fn new(seed: u64) -> Self {
        Self::of(seed, &Etcd::default()).await
    }

    /// Another cluster than the usual.
    pub(super) async fn of(seed: u64, etcd: &Etcd) -> Self {
        Self::start(seed, SimDisk::new(), etcd.clone(), Some(pki(etcd))).await
    }

    /// The same with a disk that keeps, when it crashes, some of what was appended and not synced.
    pub(super) async fn torn(seed: u64, etcd: &Etcd) -> Self {
        Self::start(seed, SimDisk::with_torn_tails(seed), etcd.clone(), Some(pki(etcd))).await
    }

    async fn start(seed: u64, disk: SimDisk, etcd: Etcd, pki: Option<Pki>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = WorldOptions {
            pki,
            start: Some(START),
            etcd: etcd.clone(),
            ..WorldOptions::in_process(root.path().to_owned(), seed)
        };
        let world = World::start(options).await.unwrap();
        disk.make_dir(Path::new("/srv"), 0o755).unwrap();
        disk.write_atomic(Path::new(INVENTORY), world.inventory().as_bytes(), 0o644).unwrap();
        disk.make_dir(Path::new("/srv/pki"), 0o700).unwrap();
        for (name, key) in world.authorities() {
            disk.write_atomic(&Path::new("/srv/pki").join(name), key, 0o600).unwrap();
        }
        let signer = Arc::new(Signer::from_seed("lab", &[7; 32]).unwrap());
        Self { world, disk: Arc::new(disk), reporter: Arc::default(), etcd, root, signer }
    }

    /// Whether the members talked with each other when it began.
    fn began_well(&self) -> bool {
        self.etcd.expired == Expired::Nothing && !self.etcd.broken
    }

    fn eyes(&self) -> stdlib::World {
        stdlib::World {
            clock: self.world.clock(),
            net: self.world.net(),
            disk: self.disk.clone(),
            cluster: None,
            secrets: Arc::new(MemorySecrets::default()),
            hosts: Arc::new(Pool::new(self.world.connect())),
            kinds: Arc::default(),
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
            approver: Arc::new(Yes { outage: !self.began_well(), who: "tester".into() }),
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
        self.run_with(workflow, tripwire, &[]).await
    }

    /// The same with parameters, each `name=value`.
    pub(super) async fn run_with(
        &self,
        workflow: &Workflow,
        tripwire: Arc<dyn Tripwire>,
        more: &[&str],
    ) -> Result<Ending, Failure> {
        let eyes = self.eyes();
        let mut given = Given::default();
        for (name, value) in self.world.params(Path::new("/srv")) {
            if workflow.manifest.params.get(&name).is_some() {
                given.set.push((name, value));
            }
        }
        for (name, value) in more.iter().map(|set| set.split_once('=').unwrap()) {
            given.set.retain(|(given, _)| given != name);
            given.set.push((name.to_owned(), value.to_owned()));
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

    fn hosts(&self) -> Vec<String> {
        [self.etcd.members(), self.etcd.applications()].concat()
    }

    /// Where a file of a host lies on this machine.
    pub(super) fn path(&self, host: &str, path: &str) -> PathBuf {
        self.at(host, path)
    }

    fn at(&self, host: &str, path: &str) -> PathBuf {
        self.root.path().join(host).join(path)
    }

    /// The marks of restarts that a host has, by service.
    pub(super) fn restarts(&self, host: &str) -> BTreeMap<String, String> {
        let Ok(entries) = fs::read_dir(self.at(host, "var/lib/rollover/restarts")) else {
            return BTreeMap::new();
        };
        let entries = entries.map(|entry| entry.unwrap());
        let mark = |entry: fs::DirEntry| fs::read_to_string(entry.path()).unwrap();
        entries.map(|entry| (entry.file_name().into_string().unwrap(), mark(entry))).collect()
    }

    /// The key of the CA for clients that lies with who runs the workflows.
    pub(super) fn own_key(&self) -> Vec<u8> {
        self.disk.read(Path::new("/srv/pki/ca-key.pem")).unwrap()
    }

    /// Copies a file of a host.
    pub(super) fn copies(&self, host: &str, from: &str, to: &str) {
        fs::copy(self.at(host, from), self.at(host, to)).unwrap();
    }

    /// Every file of the hosts but those of runs.
    pub(super) fn files(&self) -> Files {
        let mut found = Files::new();
        for host in self.hosts() {
            let root = self.at(&host, "");
            let mut paths = Vec::new();
            walk(&root, Path::new(""), &mut paths);
            for path in paths.into_iter().filter(|path| !path.starts_with("var/lib/rollover")) {
                let here = root.join(&path);
                let mode = fs::metadata(&here).unwrap().permissions().mode() & 0o7777;
                found.insert(format!("{host}/{}", path.display()), (fs::read(&here).unwrap(), mode));
            }
        }
        found
    }

    /// What is wrong with what lies there and with what is loaded, where every certificate and key should be new, and live,
    /// except for those that are kept.
    pub(super) fn renewed(&self, before: &Files, kept: impl Fn(&str) -> bool) -> Vec<String> {
        let (mut wrong, files) = (Vec::new(), self.files());
        let now = self.world.clock().now();
        let ends = |name: &str, endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        let is_key = |name: &str| ends(name, &["-key.pem", ".key"]);
        let mut anchors: BTreeMap<&str, Vec<(&str, Certificate)>> = BTreeMap::new();
        let mut leaves = Vec::new();
        for (name, (bytes, mode)) in files.iter().filter(|(name, _)| ends(name, &[".pem", ".crt", ".key"])) {
            let (was, was_mode) = &before[name];
            if (was == bytes) != kept(name) || was_mode != mode {
                wrong.push(format!("{name} was not replaced, or was, or has another mode"));
            }
            if is_key(name) {
                continue;
            }
            let mut all = stdlib::cert::parse_many(bytes, name).unwrap();
            if all.len() != 1 {
                wrong.push(format!("{name} holds {} certificates", all.len()));
                continue;
            }
            let (host, path) = name.split_once('/').unwrap();
            let found = all.remove(0);
            if found.not_after() <= now {
                wrong.push(format!("{name} has expired"));
            }
            if found.is_ca() {
                let key = key_of(name);
                let fits = |(bytes, _): &(Vec<u8>, u32)| Key::from_pem(bytes, &key).unwrap().matches(&found);
                if !files.get(&key).is_none_or(fits) {
                    wrong.push(format!("{key} is not the key of the CA beside it"));
                }
                anchors.entry(host).or_default().push((path, found));
            } else {
                leaves.push((host, name, found));
            }
        }
        let none = Vec::new();
        for (host, name, leaf) in leaves {
            let on_host = anchors.get(host).unwrap_or(&none);
            if !on_host.iter().any(|(_, ca)| leaf.check_signed_by(ca).is_ok()) {
                wrong.push(format!("{name} is of no CA that lies there"));
            }
            let key = key_of(name);
            if !Key::from_pem(&files[&key].0, &key).unwrap().matches(&leaf) {
                wrong.push(format!("{name} does not belong to its key"));
            }
        }
        // One CA each for clients, for peers, for the API servers.
        let mut prints: BTreeMap<&str, String> = BTreeMap::new();
        for (path, ca) in anchors.values().flatten() {
            let print = ca.fingerprint();
            // A link leads to what others have in its place.
            let path = path.strip_prefix("data/etcd/cert/").map_or(*path, |name| match name {
                "ca.pem" => "var/lib/etcd/cert/ca.pem",
                _ => "var/lib/etcd/cert/peer-ca.pem",
            });
            if *prints.entry(path).or_insert_with(|| print.clone()) != print {
                wrong.push(format!("not everybody has one and the same {path}"));
            }
        }
        for (name, loaded) in self.world.loaded() {
            let host = name.split(':').next().unwrap();
            let known = |print: &String| {
                let own = anchors.get(host).unwrap_or(&none);
                own.iter().any(|(_, ca)| ca.fingerprint().ends_with(print.as_str()))
            };
            if loaded.trusts.len() != 1 || !loaded.trusts.iter().all(known) {
                wrong.push(format!("{name} has loaded other anchors"));
            }
        }
        wrong
    }

    /// What a run left on hosts that should not be there, and whether each knows which run was there last.
    pub(super) fn left_behind(&self, run: &str) -> Vec<String> {
        let mut found = Vec::new();
        for host in self.hosts() {
            let state = |name: &str| self.at(&host, "var/lib/rollover").join(name);
            if state("mark.json").exists() {
                found.push(format!("{host} has a mark"));
            }
            if !fs::read_to_string(state("last-run.json")).is_ok_and(|last| last.contains(run)) {
                found.push(format!("{host} does not say who was there"));
            }
        }
        let files = self.files();
        found.extend(files.into_keys().filter(|path| path.contains("/.") || path.ends_with(".rollover-new")));
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
        if history.most_down > 1 && self.began_well() {
            wrong.push(format!("{} members were down at one moment", history.most_down));
        }
        if self.began_well() {
            let counters = self.world.counters();
            wrong.extend(counters.refusals.iter().map(|refusal| format!("{refusal:?}")));
        } else {
            // Whoever was refused before is not now.
            let refused = || self.world.counters().refused;
            let before = refused();
            tokio::time::sleep(Duration::from_secs(180)).await;
            if refused() != before {
                wrong.push(format!("{} handshakes were refused in the end", refused() - before));
            }
        }
        if self.world.history().acknowledged == 0 {
            wrong.push("nothing was ever written".into());
        }
        wrong
    }
}
