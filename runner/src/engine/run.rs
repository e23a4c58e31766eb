//! A run: begun or opened, then driven forward, back, or given up.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use journal::{Tools, Why};
use serde_json::Value;
use stdlib::lease::Leave;
use stdlib::world::World;
use tokio::sync::watch;

use super::core::Core;
use super::ending;
use super::open::{self, Opened};
use super::options::{Hub, Options};
use super::stop::Stop;
use crate::capabilities;
use crate::error::Failure;
use crate::events::{Direction, EndState, Ending, Event, PlannedPhase, PlannedStep, Question};
use crate::exit_code::ExitCode;
use crate::plan::{Phase, Plan, Step};
use crate::record;

/// Who works on a run, for its record.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Name and version of the program, e.g. `rollover 0.1.0`.
    pub program: String,
    /// Host name.
    pub host: String,
    /// User name.
    pub user: String,
    /// Process id.
    pub pid: u32,
}

/// What a new run is made of.
pub struct Begin {
    /// The step list.
    pub plan: Plan,
    /// Script, manifest, modules and parameter files by name: pinned.
    pub sources: BTreeMap<String, Vec<u8>>,
    /// How to reach the world again on a resume. Public.
    pub reach: Option<Value>,
    /// Who begins it.
    pub actor: Actor,
}

/// A run that this process works on; no other can at the same time.
pub struct Run {
    pub(super) core: Core,
    actor: Actor,
    resumed: bool,
    /// Whether the session that was opened with the run is used up.
    worked: std::sync::atomic::AtomicBool,
}

impl Run {
    /// Makes the run's folder, pins plan and sources, and moves the secrets of the plan into the run's vault. Nothing
    /// else is touched.
    ///
    /// # Errors
    /// The state folder cannot be written ([`ExitCode::StateUnwritable`]).
    pub fn start(
        begin: Begin,
        world: World,
        store: &journal::Store,
        tools: Tools,
        options: Options,
    ) -> Result<Self, Failure> {
        let actor = begin.actor.clone();
        let opened = open::begin(begin, &world, store, tools)?;
        Self::assemble(opened, actor, world, options, false)
    }

    /// Opens a run again, by its id or a unique prefix. The step list is the pinned one.
    ///
    /// # Errors
    /// No such run, another process works on it, its pinned copies were altered, or its format is newer.
    pub fn open(
        run: &str,
        actor: &Actor,
        why: Why,
        world: World,
        store: &journal::Store,
        tools: Tools,
        options: Options,
    ) -> Result<Self, Failure> {
        let opened = open::open(run, actor, why, store, tools)?;
        Self::assemble(opened, actor.clone(), world, options, true)
    }

    fn assemble(
        opened: Opened,
        actor: Actor,
        world: World,
        mut options: Options,
        resumed: bool,
    ) -> Result<Self, Failure> {
        let Opened { plan, ledger, sources } = opened;
        let world = World { secrets: ledger.secrets(), ..world };
        if options.may_touch.is_none() {
            // By the pinned manifest: what the run may change cannot grow while it goes on.
            let manifest = record::manifest(&sources)?;
            options.may_touch = manifest.map(|manifest| capabilities::at_gate(&manifest, &plan, &world));
        }
        let hub = Hub { reporter: options.reporter.clone(), clock: world.clock.clone() };
        if let Some(current) = &options.current_sources {
            if current.is_empty() {
                hub.note("the workflow's files cannot be read any more; the run goes by its own copies");
            }
            for name in differing(&sources, current) {
                hub.note(format!("`{name}` has changed since the run began; the run goes by its own copy"));
            }
        }
        let core = Core {
            plan,
            world,
            ledger: Arc::new(ledger),
            hub,
            options,
            held: watch::Sender::new(None),
            place: std::sync::Mutex::default(),
            measured: std::sync::Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
        };
        Ok(Self { core, actor, resumed, worked: std::sync::atomic::AtomicBool::new(false) })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.core.ledger.run_id()
    }

    /// Its pinned step list.
    pub fn plan(&self) -> &Plan {
        &self.core.plan
    }

