//! What comes from outside: cancelling, locks, altered copies, another process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use journal::{Moment, Why};
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::files::Fault;
use stdlib::lease::{Last, Leave};

use super::harness::{Machine, StopAt, lit, phase, plan, rotation, serves, set, step};
use crate::engine::Options;
use crate::engine::lock::{HeldLock, TargetLock};
use crate::events::{EndState, Event, Head};
use crate::exit_code::ExitCode;
use crate::plan::{Plan, Role, Target};

/// A Lease and a mark, as far as a run can tell.
#[derive(Default, Clone)]
struct Lease {
    mark: Arc<Mutex<Option<String>>>,
    held: Arc<AtomicBool>,
    renewals: Arc<AtomicU64>,
    lost: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
    notes: Arc<AtomicU64>,
}

impl TargetLock for Lease {
    fn take<'a>(
        &'a self,
        _: &'a Target,
        run: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn HeldLock>, PrimError>> {
        Box::pin(async move {
            if self.gone.load(Ordering::Relaxed) {
                return Err(PrimError::new(Code::NoTarget, "it does not exist any more"));
            }
            let mut mark = self.mark.lock().unwrap();
            if let Some(holder) = mark.as_deref().filter(|holder| *holder != run) {
                return Err(PrimError::new(Code::Locked, format!("run {holder} holds it")));
            }
            *mark = Some(run.to_owned());
            self.held.store(true, Ordering::Relaxed);
            Ok(Arc::new(self.clone()) as Arc<dyn HeldLock>)
        })
    }

    fn forget<'a>(&'a self, _: &'a Target, last: &'a Last) -> BoxFuture<'a, Result<(), PrimError>> {
        let mut mark = self.mark.lock().unwrap();
        if mark.as_deref() == Some(last.run.as_str()) {
            *mark = None;
        }
        Box::pin(async { Ok(()) })
    }
}

impl HeldLock for Lease {
    fn interval(&self) -> Duration {
        Duration::from_secs(10)
    }
    fn renew(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(async move {
            self.renewals.fetch_add(1, Ordering::Relaxed);
            if self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.lost.load(Ordering::Relaxed) {
                return Err(PrimError::new(Code::Locked, "somebody took it"));
            }
            Ok(())
        })
    }
    fn note<'a>(&'a self, _: &'a str, _: &'a Head) -> BoxFuture<'a, Result<(), PrimError>> {
        self.notes.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
    fn release<'a>(&'a self, leave: &'a Leave) -> BoxFuture<'a, Result<(), PrimError>> {
        self.held.store(false, Ordering::Relaxed);
        if *leave != Leave::Mark {
            *self.mark.lock().unwrap() = None;
        }
        Box::pin(async { Ok(()) })
    }
}

fn locked(mut plan: Plan) -> Plan {
    let text = |text: &str| text.to_owned();
    plan.target = Some(Target {
        hosts: Vec::new(),
        title: text("Toy tidb/basic"),
        namespace: text("tidb"),
        lease: text("rollover-basic"),
        api_version: text("v1"),
        kind: text("Toy"),
        name: text("basic"),
        uid: text("1"),
    });
    plan
}

#[tokio::test(start_paused = true)]
async fn a_run_that_died_after_its_last_record_leaves_no_mark_once_it_is_resumed() {
    let whole = Machine::new();
    whole.run(locked(rotation())).await;
    let end = whole.record().iter().position(|name| name == "end").unwrap();
    let stop = StopAt { seq: u64::try_from(end).unwrap() + 1, moment: Moment::AfterSync };

    let machine = Machine::new();
    let lease = Lease::default();
    let options = || Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let first = machine.start(locked(rotation()), Some(stop), options()).forward().await;
    assert_eq!(first.state, EndState::Killed);
    assert_eq!(lease.mark.lock().unwrap().as_deref(), Some(first.run.as_str()));
    machine.disk.crash();
    let again = machine.open(Why::Resume, None, options());
    assert_eq!(again.resume().await.state, EndState::Done);
    assert_eq!(*lease.mark.lock().unwrap(), None, "another run may begin");
    assert_eq!(machine.record().last().unwrap(), "checkpoint", "what was written last is signed");
    let records = machine.record().len();
    drop(again);

    *lease.mark.lock().unwrap() = Some("another".into());
    let again = machine.open(Why::Resume, None, options());
    assert_eq!(again.resume().await.state, EndState::Done);
    assert_eq!(lease.mark.lock().unwrap().as_deref(), Some("another"), "whose mark it is, is looked at");
    assert_eq!(machine.record().len(), records, "nothing is left to be signed");
}

