//! Everything has expired: the stories of `tests::expired` on a real server.

use std::time::Duration;

use sandbox::world::{Expired, Scenario};
use tests::expired::{self as stories, PodsAreBack, scenario};
use tests::stage::AtRecord;

use crate::bench::{Bench, multi};

pub(crate) async fn bench(seed: u64) -> Bench {
    of(seed, Expired::Everything).await
}

async fn of(seed: u64, expired: Expired) -> Bench {
    Bench::calm(seed, scenario(expired)).await
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn what_has_expired_is_brought_back_on_a_real_server_and_goes_on_where_it_was_stopped() {
    multi(async {
        let records = stories::brought_back(&bench(51).await).await;
        for part in [1, 2, 3] {
            stories::goes_on(&bench(51).await, AtRecord(records * part / 4)).await;
        }
        stories::goes_on(&bench(51).await, PodsAreBack).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn where_only_certificates_have_expired_the_ca_stays() {
    multi(async { stories::the_ca_stays(&of(52, Expired::Leaves).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn there_is_nothing_to_go_back_to_and_nothing_to_do_where_nothing_has_expired() {
    multi(async { stories::nothing_to_go_back_to(&bench(53).await).await });
    multi(async { stories::nothing_to_do(&Bench::calm(54, Scenario::default()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn one_after_the_other_they_wait_for_ever() {
    multi(async {
        let long = Duration::from_secs(90);
        stories::one_after_the_other_they_wait(&bench(55).await, long).await;
    });
}
