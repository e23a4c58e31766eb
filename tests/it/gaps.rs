//! What the forecast is for: the stories of `tests::gaps` in the sandbox.

use tests::gaps;

use crate::lab::{Lab, virtual_time};

#[test]
fn without_the_restart_of_trust_both_the_next_phase_is_refused_with_a_link() {
    virtual_time(async { gaps::the_next_phase_is_refused(&Lab::new(1).await).await });
}

#[test]
fn with_the_forecast_off_the_same_workflow_breaks_real_handshakes_and_stops() {
    virtual_time(async { gaps::with_the_forecast_off_handshakes_break(&mut Lab::new(1).await).await });
}

#[test]
fn a_proof_catches_the_missing_restart_before_any_forecast_does() {
    virtual_time(async { gaps::a_proof_catches_it_first(&mut Lab::new(1).await).await });
}
