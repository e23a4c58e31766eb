//! The grammar of a record: which event may follow which state.

use serde_json::Value;
use stdlib::gate::EffectClass;

use super::{
    IllegalTransition, Lifecycle, PhaseStatus, State, StepState, StepStatus, Undo, describe, may_reopen,
};
use crate::event::{
    Direction, Effect, End, EndState, Event, Expanded, Header, Intent, Outcome, OutcomeStatus, PhaseBegin,
    PhaseEnd, Why,
};
use crate::record::FORMAT;

/// Why not, in words that complete 'may not follow here: '.
type Verdict = Result<(), String>;

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl State {
    /// Whether this event may be record number `seq`.
    ///
    /// # Errors
    /// It may not; the error names the event and the state.
    pub fn admits(&self, seq: u64, event: &Event) -> Result<(), IllegalTransition> {
        let illegal = |state: String| IllegalTransition { seq, event: describe(event), state };
        if seq != self.seq + 1 {
            return Err(illegal(format!("the next record is number {}", self.seq + 1)));
        }
        self.judge(event).map_err(illegal)
    }

    fn judge(&self, event: &Event) -> Verdict {
        match (&self.lifecycle, event) {
            (Lifecycle::Blank, Event::Run(header)) => admits_header(header),
            (Lifecycle::Blank, _) | (_, Event::Run(_)) => Err(self.lifecycle.to_string()),

            (_, Event::Unknown(_)) => {
                let format = self.header.as_ref().map_or(FORMAT, |header| header.format);
                require(format > FORMAT, || {
                    format!("the record has format {format}, which knows no such event")
                })
            }
            // What a checkpoint says is compared with the tree, by the writer and by an audit.
            (_, Event::Checkpoint(_)) => Ok(()),

            (Lifecycle::Begun, Event::Session(_)) => Ok(()),
            (Lifecycle::Running | Lifecycle::Stuck(_), Event::Session(session)) => {
                require(session.why != Why::Start, || "the run was started before".into())
            }
            (Lifecycle::Ended(End { state, .. }), Event::Session(session)) => {
                require(may_reopen(*state, session.why), || self.lifecycle.to_string())
            }

            (Lifecycle::Stuck(_), Event::Note(_)) => Ok(()),
            (Lifecycle::Begun | Lifecycle::Stuck(_) | Lifecycle::Ended(_), _) => {
                Err(self.lifecycle.to_string())
            }

            (Lifecycle::Running, Event::Approval(_) | Event::Note(_) | Event::Stuck(_)) => Ok(()),
            (Lifecycle::Running, Event::PhaseBegin(e)) => self.admits_phase_begin(e),
            (Lifecycle::Running, Event::PhaseEnd(e)) => self.admits_phase_end(e),
            (Lifecycle::Running, Event::Forecast(e)) => {
                self.same_direction(e.direction)?;
                let open = self.open_phase();
                require(open.is_none_or(|open| open == e.phase), || self.open_text())
            }
            (Lifecycle::Running, Event::Expanded(e)) => self.admits_expanded(e),
            (Lifecycle::Running, Event::Intent(e)) => self.admits_intent(e),
            (Lifecycle::Running, Event::Effect(e)) => self.admits_effect(e),
            (Lifecycle::Running, Event::Outcome(e)) => self.admits_outcome(e),
            (Lifecycle::Running, Event::Turn(e)) => {
                require(e.direction == Direction::Back, || "a run only turns back".into())?;
                require(self.direction == Direction::Forward, || "the run goes back already".into())?;
                match self.point_of_no_return() {
                    None => Ok(()),
                    Some(last) => Err(format!("record {} was a point of no return", last.seq)),
                }
            }
            (Lifecycle::Running, Event::End(e)) => self.admits_end(e.state),
        }
    }

    fn open_text(&self) -> String {
        match self.open_phase() {
            Some(phase) => format!("phase `{phase}` is open ({})", self.direction),
            None => "no phase is open".into(),
        }
    }

    fn same_direction(&self, direction: Direction) -> Verdict {
        require(direction == self.direction, || format!("the run goes {}", self.direction))
    }

    /// The step within the open phase, with the direction checked.
    fn step_here(&self, direction: Direction, key: &str) -> Result<Option<&StepState>, String> {
        self.same_direction(direction)?;
        let run = self.open_run().ok_or_else(|| self.open_text())?;
        if direction == Direction::Forward
            && self.phase_of.get(key).is_some_and(|phase| Some(*phase) != self.open)
        {
            return Err("the step belongs to an earlier phase".into());
        }
        Ok(run.steps.get(key))
    }

    fn admits_phase_begin(&self, e: &PhaseBegin) -> Verdict {
        self.same_direction(e.direction)?;
        require(self.open.is_none(), || self.open_text())?;
        let index = self.phases.iter().position(|phase| phase.name == e.phase);
        match (e.direction, index) {
            (Direction::Forward, None) => Ok(()),
            (Direction::Forward, Some(_)) => Err("the phase was begun before".into()),
            (Direction::Back, None) => Err("the phase was never begun forward".into()),
            (Direction::Back, Some(index)) => {
                let begun = |phase: &super::PhaseState| phase.back.status != PhaseStatus::NotBegun;
                let undone = self.phases.iter().take(index + 1).find(|phase| begun(phase));
                undone.map_or(Ok(()), |phase| Err(format!("phase `{}` was undone before it", phase.name)))
            }
        }
    }

    fn admits_phase_end(&self, e: &PhaseEnd) -> Verdict {
        self.same_direction(e.direction)?;
        require(self.open_phase() == Some(&e.phase), || self.open_text())?;
        let unfinished = |step: &&StepState| matches!(step.status, StepStatus::InDoubt | StepStatus::Failed);
        let mut steps = self.open_run().into_iter().flat_map(|run| &run.steps);
        match steps.find(|(_, step)| unfinished(step)) {
            None => Ok(()),
            Some((key, step)) => Err(format!("step `{key}` is {}", step.status)),
        }
    }

    fn admits_expanded(&self, e: &Expanded) -> Verdict {
        let step = self.step_here(e.direction, &e.step)?;
        let fresh = step.is_none_or(|step| step.status == StepStatus::NotBegun && !step.expanded);
        require(fresh, || "the step was expanded or begun before".into())?;
        let counted = match &e.items {
            Some(Value::Array(items)) => u64::try_from(items.len()).ok() == e.count,
            Some(_) => e.count.is_some(),
            None => e.count.is_none(),
        };
        require(counted, || "its count is not that of its items".into())
    }

    fn admits_intent(&self, e: &Intent) -> Verdict {
        let Some(step) = self.step_here(e.direction, &e.step)? else {
            return require(e.attempt == 1, || "the step is not begun".into());
        };
        require(step.when != Some(false), || "its condition does not hold".into())?;
        require(step.items.is_none(), || "the step runs once an item".into())?;
        match step.status {
            StepStatus::NotBegun | StepStatus::Failed => {}
            // Only another process may find a step in doubt.
            StepStatus::InDoubt if step.session < self.sessions.len() => {}
            status => return Err(format!("the step is {status}")),
        }
        require(e.attempt == step.attempt + 1, || format!("it had {} attempts", step.attempt))?;
        let same = step.attempt == 0 || step.action == e.action;
        require(same, || "the step had another action before".into())
    }

    /// The step, if this session announced it and it has no outcome.
    fn at_work(&self, step: Option<&StepState>) -> Verdict {
        match step {
            None => Err("the step is not begun".into()),
            Some(step) if step.status != StepStatus::InDoubt => Err(format!("the step is {}", step.status)),
            Some(step) if step.session != self.sessions.len() => {
                Err("the step is in doubt since an earlier session; it needs a new intent".into())
            }
            Some(_) => Ok(()),
        }
    }

    fn admits_effect(&self, e: &Effect) -> Verdict {
        let step = self.step_here(e.direction, &e.step)?;
        self.at_work(step)?;
        let had = step.map_or(0, |step| step.effects.len());
        require(usize::try_from(e.n).ok() == Some(had + 1), || format!("the step had {had} effects"))?;
        let Some(restored) = e.restores else { return Ok(()) };
        require(e.direction == Direction::Back, || "restoring is going back".into())?;
        match self.effects.iter().find(|effect| effect.seq == restored) {
            None => Err(format!("record {restored} is no effect")),
            Some(found) if found.effect.place != e.place => {
                Err(format!("record {restored} changed another place"))
            }
            Some(found) if found.effect.before != e.after => {
                Err(format!("record {restored} found another digest there"))
            }
            Some(found) if !matches!(found.undo, Undo::Owed | Undo::Begun) => {
                Err(format!("record {restored} is not to be restored (or was)"))
            }
            Some(_) => Ok(()),
        }
    }

    fn admits_outcome(&self, e: &Outcome) -> Verdict {
        let step = self.step_here(e.direction, &e.step)?;
        let status = step.map_or(StepStatus::NotBegun, |step| step.status);
        let expected = match e.status {
            OutcomeStatus::Failed => e.error.is_some(),
            OutcomeStatus::Done | OutcomeStatus::Skipped => e.error.is_none(),
        };
        require(expected, || "a failure, and nothing else, has an error".into())?;
        match (e.status, status) {
            (OutcomeStatus::Skipped, StepStatus::NotBegun) => Ok(()),
            // It could not even begin: its arguments could not be resolved.
            (OutcomeStatus::Failed, StepStatus::NotBegun | StepStatus::Failed) => Ok(()),
            (OutcomeStatus::Done, StepStatus::NotBegun) => match step.and_then(|step| step.count) {
                Some(count) => self.items_done(&e.step, count),
                None => Err("the step is not begun".into()),
            },
            (OutcomeStatus::Done | OutcomeStatus::Failed, _) => self.at_work(step),
            (OutcomeStatus::Skipped, status) => Err(format!("the step is {status}")),
        }
    }

    /// A step with `each` is done as a whole when each of its items is.
    fn items_done(&self, key: &str, count: u64) -> Verdict {
        let steps = self.open_run().map(|run| &run.steps);
        let finished = |item: &String| {
            let step = steps.and_then(|steps| steps.get(item));
            step.is_some_and(|step| matches!(step.status, StepStatus::Done | StepStatus::Skipped))
        };
        match (0..count).map(|n| format!("{key}[{n}]")).find(|item| !finished(item)) {
            None => Ok(()),
            Some(item) => Err(format!("its item `{item}` is not done")),
        }
    }

    fn admits_end(&self, state: EndState) -> Verdict {
        if state == EndState::Aborted {
            return Ok(());
        }
        require(self.open.is_none(), || self.open_text())?;
        match state {
            EndState::Done => self.same_direction(Direction::Forward),
            _ => {
                self.same_direction(Direction::Back)?;
                let owing = self.effects.iter().find(|e| matches!(e.undo, Undo::Owed | Undo::Begun));
                if let Some(effect) = owing {
                    return Err(format!("record {} is still to be restored", effect.seq));
                }
                let changed = |name: &str| {
                    let here = |e: &&super::EffectState| {
                        e.phase == name
                            && e.effect.direction == Direction::Forward
                            && e.effect.class != EffectClass::Final
                    };
                    self.effects.iter().any(|e| here(&e))
                };
                let ended = |phase: &super::PhaseState| phase.back.status == PhaseStatus::Ended;
                match self.phases.iter().find(|phase| !ended(phase) && changed(&phase.name)) {
                    None => Ok(()),
                    Some(phase) => Err(format!("phase `{}` is not undone", phase.name)),
                }
            }
        }
    }
}

fn admits_header(header: &Header) -> Verdict {
    require(header.format > 0, || "formats count from 1".into())?;
    require(!header.run_id.is_empty(), || "a run has an id".into())
}
