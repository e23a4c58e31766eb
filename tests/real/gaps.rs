//! What the forecast is for: the stories of `tests::gaps` on a real server.

use sandbox::world::Scenario;
use tests::gaps;

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn without_the_restart_of_trust_both_the_next_phase_is_refused_with_a_link() {
    multi(async { gaps::the_next_phase_is_refused(&Bench::calm(121, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn with_the_forecast_off_the_same_workflow_breaks_real_handshakes_and_stops() {
    multi(async {
        gaps::with_the_forecast_off_handshakes_break(&mut Bench::calm(122, Scenario::default()).await).await
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_proof_catches_the_missing_restart_before_any_forecast_does() {
    multi(async { gaps::a_proof_catches_it_first(&mut Bench::calm(123, Scenario::default()).await).await });
}