fn slow_plan() -> Plan {
    let slow = step(Role::Change, "s", "t::slow", vec![lit("s"), lit("35")]);
    locked(plan(vec![phase("p", vec![slow, set("x", "2")])]))
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_renewed_while_the_run_works_and_let_go_at_its_end() {
    let machine = Machine::new();
    let lease = Lease::default();
    let options = Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let ending = machine.start(slow_plan(), None, options).forward().await;
    assert_eq!(ending.state, EndState::Done);
    assert_eq!(lease.renewals.load(Ordering::Relaxed), 3);
    assert!(lease.notes.load(Ordering::Relaxed) >= 2);
    assert!(!lease.held.load(Ordering::Relaxed));
    assert_eq!(*lease.mark.lock().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_second_run_on_the_same_target_changes_nothing() {
    let machine = Machine::new();
    let lease = Lease::default();
    *lease.mark.lock().unwrap() = Some("20261121-k7qd".into());
    let before = machine.target();
    let options = Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let ending = machine.start(slow_plan(), None, options).forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::TargetLocked));
    assert!(ending.failure.unwrap().message.contains("20261121-k7qd"));
    assert_eq!(machine.target(), before);
    assert!(lease.mark.lock().unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_stops_the_run_before_its_next_change() {
    let machine = Machine::new();
    let lease = Lease::default();
    lease.lost.store(true, Ordering::Relaxed);
    let options = Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let ending = machine.start(slow_plan(), None, options).forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::TargetLocked));
    assert_eq!(machine.target()["x"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_a_lost_lock_before_the_lease_ends() {
    let machine = Machine::new();
    let lease = Lease::default();
    lease.hangs.store(true, Ordering::Relaxed);
    let options = Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let begun = tokio::time::Instant::now();
    let ending = machine.start(slow_plan(), None, options).forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::TargetLocked));
    assert_eq!(begun.elapsed().as_secs(), 25, "a Lease of 30 seconds is given up before it ends");
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_the_record_is_found_and_told_without_telling_it() {
    let machine = Machine::new();
    let leaky = step(Role::Stage, "key", "t::leaky", vec![]);
    let ending = machine.run(plan(vec![phase("p", vec![leaky])])).await;
    assert_eq!((ending.state, ending.exit), (EndState::Done, ExitCode::SecretLeaked), "{ending:?}");
    let told = ending.failure.unwrap().to_string();
    assert!(told.contains("journal.jsonl") && !told.contains("the-key-itself"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn cancelled_it_stops_at_once_keeps_the_mark_and_can_be_resumed() {
    let machine = Machine::new();
    let lease = Lease::default();
    let options = Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let cancel = options.cancel.clone();
    let run = machine.start(slow_plan(), None, options);
    let begun = tokio::time::Instant::now();
    let (ending, ()) = tokio::join!(run.forward(), async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        cancel.cancel();
    });
    assert_eq!((ending.state, ending.exit), (EndState::Interrupted, ExitCode::Interrupted));
    assert_eq!(ExitCode::Interrupted.number(), 130);
    assert_eq!(begun.elapsed().as_secs(), 7);
    assert!(ending.next[0].command.starts_with("rollover resume "), "{:?}", ending.next);
    assert!(lease.mark.lock().unwrap().is_some() && !lease.held.load(Ordering::Relaxed));
    assert!(machine.record().join(" ").ends_with("note checkpoint"));
    drop(run);
    let options = Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let ending = machine.open(Why::Resume, None, options).resume().await;
    assert_eq!(ending.state, EndState::Done, "{ending:?}");
    assert_eq!(*lease.mark.lock().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn given_up_it_clears_the_mark_only_when_told_to_leave_it_mixed() {
    let machine = Machine::new();
    let lease = Lease::default();
    let options = || Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let fails = step(Role::Change, "f", "t::flaky", vec![lit("f"), lit("1")]);
    let broken = locked(plan(vec![phase("p", vec![set("x", "2"), fails])]));
    assert_eq!(machine.start(broken, None, options()).forward().await.state, EndState::Stopped);
    let ending = machine.open(Why::Abort, None, options()).abort(false).await;
    assert_eq!((ending.state, ending.exit), (EndState::Aborted, ExitCode::Aborted));
    assert_eq!(ending.changed[0].place, "file:/target/x");
    assert!(lease.mark.lock().unwrap().is_some());
    let ending = machine.open(Why::Abort, None, options()).abort(true).await;
    assert_eq!((ending.state, ending.exit), (EndState::Aborted, ExitCode::Ok));
    assert_eq!(*lease.mark.lock().unwrap(), None);
    assert_eq!(machine.rollback().await.state, EndState::RolledBack, "it can be taken up again");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_changed_nothing_is_given_up_though_its_target_is_gone_but_not_while_another_has_it() {
    let machine = Machine::new();
    let lease = Lease::default();
    let options = || Options { lock: Arc::new(lease.clone()), ..machine.options() };
    let stopped = options();
    stopped.cancel.cancel();
    let ending = machine.start(locked(slow_plan()), None, stopped).forward().await;
    assert_eq!(ending.state, EndState::Interrupted);

    *lease.mark.lock().unwrap() = Some("another".into());
    let ending = machine.open(Why::Abort, None, options()).abort(false).await;
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::TargetLocked));
    lease.gone.store(true, Ordering::Relaxed);
    let ending = machine.open(Why::Abort, None, options()).abort(false).await;
    assert_eq!((ending.state, ending.exit), (EndState::Aborted, ExitCode::Ok));
}

#[tokio::test(start_paused = true)]
async fn an_altered_copy_is_refused_and_a_changed_file_is_told() {
    let machine = Machine::new();
    let (plan, options) = (slow_plan(), machine.options());
    options.cancel.cancel();
    machine.start(plan, None, options).forward().await;
    let current = BTreeMap::from([("main.rhai".to_owned(), b"// edited".to_vec())]);
    let options = Options { current_sources: Some(current), ..machine.options() };
    drop(machine.open(Why::Resume, None, options));
    let told =
        |event: &Event| matches!(event, Event::Note { text } if text.contains("`main.rhai` has changed"));
    assert!(machine.reporter.events().iter().any(told));
    let gone = Options { current_sources: Some(BTreeMap::new()), ..machine.options() };
    drop(machine.open(Why::Resume, None, gone));
    let notes = machine.reporter.events();
    let unread =
        |event: &&Event| matches!(event, Event::Note { text } if text.contains("cannot be read any more"));
    assert_eq!(notes.iter().filter(unread).count(), 1);
    assert_eq!(notes.iter().filter(|event| told(event)).count(), 1, "what is gone has not changed");
    let (path, _) = machine.disk.files().into_iter().find(|(_, bytes)| bytes == b"// toy").unwrap();
    stdlib::world::Disk::write_atomic(&machine.disk, &path, b"// evil", 0o600).unwrap();
    let refused = machine.try_open(Why::Resume, None, machine.options()).err().unwrap();
    assert_eq!(refused.exit, ExitCode::PinnedAltered);
    assert!(refused.message.contains("main.rhai"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn two_processes_cannot_work_on_one_run_and_an_unwritable_folder_begins_none() {
    let machine = Machine::new();
    let run = machine.start(rotation(), None, machine.options());
    let busy = machine.try_open(Why::Resume, None, machine.options()).err().unwrap();
    assert_eq!(busy.exit, ExitCode::RunBusy);
    drop(run);
    machine.disk.inject(Fault::ReadOnly("/state".into()));
    let refused = machine.try_start(rotation(), None, machine.options()).err().unwrap();
    assert_eq!(refused.exit, ExitCode::StateUnwritable);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_changes_nothing_costs_two_records_and_one_sync() {
    let mut costs = Vec::new();
    for steps in [5, 15] {
        let machine = Machine::new();
        let proofs = (0..steps).map(|n| serves(&format!("nobody {n}")));
        let ending = machine.run(plan(vec![phase("p", proofs.collect())])).await;
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        costs.push((machine.disk.counts(), machine.record().len()));
    }
    let [((few_writes, few_syncs), few), ((many_writes, many_syncs), many)] = costs[..] else {
        unreachable!()
    };
    assert_eq!((many - few, many_writes - few_writes, many_syncs - few_syncs), (20, 20, 10));
}

#[tokio::test(start_paused = true)]
async fn a_finished_run_is_only_told_of_and_can_still_go_back() {
    let machine = Machine::new();
    let run = machine.start(rotation(), None, machine.options());
    assert_eq!(run.forward().await.state, EndState::Done);
    let records = machine.record().len();
    assert_eq!(run.forward().await.state, EndState::Done);
    assert_eq!(machine.record().len(), records);
    assert_eq!(run.back("changed my mind").await.state, EndState::RolledBack);
    let ending = run.forward().await;
    assert_eq!((ending.state, ending.exit), (EndState::Refused, ExitCode::NoWayBack));
    assert_eq!(run.back("again").await.state, EndState::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn declared_back_steps_stand_in_place_of_the_derived_undo() {
    let machine = Machine::new();
    let mut plan = plan(vec![phase("p", vec![set("x", "2")])]);
    let mut back = phase("p", vec![step(Role::Back, "undo", "t::set", vec![lit("x"), lit("by hand")])]);
    plan.phases[0].back = std::mem::take(&mut back.steps);
    assert_eq!(machine.run(plan).await.state, EndState::Done);
    assert_eq!(machine.rollback().await.state, EndState::RolledBack);
    assert_eq!(machine.target()["x"], "by hand");
}
