//! Restarts of workloads among others, and of DaemonSets: the story of `tests::neighbours` on a real server with real
//! controllers.

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_restart_counts_and_takes_away_the_pods_of_its_workload_alone() {
    multi(async {
        let bench = Bench::new(5).await;
        let client = bench.world.client();
        tests::neighbours::story(client.clone(), &stdlib::World::system(Some(client), "/".into())).await;
    });
}
