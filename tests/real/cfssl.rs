//! The parts of a rotation, each on real objects: stopped at records all over, resumed to the end, and taken back from the
//! end and from the end of each phase. Resumed it ends as one that nothing stopped, taken back everything is as it was, object
//! by object. `rotate.rs` has the whole.
//!
//! `ROLLOVER_STOPS` is how many records each part is stopped at: 2 where it is not said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{Direction, Event, Moment, NoTripwire, Tripwire, Why};
use runner::events::EndState;
use sandbox::world::kube::Kube;
use sandbox::world::{EndState as WorldState, Fault, Scenario};
use tests::state::{Markers, State, difference};

use crate::bench::{Bench, multi};
use crate::found::{Before, leaves_the_rest};
use crate::rotate::StopAt;

/// How long a loaded machine may take until everything stands.
const PATIENCE: Duration = Duration::from_secs(120);

/// Dies at the end of a phase.
struct AtEndOf(String);

impl Tripwire for AtEndOf {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let over = matches!(event, Event::PhaseEnd(end) if end.phase == self.0 && end.direction == Direction::Forward);
        over && moment == Moment::AfterSync
    }
}

/// Who serves what, as soon as everybody is back: a process may just be starting again by itself.
async fn end(bench: &Bench) -> WorldState {
    let begun = Instant::now();
    loop {
        bench.world.steady(PATIENCE).await.unwrap();
        let end = bench.world.end_state().await;
        if end.holds() {
            return end;
        }
        assert!(begun.elapsed() < PATIENCE, "{:?}", end.broken);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn before(bench: &Bench) -> Before {
    Before::of(&Kube::new(bench.world.client()), &Scenario::default(), &bench.pki("")).await
}

/// Everything there is, after the newest run.
async fn found(bench: &Bench, before: &Before, markers: Markers) -> State {
    let end = end(bench).await;
    let run = bench.newest().unwrap_or_default();
    before.state(&Kube::new(bench.world.client()), &end, &run, markers).await
}

async fn forward(bench: &Bench, workflow: &str, set: &[(&str, &str)]) -> u64 {
    let done = bench.run(workflow, set, Arc::new(NoTripwire)).await.unwrap();
    assert_eq!(done.state, EndState::Done, "{workflow}: {:?}", done.failure);
    done.head.size
}

async fn back(bench: &Bench, what: &str, before: &Before, was: &State) {
    let back = bench.open(Why::Rollback).back("test").await;
    assert_eq!(back.state, EndState::RolledBack, "{what}: {:?}", back.failure);
    let otherwise = difference(was, &found(bench, before, Markers::Dropped).await);
    assert!(otherwise.is_empty(), "{what}: taken back it is otherwise than before: {otherwise:#?}");
}

/// One part, begun after these others.
fn part(seed: u64, workflow: &str, set: &[(&str, &str)], after: &[&str]) {
    let stops = std::env::var("ROLLOVER_STOPS").map_or(2, |stops| stops.parse().unwrap());
    multi(async {
        let bench = Bench::new(seed).await;
        // A rotation does not begin while a process is down, and these begin often.
        bench.world.set_fault(Fault::NoRestarts);
        bench.world.steady(PATIENCE).await.unwrap();
        for earlier in after {
            forward(&bench, earlier, &[]).await;
        }
        let before = before(&bench).await;
        let was = found(&bench, &before, Markers::Dropped).await;
        let records = forward(&bench, workflow, set).await;
        let whole = found(&bench, &before, Markers::Kept).await;
        assert!(!difference(&was, &whole).is_empty(), "{workflow} changes something");
        leaves_the_rest(&was, &found(&bench, &before, Markers::Dropped).await, workflow);
        back(&bench, workflow, &before, &was).await;

        let plan = bench.plan(workflow, set, &bench.world.client()).await.unwrap();
        for phase in &plan.phases {
            let stopped = bench.run(workflow, set, Arc::new(AtEndOf(phase.name.clone()))).await.unwrap();
            assert_eq!(
                stopped.state,
                EndState::Killed,
                "{workflow} at {}: {:?}",
                phase.name,
                stopped.failure
            );
            back(&bench, &format!("{workflow} from the end of {}", phase.name), &before, &was).await;
        }
        // Spread over the record, in places that differ from seed to seed.
        for n in 0..stops {
            let record = 6 + (n * (records - 8) / stops + seed * 7) % (records - 8);
            let what = format!("{workflow} stopped at record {record} of {records}");
            let stopped = bench.run(workflow, set, Arc::new(StopAt(record))).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{what}: {:?}", stopped.failure);
            let done = bench.open(Why::Resume).resume().await;
            assert_eq!(done.state, EndState::Done, "{what}: {:?}", done.failure);
            let otherwise = difference(&whole, &found(&bench, &before, Markers::Kept).await);
            assert!(otherwise.is_empty(), "{what}, it ends otherwise: {otherwise:#?}");
            back(&bench, &what, &before, &was).await;
        }
        assert_eq!(bench.world.counters().refused, 0, "{:#?}", bench.world.counters().refusals);
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_new_ca_is_trusted_and_taken_back() {
    part(11, "tidb/cfssl-ca", &[], &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn certificates_of_the_new_ca_are_switched_to_and_taken_back() {
    part(12, "tidb/cfssl-components", &[], &["tidb/cfssl-ca"]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn the_old_ca_is_removed_and_taken_back() {
    part(13, "tidb/cfssl-remove-old-ca", &[], &["tidb/cfssl-ca", "tidb/cfssl-components"]);
}
