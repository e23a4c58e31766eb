//! The record as a whole: what was lived is what is read back, whatever was cut off.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::naive_bytecount, clippy::cast_possible_truncation)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use journal::{Event, Journal, JournalError, Moment, OutcomeStatus, Tripwire, Why, load};
use proptest::prelude::*;
use serde_json::{Value, json};
use stdlib::files::{Fault, SimDisk};
use stdlib::gate::{EffectClass, Past};
use stdlib::world::Disk;
use support::*;

use journal::Direction::{Back, Forward};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_live_state_is_the_one_that_is_read_back(choices in prop::collection::vec(any::<u16>(), 1..120)) {
        let disk = SimDisk::new();
        let mut journal = begin(&disk);
        walk(&mut journal, &choices);
        let (live, head) = (journal.state().clone(), journal.head());
        disk.crash();
        let reopened = reopen(&disk);
        prop_assert_eq!(&live, reopened.state());
        prop_assert_eq!(head, reopened.head());
    }

    #[test]
    fn after_a_crash_at_any_moment_everything_acknowledged_is_there(
        choices in prop::collection::vec((any::<u16>(), any::<bool>()), 1..40),
        at in 1u64..40, moment in 0usize..3, seed: u64
    ) {
        let moment = [Moment::BeforeWrite, Moment::AfterWrite, Moment::AfterSync][moment];
        let disk = SimDisk::with_torn_tails(seed);
        let lock = store(&disk).create(BEGAN, 1).unwrap();
        let header = header(&lock);
        let tools = journal::Tools { tripwire: Arc::new(At(at, moment)), ..tools() };
        let mut acknowledged = 0;
        // Written and not acknowledged: may be there or not, but nothing after it without it.
        let mut written = 0;
        let mut stopped = at == 1;
        if let Ok(mut journal) = Journal::create(lock, header, tools) {
            (acknowledged, written) = (1, 1);
            for (choice, synced) in choices {
                let Some(event) = choose(journal.state(), choice) else { break };
                let done = if synced { journal.append(event).map(|_| ()) } else { journal.write(event) };
                match done {
                    Ok(()) if synced => (acknowledged, written) = (journal.state().seq(), journal.state().seq()),
                    Ok(()) => written = journal.state().seq(),
                    Err(JournalError::Stopped { seq }) => {
                        prop_assert_eq!(seq, at);
                        stopped = true;
                        prop_assert!(matches!(journal.append(note("on")), Err(JournalError::Poisoned)));
                        break;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
        disk.crash();
        let found = load(&disk, &run_dir(&disk)).unwrap().records.len() as u64;
        prop_assert!(found >= acknowledged, "{} of {} acknowledged", found, acknowledged);
        match moment {
            _ if !stopped => prop_assert!(found <= written),
            Moment::BeforeWrite => prop_assert!(found <= written && found < at),
            Moment::AfterWrite => prop_assert!(found <= at),
            // A later append may have synced it.
            Moment::AfterSync => prop_assert!(found >= at),
        }
    }
}

proptest! {
    // One case is thousands of cuts.
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_anywhere_opens_to_the_longest_whole_prefix(choices in prop::collection::vec(any::<u16>(), 10)) {
        let disk = SimDisk::new();
        let mut journal = begin(&disk);
        let mut states = vec![journal.state().clone()];
        for choice in &choices {
            walk(&mut journal, &[*choice]);
            states.push(journal.state().clone());
        }
        drop(journal);
        let path = run_dir(&disk).join("journal.jsonl");
        let whole = disk.read(&path).unwrap();
        for cut in 0..whole.len() {
            disk.write_atomic(&path, &whole[..cut], 0o600).unwrap();
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let rest = cut - whole[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let loaded = load(&disk, &run_dir(&disk)).unwrap();
            prop_assert_eq!(loaded.records.len(), lines);
            prop_assert_eq!(loaded.torn, rest as u64);
            if let Some(state) = states.iter().find(|state| state.seq() == lines as u64) {
                prop_assert_eq!(&loaded.state, state);
            }
        }
    }
}

struct At(u64, Moment);

impl Tripwire for At {
    fn stops(&self, seq: u64, _: &Event, moment: Moment) -> bool {
        seq == self.0 && moment == self.1
    }
}

#[test]
fn random_walks_reach_every_event_and_every_end() {
    let mut met = BTreeSet::new();
    let mut seed = 1u64;
    for _ in 0..60 {
        let disk = SimDisk::new();
        let mut journal = begin(&disk);
        for _ in 0..80 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let Some(event) =
                choose(journal.state(), u16::try_from((seed >> 40) & 0xffff).unwrap_or_default())
            else {
                break;
            };
            met.insert(match &event {
                Event::End(end) => format!("end {}", end.state),
                Event::Outcome(o) => format!("{:?} {}", o.status, o.direction),
                Event::Effect(e) if e.restores.is_some() => "restore".to_owned(),
                other => other.name().to_owned(),
            });
            journal.append(event).unwrap();
        }
    }
    let expected = [
        "session",
        "phase-begin",
        "phase-end",
        "expanded",
        "forecast",
        "intent",
        "effect",
        "restore",
        "Done forward",
        "Done back",
        "Failed forward",
        "Failed back",
        "Skipped forward",
        "Skipped back",
        "approval",
        "turn",
        "note",
        "stuck",
        "end done",
        "end rolled back",
        "end aborted",
    ];
    let missing: Vec<_> = expected.iter().filter(|name| !met.contains(**name)).collect();
    assert!(missing.is_empty(), "never met: {missing:?}");
}

#[test]
fn a_torn_line_is_cut_off_and_the_run_goes_on() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    journal.append(session(Why::Start)).unwrap();
    drop(journal);
    let path = run_dir(&disk).join("journal.jsonl");
    let mut bytes = disk.read(&path).unwrap();
    bytes.extend_from_slice(b"{\"event\":{\"ty");
    disk.write_atomic(&path, &bytes, 0o600).unwrap();

    let mut journal = reopen(&disk);
    assert_eq!(journal.torn(), 13);
    journal.append(session(Why::Resume)).unwrap();
    assert_eq!(reopen_after(&disk, journal).state().seq(), 3);
}

fn reopen_after(disk: &SimDisk, journal: Journal) -> Journal {
    drop(journal);
    reopen(disk)
}

#[test]
fn a_failed_write_or_sync_ends_the_journal_for_good() {
    for fault in [Fault::Write(1), Fault::Sync(1), Fault::Full(100)] {
        let disk = SimDisk::new();
        let mut journal = begin(&disk);
        journal.append(session(Why::Start)).unwrap();
        disk.inject(fault.clone());
        let error = journal.append(note("lost")).unwrap_err();
        assert!(matches!(error, JournalError::Unwritable { .. }), "{fault:?}: {error}");
        disk.heal();
        assert!(matches!(journal.append(note("too late")), Err(JournalError::Poisoned)), "{fault:?}");
        assert!(matches!(journal.checkpoint(), Err(JournalError::Poisoned)), "{fault:?}");
        disk.crash();
        assert_eq!(reopen(&disk).state().seq(), 2, "{fault:?}: what was not acknowledged is not there");
    }
}

#[test]
fn a_retried_sync_after_a_failed_one_would_lose_the_record() {
    // Why the journal is poisoned: on the simulated disk, as on Linux, the second sync says Ok and saves nothing.
    let disk = SimDisk::new();
    let mut file = disk.append(Path::new("/f"), 0, 0o600).unwrap();
    file.write_all(b"intent\n").unwrap();
    disk.inject(Fault::Sync(1));
    assert!(file.sync().is_err());
    assert!(file.sync().is_ok());
    disk.crash();
    assert_eq!(disk.read(Path::new("/f")).unwrap(), b"");
}

#[test]
fn an_illegal_event_is_refused_before_it_is_written_and_names_both_ends() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    let before = disk.files();
    let error = journal.append(phase_begin("a", Forward)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "record 2: the beginning of phase `a` (forward) may not follow here: no session has begun"
    );
    assert_eq!(disk.files(), before, "nothing was written");
    journal.append(session(Why::Start)).unwrap();
    journal.append(phase_begin("a", Forward)).unwrap();
    journal.append(intent("a/1", Forward, 1)).unwrap();
    let error = journal.append(phase_end("a", Forward)).unwrap_err();
    assert!(error.to_string().ends_with("may not follow here: step `a/1` is in doubt"), "{error}");
    journal.append(outcome("a/1", Forward, OutcomeStatus::Done)).unwrap();
}

#[test]
fn a_large_value_lies_in_a_body_that_is_durable_before_its_record() {
    struct Watch(SimDisk, Mutex<Vec<usize>>);
    impl Tripwire for Watch {
        fn stops(&self, _: u64, _: &Event, moment: Moment) -> bool {
            if moment == Moment::BeforeWrite {
                let bodies =
                    self.0.files().keys().filter(|path| path.to_string_lossy().contains("/bodies/")).count();
                self.1.lock().unwrap().push(bodies);
            }
            false
        }
    }
    let disk = SimDisk::new();
    drop(begin(&disk));
    let store = store(&disk);
    let id = store.list().unwrap().pop().unwrap();
    let watch = Arc::new(Watch(disk.clone(), Mutex::default()));
    let tools = journal::Tools { tripwire: watch.clone(), ..tools() };
    let mut journal = Journal::open(store.lock(&id).unwrap(), tools).unwrap();
    journal.append(session(Why::Start)).unwrap();
    journal.append(phase_begin("a", Forward)).unwrap();
    journal.append(intent("a/1", Forward, 1)).unwrap();

    let large = json!({ "pem": "x".repeat(70_000), "serial": 18_446_744_073_709_551_615_u64 });
    let mut done = outcome("a/1", Forward, OutcomeStatus::Done);
    if let Event::Outcome(e) = &mut done {
        e.output = large;
    }
    journal.append(done).unwrap();
    assert_eq!(watch.1.lock().unwrap().as_slice(), [2, 2, 2, 3], "the body was there before the line");

    disk.crash();
    let journal = reopen(&disk);
    let output = journal.state().output("a/1").unwrap();
    assert!(output.get("$body").is_some(), "{output}");
    let resolved = journal.resolve(output).unwrap();
    assert_eq!(resolved["pem"].as_str().unwrap().len(), 70_000);
    assert_eq!(resolved["serial"], "18446744073709551615", "integers beyond 2^53 are strings");
    let longest = disk.read(&run_dir(&disk).join("journal.jsonl")).unwrap();
    assert!(longest.split(|byte| *byte == b'\n').all(|line| line.len() <= journal::MAX_LINE));
}

#[test]
fn a_long_error_is_cut_and_does_not_stop_the_run() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    for event in [session(Why::Start), phase_begin("a", Forward), intent("a/1", Forward, 1)] {
        journal.append(event).unwrap();
    }
    let mut failed = outcome("a/1", Forward, OutcomeStatus::Failed);
    if let Event::Outcome(journal::Outcome { error: Some(e), .. }) = &mut failed {
        e.message = "ä".repeat(1_000_000);
    }
    let state = journal.append(failed).unwrap();
    let message = &state.forward_step("a/1").unwrap().error.as_ref().unwrap().message;
    assert!(message.ends_with("… (1995904 bytes more)"), "{}", &message[message.len() - 40..]);
}

