//! The three parts of a rotation as runs of their own: the stories of `tests::parts` on a real server.

use sandbox::world::Scenario;
use tests::parts;

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn one_after_the_other_they_make_a_rotation() {
    multi(async { parts::one_after_the_other(&Bench::calm(100, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn the_old_ca_is_not_removed_while_somebody_presents_its_certificates() {
    multi(async { parts::too_early(&Bench::calm(101, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn components_alone_renews_every_certificate_from_the_ca_in_force() {
    multi(async { parts::components_alone(&Bench::calm(102, Scenario::default()).await).await });
}
