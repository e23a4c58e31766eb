//! What the record answers.

use journal::{Direction, Journal, Lifecycle, PhaseStatus, StepStatus, Undo};
use serde_json::Value;
use stdlib::gate::{EffectClass, Past, Place};
use stdlib::secret::SecretStore as _;
use stdlib::{PrimError, Secret};

use super::{Halt, Ledger, Made, StepId, what};
use crate::engine::core::Expansion;
use crate::engine::judge::Seen;
use crate::events::Head;

impl Ledger {
    pub(crate) fn turned(&self) -> bool {
        self.journal().state().direction() == Direction::Back
    }

    pub(crate) fn ended(&self) -> Option<journal::EndState> {
        match self.journal().state().lifecycle() {
            Lifecycle::Ended(end) => Some(end.state),
            _ => None,
        }
    }

    pub(crate) fn anything_begun(&self) -> bool {
        !self.journal().state().phases().is_empty()
    }

    pub(crate) fn anything_changed(&self) -> bool {
        !self.journal().state().effects().is_empty()
    }

    pub(crate) fn phase_begun(&self, phase: &str, direction: Direction) -> bool {
        self.journal().state().phase_status(phase, direction) != PhaseStatus::NotBegun
    }

    pub(crate) fn phase_ended(&self, phase: &str, direction: Direction) -> bool {
        self.journal().state().phase_status(phase, direction) == PhaseStatus::Ended
    }

    /// Whether nothing is left to do for a step: it is done, or was skipped.
    pub(crate) fn is_done(&self, id: &StepId) -> bool {
        let journal = self.journal();
        let step = journal.state().step(&id.phase, id.direction, &id.key);
        step.is_some_and(|step| matches!(step.status, StepStatus::Done | StepStatus::Skipped))
    }

    pub(crate) fn attempts(&self, id: &StepId) -> u32 {
        self.journal().state().step(&id.phase, id.direction, &id.key).map_or(0, |step| step.attempt)
    }

    /// Whether a step, or an item of it, had an intent on the way forward.
    pub(crate) fn was_begun(&self, phase: &str, key: &str) -> bool {
        let journal = self.journal();
        let Some(phase) = journal.state().phase(phase) else { return false };
        let item = format!("{key}[");
        phase.forward.steps.iter().any(|(k, step)| step.attempt > 0 && (k == key || k.starts_with(&item)))
    }

    /// What a step of the way forward produced.
    pub(crate) fn output(&self, key: &str) -> Option<Value> {
        let journal = self.journal();
        let value = journal.state().output(key)?.clone();
        journal.resolve(&value).map_err(|error| self.halts(&error)).ok()
    }

    /// What a step has produced in its own direction; nothing for one that was skipped.
    pub(crate) fn output_here(&self, id: &StepId) -> Value {
        let journal = self.journal();
        let step = journal.state().step(&id.phase, id.direction, &id.key);
        step.map(|step| step.output.clone())
            .and_then(|value| journal.resolve(&value).map_err(|error| self.halts(&error)).ok())
            .unwrap_or_default()
    }

    /// Whether the queries of a step were answered in this very phase and direction.
    pub(crate) fn expanded_here(&self, id: &StepId) -> bool {
        let journal = self.journal();
        journal.state().step(&id.phase, id.direction, &id.key).is_some_and(|step| step.expanded)
    }

    /// What the queries of a step found, on the way forward or, for steps of the way back, there.
    pub(crate) fn expansion(&self, id: &StepId) -> Result<Option<Expansion>, Halt> {
        let journal = self.journal();
        let state = journal.state();
        let here = state.step(&id.phase, id.direction, &id.key).filter(|step| step.expanded);
        let Some(step) = here.or_else(|| state.forward_step(&id.key).filter(|step| step.expanded)) else {
            return Ok(None);
        };
        let items = match &step.items {
            None => None,
            Some(items) => {
                let items = journal.bodies().resolve(items).map_err(|error| self.halts(&error))?;
                items.as_array().cloned()
            }
        };
        Ok(Some(Expansion { when: step.when, items }))
    }

