//! Begun after a person has done part of the page by hand: the stories of `tests::by_hand` in the sandbox.

use tests::by_hand::{Until, goes_on_from};

use crate::lab::{Lab, virtual_time};

fn in_the_sandbox(until: Until) {
    virtual_time(async { goes_on_from(&Lab::new(1).await, until).await });
}

#[test]
fn after_the_first_of_two_moves() {
    in_the_sandbox(Until::CertificateMoved);
}

#[test]
fn after_the_old_ca_was_moved() {
    in_the_sandbox(Until::CaMoved);
}

#[test]
fn after_a_new_ca_was_made() {
    in_the_sandbox(Until::CaMade);
}

#[test]
fn after_the_bundle_was_made() {
    in_the_sandbox(Until::Bundled);
}

#[test]
fn after_some_secrets_got_the_bundle() {
    in_the_sandbox(Until::SomeTrust);
}

#[test]
fn after_all_secrets_got_the_bundle() {
    in_the_sandbox(Until::AllTrust);
}

#[test]
fn after_the_rolling_restart() {
    in_the_sandbox(Until::Restarted);
}

#[test]
fn after_some_certificates_were_switched() {
    in_the_sandbox(Until::SomeSwitched);
}

#[test]
fn after_all_certificates_were_switched() {
    in_the_sandbox(Until::AllSwitched);
}
