//! Restarts of workloads among others, and of DaemonSets: the story of `tests::neighbours` in the sandbox.

use crate::lab::{Lab, virtual_time};

#[test]
fn a_restart_counts_and_takes_away_the_pods_of_its_workload_alone() {
    virtual_time(async {
        let lab = Lab::new(5).await;
        tests::neighbours::story(lab.world.client(), &lab.eyes()).await;
    });
}