    /// The arguments on record of a step that has made effects.
    pub(crate) fn args_in_force(&self, id: &StepId) -> Option<Vec<Value>> {
        let journal = self.journal();
        let step = journal.state().step(&id.phase, id.direction, &id.key)?;
        if step.effects.is_empty() {
            return None;
        }
        let hex = step.inputs.strip_prefix("sha256:")?;
        let bytes = journal.bodies().get(hex, "the arguments of a step").ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Effects of this very step in this direction at a place, oldest first.
    pub(crate) fn own_effects(&self, id: &StepId, place: &Place) -> Vec<Seen> {
        let journal = self.journal();
        let effects = journal.state().effects_of(&id.phase, id.direction, &id.key);
        let here = effects.iter().map(|state| &state.effect).filter(|effect| effect.place == *place);
        here.map(|e| Seen { before: e.before.clone(), after: e.after.clone(), class: e.class }).collect()
    }

    /// What any other step left at a place last.
    pub(crate) fn last_standing(&self, id: &StepId, place: &Place) -> Option<Seen> {
        let journal = self.journal();
        let other = |state: &&journal::EffectState| {
            let e = &state.effect;
            let own = state.phase == id.phase && e.direction == id.direction && e.step == id.key;
            e.place == *place && !own
        };
        let last = journal.state().effects().iter().rev().find(other)?;
        let e = &last.effect;
        let after = if last.undo == Undo::Done { &e.before } else { &e.after };
        Some(Seen { before: e.before.clone(), after: after.clone(), class: e.class })
    }

    /// Effects of the way forward, oldest first; `standing`: only those not put back.
    pub(crate) fn made(&self, standing: bool) -> Vec<Made> {
        let journal = self.journal();
        let wanted = |state: &&journal::EffectState| {
            state.effect.direction == Direction::Forward && !(standing && state.undo == Undo::Done)
        };
        journal.state().effects().iter().filter(wanted).map(|state| made(&journal, state)).collect()
    }

    /// The last effect of a step's phase and direction at a place of which a copy was made.
    pub(crate) fn replaced(&self, id: &StepId, place: &Place) -> Option<Made> {
        let journal = self.journal();
        let here = |state: &&journal::EffectState| {
            let e = &state.effect;
            state.phase == id.phase
                && e.direction == id.direction
                && e.place == *place
                && e.class == EffectClass::Restorable
        };
        let last = journal.state().effects().iter().rev().find(here)?;
        Some(made(&journal, last))
    }

    /// The sealed copy of what was there before an effect, opened.
    pub(crate) fn backup(&self, effect: &Made) -> Result<Option<Secret>, PrimError> {
        effect.backup.as_ref().map(|handle| self.vault.get(handle)).transpose()
    }

    pub(crate) fn history(&self) -> Vec<Past> {
        self.journal().history().unwrap_or_default()
    }

    pub(crate) fn approved(&self, kind: &str, subject: &str, direction: Direction) -> bool {
        self.journal().state().approved(&what(kind, subject, direction))
    }

    pub(crate) fn head(&self) -> Head {
        let head = self.journal().head();
        Head { size: head.size, root: head.root_hex() }
    }
}

fn made(journal: &Journal, state: &journal::EffectState) -> Made {
    Made {
        seq: state.seq,
        phase: state.phase.clone(),
        key: state.effect.step.clone(),
        place: state.effect.place.clone(),
        before: state.effect.before.clone(),
        after: state.effect.after.clone(),
        class: state.effect.class,
        primitive: state.effect.primitive.clone(),
        backup: state.effect.backup.clone(),
        summary: journal.bodies().resolve(&state.effect.summary).unwrap_or_default(),
    }
}
