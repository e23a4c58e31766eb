//! Wrong starts: the stories of `tests::refusals` on a real server.

use sandbox::world::Scenario;
use tests::refusals;

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_wrong_name_of_the_cluster_is_named() {
    multi(async { refusals::a_wrong_name(&Bench::calm(90, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_secret_that_is_not_there_is_named() {
    multi(async { refusals::a_missing_secret(&Bench::calm(91, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_key_that_is_not_its_certificates_is_named() {
    multi(async { refusals::a_wrong_key(&Bench::calm(92, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_ca_that_has_expired_is_named_with_its_day() {
    multi(async { refusals::an_expired_ca(&Bench::calm(93, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_folder_without_the_cas_key_is_named() {
    multi(async { refusals::a_missing_key(&Bench::calm(94, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_second_run_on_the_same_cluster_is_told_of_the_first_and_of_its_step() {
    multi(async { refusals::a_second_run(&Bench::calm(95, Scenario::default()).await).await });
}
