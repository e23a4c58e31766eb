//! The runner's side of [`stdlib::gate::Gate`]: record first, then permit.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use serde_json::Value;
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::gate::{Effect, Gate, Past, Permit, Place, Progress, RecordedEffect, Table};

use tokio::time::Instant;

use super::cancel::Cancel;
use super::judge::{Seen, Verdict, judge, judge_restore};
use super::ledger::{Ledger, StepId};
use super::lock::HeldLock;
use super::options::Hub;
use super::waited::Waited;
use crate::events::Event;
use crate::plan::Role;

/// Whether the workflow may change a place; what it may is in its manifest.
pub type MayTouch = Arc<dyn Fn(&Place) -> Result<(), PrimError> + Send + Sync>;

/// An effect that is being put back: its number in the record, its place, what the step left there, what was there before.
#[derive(Clone)]
pub(crate) struct Restoring {
    pub seq: u64,
    pub effect: RecordedEffect,
}

/// The gate of one attempt of one step in one direction.
pub(crate) struct StepGate {
    pub ledger: Arc<Ledger>,
    pub hub: Hub,
    pub cancel: Cancel,
    pub may_touch: Option<MayTouch>,
    pub held: Option<Arc<dyn HeldLock>>,
    pub id: StepId,
    pub primitive: String,
    pub role: Role,
    pub restoring: Vec<Restoring>,
    pub waited: Waited,
    /// The one of these whose turn it is. A step may have changed one place several times.
    turn: usize,
    sticky: Mutex<Option<PrimError>>,
}

impl StepGate {
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        hub: Hub,
        cancel: Cancel,
        may_touch: Option<MayTouch>,
        id: StepId,
        primitive: String,
        role: Role,
    ) -> Self {
        Self {
            ledger,
            hub,
            cancel,
            may_touch,
            held: None,
            id,
            primitive,
            role,
            restoring: Vec::new(),
            waited: Waited::default(),
            turn: 0,
            sticky: Mutex::new(None),
        }
    }

    /// The lock without which nothing is written.
    pub(crate) fn holding(mut self, held: Option<Arc<dyn HeldLock>>) -> Self {
        self.held = held;
        self
    }

    /// Until when its step may run.
    pub(crate) fn until(mut self, until: Instant) -> Self {
        self.waited = Waited::until(until);
        self
    }

    /// What its step puts back, and whose turn it is.
    pub(crate) fn restoring(mut self, restoring: Vec<Restoring>, turn: usize) -> Self {
        (self.restoring, self.turn) = (restoring, turn);
        self
    }

    /// The first refusal. It counts whatever the primitive returned: a refusal cannot be swallowed.
    pub(crate) fn refusal(&self) -> Option<PrimError> {
        self.sticky.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse(&self, error: PrimError) -> PrimError {
        let mut sticky = self.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        sticky.get_or_insert(error).clone()
    }

    /// The recorded effect that this one puts back.
    fn restored(&self, place: &Place) -> Option<&Restoring> {
        let now = self.restoring.get(self.turn).into_iter();
        now.chain(&self.restoring).find(|restoring| restoring.effect.place == *place)
    }

    fn decide(&self, effect: &Effect) -> Verdict {
        let place = &effect.place;
        let own: Vec<Seen> = self.ledger.own_effects(&self.id, place);
        if let Some(restoring) = self.restored(place) {
            let recorded = &restoring.effect;
            return judge_restore(&effect.before, &effect.after, (&recorded.after, &recorded.before), &own);
        }
        let last = self.ledger.last_standing(&self.id, place);
        judge(&effect.before, &effect.after, effect.class, &own, last.as_ref())
    }

    fn pass(&self, effect: &Effect) -> Result<Permit, PrimError> {
        if let Some(refused) = self.refusal() {
            return Err(refused);
        }
        if self.cancel.is_cancelled() {
            return Err(self.refuse(PrimError::new(Code::Refused, "the run was cancelled")));
        }
        if let Some(halt) = self.ledger.halt() {
            return Err(self.refuse(PrimError::new(Code::Refused, halt.message)));
        }
        if matches!(self.role, Role::Stage | Role::Prove) {
            let text = format!("`.{}` must not change anything", self.role.word());
            return Err(self.refuse(PrimError::new(Code::Refused, text).on(effect.place.0.clone())));
        }
        if let Some(may_touch) = &self.may_touch {
            may_touch(&effect.place).map_err(|error| self.refuse(error))?;
        }
        match self.decide(effect) {
            Verdict::AlreadyDone => Ok(Permit::AlreadyDone),
            Verdict::Apply => {
                self.tell(effect);
                Ok(Permit::Apply)
            }
            Verdict::Conflict(known) => {
                let text = "somebody else has changed it since this run last wrote or read it";
                Err(self.refuse(
                    PrimError::new(Code::Conflict, text)
                        .on(effect.place.0.clone())
                        .expected(known.join(" or "), effect.before.clone())
                        .hint("bring it to one of the expected states, then resume or roll back"),
                ))
            }
            Verdict::Announce => {
                let puts_back = |restoring: &&Restoring| restoring.effect.before == effect.after;
                let restores = self.restored(&effect.place).filter(puts_back).map(|restoring| restoring.seq);
                self.ledger
                    .effect(&self.id, &self.primitive, effect, restores)
                    .map_err(|halt| self.refuse(PrimError::new(Code::Refused, halt.message)))?;
                self.tell(effect);
                Ok(Permit::Apply)
            }
        }
    }

    fn tell(&self, effect: &Effect) {
        self.hub.tell(&Event::Changing {
            step: self.id.key.clone(),
            place: effect.place.0.clone(),
            before: effect.before.clone(),
            after: effect.after.clone(),
        });
    }
}

