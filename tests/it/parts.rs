//! The three parts of a rotation as runs of their own: the stories of `tests::parts` in the sandbox.

use tests::parts;

use crate::lab::{Lab, virtual_time};

#[test]
fn one_after_the_other_they_make_a_rotation() {
    virtual_time(async { parts::one_after_the_other(&Lab::new(1).await).await });
}

#[test]
fn the_old_ca_is_not_removed_while_somebody_presents_its_certificates() {
    virtual_time(async { parts::too_early(&Lab::new(1).await).await });
}

#[test]
fn components_alone_renews_every_certificate_from_the_ca_in_force() {
    virtual_time(async { parts::components_alone(&Lab::new(1).await).await });
}
