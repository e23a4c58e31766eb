//! Stopped dead before and after every record of `etcd/rotate-ca`: resume ends with everything new, rollback with every file
//! as it was; no acknowledged write is lost, never two members are down, and no handshake is refused at any moment.
//!
//! The bounded tier stops at a few records, chosen by a seed; `ROLLOVER_TEST_TIER=all` at every record in each way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use journal::{Moment, NoTripwire, Why};
use runner::events::EndState;

use super::lab::Lab;
use crate::lab::{StopAt, virtual_time};

const WORKFLOW: &str = "etcd/rotate-ca";
/// What each record of a run that nothing interrupts is about.
fn whole() -> &'static Vec<String> {
    static WHOLE: OnceLock<Vec<String>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        virtual_time(async {
            let lab = Lab::new(1).await;
            let before = lab.files();
            let ending = lab.run(&lab.workflow(WORKFLOW), Arc::new(NoTripwire)).await.unwrap();
            assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
            assert_eq!(lab.rotated(&before), Vec::<String>::new());
            assert_eq!(lab.left_behind(&ending.run), Vec::<String>::new());
            assert_eq!(lab.ailing().await, Vec::<String>::new());
            let id = lab.store().list().unwrap().pop().unwrap();
            let records = lab.store().load(&id).unwrap().records;
            records.iter().map(|record| serde_json::to_value(&record.event).unwrap().to_string()).collect()
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

/// One life and death, and what comes after.
fn once(seq: u64, way: Way) {
    let Way { number, moment, then } = way;
    let about: String = whole()[usize::try_from(seq).unwrap() - 1].chars().take(160).collect();
    let context = format!("stopped {moment:?} of record {seq} ({about}), then {then:?}");
    virtual_time(async {
        let lab = Lab::torn(seq + 1000 * number).await;
        let before = lab.files();
        let first = lab.run(&lab.workflow(WORKFLOW), Arc::new(StopAt(seq, moment))).await;
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
            lab.disk.crash()
        }
        // Back at once, a little later, or after every timer on the hosts has fired.
        let away = [0, 45, 1200][usize::try_from(seq + number).unwrap() % 3];
        tokio::time::sleep(Duration::from_secs(away)).await;
        let why = if then == Then::Resume { Why::Resume } else { Why::Rollback };
        let Ok(run) = lab.open(why) else {
            assert!(seq <= 2, "{context}: a run that began can be opened again");
            assert_eq!(lab.files(), before, "{context}");
            assert_eq!(lab.ailing().await, Vec::<String>::new(), "{context}");
            return;
        };
        let id = run.id().to_owned();
        let ending = if then == Then::Resume { run.resume().await } else { run.back("test").await };
        let wanted = if then == Then::Resume { EndState::Done } else { EndState::RolledBack };
        assert_eq!(ending.state, wanted, "{context}: {:?}", ending.failure);
        match then {
            Then::Resume => assert_eq!(lab.rotated(&before), Vec::<String>::new(), "{context}"),
            Then::Rollback => assert!(lab.files() == before, "{context}: a file is not as it was"),
        }
        assert_eq!(lab.left_behind(&id), Vec::<String>::new(), "{context}");
        assert_eq!(lab.ailing().await, Vec::<String>::new(), "{context}");
        let folder = lab.store().dir(&lab.store().find(&id).unwrap());
        let audit = journal::verify(&*lab.disk, &folder, &[], None).unwrap();
        assert!(audit.integrity.holds && audit.completeness.holds, "{context}: {audit:?}");
    });
}

/// Stops at these records in these ways, on both cores.
fn all(stops: &[(u64, Way)]) {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((seq, way)) = stops.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // All are tried, so that one run of the long tier names every record that is not well.
                    if std::panic::catch_unwind(|| once(*seq, *way)).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("{} stops in a run of {} records", stops.len(), whole().len());
    assert_eq!(failed.into_inner(), 0, "see above");
}

const WAYS: [(Moment, Then); 5] = [
    (Moment::BeforeWrite, Then::Resume),
    (Moment::AfterWrite, Then::Resume),
    (Moment::AfterSync, Then::Resume),
    (Moment::BeforeWrite, Then::Rollback),
    (Moment::AfterSync, Then::Rollback),
];

fn way(number: u64) -> Way {
    let (moment, then) = WAYS[usize::try_from(number).unwrap()];
    Way { number, moment, then }
}

fn last() -> u64 {
    u64::try_from(whole().len()).unwrap()
}

#[test]
fn stopped_at_some_records_a_rotation_of_etcd_is_resumed_or_taken_back() {
    // Spread over the run, two in the first way and one in each other.
    let stops: Vec<_> = (0..6).map(|n: u64| (4 + (n * 29 + 7) % (last() - 4), way(n % 5))).collect();
    all(&stops);
}

/// Every record in one way.
fn every(number: u64) {
    if super::rotation::all_tier() {
        all(&(1..=last()).map(|seq| (seq, way(number))).collect::<Vec<_>>());
    }
}

#[test]
fn stopped_before_any_record_a_rotation_of_etcd_can_be_resumed() {
    every(0);
}

#[test]
fn stopped_with_any_record_written_but_not_synced_a_rotation_of_etcd_can_be_resumed() {
    every(1);
}

#[test]
fn stopped_after_any_record_a_rotation_of_etcd_can_be_resumed() {
    every(2);
}

#[test]
fn stopped_before_any_record_a_rotation_of_etcd_can_be_taken_back() {
    every(3);
}

#[test]
fn stopped_after_any_record_a_rotation_of_etcd_can_be_taken_back() {
    every(4);
}
