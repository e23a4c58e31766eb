//! Two real processes on one real API server.

use tests::two_processes::{Stage, TakesOver, story};

use crate::bench::{Bench, multi};

async fn told(seed: u64, takes_over: TakesOver) {
    let bench = Bench::new(seed).await;
    let home = tempfile::tempdir().unwrap();
    let stage = Stage {
        program: env!("CARGO_BIN_EXE_rollover-under-test").into(),
        home: home.path().to_owned(),
        kubeconfig: bench.plane.admin_kubeconfig(),
        pki: bench.pki(""),
    };
    // Its world goes on while the story waits.
    tokio::spawn(async move { story(&stage, takes_over).await }).await.unwrap();
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_process_that_was_stopped_for_longer_than_its_lease_writes_nothing_more() {
    multi(told(3, TakesOver::Resume));
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_process_that_was_stopped_writes_nothing_more_over_a_run_that_was_taken_back() {
    multi(told(4, TakesOver::Rollback));
}