#[test]
fn a_value_cannot_pretend_to_be_a_body() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    for event in [session(Why::Start), phase_begin("a", Forward), intent("a/1", Forward, 1)] {
        journal.append(event).unwrap();
    }
    let mut done = outcome("a/1", Forward, OutcomeStatus::Done);
    if let Event::Outcome(e) = &mut done {
        e.output = json!({ "$body": format!("sha256:{}", "0".repeat(64)), "bytes": 1 });
    }
    assert!(matches!(journal.append(done), Err(JournalError::ForgedBody)));
    journal.append(outcome("a/1", Forward, OutcomeStatus::Done)).unwrap();
}

#[test]
fn the_record_says_what_was_written_and_restarted_in_order() {
    let disk = SimDisk::new();
    let journal = closed_run(&disk);
    let history = journal.history().unwrap();
    let [Past::Wrote { place, summary }, Past::Restarted { marker, place: restarted }] = history.as_slice()
    else {
        panic!("{history:?}")
    };
    assert_eq!(place.0, "k8s:v1/Secret/tidb/pd");
    assert_eq!(summary["after"]["ca.crt"], "sha256:02");
    assert_eq!(
        (marker.as_str(), restarted.0.as_str()),
        ("m-trust-both/settle/pd-1", "k8s:TidbCluster/basic")
    );
}

