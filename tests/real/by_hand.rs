//! Begun after a person has done part of the page by hand: the stories of `tests::by_hand` on a real server.

use sandbox::world::Scenario;
use tests::by_hand::{Until, goes_on_from};

use crate::bench::{Bench, multi};

fn on_a_real_server(seed: u64, until: Until) {
    multi(async { goes_on_from(&Bench::calm(seed, Scenario::default()).await, until).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_the_first_of_two_moves() {
    on_a_real_server(80, Until::CertificateMoved);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_the_old_ca_was_moved() {
    on_a_real_server(81, Until::CaMoved);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_a_new_ca_was_made() {
    on_a_real_server(82, Until::CaMade);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_the_bundle_was_made() {
    on_a_real_server(83, Until::Bundled);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_some_secrets_got_the_bundle() {
    on_a_real_server(84, Until::SomeTrust);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_all_secrets_got_the_bundle() {
    on_a_real_server(85, Until::AllTrust);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_the_rolling_restart() {
    on_a_real_server(86, Until::Restarted);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_some_certificates_were_switched() {
    on_a_real_server(87, Until::SomeSwitched);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn after_all_certificates_were_switched() {
    on_a_real_server(88, Until::AllSwitched);
}
