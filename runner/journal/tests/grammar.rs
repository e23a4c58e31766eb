//! What may not follow what: each line of the grammar, broken once.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use journal::Direction::{Back, Forward};
use journal::{EndState, Event, Expanded, IllegalTransition, OutcomeStatus, Record, State, Stuck, Why};
use serde_json::json;
use stdlib::gate::EffectClass::{Compensable, Final, Restorable};
use support::*;

/// Folds a story of a run and then judges one more event.
fn after(story: &[Event], event: Event) -> Result<(), IllegalTransition> {
    let disk = stdlib::files::SimDisk::new();
    let mut state: State = begin(&disk).state().clone();
    for event in story {
        let seq = state.seq() + 1;
        let t = "2026-11-22T06:15:03.123Z".to_owned();
        state.next(&Record { seq, t, prev: String::new(), event: event.clone() }).unwrap();
    }
    let before = state.clone();
    let verdict = state.admits(state.seq() + 1, &event);
    assert_eq!(state, before);
    verdict
}

fn refused(story: &[Event], event: Event, why: &str) {
    let error = after(story, event).expect_err(why);
    assert!(error.state.contains(why), "expected `{why}`, got `{error}`");
}

fn open() -> Vec<Event> {
    vec![session(Why::Start), phase_begin("a", Forward)]
}

fn with(mut story: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    story.extend(more);
    story
}

fn expanded(step: &str, when: Option<bool>, items: Option<u64>) -> Event {
    Event::Expanded(Expanded {
        step: step.into(),
        direction: Forward,
        when,
        items: items.map(|n| json!(vec![0; usize::try_from(n).unwrap()])),
        count: items,
    })
}

#[test]
fn a_run_begins_once_and_with_a_session() {
    refused(&[], note("x"), "no session has begun");
    let disk = stdlib::files::SimDisk::new();
    let header = begin(&disk).state().header().unwrap().clone();
    refused(&[session(Why::Start)], Event::Run(header), "the run is open");
    refused(&[session(Why::Start)], session(Why::Start), "started before");
    assert!(after(&[session(Why::Start)], session(Why::Resume)).is_ok());
    let state = State::default();
    let error = state.admits(1, &session(Why::Start)).unwrap_err();
    assert_eq!(error.to_string(), "record 1: a session (start) may not follow here: there is no header yet");
    assert!(state.admits(2, &session(Why::Start)).unwrap_err().state.contains("the next record is number 1"));
}

#[test]
fn phases_follow_each_other() {
    refused(&open(), phase_begin("b", Forward), "phase `a` is open (forward)");
    refused(&open(), phase_end("b", Forward), "phase `a` is open");
    refused(&open(), phase_end("a", Back), "the run goes forward");
    let ended = with(open(), [phase_end("a", Forward)]);
    refused(&ended, phase_begin("a", Forward), "begun before");
    refused(&ended, phase_end("a", Forward), "no phase is open");
    refused(&ended, intent("a/1", Forward, 1), "no phase is open");
    let second = with(ended, [phase_begin("b", Forward)]);
    let used = with(
        open(),
        [
            intent("a/1", Forward, 1),
            outcome("a/1", Forward, OutcomeStatus::Done),
            phase_end("a", Forward),
            phase_begin("b", Forward),
        ],
    );
    refused(&used, intent("a/1", Forward, 1), "belongs to an earlier phase");
    let back = with(second, [turn()]);
    refused(&back, phase_begin("c", Back), "never begun forward");
    refused(&back, phase_begin("c", Forward), "the run goes back");
    let undone = with(back, [phase_begin("a", Back), phase_end("a", Back)]);
    refused(&undone, phase_begin("b", Back), "phase `a` was undone before it");
    refused(&undone, phase_begin("a", Back), "phase `a` was undone before it");
}

