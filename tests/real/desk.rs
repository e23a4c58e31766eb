//! A real `kubectl` says on the sandbox what it says on a real API server.

use std::process::Command;

use serde_json::Value;
use tests::control_plane::assets;
use tests::desk::{differences, kubectl, transcript};

use crate::bench::{Bench, multi};

/// A sandbox as a process of its own.
struct Served(tempfile::TempDir);

impl Served {
    fn types(&self, args: &[&str]) -> Vec<u8> {
        let program = env!("CARGO_BIN_EXE_rollover-under-test");
        let mut command = Command::new(program);
        let output = command.args(args).env("HOME", self.0.path()).env("ROLLOVER_STATE", self.0.path());
        let output = output.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.types(&["sandbox", "stop"]);
    }
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn kubectl_says_on_the_sandbox_what_it_says_on_a_real_server() {
    let assets = assets().expect("tests/control-plane makes the programs");
    let kubectl = kubectl(&assets).expect("tests/control-plane makes kubectl too");
    let served = Served(tempfile::tempdir().unwrap());
    let started: Value =
        serde_json::from_slice(&served.types(&["sandbox", "start", "--output", "json"])).unwrap();
    let home = tempfile::tempdir().unwrap();
    let ours = transcript(&kubectl, started["kubeconfig"].as_str().unwrap().as_ref(), home.path());
    let theirs = multi(async {
        let bench = Bench::new(5).await;
        let kubeconfig = bench.plane.admin_kubeconfig();
        let home = home.path().to_owned();
        tokio::task::spawn_blocking(move || transcript(&kubectl, &kubeconfig, &home)).await.unwrap()
    });
    let found = differences(&ours, &theirs);
    assert!(found.is_empty(), "{found}");
}
