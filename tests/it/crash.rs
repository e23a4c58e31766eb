//! Stopped dead before and after every record of `cfssl-rotate`: resume ends as an uninterrupted run does, rollback ends
//! where it began, and at no moment is a handshake between two components refused.
//!
//! The bounded tier stops at the first and the last record, and at one record of each kind in each way; together with
//! `ROLLOVER_TEST_TIER=all` every record is stopped at in each way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use journal::{Event, Moment, Why};
use runner::events::EndState;

use crate::lab::{Lab, StopAt, virtual_time};
use crate::state::{Markers, State, difference};

const WORKFLOW: &str = "tidb/cfssl-rotate";
const SET: &[(&str, &str)] = &[("remove_old_ca", "true")];

/// A run that nothing interrupts.
struct Whole {
    /// The kind of each of its records.
    kinds: Vec<String>,
    /// What it leaves.
    state: State,
}

/// What kind of record it is: `intent change`, `phase-end`. An effect is of a kind of its own in each phase: what others
/// may have loaded of it by then is another matter each time.
fn kind(event: &Event) -> String {
    let value = serde_json::to_value(event).unwrap();
    let name = value["type"].as_str().unwrap().to_owned();
    let mut step = value.get("step").and_then(|step| step.as_str()).unwrap_or_default().split('/');
    match (name.as_str(), step.next(), step.next()) {
        ("effect", Some(phase), Some(role)) => format!("{name} {role} {phase}"),
        (_, _, Some(role)) => format!("{name} {role}"),
        _ => name,
    }
}

fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        virtual_time(async {
            let lab = Lab::new(1).await;
            let ending = lab.forward(WORKFLOW, SET).await.unwrap();
            assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
            let id = lab.store().list().unwrap().pop().unwrap();
            let kinds = lab.store().load(&id).unwrap().records.iter().map(|r| kind(&r.event)).collect();
            lab.calm().await;
            Whole { kinds, state: lab.state(&ending.run, Markers::Kept).await }
        })
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Resume,
    Rollback,
}

/// One way to stop, and what is done afterwards.
#[derive(Clone, Copy, Debug)]
struct Way {
    number: u64,
    moment: Moment,
    then: Then,
}

/// Which records to stop at. In the bounded tier the kinds of records are dealt out among the ways that go on alike, an
/// occurrence early, late or in the middle of the run.
fn points(way: Way, alike: u64) -> Vec<u64> {
    let kinds = &whole().kinds;
    let last = u64::try_from(kinds.len()).unwrap();
    if std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all") {
        return (1..=last).collect();
    }
    let mut by_kind: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (seq, kind) in (1..).zip(kinds) {
        by_kind.entry(kind).or_default().push(seq);
    }
    let mut points = vec![1, last];
    for (n, seqs) in (0..).zip(by_kind.values()) {
        if n % alike == way.number % alike {
            let spread = usize::try_from(n * 7 + way.number * 3).unwrap();
            points.push(seqs[spread % seqs.len()]);
        }
    }
    points.sort_unstable();
    points.dedup();
    points
}

/// One life and death, and what comes after.
fn once(seq: u64, way: Way) {
    let Way { number, moment, then } = way;
    let context = format!(
        "stopped {moment:?} of record {seq} ({}), then {then:?}",
        whole().kinds[usize::try_from(seq).unwrap() - 1]
    );
    virtual_time(async {
        let lab = Lab::torn(seq + 1000 * number).await;
        let before = lab.state("", Markers::Dropped).await;
        let first = lab.run(&lab.workflow(WORKFLOW), SET, Arc::new(StopAt(seq, moment))).await;
        let killed = match &first {
            Ok(ending) => ending.state == EndState::Killed,
            // Stopped within the first records: the run never came to be.
            Err(_) => true,
        };
        assert!(killed, "{context}: {first:?}");
        // A killed process leaves what it wrote; a dead machine forgets what was not synced.
        if moment == Moment::AfterWrite && seq.is_multiple_of(2) {
            lab.disk.kill()
        } else {
            lab.die()
        }
        // Back at once, before the Lease ends, after it ended, after the lunch break.
        let away = [0, 20, 180, 2400][usize::try_from(seq + number).unwrap() % 4];
        tokio::time::sleep(Duration::from_secs(away)).await;
        let why = if then == Then::Resume { Why::Resume } else { Why::Rollback };
        let Ok(run) = lab.open(why) else {
            assert!(seq <= 2, "{context}: a run that began can be opened again");
            lab.calm().await;
            assert_eq!(
                difference(&lab.state("", Markers::Dropped).await, &before),
                BTreeMap::new(),
                "{context}"
            );
            return;
        };
        let id = run.id().to_owned();
        let ending = if then == Then::Resume { run.resume().await } else { run.back("test").await };
        let wanted = if then == Then::Resume { EndState::Done } else { EndState::RolledBack };
        assert_eq!(ending.state, wanted, "{context}: {:?}", ending.failure);
        lab.calm().await;
        let differs = match then {
            Then::Resume => difference(&lab.state(&id, Markers::Kept).await, &whole().state),
            Then::Rollback => difference(&lab.state(&id, Markers::Dropped).await, &before),
        };
        assert!(differs.is_empty(), "{context}: {differs:#?}");
        let counters = lab.world.counters();
        assert_eq!(counters.refused, 0, "{context}: {:#?}", counters.refusals);
        let folder = lab.store().dir(&lab.store().find(&id).unwrap());
        let audit = journal::verify(&*lab.disk, &folder, &[], None).unwrap();
        assert!(audit.integrity.holds && audit.completeness.holds, "{context}: {audit:?}");
    });
}

/// Stops in one way, on both cores. `alike` ways go on alike.
fn every(way: Way, alike: u64) {
    let points = points(way, alike);
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seq) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // All points are tried, so that one run of the long tier names every record that is not well.
                    if std::panic::catch_unwind(|| once(*seq, way)).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    eprintln!("{} of {} records: {points:?}, {way:?}", points.len(), whole().kinds.len());
    assert_eq!(failed.into_inner(), 0, "see above");
}

#[test]
fn stopped_before_a_record_a_run_can_be_resumed() {
    every(Way { number: 0, moment: Moment::BeforeWrite, then: Then::Resume }, 3);
}

#[test]
fn stopped_with_a_record_written_but_not_synced_a_run_can_be_resumed() {
    every(Way { number: 1, moment: Moment::AfterWrite, then: Then::Resume }, 3);
}

#[test]
fn stopped_after_a_record_a_run_can_be_resumed() {
    every(Way { number: 2, moment: Moment::AfterSync, then: Then::Resume }, 3);
}

#[test]
fn stopped_before_a_record_a_run_can_be_taken_back() {
    every(Way { number: 3, moment: Moment::BeforeWrite, then: Then::Rollback }, 2);
}

#[test]
fn stopped_after_a_record_a_run_can_be_taken_back() {
    every(Way { number: 4, moment: Moment::AfterSync, then: Then::Rollback }, 2);
}