#[test]
fn a_step_goes_from_intent_to_outcome() {
    refused(&open(), intent("a/1", Forward, 2), "not begun");
    refused(&open(), effect("a/1", 1, "p", "x", "y", Restorable), "not begun");
    refused(&open(), outcome("a/1", Forward, OutcomeStatus::Done), "not begun");
    let begun = with(open(), [intent("a/1", Forward, 1)]);
    refused(&begun, intent("a/1", Forward, 2), "the step is in doubt");
    refused(&begun, effect("a/1", 2, "p", "x", "y", Restorable), "had 0 effects");
    refused(&begun, outcome("a/1", Forward, OutcomeStatus::Skipped), "the step is in doubt");
    refused(&begun, phase_end("a", Forward), "step `a/1` is in doubt");
    refused(&begun, expanded("a/1", Some(true), None), "expanded or begun before");
    let failed = with(begun.clone(), [outcome("a/1", Forward, OutcomeStatus::Failed)]);
    refused(&failed, phase_end("a", Forward), "step `a/1` is failed");
    refused(&failed, intent("a/1", Forward, 1), "had 1 attempts");
    assert!(after(&failed, intent("a/1", Forward, 2)).is_ok());
    let another = match intent("a/1", Forward, 2) {
        Event::Intent(e) => Event::Intent(journal::Intent { action: "sha256:cc".into(), ..e }),
        _ => unreachable!(),
    };
    refused(&failed, another, "another action before");
    let done = with(begun, [outcome("a/1", Forward, OutcomeStatus::Done)]);
    refused(&done, intent("a/1", Forward, 2), "the step is done");
    refused(&done, effect("a/1", 1, "p", "x", "y", Restorable), "the step is done");
    refused(&done, outcome("a/1", Forward, OutcomeStatus::Failed), "the step is done");
    let contradiction = match outcome("a/2", Forward, OutcomeStatus::Skipped) {
        Event::Outcome(e) => match outcome("a/2", Forward, OutcomeStatus::Failed) {
            Event::Outcome(failed) => Event::Outcome(journal::Outcome { error: failed.error, ..e }),
            _ => unreachable!(),
        },
        _ => unreachable!(),
    };
    refused(&done, contradiction, "and nothing else, has an error");
}

#[test]
fn what_is_in_doubt_since_an_earlier_session_is_begun_anew() {
    let story = with(
        open(),
        [intent("a/1", Forward, 1), effect("a/1", 1, "p", "x", "y", Restorable), session(Why::Resume)],
    );
    refused(&story, effect("a/1", 2, "p", "y", "z", Restorable), "in doubt since an earlier session");
    refused(&story, outcome("a/1", Forward, OutcomeStatus::Done), "in doubt since an earlier session");
    refused(&story, intent("a/1", Forward, 1), "had 1 attempts");
    let again = with(story, [intent("a/1", Forward, 2)]);
    assert!(after(&again, effect("a/1", 2, "p", "y", "z", Restorable)).is_ok());
    assert!(after(&again, outcome("a/1", Forward, OutcomeStatus::Done)).is_ok());
}

#[test]
fn parallel_steps_interleave() {
    let story = with(
        open(),
        [
            intent("a/1", Forward, 1),
            intent("a/2", Forward, 1),
            effect("a/2", 1, "q", "x", "y", Restorable),
            effect("a/1", 1, "p", "x", "y", Restorable),
            outcome("a/2", Forward, OutcomeStatus::Failed),
            effect("a/1", 2, "p", "y", "z", Restorable),
            outcome("a/1", Forward, OutcomeStatus::Done),
        ],
    );
    assert!(after(&story, intent("a/2", Forward, 2)).is_ok());
}

#[test]
fn a_condition_that_does_not_hold_leaves_only_the_skip() {
    let story = with(open(), [expanded("a/1", Some(false), None)]);
    refused(&story, intent("a/1", Forward, 1), "its condition does not hold");
    refused(&story, expanded("a/1", Some(true), None), "expanded or begun before");
    assert!(after(&story, outcome("a/1", Forward, OutcomeStatus::Skipped)).is_ok());
}