#[test]
fn what_was_announced_and_never_written_counts_as_put_back_once_it_was_looked_at() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    let (place, marker) = ("k8s:v1/Secret/tidb/pd", "k8s:TidbCluster/basic");
    let restart = match effect("a/settle", 1, marker, "absent", "sha256:0b", EffectClass::Compensable) {
        Event::Effect(e) => Event::Effect(journal::Effect { direction: Back, ..e }),
        _ => unreachable!(),
    };
    for event in [
        session(Why::Start),
        phase_begin("a", Forward),
        intent("a/1", Forward, 1),
        // Killed after this record and before the write.
        effect("a/1", 1, place, "sha256:01", "sha256:02", EffectClass::Restorable),
        session(Why::Rollback),
        turn(),
        phase_begin("a", Back),
        intent("a/1", Back, 1),
        // Nothing had to be written.
        outcome("a/1", Back, OutcomeStatus::Done),
        intent("a/settle", Back, 1),
        restart,
    ] {
        journal.append(event).unwrap();
    }
    let told = |history: &[Past]| {
        let one = |past: &Past| match past {
            Past::Wrote { summary, .. } => summary["after"]["ca.crt"].as_str().unwrap().to_owned(),
            Past::Restarted { .. } => "restarted".to_owned(),
        };
        history.iter().map(one).collect::<Vec<_>>()
    };
    let live = told(&journal.history().unwrap());
    assert_eq!(
        live,
        ["sha256:02", "sha256:01", "restarted"],
        "whoever restarts now loads what was there before"
    );
    drop(journal);
    assert_eq!(told(&reopen(&disk).history().unwrap()), live);
}

