//! The traps of the source documents that lie in the cluster, each by name: the stories of `tests::traps` in the sandbox.

use sandbox::world::Options as WorldOptions;
use sandbox::world::genesis::Scenario;
use tests::traps;

use crate::lab::{Lab, START, virtual_time};

async fn lab(seed: u64, scenario: Scenario) -> Lab {
    Lab::with(WorldOptions { scenario, start: Some(START), ..WorldOptions::in_process(seed) }).await
}

#[test]
fn trap_a_secret_of_another_type() {
    virtual_time(async {
        traps::a_secret_of_another_type(&lab(1, traps::as_the_page_makes_them()).await).await;
    });
}

#[test]
fn trap_a_constant_restart_marker() {
    virtual_time(async { traps::a_constant_restart_marker(&Lab::new(2).await).await });
}

#[test]
fn trap_a_ca_generated_twice() {
    virtual_time(async { traps::a_ca_generated_twice(&Lab::new(3).await).await });
}

#[test]
fn every_component_that_a_cluster_may_have_takes_part() {
    virtual_time(async {
        traps::every_component_takes_part(&lab(4, traps::with_every_component()).await).await;
    });
}
