//! One step: its attempts, its deadline, what happens when it fails.

use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use stdlib::PrimError;
use stdlib::error::Code;
use tokio::time::Instant;

use super::core::{Core, Unit};
use super::gate::StepGate;
use super::ledger::StepId;
use super::stop::Stop;
use crate::error::Failure;
use crate::events::{Direction, Event, Question, StepResult};
use crate::plan::{OnFailure, Role, Step};

/// A unit whose arguments are values; its first intent may be durable already.
pub(crate) struct Ready<'p> {
    pub unit: Unit<'p>,
    pub args: Vec<Value>,
}

impl Core {
    /// Arguments of a unit that has still to run.
    pub(crate) async fn prepare<'p>(&self, unit: Unit<'p>) -> Result<Ready<'p>, Stop> {
        match self.arguments(&unit).await {
            Ok(args) => Ok(Ready { unit, args }),
            Err(error) => Err(self.could_not_begin(&unit.id, unit.step, error)),
        }
    }

    /// Runs a unit whose intent is durable until it is done, gives up, or its deadline passes.
    pub(crate) async fn attempts(&self, ready: Ready<'_>) -> Result<(), Stop> {
        let Ready { unit, args } = ready;
        let (step, id) = (unit.step, &unit.id);
        let mut patience = Patience::of(step);
        let primitive = match self.primitive(&step.action.primitive) {
            Ok(primitive) => primitive,
            Err(error) => return Err(self.give_up(id, step, error, 0)?),
        };
        let mut until = Instant::now() + Duration::from_secs(step.deadline_s);
        loop {
            self.started(id, step);
            let begun = Instant::now();
            let gate = self.step_gate(id, primitive.name, step.role, until);
            let work = (primitive.run)(&self.world, &args, &gate);
            let result = self.bounded(work, &gate, until).await;
            self.ledger.alive()?;
            let ms = millis(begun);
            let error = match result.and_then(|output| is_data(&output).map(|()| output)) {
                Ok(output) => {
                    self.ledger.done(id, &output)?;
                    self.ended(id, StepResult::Done, ms, None, None);
                    return Ok(());
                }
                Err(error) => error,
            };
            let refused = gate.refusal().is_some();
            if !refused && let Some(pause) = patience.next(&error, until) {
                self.ledger.failed(id, &error)?;
                let failure = self.failed(id, step, error);
                let again = u64::try_from(pause.as_millis()).ok();
                self.ended(id, StepResult::Failed, ms, Some(failure), again);
                self.world.clock.sleep(pause).await;
            } else {
                let stop = self.give_up(id, step, error, ms)?;
                let Stop::Failed(failure) = &stop else { return Err(stop) };
                let ask = step.on_failure == OnFailure::Ask && !refused;
                let question = Question::Again { step: id.key.clone(), failure: failure.clone() };
                if !ask || !self.ask(Some(&id.phase), id.direction, question).await? {
                    return Err(stop);
                }
                until = Instant::now() + Duration::from_secs(step.deadline_s);
            }
            self.ledger.intent(id, &step.action, &args)?;
        }
    }

    fn give_up(&self, id: &StepId, step: &Step, error: PrimError, ms: u64) -> Result<Stop, Stop> {
        self.ledger.failed(id, &error)?;
        let failure = self.failed(id, step, error);
        self.ended(id, StepResult::Failed, ms, Some(failure.clone()), None);
        Ok(Stop::Failed(failure))
    }

    /// Awaits a primitive until its deadline. A panic is an internal error; a refusal of the gate counts whatever the
    /// primitive made of it.
    pub(crate) async fn bounded<T>(
        &self,
        work: BoxFuture<'_, Result<T, PrimError>>,
        gate: &StepGate,
        until: Instant,
    ) -> Result<T, PrimError> {
        let caught = AssertUnwindSafe(work).catch_unwind();
        let result = match tokio::time::timeout_at(until, caught).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PrimError::internal("the primitive panicked")),
            Err(_) => Err(gate.waited.over()),
        };
        gate.refusal().map_or(result, Err)
    }

    pub(crate) fn started(&self, id: &StepId, step: &Step) {
        id.key.clone_into(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner).0);
        self.hub.tell(&Event::StepStarted {
            phase: id.phase.clone(),
            step: id.key.clone(),
            role: step.role,
            direction: id.direction,
            attempt: self.ledger.attempts(id).max(1),
            at: step.at.clone(),
        });
    }

    pub(crate) fn ended(
        &self,
        id: &StepId,
        result: StepResult,
        ms: u64,
        failure: Option<Failure>,
        again_in_ms: Option<u64>,
    ) {
        self.hub.tell(&Event::StepEnded {
            step: id.key.clone(),
            direction: id.direction,
            result,
            ms,
            failure,
            again_in_ms,
        });
    }

    /// Makes something random: staged durably first, then the intent that names it, then the outcome. What a killed
    /// attempt has staged is used again.
    pub(crate) async fn stage(&self, unit: Unit<'_>) -> Result<(), Stop> {
        let (step, id) = (unit.step, &unit.id);
        if self.ledger.is_done(id) {
            return Ok(());
        }
        let mut patience = Patience::of(step);
        let mut until = Instant::now() + Duration::from_secs(step.deadline_s);
        loop {
            self.started(id, step);
            let begun = Instant::now();
            let error = match self.make(&unit, until).await {
                Ok((args, output)) => {
                    self.ledger.intent(id, &step.action, &args)?;
                    self.ledger.done(id, &output)?;
                    self.ended(id, StepResult::Done, millis(begun), None, None);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.ledger.alive()?;
            let pause = patience.next(&error, until);
            self.ledger.could_not_begin(id, &error)?;
            let failure = self.failed(id, step, error);
            let again = pause.and_then(|pause| u64::try_from(pause.as_millis()).ok());
            self.ended(id, StepResult::Failed, millis(begun), Some(failure.clone()), again);
            if let Some(pause) = pause {
                self.world.clock.sleep(pause).await;
            } else {
                let question = Question::Again { step: id.key.clone(), failure: failure.clone() };
                let ask = step.on_failure == OnFailure::Ask;
                if !ask || !self.ask(Some(&id.phase), Direction::Forward, question).await? {
                    return Err(Stop::Failed(failure));
                }
                until = Instant::now() + Duration::from_secs(step.deadline_s);
            }
        }
    }

    async fn make(&self, unit: &Unit<'_>, until: Instant) -> Result<(Vec<Value>, Value), PrimError> {
        let args = self.arguments(unit).await?;
        if let Some(staged) = self.ledger.staged(&unit.id)? {
            return Ok((args, staged));
        }
        let primitive = self.primitive(&unit.step.action.primitive)?;
        let gate = self.step_gate(&unit.id, primitive.name, unit.step.role, until);
        let work = (primitive.run)(&self.world, &args, &gate);
        let output = self.bounded(work, &gate, until).await?;
        is_data(&output)?;
        Ok((args, self.ledger.stage(&unit.id, &output)?))
    }
}

/// Outputs are data: what canonical JSON can express and a resume can read back.
fn is_data(value: &Value) -> Result<(), PrimError> {
    match value {
        Value::Number(number) if number.as_f64().is_none_or(|n| !n.is_finite()) => {
            Err(PrimError::internal("the step produced a number that cannot be recorded"))
        }
        Value::Array(items) => items.iter().try_for_each(is_data),
        Value::Object(fields) => fields.values().try_for_each(is_data),
        _ => Ok(()),
    }
}

pub(crate) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// How often and after which pause a failed step is tried again.
pub(crate) struct Patience {
    left: u32,
    pause: Duration,
    only_passing: bool,
}

impl Patience {
    fn of(step: &Step) -> Self {
        match step.on_failure {
            OnFailure::Retry { times, pause_ms } => {
                Self { left: times, pause: Duration::from_millis(pause_ms), only_passing: false }
            }
            OnFailure::Stop | OnFailure::Ask => Self { left: 0, pause: Duration::ZERO, only_passing: false },
        }
    }

    /// For undoing: stuck is expensive, so what may pass by itself is tried again even where nothing was said.
    pub(crate) fn for_undo(step: &Step) -> Self {
        match step.on_failure {
            OnFailure::Retry { .. } => Self::of(step),
            _ => Self { left: 4, pause: Duration::from_secs(1), only_passing: true },
        }
    }

    /// The pause before the next attempt, twice as long each time; `None` when there is none.
    pub(crate) fn next(&mut self, error: &PrimError, until: Instant) -> Option<Duration> {
        let hopeless = matches!(error.code, Code::Argument | Code::Internal | Code::Refused);
        if self.left == 0 || hopeless || (self.only_passing && !error.retryable()) {
            return None;
        }
        let pause = self.pause;
        if Instant::now() + pause >= until {
            return None;
        }
        self.left -= 1;
        self.pause = self.pause.saturating_mul(2);
        Some(pause)
    }
}

/// How many of the steps of a role belong together, in order of declaration.
pub(crate) fn groups(steps: &[Step], role: Role) -> Vec<Vec<&Step>> {
    let mut groups: Vec<Vec<&Step>> = Vec::new();
    for step in steps.iter().filter(|step| step.role == role) {
        let together =
            |last: &&Step| matches!((last.parallel, step.parallel), (Some(a), Some(b)) if a.group == b.group);
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(together) => group.push(step),
            _ => groups.push(vec![step]),
        }
    }
    groups
}