#[test]
fn a_run_goes_back_by_restoring_each_effect_once() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    let place = "file:/etc/pki/ca.pem";
    for event in [
        session(Why::Start),
        phase_begin("a", Forward),
        intent("a/1", Forward, 1),
        effect("a/1", 1, place, "absent", "sha256:01", EffectClass::Restorable),
        effect("a/1", 2, place, "sha256:01", "sha256:02", EffectClass::Restorable),
    ] {
        journal.append(event).unwrap();
    }
    // Killed here: the step is in doubt, and what it announced is owed.
    drop(journal);
    let mut journal = reopen(&disk);
    assert_eq!(journal.state().in_doubt(), [("a", Forward, "a/1")]);
    journal.append(session(Why::Rollback)).unwrap();
    journal.append(turn()).unwrap();
    let error = journal.append(end(journal::EndState::RolledBack)).unwrap_err();
    assert!(error.to_string().contains("is still to be restored"), "{error}");
    journal.append(phase_begin("a", Back)).unwrap();
    journal.append(intent("a/1", Back, 1)).unwrap();
    let owed: Vec<u64> = journal.state().owed("a").iter().map(|effect| effect.seq).collect();
    assert_eq!(owed, [6, 5], "last effect first");

    let restore =
        |n, from: &str, to: &str, seq| match effect("a/1", n, place, from, to, EffectClass::Restorable) {
            Event::Effect(e) => Event::Effect(journal::Effect { direction: Back, restores: Some(seq), ..e }),
            _ => unreachable!(),
        };
    let error = journal.append(restore(1, "sha256:02", "sha256:07", 6)).unwrap_err();
    assert!(error.to_string().contains("record 6 found another digest there"), "{error}");
    journal.append(restore(1, "sha256:02", "sha256:01", 6)).unwrap();
    // Killed between the two: the first is in doubt, the second not begun.
    drop(journal);
    let mut journal = reopen(&disk);
    let undo: Vec<_> = journal.state().effects().iter().map(|effect| effect.undo).collect();
    assert_eq!(undo, [journal::Undo::Owed, journal::Undo::Begun, journal::Undo::NotOwed]);
    journal.append(session(Why::Resume)).unwrap();
    let error = journal.append(outcome("a/1", Back, OutcomeStatus::Done)).unwrap_err();
    assert!(error.to_string().contains("it needs a new intent"), "{error}");
    journal.append(intent("a/1", Back, 2)).unwrap();
    journal.append(restore(2, "sha256:01", "absent", 5)).unwrap();
    journal.append(outcome("a/1", Back, OutcomeStatus::Done)).unwrap();
    assert!(journal.state().owed("a").is_empty());
    journal.append(phase_end("a", Back)).unwrap();
    journal.append(end(journal::EndState::RolledBack)).unwrap();
    assert!(journal.append(session(Why::Rollback)).is_err(), "it is over");
}

#[test]
fn a_newer_record_can_be_told_but_not_continued() {
    let disk = SimDisk::new();
    drop(begin(&disk));
    let path = run_dir(&disk).join("journal.jsonl");
    let mut record = load(&disk, &run_dir(&disk)).unwrap().records.remove(0);
    if let Event::Run(header) = &mut record.event {
        header.format = 2;
    }
    let mut line = record.encode().unwrap();
    assert!(
        matches!(journal::Record::decode(&line).unwrap().event, Event::Run(h) if h.format == 2),
        "it is readable"
    );
    line.push(b'\n');
    disk.write_atomic(&path, &line, 0o600).unwrap();
    let store = store(&disk);
    let id = store.list().unwrap().pop().unwrap();
    let error = Journal::open(store.lock(&id).unwrap(), tools()).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 2 }), "{error}");
}

#[test]
fn a_foreign_event_in_a_record_of_this_format_is_corruption() {
    let disk = SimDisk::new();
    drop(begin(&disk));
    let path = run_dir(&disk).join("journal.jsonl");
    let mut bytes = disk.read(&path).unwrap();
    let prev = hex::encode(journal::leaf_hash(&bytes[..bytes.len() - 1]));
    let foreign: Value =
        json!({ "seq": 2, "t": "2026-11-22T06:15:03.123Z", "prev": prev, "event": { "type": "teleport" } });
    bytes.extend(serde_json_canonicalizer::to_vec(&foreign).unwrap());
    bytes.push(b'\n');
    disk.write_atomic(&path, &bytes, 0o600).unwrap();
    let error = load(&disk, &run_dir(&disk)).unwrap_err();
    assert!(error.to_string().contains("line 2 does not fit"), "{error}");
    assert!(error.to_string().contains("teleport"), "{error}");
}
