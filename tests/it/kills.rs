//! The program itself is killed with SIGKILL amid a rotation, and whatever goes on with its run is killed as well: going
//! on ends as a rotation does, going back ends where it began, and no component refuses another meanwhile.
//!
//! The bounded tier kills in one cycle of going back and going on; `ROLLOVER_TEST_TIER=all` in six, with more than twenty
//! kills. `tests/real/kills.rs` does it on a real API server.

use std::fs;
use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use sandbox::world::kube::Kube;
use serde_json::Value;
use tests::kills::Town;

use crate::program::{Program, says};

/// How many records a whole rotation has at least; kills are dealt out over them.
const RECORDS: u64 = 170;

/// A sandbox in a process of its own.
struct Served {
    town: Town,
    sandbox: PathBuf,
}

impl Served {
    fn new(seed: u64) -> Self {
        let program = Program::new();
        let said = program.types(&["sandbox", "start", "--seed", &seed.to_string(), "--output", "json"]);
        says(&said, 0, &[]);
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        let sandbox = PathBuf::from(said["dir"].as_str().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = Kubeconfig::read_from(sandbox.join("kubeconfig")).unwrap();
        let kube = runtime.block_on(async {
            let config =
                kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
            Kube::new(kube::Client::try_from(config).unwrap())
        });
        let counters = sandbox.join("counters.json");
        let town = Town {
            program,
            workflow: "tidb/cfssl-rotate",
            scenario: sandbox::world::Scenario::default(),
            begins: ["--set", "remove_old_ca=true", "--sandbox-dir", &sandbox.display().to_string()]
                .map(str::to_owned)
                .to_vec(),
            goes_on: Vec::new(),
            pki: sandbox.join("pki"),
            kube,
            runtime,
            counters: Box::new(move || serde_json::from_slice(&fs::read(&counters).unwrap()).unwrap()),
            dice: seed,
            kills: 0,
        };
        Self { town, sandbox }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let dir = self.sandbox.display().to_string();
        let _ = self.town.program.types(&["sandbox", "stop", &dir]);
    }
}

fn begun_and_killed(town: &mut Town) -> String {
    let (child, run) = town.begins();
    let at = 1 + town.throw(RECORDS);
    town.kill_at(child, &run, at);
    run
}

#[test]
fn killed_for_real_a_run_goes_on_or_back() {
    let all = std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all");
    let mut served = Served::new(11);
    let town = &mut served.town;
    // One that ends just before it would be killed is not counted, so there are more kills than are asked for.
    let (cycles, enough) = if all { (6, 20) } else { (1, 3) };
    for _ in 0..cycles {
        let (secrets, folder) = (town.secrets(), town.folder());
        let run = begun_and_killed(town);
        let more = 1 + town.throw(40);
        town.goes_on("rollback", &run, Some(more), &["rolled back"]);
        town.is_as_before(&secrets, &folder);

        let old = folder[&town.ca()].clone();
        let run = begun_and_killed(town);
        let more = 1 + town.throw(40);
        town.goes_on("resume", &run, Some(more), &["done"]);
        town.is_rotated(&old);
    }
    eprintln!("{} kills", town.kills);
    assert!(town.kills >= enough, "{} kills", town.kills);
}
