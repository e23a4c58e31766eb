//! What every part of the engine shares while it works on one run.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use stdlib::PrimError;
use stdlib::registry::Primitive;
use stdlib::world::World;
use tokio::sync::watch;
use tokio::time::Instant;

use super::gate::{ReadGate, StepGate};
use super::ledger::{Ledger, StepId};
use super::lock::HeldLock;
use super::options::{Hub, Options};
use super::stop::Stop;
use crate::error::Failure;
use crate::events::{Direction, Event, Question};
use crate::exit_code::ExitCode;
use crate::plan::{Expr, Plan, Role, Step};
use crate::plan::{resolve, resolve_all};

/// One run at work.
pub(crate) struct Core {
    pub plan: Arc<Plan>,
    pub world: World,
    pub ledger: Arc<Ledger>,
    pub hub: Hub,
    pub options: Options,
    /// The lock on the target once it is taken.
    pub held: watch::Sender<Option<Arc<dyn HeldLock>>>,
    /// The step that began last, and what was written beside the mark last.
    pub place: Mutex<(String, String)>,
    /// What the end of the last phase has measured, and when: the forecast of the next may rest on it.
    pub measured: Mutex<Option<(Instant, Value)>>,
    /// One question at a time.
    pub asking: tokio::sync::Mutex<()>,
}

/// One step, or one item of its `each`.
#[derive(Debug, Clone)]
pub(crate) struct Unit<'p> {
    pub step: &'p Step,
    pub id: StepId,
    pub item: Option<Value>,
}

impl Core {
    pub(crate) fn read_gate(&self, phase: &str, direction: Direction) -> ReadGate {
        ReadGate {
            ledger: self.ledger.clone(),
            hub: self.hub.clone(),
            marker: self.ledger.marker(phase, direction),
        }
    }

    pub(crate) fn step_gate(&self, id: &StepId, primitive: &str, role: Role, until: Instant) -> StepGate {
        StepGate::new(
            self.ledger.clone(),
            self.hub.clone(),
            self.options.cancel.clone(),
            self.options.may_touch.clone(),
            id.clone(),
            primitive.to_owned(),
            role,
        )
        .holding(self.held.borrow().clone())
        .until(until)
    }