    /// Which way it was going.
    pub fn direction(&self) -> Direction {
        if self.core.ledger.turned() { Direction::Back } else { Direction::Forward }
    }

    /// Goes on in the direction that it had.
    pub async fn resume(&self) -> Ending {
        match self.direction() {
            Direction::Forward => self.forward().await,
            Direction::Back => self.back("resumed").await,
        }
    }

    /// Goes forward to the end of the plan, or to the first step that fails.
    pub async fn forward(&self) -> Ending {
        let direction = Direction::Forward;
        if self.core.ledger.ended() == Some(journal::EndState::Done) {
            return self.finished(EndState::Done).await;
        }
        self.tell_start(direction);
        if self.core.ledger.turned() {
            let text = "the run has turned back; it cannot go forward again";
            let failure = Failure::new(ExitCode::NoWayBack, text).hint(format!(
                "`{} rollback {}` goes on going back",
                self.core.options.program,
                self.id()
            ));
            return self.over(EndState::Refused, failure);
        }
        let result = self
            .drive(async {
                self.session(Why::Resume)?;
                self.approve_start().await?;
                self.core.forward().await
            })
            .await;
        match result {
            Ok(()) => self.finish(journal::EndState::Done, "", None).await,
            // Where something is owed everything else is done: that is no failure to go back for.
            Err(Stop::Failed(failure))
                if self.core.options.rollback_on_failure && failure.exit != ExitCode::Owed =>
            {
                let why = failure.to_string();
                if self.core.way_back().is_err() {
                    return self.stopped(Stop::Failed(failure)).await;
                }
                self.core.hub.note(format!("going back: {why}"));
                self.turn_and_go_back(&why, Some(failure)).await
            }
            Err(stop) => self.stopped(stop).await,
        }
    }

    /// Goes back to where the run began.
    pub async fn back(&self, why: &str) -> Ending {
        if self.core.ledger.ended() == Some(journal::EndState::RolledBack) {
            return self.finished(EndState::RolledBack).await;
        }
        self.tell_start(Direction::Back);
        if let Err(failure) = self.core.way_back() {
            return self.over(EndState::Refused, failure);
        }
        if !self.core.ledger.turned()
            && let Err(failure) = self.core.unobstructed().await
        {
            return self.over(EndState::Refused, failure);
        }
        if let Err(stop) = self.session(Why::Rollback) {
            return self.stopped(stop).await;
        }
        self.turn_and_go_back(why, None).await
    }

    async fn turn_and_go_back(&self, why: &str, cause: Option<Failure>) -> Ending {
        let result = self
            .drive(async {
                self.core.ledger.turn(why)?;
                self.core.back().await
            })
            .await;
        match result {
            Ok(()) => self.finish(journal::EndState::RolledBack, why, cause).await,
            // Stopped between two states is stuck, whatever stopped it there.
            Err(Stop::Failed(failure)) => self.stopped(Stop::Stuck(failure)).await,
            Err(stop) => self.stopped(stop).await,
        }
    }

    /// Gives the run up where it stands. The mark on the target is cleared only with `leave_mixed`, or where nothing
    /// is mixed.
    pub async fn abort(&self, leave_mixed: bool) -> Ending {
        let mixed = ending::changed(&self.core.ledger.made(true));
        let mut leaks = Vec::new();
        let result = self
            .drive(async {
                self.session(Why::Abort)?;
                let unchanged = !self.core.ledger.anything_changed();
                if leave_mixed || mixed.is_empty() {
                    match self.core.take_lock().await {
                        // A target that is gone or does not answer keeps nobody in a run that never touched it.
                        Err(Stop::Refused(why)) if unchanged && why.exit != ExitCode::TargetLocked => {
                            self.core.ledger.note(&format!("the target was not asked: {why}"))?;
                        }
                        other => other?,
                    }
                } else {
                    self.core.disarm().await?;
                }
                let why = if mixed.is_empty() { "nothing was changed" } else { "given up where it stood" };
                leaks = self.close(journal::EndState::Aborted, why)?;
                Ok(())
            })
            .await;
        if let Err(stop) = result {
            return self.stopped(stop).await;
        }
        let aborted = self.core.last(journal::EndState::Aborted);
        let unchanged = !self.core.ledger.anything_changed();
        self.core.release_lock(if unchanged { Leave::Nothing } else { Leave::Last(aborted) }).await;
        if !leaks.is_empty() {
            return self.leaked(EndState::Aborted, &leaks);
        }
        if leave_mixed || mixed.is_empty() {
            return self.ending(EndState::Aborted, ExitCode::Ok, None);
        }
        let text = format!("the run stands between two states: {} places differ from before", mixed.len());
        self.over(EndState::Aborted, Failure::new(ExitCode::Aborted, text))
    }

