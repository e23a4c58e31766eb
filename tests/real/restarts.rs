//! The API server goes away in the middle of a rotation: it is killed and comes back, and it hangs for a while.

use std::sync::Arc;
use std::time::Duration;

use journal::{Event, Moment, Tripwire};
use runner::events::EndState;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::bench::{Bench, multi};

/// What happens to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// It is killed, and started again after a few seconds.
    Killed,
    /// It takes requests and answers none.
    Hangs,
}

/// Stops nothing: says when records are reached.
struct Bell(Vec<(u64, Weather)>, UnboundedSender<Weather>);

impl Tripwire for Bell {
    fn stops(&self, seq: u64, _: &Event, moment: Moment) -> bool {
        for (at, weather) in &self.0 {
            if (*at, Moment::AfterSync) == (seq, moment) {
                self.1.send(*weather).unwrap();
            }
        }
        false
    }
}

/// Makes the weather as it is called for, until nobody calls any more. Gives how often.
async fn weather(bench: &Bench, mut calls: UnboundedReceiver<Weather>) -> usize {
    let mut made = 0;
    while let Some(call) = calls.recv().await {
        match call {
            Weather::Killed => bench.plane.restart_server(Duration::from_secs(4)).await.unwrap(),
            Weather::Hangs => bench.plane.hang_server(Duration::from_secs(12)).await.unwrap(),
        }
        made += 1;
    }
    made
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_rotation_outlives_an_api_server_that_is_killed_and_one_that_hangs() {
    multi(async {
        let bench = Bench::new(5).await;
        let (ring, calls) = unbounded_channel();
        // Among the writes of the first phase, in the rolling restart after them, and among the writes of the second.
        let bell = Bell(vec![(42, Weather::Killed), (66, Weather::Hangs), (100, Weather::Killed)], ring);
        let set = [("remove_old_ca", "true")];
        let run = async {
            // The bell is dropped with the run, and with it the last that could call.
            bench.run("tidb/cfssl-rotate", &set, Arc::new(bell)).await.unwrap()
        };
        let (done, made) = tokio::join!(run, weather(&bench, calls));
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        assert_eq!(made, 3, "the run went through all of it");
        let end = bench.world.end_state().await;
        assert!(end.holds(), "{:?}", end.broken);
        let counters = bench.world.counters();
        assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    });
}