impl Gate for StepGate {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        Box::pin(async move {
            self.holds().await?;
            self.pass(&effect)
        })
    }

    fn holds(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(async move {
            let Some(held) = &self.held else { return Ok(()) };
            held.holds().await.map_err(|error| match error.code {
                Code::Locked => self.refuse(error),
                _ => error,
            })
        })
    }

    fn progress(&self, progress: Progress) {
        self.waited.keep(&progress);
        self.hub.tell(&Event::StepProgress {
            step: self.id.key.clone(),
            text: progress.text,
            done: progress.done,
        });
    }

    fn is_late(&self) -> bool {
        self.waited.is_late()
    }

    fn explain(&self, why: &str) {
        self.waited.explain(why);
    }

    fn marker(&self) -> String {
        self.ledger.marker(&self.id.phase, self.id.direction)
    }

    fn note(&self, text: &str) -> Result<(), PrimError> {
        self.ledger.note(text).map_err(|halt| self.refuse(halt.into()))?;
        self.hub.note(text);
        Ok(())
    }

    fn table(&self, table: &Table) {
        self.hub.tell(&Event::Table { step: self.id.key.clone(), table: table.clone() });
    }

    fn replaced(&self, place: &Place) -> Result<Option<RecordedEffect>, PrimError> {
        let Some(made) = self.ledger.replaced(&self.id, place) else { return Ok(None) };
        let backup = self.ledger.backup(&made)?;
        Ok(Some(RecordedEffect { place: made.place, before: made.before, after: made.after, backup }))
    }

    fn put_back_together(&self) -> Result<Vec<RecordedEffect>, PrimError> {
        Ok(self.restoring.iter().map(|restoring| restoring.effect.clone()).collect())
    }

    fn history(&self) -> Vec<Past> {
        self.ledger.history()
    }
}

/// The gate of reads between steps (arguments, conditions, trust views): it knows the history and permits nothing.
pub(crate) struct ReadGate {
    pub ledger: Arc<Ledger>,
    pub hub: Hub,
    pub marker: String,
}

impl Gate for ReadGate {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        let place = effect.place.0;
        Box::pin(async move {
            Err(PrimError::new(Code::Refused, "only the action of a step may change this").on(place))
        })
    }

    fn progress(&self, progress: Progress) {
        self.hub.tell(&Event::Note { text: progress.text });
    }

    fn marker(&self) -> String {
        self.marker.clone()
    }

    fn history(&self) -> Vec<Past> {
        self.ledger.history()
    }
}

/// Whether an effect's public content at a key differs; used to tell what a change was about.
pub(crate) fn half<'a>(summary: &'a Value, which: &str, key: &str) -> Option<&'a str> {
    summary.get(which)?.get(key)?.as_str()
}