    /// A run that is over is told of once more; what its last process did not come to is done.
    async fn finished(&self, state: EndState) -> Ending {
        if let Err(halt) = self.core.ledger.sign_tail() {
            return self.stopped(Stop::Halted(halt)).await;
        }
        self.core.forget_lock().await;
        self.ending(state, ExitCode::Ok, None)
    }

    /// A second try in one process is a session of its own, as it would be in another.
    fn session(&self, why: Why) -> Result<(), Stop> {
        if self.worked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            self.core.ledger.session(open::session(&self.actor, why))?;
        }
        Ok(())
    }

    /// Runs until the work is over or something from outside ends it. What ends it drops the work where it is, as a
    /// kill would; the record then says what is in doubt.
    async fn drive(&self, work: impl Future<Output = Result<(), Stop>>) -> Result<(), Stop> {
        let result = tokio::select! {
            biased;
            halt = self.core.ledger.halted() => Err(Stop::Halted(halt)),
            () = self.core.options.cancel.cancelled() => Err(Stop::Cancelled),
            result = work => result,
            failure = self.core.keep_lock() => Err(Stop::LockLost(failure)),
        };
        match result {
            // What failed may have failed because the run goes on elsewhere: then it is not this process's to judge.
            Err(Stop::Failed(_) | Stop::Stuck(_)) => match self.core.lost_lock().await {
                Some(failure) => Err(Stop::LockLost(failure)),
                None => result,
            },
            result => result,
        }
    }

    async fn approve_start(&self) -> Result<(), Stop> {
        let core = &self.core;
        if core.ledger.anything_begun() || core.ledger.approved("begin", "plan", Direction::Forward) {
            return Ok(());
        }
        let question = Question::Begin {
            workflow: core.plan.workflow.clone(),
            target: core.plan.target.as_ref().map(|target| target.title.clone()),
        };
        if core.ask(None, Direction::Forward, question).await? {
            return Ok(());
        }
        let failure = Failure::new(ExitCode::Declined, "the run was not approved; nothing was changed");
        Err(Stop::Refused(failure.hint("`--yes` agrees beforehand, where nobody can be asked")))
    }

    async fn finish(&self, state: journal::EndState, why: &str, cause: Option<Failure>) -> Ending {
        let leaks = match self.close(state, why) {
            Ok(leaks) => leaks,
            Err(stop) => return self.stopped(stop).await,
        };
        self.core.release_lock(Leave::Last(self.core.last(state))).await;
        let (ended, exit) = match state {
            journal::EndState::Done => (EndState::Done, ExitCode::Ok),
            journal::EndState::RolledBack if cause.is_some() => (EndState::RolledBack, ExitCode::RolledBack),
            _ => (EndState::RolledBack, ExitCode::Ok),
        };
        if leaks.is_empty() { self.ending(ended, exit, cause) } else { self.leaked(ended, &leaks) }
    }

    /// Closes and signs the record, once it is searched for secrets. Gives what was found.
    fn close(&self, state: journal::EndState, why: &str) -> Result<Vec<String>, Stop> {
        let leaks = self.core.ledger.leaks(&*self.core.world.disk)?;
        for leak in &leaks {
            self.core.ledger.note(leak)?;
        }
        self.core.ledger.end(state, why)?;
        self.core.ledger.checkpoint()?;
        Ok(leaks)
    }

    fn leaked(&self, state: EndState, leaks: &[String]) -> Ending {
        let exit = ExitCode::SecretLeaked;
        let failure = Failure::new(exit, leaks.join("; "));
        self.ending(state, exit, Some(failure.hint("treat the secret as known to others, and replace it")))
    }

    /// Writes down why the run stands, unless the journal is what failed, and lets go of the lock.
    async fn stopped(&self, stop: Stop) -> Ending {
        let state = stop.state();
        let failure = stop.clone().failure();
        if matches!(stop, Stop::Halted(_)) {
            return self.over(state, failure);
        }
        let written = match &stop {
            Stop::Stuck(failure) => self.core.ledger.stuck(failure),
            Stop::Failed(_) => Ok(()),
            _ => self.core.ledger.note(&format!("stopped: {failure}")),
        };
        if let Err(halt) = written.and_then(|()| self.core.ledger.checkpoint().map(|_| ())) {
            let stop = Stop::Halted(halt);
            return self.over(stop.state(), stop.failure());
        }
        // The mark stays: only this run's own resume, rollback or abort may clear it. A run that never changed
        // anything has nothing to protect.
        let changed = self.core.ledger.anything_changed();
        self.core.release_lock(if changed { Leave::Mark } else { Leave::Nothing }).await;
        self.over(state, failure)
    }

    fn over(&self, state: EndState, failure: Failure) -> Ending {
        self.ending(state, failure.exit, Some(failure))
    }

    fn ending(&self, state: EndState, exit: ExitCode, failure: Option<Failure>) -> Ending {
        let core = &self.core;
        let changed = ending::changed(&core.ledger.made(true));
        let way_back = core.way_back().is_ok() && state != EndState::RolledBack;
        let left = if !changed.is_empty() {
            ending::Left::Mixed
        } else if core.ledger.anything_changed() {
            ending::Left::Touched
        } else {
            ending::Left::Untouched
        };
        let next = ending::next(&core.options.program, self.id(), state, way_back, left);
        let ending = Ending {
            run: self.id().to_owned(),
            state,
            exit,
            failure,
            success: core.plan.success.clone().filter(|_| state == EndState::Done),
            changed,
            record: core.ledger.folder(),
            head: core.ledger.head(),
            next,
        };
        core.hub.tell(&Event::RunEnded { ending: ending.clone() });
        ending
    }

    fn tell_start(&self, direction: Direction) {
        let core = &self.core;
        core.hub.tell(&Event::RunStarted {
            run: self.id().to_owned(),
            workflow: core.plan.workflow.clone(),
            title: core.plan.title.clone(),
            target: core.plan.target.as_ref().map(|target| target.title.clone()),
            direction,
            resumed: self.resumed,
        });
        core.hub.tell(&told(&core.plan));
    }
}

/// The plan as an event: its phases, and what the script says to the reader.
pub fn told(plan: &Plan) -> Event {
    let notes = plan.notes.iter().map(|note| note.text.clone()).collect();
    Event::Plan { phases: planned(plan), notes }
}

/// The phases of a plan as they are shown.
pub fn planned(plan: &Plan) -> Vec<PlannedPhase> {
    let step = |step: &Step| PlannedStep {
        key: step.key.clone(),
        role: step.role,
        item: step.item.clone(),
        action: step.action.primitive.clone(),
        deadline_s: step.deadline_s,
        parallel: step.parallel.is_some(),
    };
    let phase = |phase: &Phase| PlannedPhase {
        name: phase.name.clone(),
        why: phase.why.clone(),
        point_of_no_return: phase.final_,
        outage: phase.outage,
        steps: phase.steps.iter().map(step).collect(),
    };
    plan.phases.iter().map(phase).collect()
}

/// Names of pinned sources that are otherwise now, or gone.
fn differing(pinned: &BTreeMap<String, Vec<u8>>, now: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    pinned
        .iter()
        .filter(|(name, content)| !now.is_empty() && now.get(*name) != Some(content))
        .map(|(name, _)| name.clone())
        .collect()
}
