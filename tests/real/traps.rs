//! The stories of `tests::traps` on a real server.

use sandbox::world::Scenario;
use tests::traps;

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn trap_a_secret_of_another_type() {
    multi(async {
        traps::a_secret_of_another_type(&Bench::calm(71, traps::as_the_page_makes_them()).await).await
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn trap_a_constant_restart_marker() {
    multi(async { traps::a_constant_restart_marker(&Bench::calm(72, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn trap_a_ca_generated_twice() {
    multi(async { traps::a_ca_generated_twice(&Bench::calm(73, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn every_component_that_a_cluster_may_have_takes_part() {
    multi(async {
        traps::every_component_takes_part(&Bench::calm(74, traps::with_every_component()).await).await
    });
}
