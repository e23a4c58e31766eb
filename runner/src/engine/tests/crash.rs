//! A run may die at any moment: before, within or after the writing of any record.

use std::collections::BTreeMap;

use journal::Moment;

use super::harness::{Machine, StopAt, call, lit, phase, plan, restart, rotation, set, step};
use super::toy;
use crate::events::EndState;
use crate::exit_code::ExitCode;
use crate::plan::Role;

const MOMENTS: [Moment; 3] = [Moment::BeforeWrite, Moment::AfterWrite, Moment::AfterSync];

/// What a rollback may leave: the count of what was minted, and nothing else.
fn without_minted(mut target: BTreeMap<String, String>) -> BTreeMap<String, String> {
    target.remove("minted");
    target
}

async fn uninterrupted() -> (BTreeMap<String, String>, u64) {
    let machine = Machine::new();
    let ending = machine.run(rotation()).await;
    assert_eq!(ending.state, EndState::Done, "{ending:?}");
    (machine.target(), u64::try_from(machine.record().len()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_rotation_goes_through_and_tells_its_story_in_order() {
    let machine = Machine::new();
    let ending = machine.run(rotation()).await;
    assert_eq!((ending.state, ending.exit), (EndState::Done, ExitCode::Ok), "{ending:?}");
    let target = machine.target();
    assert_eq!(target["pd"], "ca-1-R");
    assert_eq!(target["loaded/kv"], "ca-1-R");
    assert_eq!(target["loaded/leaf"], "leaf-2-R");
    assert_eq!(target["y"], "leaf-2-R");
    let record = machine.record().join(" ");
    // Both intents of the group lie before the first effect.
    assert!(
        record.starts_with(
            "run session approval phase-begin intent outcome intent intent effect outcome effect outcome intent effect outcome"
        ),
        "{record}"
    );
    assert!(record.ends_with("phase-end checkpoint end checkpoint"), "{record}");
    let changed: Vec<&str> = ending.changed.iter().map(|place| place.place.as_str()).collect();
    assert_eq!(
        changed,
        ["file:/target/pd", "file:/target/kv", "file:/target/leaf", "file:/target/x", "file:/target/y"]
    );
}

#[tokio::test(start_paused = true)]
async fn stopped_dead_around_every_record_it_resumes_to_the_same_end() {
    let (end, records) = uninterrupted().await;
    for seq in 3..=records {
        for moment in MOMENTS {
            let machine = Machine::new();
            let stop = StopAt { seq, moment };
            let ending = machine.start(rotation(), Some(stop), machine.options()).forward().await;
            assert_eq!(ending.state, EndState::Killed, "record {seq} {moment:?}: {ending:?}");
            machine.disk.crash();
            let ending = machine.resume().await;
            assert_eq!(ending.state, EndState::Done, "record {seq} {moment:?}: {ending:?}");
            assert_eq!(machine.target(), end, "record {seq} {moment:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn stopped_dead_around_every_record_it_goes_back_to_the_beginning() {
    let (_, records) = uninterrupted().await;
    let beginning = Machine::new().target();
    for seq in 3..=records {
        for moment in [Moment::BeforeWrite, Moment::AfterSync] {
            let machine = Machine::new();
            let stop = StopAt { seq, moment };
            machine.start(rotation(), Some(stop), machine.options()).forward().await;
            machine.disk.crash();
            let ending = machine.rollback().await;
            assert_eq!(ending.state, EndState::RolledBack, "record {seq} {moment:?}: {ending:?}");
            assert_eq!(without_minted(machine.target()), beginning, "record {seq} {moment:?}");
            assert_eq!(ending.changed, [], "record {seq} {moment:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_way_back_may_die_at_every_record_too() {
    let beginning = Machine::new().target();
    let whole = Machine::new();
    whole.run(rotation()).await;
    let first = u64::try_from(whole.record().len()).unwrap() + 1;
    whole.rollback().await;
    let last = u64::try_from(whole.record().len()).unwrap();
    for seq in first + 1..=last {
        for moment in [Moment::BeforeWrite, Moment::AfterSync] {
            let machine = Machine::new();
            machine.run(rotation()).await;
            let stop = StopAt { seq, moment };
            let run = machine.open(journal::Why::Rollback, Some(stop), machine.options());
            assert_eq!(run.back("asked for").await.state, EndState::Killed, "record {seq} {moment:?}");
            drop(run);
            machine.disk.crash();
            // `resume` goes on in the direction that the run had; before the turn was durable a rollback is asked again.
            let ending = if machine.journal().contains("\"type\":\"turn\"") {
                machine.resume().await
            } else {
                machine.rollback().await
            };
            assert_eq!(ending.state, EndState::RolledBack, "record {seq} {moment:?}: {ending:?}");
            assert_eq!(without_minted(machine.target()), beginning, "record {seq} {moment:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_again_and_again_it_mints_each_secret_once() {
    let (end, _) = uninterrupted().await;
    let machine = Machine::new();
    let stop = StopAt { seq: 3, moment: Moment::AfterSync };
    machine.start(rotation(), Some(stop), machine.options()).forward().await;
    let mut deaths = 1;
    let ending = loop {
        machine.disk.crash();
        let next = u64::try_from(machine.record().len()).unwrap() + 6;
        let stop = StopAt { seq: next, moment: MOMENTS[deaths % 3] };
        let ending = machine.open(journal::Why::Resume, Some(stop), machine.options()).resume().await;
        if ending.state != EndState::Killed {
            break ending;
        }
        deaths += 1;
        assert!(deaths < 500, "it makes no progress");
    };
    assert_eq!(ending.state, EndState::Done, "{ending:?}");
    assert!(deaths > 10, "{deaths}");
    assert_eq!(machine.target(), end);
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_before_the_kill_is_not_applied_again() {
    for seq in 3.. {
        let machine = Machine::new();
        let change = step(Role::Change, "x", "t::stubborn", vec![lit("x"), lit("2")]);
        let stop = StopAt { seq, moment: Moment::BeforeWrite };
        let plan = plan(vec![phase("p", vec![change])]);
        if machine.start(plan, Some(stop), machine.options()).forward().await.state == EndState::Done {
            return;
        }
        machine.disk.crash();
        assert_eq!(machine.resume().await.state, EndState::Done);
        assert_eq!(machine.target()["writes"], "x", "record {seq}");
    }
}

#[tokio::test(start_paused = true)]
async fn arguments_read_from_what_the_step_changes_are_read_once() {
    for seq in 3.. {
        let machine = Machine::new();
        let grown = call("t::join", vec![lit("new"), call("t::read", vec![lit("x")])]);
        let stop = StopAt { seq, moment: Moment::BeforeWrite };
        let plan = plan(vec![phase("p", vec![set("x", grown)])]);
        if machine.start(plan, Some(stop), machine.options()).forward().await.state == EndState::Done {
            return;
        }
        machine.disk.crash();
        assert_eq!(machine.resume().await.state, EndState::Done);
        assert_eq!(machine.target()["x"], "new+1", "record {seq}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_restarted_by_itself_is_restarted_again_on_the_way_back() {
    let machine = Machine::new();
    let fails = step(Role::Change, "f", "t::flaky", vec![lit("f"), lit("1")]);
    let begun = phase("p", vec![set("pd", "new"), fails, restart("pd")]);
    assert_eq!(machine.run(plan(vec![begun])).await.state, EndState::Stopped);
    // Its settle was never begun, and yet it has loaded what is about to be taken away.
    toy::write(&machine.world, "loaded/pd", Some("m9\nnew")).unwrap();
    assert_eq!(machine.rollback().await.state, EndState::RolledBack);
    assert_eq!(machine.target()["loaded/pd"], "old");
}

#[tokio::test(start_paused = true)]
async fn a_failing_sync_of_the_journal_stops_everything_at_once() {
    let (end, _) = uninterrupted().await;
    for nth in 1..200 {
        let machine = Machine::new();
        let run = machine.start(rotation(), None, machine.options());
        machine.disk.inject(stdlib::files::Fault::Sync(nth));
        let ending = run.forward().await;
        if ending.state == EndState::Done {
            return;
        }
        // A write of the target itself may be what failed; that is a failed step.
        assert!(matches!(ending.state, EndState::Halted | EndState::Stopped), "sync {nth}: {ending:?}");
        drop(run);
        machine.disk.crash();
        machine.disk.heal();
        let ending = machine.resume().await;
        assert_eq!(ending.state, EndState::Done, "sync {nth}: {ending:?}");
        let mut target = machine.target();
        let mut expected = end.clone();
        // A secret whose making was not durable is made again, and counted again.
        for map in [&mut target, &mut expected] {
            map.remove("minted");
            for content in map.values_mut() {
                *content = content.replace(|c: char| c.is_ascii_digit(), "");
            }
        }
        assert_eq!(target, expected, "sync {nth}");
    }
    panic!("the run syncs more often than this test looks");
}
