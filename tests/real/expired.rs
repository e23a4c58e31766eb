//! A cluster in which everything has expired, on a real API server.

use std::sync::Arc;
use std::time::Duration;

use journal::{NoTripwire, Why};
use runner::events::EndState;
use sandbox::world::{Expired, Fault, Scenario};

use crate::bench::{Bench, multi};
use crate::rotate::{StopAt, served};

const WORKFLOW: &str = "tidb/cfssl-expired";

pub(crate) async fn bench(seed: u64) -> Bench {
    let bench = Bench::of(seed, Scenario { expired: Expired::Everything, ..Scenario::default() }).await;
    bench.world.set_fault(Fault::NoRestarts);
    bench
}

async fn is_well(bench: &Bench) {
    bench.world.steady(Duration::from_secs(300)).await.unwrap();
    let end = bench.world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    assert_eq!(served(&end).len(), 4);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn what_has_expired_is_brought_back_on_a_real_server_and_goes_on_where_it_was_stopped() {
    multi(async {
        let one = bench(51).await;
        let done = one.run(WORKFLOW, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        is_well(&one).await;
        let records = done.head.size;
        drop(one);
        for part in [1, 2, 3] {
            let bench = bench(51).await;
            let stop = records * part / 4;
            let stopped = bench.run(WORKFLOW, &[], Arc::new(StopAt(stop))).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{stop}: {:?}", stopped.failure);
            let done = bench.open(Why::Resume).resume().await;
            assert_eq!(done.state, EndState::Done, "{stop}: {:?}", done.failure);
            is_well(&bench).await;
        }
    });
}
