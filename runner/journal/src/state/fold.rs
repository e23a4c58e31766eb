//! Taking a record in. Only called with records that the grammar admits.

use stdlib::gate::EffectClass;

use super::{EffectState, Lifecycle, PhaseState, PhaseStatus, State, StepState, StepStatus, Undo};
use crate::event::{Direction, Effect, Event, Expanded, Intent, Outcome, OutcomeStatus, PhaseEnd};
use crate::note::CheckpointNote;
use crate::record::Record;

impl State {
    pub(crate) fn fold(&mut self, record: &Record) {
        self.seq = record.seq;
        match &record.event {
            Event::Run(header) => {
                self.header = Some(header.clone());
                self.lifecycle = Lifecycle::Begun;
            }
            Event::Session(session) => {
                self.sessions.push(session.clone());
                self.lifecycle = Lifecycle::Running;
            }
            Event::PhaseBegin(e) => {
                let index = self.phases.iter().position(|phase| phase.name == e.phase).unwrap_or_else(|| {
                    self.phases.push(PhaseState { name: e.phase.clone(), ..PhaseState::default() });
                    self.phases.len() - 1
                });
                self.open = Some(index);
                if let Some(phase) = self.phases.get_mut(index) {
                    phase.run_mut(e.direction).status = PhaseStatus::Begun;
                }
            }
            Event::PhaseEnd(e) => self.fold_phase_end(e),
            Event::Forecast(e) => self.forecast = Some(e.clone()),
            Event::Expanded(e) => self.fold_expanded(e),
            Event::Intent(e) => self.fold_intent(e),
            Event::Effect(e) => self.fold_effect(record.seq, e),
            Event::Outcome(e) => self.fold_outcome(e),
            Event::Approval(e) => self.approvals.push(e.clone()),
            Event::Turn(e) => {
                self.turn = Some(e.clone());
                self.direction = Direction::Back;
                self.open = None;
            }
            Event::Note(e) => self.notes.push(e.text.clone()),
            Event::Checkpoint(e) => {
                self.signed = CheckpointNote::parse(&e.note).map_or(self.signed, |note| note.head.size);
            }
            Event::Stuck(e) => self.lifecycle = Lifecycle::Stuck(e.clone()),
            Event::End(e) => self.lifecycle = Lifecycle::Ended(e.clone()),
            Event::Unknown(_) => self.unknown += 1,
        }
    }

    /// The step within the open phase, made where it is new.
    fn step_mut(&mut self, direction: Direction, key: &str) -> Option<&mut StepState> {
        let index = self.open?;
        if direction == Direction::Forward {
            self.phase_of.entry(key.to_owned()).or_insert(index);
        }
        Some(self.phases.get_mut(index)?.run_mut(direction).steps.entry(key.to_owned()).or_default())
    }

    fn fold_phase_end(&mut self, e: &PhaseEnd) {
        if let Some(phase) = self.open.take().and_then(|index| self.phases.get_mut(index)) {
            let run = phase.run_mut(e.direction);
            run.status = PhaseStatus::Ended;
            run.matrix.clone_from(&e.matrix);
        }
        if e.direction == Direction::Back {
            // Declared `back` steps stand in place of the derived undo: what they prove, they have restored.
            self.restored(|effect| effect.phase == e.phase);
        }
    }

    fn restored(&mut self, which: impl Fn(&EffectState) -> bool) {
        for effect in self.effects.iter_mut().filter(|effect| which(effect)) {
            if effect.undo != Undo::NotOwed {
                effect.undo = Undo::Done;
            }
        }
    }

    fn fold_expanded(&mut self, e: &Expanded) {
        if let Some(step) = self.step_mut(e.direction, &e.step) {
            step.expanded = true;
            step.when = e.when;
            step.items.clone_from(&e.items);
            step.count = e.count;
        }
    }

    fn fold_intent(&mut self, e: &Intent) {
        let session = self.sessions.len();
        if let Some(step) = self.step_mut(e.direction, &e.step) {
            step.status = StepStatus::InDoubt;
            step.attempt = e.attempt;
            step.session = session;
            step.action.clone_from(&e.action);
            step.inputs.clone_from(&e.inputs);
        }
    }

    fn fold_effect(&mut self, seq: u64, e: &Effect) {
        let index = self.effects.len();
        let phase = self.open_phase().unwrap_or_default().to_owned();
        let owed = e.direction == Direction::Forward && e.class == EffectClass::Restorable;
        let undo = if owed { Undo::Owed } else { Undo::NotOwed };
        self.effects.push(EffectState { seq, phase, effect: e.clone(), undo });
        if let Some(step) = self.step_mut(e.direction, &e.step) {
            step.effects.push(index);
        }
        if let Some(restored) = e.restores {
            for effect in self.effects.iter_mut().filter(|effect| effect.seq == restored) {
                effect.undo = Undo::Begun;
            }
        }
    }

    fn fold_outcome(&mut self, e: &Outcome) {
        if let Some(step) = self.step_mut(e.direction, &e.step) {
            step.status = match e.status {
                OutcomeStatus::Done => StepStatus::Done,
                OutcomeStatus::Failed => StepStatus::Failed,
                OutcomeStatus::Skipped => StepStatus::Skipped,
            };
            step.output.clone_from(&e.output);
            step.error.clone_from(&e.error);
        }
        if e.direction == Direction::Back && e.status != OutcomeStatus::Failed {
            let phase = self.open_phase().unwrap_or_default().to_owned();
            let here = |effect: &EffectState| effect.phase == phase && effect.effect.step == e.step;
            let made = self.effects.len();
            let owed = self.effects.iter().enumerate().rev().filter(|(_, o)| here(o) && o.undo == Undo::Owed);
            // Nothing was written to put it back: the world was already, or still, as it had been.
            let found: Vec<(usize, usize)> = owed.map(|(index, _)| (made, index)).collect();
            self.found_back.extend(found);
            self.restored(here);
        }
    }
}
