//! The program itself is killed with SIGKILL amid a rotation, and whatever goes on with its run is killed as well. One town
//! for the sandbox's API server and for a real one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use sandbox::world::genesis::Scenario;
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, SECRETS};
use sandbox::world::volume;
use serde_json::Value;
use stdlib::cert::{Certificate, parse_many};
use tokio::runtime::Runtime;

use crate::program::{Program, says};

/// Files by name, of all Secrets or of the PKI folder.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// The files of all Secrets of a namespace, by the Secret's name and their own.
pub async fn secret_files(kube: &Kube, namespace: &str) -> Files {
    let secrets = kube.list(SECRETS, namespace).await.unwrap().0;
    let named = |secret: &Value| {
        let name = js::name(secret).to_owned();
        volume::secret_files(secret).into_iter().map(move |(file, bytes)| (format!("{name}/{file}"), bytes))
    };
    secrets.iter().flat_map(named).collect()
}

/// The files of a folder and of those below it, by path.
pub fn folder_files(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// A cluster that no kill of the program touches, and how the program reaches it.
pub struct Town {
    /// The program, at its terminal.
    pub program: Program,
    /// The workflow.
    pub workflow: &'static str,
    /// What it began with: it says how Secrets are called.
    pub scenario: Scenario,
    /// Words with which a run begins, after `run WORKFLOW --yes`.
    pub begins: Vec<String>,
    /// Words with which a run goes on, after `resume RUN --yes`.
    pub goes_on: Vec<String>,
    /// The PKI folder.
    pub pki: PathBuf,
    /// The API server.
    pub kube: Kube,
    /// What the test itself asks runs here.
    pub runtime: Runtime,
    /// What the links have seen.
    pub counters: Box<dyn Fn() -> Value>,
    /// The seed, and what is thrown with it.
    pub dice: u64,
    /// How often the program was killed so far.
    pub kills: usize,
}

impl Town {
    /// A number below `bound`, from the seed.
    pub fn throw(&mut self, bound: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % bound
    }

    fn record(&self, run: &str) -> Vec<u8> {
        let journal = self.program.state().join("runs").join(run).join("journal.jsonl");
        fs::read(journal).unwrap_or_default()
    }

    /// How many records a run has.
    pub fn records(&self, run: &str) -> u64 {
        self.record(run).iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// The phases of a run that have ended on the way forward.
    pub fn ended(&self, run: &str) -> Vec<String> {
        let told = String::from_utf8_lossy(&self.record(run)).into_owned();
        let complete = told.rfind('\n').map_or("", |end| told.get(..end).unwrap_or_default());
        let events = complete.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ended = events.filter(|record| {
            let event = &record["event"];
            event["type"] == "phase-end" && event["direction"] == "forward"
        });
        ended.map(|record| js::text(&record, "/event/phase").to_owned()).collect()
    }

    /// Kills a child as soon as its run is as far as this. One that ended before was not killed.
    pub fn kill_when(&mut self, mut child: Child, run: &str, far: impl Fn(&Self) -> bool) -> bool {
        let begun = Instant::now();
        while !far(self) {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "{run} never came so far");
            std::thread::sleep(Duration::from_millis(3));
        }
        // std kills with SIGKILL.
        child.kill().unwrap();
        let killed = child.wait().unwrap().code().is_none();
        self.kills += usize::from(killed);
        eprintln!("killed with {} records of {run}", self.records(run));
        killed
    }

    /// The same at a number of records.
    pub fn kill_at(&mut self, child: Child, run: &str, records: u64) -> bool {
        self.kill_when(child, run, |town| town.records(run) >= records)
    }

    /// Goes on with a run.
    pub fn resumes(&self, run: &str) -> Child {
        self.program.begins(&self.words("resume", run))
    }

    /// Begins a run of the workflow. Returns it and the run's name.
    pub fn begins(&self) -> (Child, String) {
        let known = self.program.runs();
        let mut args = vec!["run", self.workflow, "--yes"];
        args.extend(self.begins.iter().map(String::as_str));
        let mut child = self.program.begins(&args);
        let run = loop {
            if let Some(new) = self.program.runs().into_iter().find(|run| !known.contains(run)) {
                break new;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended before it began a run");
            std::thread::sleep(Duration::from_millis(3));
        };
        (child, run)
    }

    fn words<'a>(&'a self, how: &'a str, run: &'a str) -> Vec<&'a str> {
        [how, run, "--yes"].into_iter().chain(self.goes_on.iter().map(String::as_str)).collect()
    }

    /// Goes on with a run by `resume` or `rollback`, perhaps is killed once, and goes on to the end.
    pub fn goes_on(&mut self, how: &str, run: &str, killed_after: Option<u64>, words: &[&str]) {
        if let Some(more) = killed_after {
            let at = self.records(run) + more;
            let child = self.program.begins(&self.words(how, run));
            if self.kill_at(child, run, at) {
                // Whichever way it was going, that is the way that a resume goes.
                says(&self.program.types(&self.words("resume", run)), 0, &[]);
            }
        } else {
            says(&self.program.types(&self.words(how, run)), 0, &[]);
        }
        says(&self.program.types(&["status", run]), 0, words);
        says(&self.program.types(&["audit", "verify", run]), 0, &["ok   integrity", "ok   completeness"]);
    }

    /// The files of all Secrets, by the Secret's name and their own.
    pub fn secrets(&self) -> Files {
        self.runtime.block_on(secret_files(&self.kube, &self.scenario.namespace))
    }

    /// The folder's CA.
    pub fn ca(&self) -> String {
        self.pki.join("ca.pem").display().to_string()
    }

    /// The files of the PKI folder, by path.
    pub fn folder(&self) -> Files {
        folder_files(&self.pki)
    }

    /// What each pod that serves presents now, by its name and component.
    pub fn served(&self) -> BTreeMap<(String, String), Certificate> {
        let pods = self.runtime.block_on(self.kube.list(PODS, "tidb")).unwrap().0;
        let mut served = BTreeMap::new();
        for pod in &pods {
            let component = js::text(pod, "/metadata/labels/app.kubernetes.io~1component").to_owned();
            let port = match component.as_str() {
                "pd" => 2379,
                "tikv" => 20160,
                "tidb" => 10080,
                _ => continue,
            };
            let address = format!("{}:{port}", js::text(pod, "/status/podIP"));
            let seen = self.program.types(&["cert", "probe", &address, "--output", "json"]);
            let Ok(seen) = serde_json::from_slice::<Value>(&seen.stdout) else { continue };
            let Some(chain) = seen["chain"].as_str() else { continue };
            let leaf = parse_many(chain.as_bytes(), &address).unwrap().remove(0);
            served.insert((js::name(pod).to_owned(), component), leaf);
        }
        served
    }

    /// That all eight servers present what their Secrets hold, as soon as those that restart are back.
    pub fn serves_its_secrets(&self) {
        let secrets = self.secrets();
        let begun = Instant::now();
        loop {
            let served = self.served();
            let held = |((_, component), leaf): (&(String, String), &Certificate)| {
                let pem = &secrets[&format!("{}/tls.crt", self.scenario.secret_name(component))];
                parse_many(pem, component).unwrap()[0].der() == leaf.der()
            };
            if served.len() == 8 && served.iter().all(held) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "not everybody presents what the Secrets hold: {:?}",
                served.keys()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// That no handshake between two components was refused.
    pub fn nobody_was_refused(&self) {
        let counters = (self.counters)();
        assert!(counters["made"].as_u64().unwrap() > 0);
        assert_eq!(counters["refused"], 0, "{:#}", counters["refusals"]);
    }

    /// One CA is trusted, other than `old`; it lies in the PKI folder and has signed everything.
    pub fn is_rotated(&self, old: &[u8]) {
        let (secrets, folder) = (self.secrets(), self.folder());
        let ca = &folder[&self.ca()];
        assert_ne!(ca, old, "the CA is another one");
        let ca = Certificate::from_pem(ca, "ca.pem").unwrap();
        for component in ["pd", "tikv", "tidb", "client"] {
            let file = |name: &str| &secrets[&format!("{}/{name}", self.scenario.secret_name(component))];
            let trusted = parse_many(file("ca.crt"), component).unwrap();
            assert_eq!(
                (trusted.len(), trusted[0].der()),
                (1, ca.der()),
                "{component} trusts the new CA alone"
            );
            parse_many(file("tls.crt"), component).unwrap()[0].check_signed_by(&ca).unwrap();
        }
        self.serves_its_secrets();
        self.nobody_was_refused();
    }

    /// Everything is as it was.
    pub fn is_as_before(&self, secrets: &Files, folder: &Files) {
        let differing = |now: &Files, before: &Files| {
            let names = now.keys().chain(before.keys()).filter(|name| now.get(*name) != before.get(*name));
            names.cloned().collect::<Vec<String>>()
        };
        assert_eq!(differing(&self.secrets(), secrets), Vec::<String>::new());
        assert_eq!(differing(&self.folder(), folder), Vec::<String>::new());
        self.serves_its_secrets();
        self.nobody_was_refused();
    }
}
