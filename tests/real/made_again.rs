//! Immutable Secrets and the shipped workflows: the stories of `tests::made_again` on a real server.

use sandbox::world::Scenario;
use tests::made_again;

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_shipped_rotation_says_before_it_begins_that_a_secret_is_immutable() {
    multi(async { made_again::said_beforehand(&Bench::calm(110, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_shipped_rotation_replaces_an_immutable_secret_where_it_is_asked_to_and_puts_it_back() {
    multi(async { made_again::made_again(&Bench::calm(111, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn an_immutable_secret_of_a_workload_that_only_dials_is_refused() {
    multi(async { made_again::of_who_only_dials(&Bench::calm(112, Scenario::default()).await).await });
}
