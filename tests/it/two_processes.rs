//! Two real processes on one sandbox.

use std::path::PathBuf;

use tests::two_processes::{Stage, TakesOver, story};

use crate::program::{Program, says};

#[test]
fn a_process_that_was_stopped_for_longer_than_its_lease_writes_nothing_more() {
    let keeper = Program::new();
    let output = keeper.types(&["sandbox", "start", "--output", "json"]);
    let started = says(&output, 0, &[]);
    let started: serde_json::Value = serde_json::from_str(started.lines().next().unwrap()).unwrap();
    let path = |name: &str| PathBuf::from(started[name].as_str().unwrap());
    let home = tempfile::tempdir().unwrap();
    let stage = Stage {
        program: env!("CARGO_BIN_EXE_rollover-under-test").into(),
        home: home.path().to_owned(),
        kubeconfig: path("kubeconfig"),
        pki: path("pki"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(story(&stage, TakesOver::Resume));
    }));
    keeper.types(&["sandbox", "stop"]);
    told.unwrap();
}
