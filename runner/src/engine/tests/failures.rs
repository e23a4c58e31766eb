//! What fails, and where the run stands then.

use std::sync::Arc;

use serde_json::json;

use super::harness::{
    Machine, Refuses, Says, call, item, lit, mint, of, phase, plan, restart, rotation, serves, set, step,
    together,
};
use super::toy;
use crate::engine::Options;
use crate::engine::approve::Nobody;
use crate::events::{EndState, Event, StepResult};
use crate::exit_code::ExitCode;
use crate::plan::{Call, Expr, OnFailure, Plan, Role, Step};

/// The plan with one step replaced by one that fails.
fn broken(mut plan: Plan, index: usize) -> (Plan, String) {
    let mut steps: Vec<&mut Step> = plan.phases.iter_mut().flat_map(|phase| &mut phase.steps).collect();
    let step = &mut *steps[index];
    step.action = Call { primitive: "t::set_all".into(), args: vec![lit(json!(["half", "!"])), lit("done")] };
    let key = step.key.clone();
    (plan, key)
}

#[tokio::test(start_paused = true)]
async fn whichever_step_fails_the_run_stops_there_and_can_go_back() {
    let beginning = Machine::new().target();
    let count = rotation().phases.iter().flat_map(|phase| &phase.steps).count();
    for index in 0..count {
        let machine = Machine::new();
        let (plan, key) = broken(rotation(), index);
        let run = machine.start(plan, None, machine.options());
        let ending = run.forward().await;
        assert_eq!(
            (ending.state, ending.exit),
            (EndState::Stopped, ExitCode::StepFailed),
            "{key}: {ending:?}"
        );
        let failure = ending.failure.clone().unwrap();
        assert_eq!(failure.step.as_deref(), Some(key.as_str()));
        assert_eq!(failure.at.unwrap().line, 7);
        // Where nothing was changed yet there is nothing to take back.
        let word = if machine.target() == beginning { "abort" } else { "rollback" };
        let offered = format!("rollover {word} ");
        assert!(ending.next.iter().any(|next| next.command.starts_with(&offered)), "{key}: {ending:?}");
        let ending = run.back("it failed").await;
        assert_eq!(ending.state, EndState::RolledBack, "{key}: {ending:?}");
        let mut target = machine.target();
        target.remove("minted");
        assert_eq!(target, beginning, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_is_tried_again_on_resume_and_the_rest_follows() {
    let machine = Machine::new();
    let flaky = step(Role::Change, "f", "t::flaky", vec![lit("f"), lit("1")]);
    let ending = machine.run(plan(vec![phase("p", vec![flaky, set("x", "2")])])).await;
    assert_eq!(ending.state, EndState::Stopped);
    assert_eq!(machine.resume().await.state, EndState::Done);
    assert_eq!((machine.target()["f"].as_str(), machine.target()["x"].as_str()), ("ok", "2"));
}

#[tokio::test(start_paused = true)]
async fn with_rollback_on_failure_it_goes_back_by_itself_and_says_what_failed() {
    let machine = Machine::new();
    let beginning = machine.target();
    let options = Options { rollback_on_failure: true, ..machine.options() };
    let (plan, _) = broken(rotation(), 9);
    let ending = machine.start(plan, None, options).forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::RolledBack, ExitCode::RolledBack), "{ending:?}");
    assert!(ending.failure.unwrap().message.contains("half of it"));
    let mut target = machine.target();
    target.remove("minted");
    assert_eq!(target, beginning);
}

#[tokio::test(start_paused = true)]
async fn retries_wait_twice_as_long_each_time_within_the_deadline() {
    let flaky = |times: u32| Step {
        on_failure: OnFailure::Retry { times, pause_ms: 2000 },
        ..step(Role::Change, "f", "t::flaky", vec![lit("f"), lit("3")])
    };
    let machine = Machine::new();
    let begun = tokio::time::Instant::now();
    assert_eq!(machine.run(plan(vec![phase("p", vec![flaky(3)])])).await.state, EndState::Done);
    assert_eq!(begun.elapsed().as_secs(), 2 + 4 + 8);
    let machine = Machine::new();
    assert_eq!(machine.run(plan(vec![phase("p", vec![flaky(2)])])).await.state, EndState::Stopped);
    let machine = Machine::new();
    let short = Step { deadline_s: 5, ..flaky(9) };
    assert_eq!(machine.run(plan(vec![phase("p", vec![short])])).await.state, EndState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_step_that_hangs_and_resume_finds_its_effect_done() {
    let machine = Machine::new();
    let slow = step(Role::Change, "s", "t::slow", vec![lit("s"), lit("3600")]);
    let begun = tokio::time::Instant::now();
    let ending = machine.run(plan(vec![phase("p", vec![slow])])).await;
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(
        ending.failure.unwrap().message,
        "its deadline has passed while it waited: it sleeps. Nobody wakes it"
    );
    assert_eq!(machine.rollback().await.state, EndState::RolledBack);
    assert_eq!(machine.target().get("s"), None);
}

#[tokio::test(start_paused = true)]
async fn asked_whether_to_try_again_the_operator_decides() {
    let asking = || Step {
        on_failure: OnFailure::Ask,
        ..step(Role::Change, "f", "t::flaky", vec![lit("f"), lit("2")])
    };
    let machine = Machine::new();
    assert_eq!(machine.run(plan(vec![phase("p", vec![asking()])])).await.state, EndState::Done);
    let machine = Machine::new();
    let options =
        Options { approver: Arc::new(Says { no_to: Some("again"), ..Says::default() }), ..machine.options() };
    let ending = machine.start(plan(vec![phase("p", vec![asking()])]), None, options).forward().await;
    assert_eq!(ending.state, EndState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_third_digest_stops_the_run_and_names_all_three() {
    let machine = Machine::new();
    let fails = step(Role::Change, "half", "t::set_all", vec![lit(json!(["x", "!"])), lit("2")]);
    let run = machine.start(plan(vec![phase("p", vec![fails])]), None, machine.options());
    assert_eq!(run.forward().await.state, EndState::Stopped);
    toy::write(&machine.world, "x", Some("somebody else's")).unwrap();
    let ending = run.forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::Conflict), "{ending:?}");
    let failure = ending.failure.unwrap();
    assert_eq!(failure.object, "file:/target/x");
    assert_eq!(failure.found, Some(toy::digest(Some("somebody else's"))));
    assert_eq!(failure.expected, Some(format!("{} or {}", toy::digest(Some("1")), toy::digest(Some("2")))));
    // Going back does not overwrite it either: it is stuck until a person has decided.
    let ending = run.back("asked for").await;
    assert_eq!((ending.state, ending.exit), (EndState::Stuck, ExitCode::Stuck), "{ending:?}");
    assert_eq!(machine.target()["x"], "somebody else's");
    toy::write(&machine.world, "x", Some("2")).unwrap();
    assert_eq!(run.back("repaired").await.state, EndState::RolledBack);
    assert_eq!(machine.target()["x"], "1");
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_step_left_must_be_there_when_a_later_one_changes_it() {
    let machine = Machine::new();
    let two = plan(vec![phase("one", vec![set("x", "2")]), {
        let mut fails = phase("two", vec![step(Role::Change, "f", "t::flaky", vec![lit("f"), lit("1")])]);
        fails.steps.push(Step { key: "two/change/x".into(), ..set("x", "3") });
        fails
    }]);
    assert_eq!(machine.run(two).await.state, EndState::Stopped);
    toy::write(&machine.world, "x", Some("9")).unwrap();
    assert_eq!(machine.resume().await.exit, ExitCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_primitive_cannot_swallow_a_refusal() {
    let machine = Machine::new();
    let refuse = |place: &stdlib::gate::Place| {
        Err(stdlib::PrimError::new(stdlib::error::Code::Refused, "not in the manifest").on(place.0.clone()))
    };
    let options = Options { may_touch: Some(Arc::new(refuse)), ..machine.options() };
    let careless = step(Role::Change, "c", "t::careless", vec![lit("x"), lit("2")]);
    let ending = machine.start(plan(vec![phase("p", vec![careless])]), None, options).forward().await;
    assert_eq!(ending.state, EndState::Stopped);
    assert_eq!(ending.failure.unwrap().message, "not in the manifest");
    assert_eq!(machine.target()["x"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_primitive_is_a_failed_step() {
    let machine = Machine::new();
    let ending =
        machine.run(plan(vec![phase("p", vec![step(Role::Change, "c", "t::panics", vec![])])])).await;
    assert!(ending.failure.unwrap().message.contains("panicked"));
}

#[tokio::test(start_paused = true)]
async fn in_a_group_the_others_finish_and_those_not_begun_are_left() {
    let machine = Machine::new();
    let slow = |name: &str, s: &str| step(Role::Change, name, "t::slow", vec![lit(name), lit(s)]);
    let fails = step(Role::Change, "bad", "t::set_all", vec![lit(json!(["!"])), lit("2")]);
    let group = together(2, vec![slow("a", "9"), fails, slow("b", "1"), slow("c", "1")]);
    let begun = tokio::time::Instant::now();
    let ending = machine.run(plan(vec![phase("p", group)])).await;
    assert_eq!(ending.state, EndState::Stopped);
    assert_eq!(begun.elapsed().as_secs(), 9, "the one in flight finishes");
    assert!(machine.target().contains_key("a") && !machine.target().contains_key("b"));
    let ended: Vec<_> = machine
        .reporter
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::StepEnded { step, result, .. } => Some((step, result)),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [("p/change/bad".into(), StepResult::Failed), ("p/change/a".into(), StepResult::Done)]);
    assert!(machine.record().join(" ").contains("intent intent intent intent effect"));
}

#[tokio::test(start_paused = true)]
async fn a_group_runs_as_wide_as_it_says() {
    for (width, seconds) in [(1, 40), (2, 20), (4, 10)] {
        let machine = Machine::new();
        let slow = |name: &str| step(Role::Change, name, "t::slow", vec![lit(name), lit("10")]);
        let group = together(width, vec![slow("a"), slow("b"), slow("c"), slow("d")]);
        let begun = tokio::time::Instant::now();
        assert_eq!(machine.run(plan(vec![phase("p", group)])).await.state, EndState::Done);
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn queries_are_answered_once_and_journaled_before_the_first_intent() {
    let machine = Machine::new();
    toy::write(&machine.world, "list", Some("a b")).unwrap();
    let each = Step {
        each: Some(call("t::words", vec![lit("list")])),
        ..step(Role::Change, "all", "t::set", vec![item(), lit("new")])
    };
    let skipped = Step { when: Some(call("t::is", vec![lit("x"), lit("no")])), ..set("x", "2") };
    let flaky = step(Role::Change, "f", "t::flaky", vec![lit("f"), lit("1")]);
    let uses = step(Role::Change, "first", "t::set", vec![lit("first"), of("p/change/all", &["1", "name"])]);
    let ending = machine.run(plan(vec![phase("p", vec![skipped, flaky, each, uses])])).await;
    assert_eq!(ending.state, EndState::Stopped);
    let record = machine.record().join(" ");
    assert!(record.contains("expanded outcome expanded intent"), "{record}");
    // What the world says later changes nothing of this run.
    toy::write(&machine.world, "list", Some("a b c")).unwrap();
    toy::write(&machine.world, "x", Some("no")).unwrap();
    let ending = machine.resume().await;
    assert_eq!(ending.state, EndState::Done, "{ending:?}");
    let target = machine.target();
    assert_eq!((target["a"].as_str(), target["b"].as_str(), target.get("c")), ("new", "new", None));
    assert_eq!((target["x"].as_str(), target["first"].as_str()), ("no", "b"));
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_does_not_hold_stops_the_run_with_its_own_code() {
    let machine = Machine::new();
    let ending = machine.run(plan(vec![phase("p", vec![set("pd", "new"), serves("pd")])])).await;
    assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::ProofFailed));
    let failure = ending.failure.unwrap();
    assert_eq!((failure.expected.as_deref(), failure.found.as_deref()), (Some("new"), Some("old")));
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_leaves_the_run_stuck_and_names_the_repair() {
    let machine = Machine::new();
    machine.run(rotation()).await;
    toy::write(&machine.world, "jammed", Some("leaf")).unwrap();
    let ending = machine.rollback().await;
    assert_eq!((ending.state, ending.exit), (EndState::Stuck, ExitCode::Stuck), "{ending:?}");
    let failure = ending.failure.unwrap();
    assert_eq!((failure.step.as_deref(), failure.object.as_str()), (Some("switch/change/leaf"), "leaf"));
    assert!(machine.journal().contains("\"type\":\"stuck\""));
    toy::write(&machine.world, "jammed", None).unwrap();
    assert_eq!(machine.resume().await.state, EndState::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_without_approval() {
    let machine = Machine::new();
    let beginning = machine.target();
    let options = Options { approver: Arc::new(Nobody), ..machine.options() };
    let ending = machine.start(rotation(), None, options).forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::Declined));
    assert_eq!(machine.target(), beginning);
}

#[tokio::test(start_paused = true)]
async fn a_point_of_no_return_is_asked_for_and_then_there_is_no_way_back() {
    let mut once = rotation();
    once.phases[2].final_ = true;
    let machine = Machine::new();
    let options = Options {
        approver: Arc::new(Says { no_to: Some("no-return"), ..Says::default() }),
        ..machine.options()
    };
    let ending = machine.start(once.clone(), None, options).forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::Declined));
    assert_eq!(machine.rollback().await.state, EndState::RolledBack, "before its first change there is");
    let machine = Machine::new();
    assert_eq!(machine.run(once).await.state, EndState::Done);
    let ending = machine.rollback().await;
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::NoWayBack));
}

#[tokio::test(start_paused = true)]
async fn after_a_compromise_the_old_authority_does_not_come_back() {
    let mut plan = rotation();
    plan.params.insert("reason".into(), "compromise".into());
    plan.phases[2].name = "distrust-old".into();
    let machine = Machine::new();
    assert_eq!(machine.run(plan).await.state, EndState::Done);
    assert_eq!(machine.rollback().await.exit, ExitCode::NoWayBack);
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_would_break_a_link_is_refused_before_its_first_change() {
    let trusting = |outage: bool| {
        let mut plan = plan(vec![phase("p", vec![mint("ca"), set("pd", "bad"), restart("pd")])]);
        plan.trust = Some(Call { primitive: "t::view".into(), args: Vec::new() });
        plan.phases[0].outage = outage;
        plan
    };
    let refuses = |machine: &Machine, no_to| Options {
        trust: Arc::new(Refuses(vec!["pd=bad"])),
        approver: Arc::new(Says { no_to, ..Says::default() }),
        ..machine.options()
    };
    let machine = Machine::new();
    let ending = machine.start(trusting(false), None, refuses(&machine, None)).forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::ForecastRefused), "{ending:?}");
    assert!(ending.failure.unwrap().message.contains("pd=bad would break"));
    assert_eq!(machine.target()["pd"], "old");
    let machine = Machine::new();
    let ending = machine.start(trusting(true), None, refuses(&machine, Some("outage"))).forward().await;
    assert_eq!(ending.exit, ExitCode::ForecastRefused);
    let machine = Machine::new();
    let ending = machine.start(trusting(true), None, refuses(&machine, None)).forward().await;
    assert_eq!(ending.state, EndState::Done);
    // The window is the sum of the deadlines of what changes, settles and proves.
    assert!(machine.journal().contains("\"seconds\":120"), "{}", machine.journal());
}

#[tokio::test(start_paused = true)]
async fn the_window_of_a_forecast_counts_each_item_of_a_step() {
    let machine = Machine::new();
    toy::write(&machine.world, "list", Some("pd kv")).unwrap();
    let over =
        |list: Expr| Step { each: Some(list), ..step(Role::Settle, "all", "t::restart", vec![item()]) };
    let known = phase("known", vec![set("pd", "new"), over(call("t::words", vec![lit("list")]))]);
    // This list is made by the phase itself: as many as there are parties may be in it.
    let made = phase("made", vec![set("names", "pd"), over(of("made/change/names", &["names"]))]);
    let mut plan = plan(vec![known, made]);
    plan.trust = Some(Call { primitive: "t::view".into(), args: Vec::new() });
    let options = Options { trust: Arc::new(Refuses(Vec::new())), ..machine.options() };
    machine.start(plan, None, options).forward().await;
    // A change and two restarts; a change and one for each of three parties.
    let journal = machine.journal();
    let windows: Vec<&str> = journal.split("\"seconds\":").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(windows, ["180", "240"], "{journal}");
}
