//! The program itself is killed with SIGKILL amid a rotation, and whatever goes on with its run is killed as well: going
//! on ends as a rotation does, going back ends where it began, and no component refuses another meanwhile.
//!
//! The bounded tier kills in one cycle of going back and going on; `ROLLOVER_TEST_TIER=all` in six, with more than twenty kills.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, SECRETS};
use sandbox::world::volume::secret_files;
use serde_json::Value;
use stdlib::cert::{Certificate, parse_many};

use crate::hands::{COMPONENTS, secret_name};
use crate::program::{Program, says, told};

/// How many records a whole rotation has at least; kills are dealt out over them.
const RECORDS: u64 = 170;

/// Files by name, of all Secrets or of the PKI folder.
type Files = BTreeMap<String, Vec<u8>>;

/// A cluster in a process of its own, which no kill of the program touches.
struct Town {
    program: Program,
    sandbox: PathBuf,
    runtime: tokio::runtime::Runtime,
    kube: Kube,
    dice: u64,
    kills: usize,
}

impl Town {
    fn new(seed: u64) -> Self {
        let program = Program::new();
        let said = program.types(&["sandbox", "start", "--seed", &seed.to_string(), "--output", "json"]);
        assert_eq!(said.status.code(), Some(0), "{}", told(&said).1);
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        let sandbox = PathBuf::from(said["dir"].as_str().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = Kubeconfig::read_from(sandbox.join("kubeconfig")).unwrap();
        let kube = runtime.block_on(async {
            let config =
                kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
            Kube::new(kube::Client::try_from(config).unwrap())
        });
        Self { program, sandbox, runtime, kube, dice: seed, kills: 0 }
    }

    /// A number below `bound`, from the seed.
    fn throw(&mut self, bound: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % bound
    }

    fn records(&self, run: &str) -> u64 {
        let journal = self.program.state().join("runs").join(run).join("journal.jsonl");
        let bytes = fs::read(journal).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Kills a child as soon as its run has this many records. One that ended before was not killed.
    fn kill_at(&mut self, mut child: Child, run: &str, records: u64) -> bool {
        let patience = Instant::now() + Duration::from_secs(600);
        while self.records(run) < records {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < patience, "record {records} of {run} never came");
            std::thread::sleep(Duration::from_millis(3));
        }
        // std kills with SIGKILL.
        child.kill().unwrap();
        let killed = child.wait().unwrap().code().is_none();
        self.kills += usize::from(killed);
        eprintln!("killed with {} records of {run}", self.records(run));
        killed
    }

    /// Begins a rotation, and kills it. Returns its run.
    fn begun_and_killed(&mut self) -> String {
        let known = self.program.runs();
        let sandbox = self.sandbox.display().to_string();
        let args =
            ["run", "tidb/cfssl-rotate", "--sandbox-dir", &sandbox, "--yes", "--set", "remove_old_ca=true"];
        let mut child = self.program.begins(&args);
        let run = loop {
            if let Some(new) = self.program.runs().into_iter().find(|run| !known.contains(run)) {
                break new;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended before it began a run");
            std::thread::sleep(Duration::from_millis(3));
        };
        let at = 1 + self.throw(RECORDS);
        self.kill_at(child, &run, at);
        run
    }

    /// Goes on with a run by `resume` or `rollback`, is killed once, and goes on to the end.
    fn goes_on(&mut self, how: &str, run: &str, words: &[&str]) {
        let at = self.records(run) + 1 + self.throw(40);
        let child = self.program.begins(&[how, run, "--yes"]);
        if self.kill_at(child, run, at) {
            // Whichever way it was going, that is the way that a resume goes.
            says(&self.program.types(&["resume", run, "--yes"]), 0, &[]);
        }
        says(&self.program.types(&["status", run]), 0, words);
        says(&self.program.types(&["audit", "verify", run]), 0, &["ok   integrity", "ok   completeness"]);
    }

    fn secrets(&self) -> Files {
        let secrets = self.runtime.block_on(self.kube.list(SECRETS, "tidb")).unwrap().0;
        let named = |secret: &Value| {
            let name = js::name(secret).to_owned();
            secret_files(secret).into_iter().map(move |(file, bytes)| (format!("{name}/{file}"), bytes))
        };
        secrets.iter().flat_map(named).collect()
    }

    fn folder(&self) -> Files {
        let mut files = Files::new();
        let mut folders = vec![self.sandbox.join("pki")];
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

    /// What each pod that serves presents now, by its name and component.
    fn served(&self) -> BTreeMap<(String, String), Certificate> {
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
    fn serves_its_secrets(&self) {
        let secrets = self.secrets();
        let patience = Instant::now() + Duration::from_secs(120);
        loop {
            let served = self.served();
            let held = |((_, component), leaf): (&(String, String), &Certificate)| {
                let pem = &secrets[&format!("{}/tls.crt", secret_name(component))];
                parse_many(pem, component).unwrap()[0].der() == leaf.der()
            };
            if served.len() == 8 && served.iter().all(held) {
                return;
            }
            assert!(
                Instant::now() < patience,
                "not everybody presents what the Secrets hold: {:?}",
                served.keys()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn nobody_was_refused(&self) {
        let counters = fs::read(self.sandbox.join("counters.json")).unwrap();
        let counters: Value = serde_json::from_slice(&counters).unwrap();
        assert!(counters["made"].as_u64().unwrap() > 0);
        assert_eq!(counters["refused"], 0, "{:#}", counters["refusals"]);
    }

    /// One CA is trusted, other than `old`; it lies in the PKI folder and has signed everything.
    fn is_rotated(&self, old: &[u8]) {
        let (secrets, folder) = (self.secrets(), self.folder());
        let ca = &folder[&self.sandbox.join("pki/ca.pem").display().to_string()];
        assert_ne!(ca, old, "the CA is another one");
        let ca = Certificate::from_pem(ca, "ca.pem").unwrap();
        for component in COMPONENTS {
            let file = |name: &str| &secrets[&format!("{}/{name}", secret_name(component))];
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
    fn is_as_before(&self, secrets: &Files, folder: &Files) {
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

impl Drop for Town {
    fn drop(&mut self) {
        let dir = self.sandbox.display().to_string();
        let _ = self.program.types(&["sandbox", "stop", &dir]);
    }
}

#[test]
fn killed_for_real_a_run_goes_on_or_back() {
    let all = std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all");
    let mut town = Town::new(11);
    // One that ends just before it would be killed is not counted, so there are more kills than are asked for.
    let (cycles, enough) = if all { (6, 20) } else { (1, 3) };
    for _ in 0..cycles {
        let (secrets, folder) = (town.secrets(), town.folder());
        let run = town.begun_and_killed();
        town.goes_on("rollback", &run, &["rolled back"]);
        town.is_as_before(&secrets, &folder);

        let old = folder[&town.sandbox.join("pki/ca.pem").display().to_string()].clone();
        let run = town.begun_and_killed();
        town.goes_on("resume", &run, &["done"]);
        town.is_rotated(&old);
    }
    eprintln!("{} kills", town.kills);
    assert!(town.kills >= enough, "{} kills", town.kills);
}