#[test]
fn a_step_with_items_is_done_when_each_item_is() {
    let miscounted = match expanded("a/1", None, Some(2)) {
        Event::Expanded(e) => Event::Expanded(Expanded { count: Some(3), ..e }),
        _ => unreachable!(),
    };
    refused(&open(), miscounted, "its count is not that of its items");
    let story = with(open(), [expanded("a/1", None, Some(2)), intent("a/1[0]", Forward, 1)]);
    refused(&story, intent("a/1", Forward, 1), "runs once an item");
    let story = with(story, [outcome("a/1[0]", Forward, OutcomeStatus::Done)]);
    refused(&story, outcome("a/1", Forward, OutcomeStatus::Done), "its item `a/1[1]` is not done");
    let story = with(story, [outcome("a/1[1]", Forward, OutcomeStatus::Skipped)]);
    assert!(after(&story, outcome("a/1", Forward, OutcomeStatus::Done)).is_ok());
}

#[test]
fn a_run_turns_back_once_and_not_after_the_point_of_no_return() {
    let change = |class| with(open(), [intent("a/1", Forward, 1), effect("a/1", 1, "p", "x", "y", class)]);
    assert!(after(&change(Restorable), turn()).is_ok());
    refused(&change(Final), turn(), "record 5 was a point of no return");
    refused(&with(change(Restorable), [turn()]), turn(), "goes back already");
    let forward = Event::Turn(journal::Turn { direction: Forward, why: String::new() });
    refused(&open(), forward, "only turns back");
}

#[test]
fn a_rollback_ends_when_everything_is_restored_and_settled() {
    refused(&open(), end(EndState::RolledBack), "phase `a` is open");
    refused(&[session(Why::Start)], end(EndState::RolledBack), "the run goes forward");
    let restart = with(
        open(),
        [
            intent("a/1", Forward, 1),
            effect("a/1", 1, "p", "x", "y", Compensable),
            outcome("a/1", Forward, OutcomeStatus::Done),
            phase_end("a", Forward),
            turn(),
        ],
    );
    refused(&restart, end(EndState::RolledBack), "phase `a` is not undone");
    refused(&restart, end(EndState::Done), "the run goes back");
    let settled = with(restart, [phase_begin("a", Back), phase_end("a", Back)]);
    assert!(after(&settled, end(EndState::RolledBack)).is_ok());
    assert!(after(&with(open(), [turn()]), end(EndState::RolledBack)).is_ok(), "nothing was changed");
}

#[test]
fn what_may_follow_an_end() {
    let ended = |state| match state {
        EndState::RolledBack => vec![session(Why::Start), turn(), end(state)],
        _ => vec![session(Why::Start), end(state)],
    };
    refused(&ended(EndState::Done), note("x"), "the run has ended (done)");
    for (state, why, legal) in [
        (EndState::Done, Why::Rollback, true),
        (EndState::Done, Why::Resume, false),
        (EndState::Aborted, Why::Resume, true),
        (EndState::Aborted, Why::Rollback, true),
        (EndState::Aborted, Why::Abort, true),
        (EndState::Aborted, Why::Start, false),
        (EndState::RolledBack, Why::Rollback, false),
        (EndState::RolledBack, Why::Resume, false),
    ] {
        assert_eq!(after(&ended(state), session(why)).is_ok(), legal, "{state} then {why:?}");
    }
}

#[test]
fn a_stuck_run_waits_for_another_session() {
    let stuck = with(open(), [Event::Stuck(Stuck { step: "a/1".into(), repair: "mend it".into() })]);
    refused(&stuck, intent("a/1", Forward, 1), "the run is stuck at step `a/1`");
    refused(&stuck, end(EndState::Aborted), "the run is stuck");
    assert!(after(&stuck, note("still")).is_ok());
    assert!(after(&with(stuck, [session(Why::Resume)]), intent("a/1", Forward, 1)).is_ok());
}