    pub(crate) fn primitive(&self, name: &str) -> Result<&'static Primitive, PrimError> {
        self.options.registry.get(name).ok_or_else(|| {
            PrimError::internal(format!("no primitive is named `{name}`"))
                .hint("the run was begun by another version of the program; use that one")
        })
    }

    /// A failure of this step, with its place in the script.
    #[allow(clippy::unused_self, reason = "reads better as a method")]
    pub(crate) fn failed(&self, id: &StepId, step: &Step, error: PrimError) -> Failure {
        Failure::of(ExitCode::of_step(&error), error).in_step(&id.key, &step.at)
    }

    pub(crate) async fn value(
        &self,
        id: &StepId,
        expr: &Expr,
        item: Option<&Value>,
    ) -> Result<Value, PrimError> {
        let gate = self.read_gate(&id.phase, id.direction);
        let outputs = |key: &str| self.ledger.output(key);
        resolve(expr, &outputs, item, &self.world, &gate, self.options.registry).await
    }

    pub(crate) async fn values(
        &self,
        id: &StepId,
        exprs: &[Expr],
        item: Option<&Value>,
    ) -> Result<Vec<Value>, PrimError> {
        let gate = self.read_gate(&id.phase, id.direction);
        let outputs = |key: &str| self.ledger.output(key);
        resolve_all(exprs, &outputs, item, &self.world, &gate, self.options.registry).await
    }

    /// Arguments of a unit. A unit with effects on record has its arguments on record too, and they are the ones that
    /// count: read again from a world that it has half changed they might differ.
    pub(crate) async fn arguments(&self, unit: &Unit<'_>) -> Result<Vec<Value>, PrimError> {
        if let Some(args) = self.ledger.args_in_force(&unit.id) {
            return Ok(args);
        }
        self.values(&unit.id, &unit.step.action.args, unit.item.as_ref()).await
    }

    /// The units of a step: one, none (its condition is false) or one an item. What the queries found is journaled.
    pub(crate) async fn expand<'p>(
        &self,
        phase: &str,
        direction: Direction,
        step: &'p Step,
    ) -> Result<Vec<Unit<'p>>, Stop> {
        let id = StepId { phase: phase.to_owned(), direction, key: step.key.clone() };
        let expansion = match self.ledger.expansion(&id)? {
            Some(expansion) => expansion,
            None if step.when.is_none() && step.each.is_none() => Expansion::default(),
            None => {
                let found = match self.query(&id, step).await {
                    Ok(found) => found,
                    Err(error) => return Err(self.could_not_begin(&id, step, error)),
                };
                self.ledger.expanded(&id, &found)?;
                found
            }
        };
        if expansion.when == Some(false) {
            if !self.ledger.is_done(&id) {
                self.ledger.skipped(&id)?;
                self.tell_skipped(&step.key, direction);
            }
            return Ok(Vec::new());
        }
        let Some(items) = expansion.items else {
            return Ok(vec![Unit { step, id, item: None }]);
        };
        let unit = |(n, item)| {
            let key = format!("{}[{n}]", step.key);
            Unit { step, id: StepId { key, ..id.clone() }, item: Some(item) }
        };
        Ok(items.into_iter().enumerate().map(unit).collect())
    }

    async fn query(&self, id: &StepId, step: &Step) -> Result<Expansion, PrimError> {
        if let Some(when) = &step.when {
            match self.value(id, when, None).await? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(Expansion { when: Some(false), items: None }),
                other => {
                    return Err(PrimError::invalid("the condition of `.when` is neither true nor false")
                        .expected("true or false", kind_of(&other)));
                }
            }
        }
        let when = step.when.as_ref().map(|_| true);
        let Some(each) = &step.each else { return Ok(Expansion { when, items: None }) };
        match self.value(id, each, None).await? {
            Value::Array(items) => Ok(Expansion { when, items: Some(items) }),
            other => {
                Err(PrimError::invalid("what `.each` is given is no list")
                    .expected("a list", kind_of(&other)))
            }
        }
    }

    /// A step with `each` is done as a whole when each of its items is; it has produced what they have, in order.
    pub(crate) fn close_each(&self, phase: &str, direction: Direction, step: &Step) -> Result<(), Stop> {
        let id = StepId { phase: phase.to_owned(), direction, key: step.key.clone() };
        if step.each.is_none() || self.ledger.is_done(&id) || !self.ledger.expanded_here(&id) {
            return Ok(());
        }
        let items = self.ledger.expansion(&id)?.and_then(|found| found.items).unwrap_or_default();
        let outputs = (0..items.len())
            .map(|n| self.ledger.output_here(&StepId { key: format!("{}[{n}]", step.key), ..id.clone() }))
            .collect();
        self.ledger.done(&id, &Value::Array(outputs))?;
        Ok(())
    }

    /// A step that failed before its intent: its arguments or its queries have no value.
    pub(crate) fn could_not_begin(&self, id: &StepId, step: &Step, error: PrimError) -> Stop {
        if let Err(halt) = self.ledger.could_not_begin(id, &error) {
            return halt.into();
        }
        let failure = self.failed(id, step, error);
        self.ended(id, crate::events::StepResult::Failed, 0, Some(failure.clone()), None);
        Stop::Failed(failure)
    }

    /// Asks, and journals the answer.
    pub(crate) async fn ask(
        &self,
        phase: Option<&str>,
        direction: Direction,
        question: Question,
    ) -> Result<bool, Stop> {
        let _one_at_a_time = self.asking.lock().await;
        self.hub.tell(&Event::Asked { question: question.clone() });
        let answer = self.options.approver.ask(&question).await;
        self.ledger.approval(phase, direction, &question, &answer)?;
        self.hub.tell(&Event::Answered { yes: answer.yes, who: answer.who });
        Ok(answer.yes)
    }
}

/// What the queries of a step found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Expansion {
    /// What the condition gave; `None` where the step has none.
    pub when: Option<bool>,
    /// The items of `each`.
    pub items: Option<Vec<Value>>,
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
