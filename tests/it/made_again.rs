//! Immutable Secrets and the shipped workflows: the stories of `tests::made_again` in the sandbox.

use tests::made_again;

use crate::lab::{Lab, virtual_time};

#[test]
fn a_shipped_rotation_says_before_it_begins_that_a_secret_is_immutable() {
    virtual_time(async { made_again::said_beforehand(&Lab::new(1).await).await });
}

#[test]
fn a_shipped_rotation_replaces_an_immutable_secret_where_it_is_asked_to_and_puts_it_back() {
    virtual_time(async { made_again::made_again(&Lab::new(1).await).await });
}

#[test]
fn an_immutable_secret_of_a_workload_that_only_dials_is_refused() {
    virtual_time(async { made_again::of_who_only_dials(&Lab::new(1).await).await });
}
