//! What a run is, as its record tells it: a pure fold.
//!
//! [`State::admits`] is the grammar, one match: what it does not list is an error that names both ends.
//! [`State::next`] is the grammar and then the fold. The same functions serve the writer, a resume and an audit.

mod admit;
mod fold;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use stdlib::gate::{EffectClass, Past};
use thiserror::Error;

use crate::event::{
    Approval, Direction, Effect, End, EndState, Event, Failure, Forecast, Header, Session, Stuck, Turn,
};
use crate::record::Record;

/// An event that may not follow what the record says so far.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("record {seq}: {event} may not follow here: {state}")]
pub struct IllegalTransition {
    /// Which record it would be.
    pub seq: u64,
    /// What it says.
    pub event: String,
    /// What the run is.
    pub state: String,
}

/// Where the run as a whole stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Lifecycle {
    /// There is no record yet.
    #[default]
    Blank,
    /// The header is there, but no session.
    Begun,
    /// A session works on it, or died while it did.
    Running,
    /// It cannot go on or back until a person repaired something.
    Stuck(Stuck),
    /// It ended.
    Ended(End),
}

/// How far a phase is in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PhaseStatus {
    /// Not begun.
    #[default]
    NotBegun,
    /// Begun and not ended, in this session or an earlier one.
    Begun,
    /// Ended.
    Ended,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StepStatus {
    /// No intent yet.
    #[default]
    NotBegun,
    /// An intent and no outcome: it is being done, or was when the process died.
    InDoubt,
    /// Done.
    Done,
    /// The last attempt failed.
    Failed,
    /// There was nothing to do.
    Skipped,
}

/// One step in one phase and direction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepState {
    /// How far it is.
    pub status: StepStatus,
    /// How many intents there were.
    pub attempt: u32,
    /// Digest of its action, from the last intent.
    pub action: String,
    /// Digest of its resolved arguments, from the last intent.
    pub inputs: String,
    /// Its effects, as indexes into [`State::effects`], all attempts together.
    pub effects: Vec<usize>,
    /// What `when` gave.
    pub when: Option<bool>,
    /// What `each` gave: an array, or a body.
    pub items: Option<Value>,
    /// How many items `each` gave.
    pub count: Option<u64>,
    /// Whether `when` and `each` were resolved.
    pub expanded: bool,
    /// What it produced, when it is done: a value, or a body.
    pub output: Value,
    /// Why the last attempt failed.
    pub error: Option<Failure>,
    /// In which session the last intent was written, counted from 1.
    session: usize,
}

/// One phase in one direction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PhaseRun {
    /// How far it is.
    pub status: PhaseStatus,
    /// Its steps by key.
    pub steps: BTreeMap<String, StepState>,
    /// The trust matrix measured at its end: a value, or a body.
    pub matrix: Option<Value>,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PhaseState {
    /// Its name.
    pub name: String,
    /// On the way forward.
    pub forward: PhaseRun,
    /// On the way back.
    pub back: PhaseRun,
}

impl PhaseState {
    /// The phase in one direction.
    pub fn run(&self, direction: Direction) -> &PhaseRun {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Back => &self.back,
        }
    }

    fn run_mut(&mut self, direction: Direction) -> &mut PhaseRun {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Back => &mut self.back,
        }
    }
}

/// Whether an effect is to be put back on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// Never: it is compensable or final, or was itself made on the way back.
    NotOwed,
    /// It is to be restored.
    Owed,
    /// The record announces its restoration; whether it was made is in doubt.
    Begun,
    /// It was restored.
    Done,
}

/// One effect of the record.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectState {
    /// The number of its record.
    pub seq: u64,
    /// The phase in which it was made.
    pub phase: String,
    /// What it says.
    pub effect: Effect,
    /// Whether it is to be put back.
    pub undo: Undo,
}

/// What a run is.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    header: Option<Header>,
    seq: u64,
    lifecycle: Lifecycle,
    sessions: Vec<Session>,
    direction: Direction,
    phases: Vec<PhaseState>,
    open: Option<usize>,
    /// The phase of each step of the way forward.
    phase_of: BTreeMap<String, usize>,
    effects: Vec<EffectState>,
    /// Effects that were found put back without anything to do: how many effects there were then, and which it was.
    found_back: Vec<(usize, usize)>,
    approvals: Vec<Approval>,
    forecast: Option<Forecast>,
    turn: Option<Turn>,
    notes: Vec<String>,
    signed: u64,
    unknown: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            header: None,
            seq: 0,
            lifecycle: Lifecycle::Blank,
            sessions: Vec::new(),
            direction: Direction::Forward,
            phases: Vec::new(),
            open: None,
            phase_of: BTreeMap::new(),
            effects: Vec::new(),
            approvals: Vec::new(),
            found_back: Vec::new(),
            forecast: None,
            turn: None,
            notes: Vec::new(),
            signed: 0,
            unknown: 0,
        }
    }
}

impl State {
    /// Judges the record, and then takes it in.
    ///
    /// # Errors
    /// The event may not follow; the state is then as it was.
    pub fn next(&mut self, record: &Record) -> Result<(), IllegalTransition> {
        self.admits(record.seq, &record.event)?;
        self.fold(record);
        Ok(())
    }

    /// The first record's content.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }
    /// How many records there are.
    pub fn seq(&self) -> u64 {
        self.seq
    }
    /// Where the run stands.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }
    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }
    /// All sessions in order.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }
    /// The key of this session's checkpoints, in vkey form.
    pub fn signer(&self) -> Option<&str> {
        let moved = self.sessions.iter().rev().find_map(|session| session.signer.as_deref());
        moved.or_else(|| self.header.as_ref().map(|header| header.signer.as_str()))
    }
    /// The phases that were begun, in order.
    pub fn phases(&self) -> &[PhaseState] {
        &self.phases
    }
    /// The phase of this name, if it was begun.
    pub fn phase(&self, name: &str) -> Option<&PhaseState> {
        self.phases.iter().find(|phase| phase.name == name)
    }
    /// How far a phase is in one direction.
    pub fn phase_status(&self, name: &str, direction: Direction) -> PhaseStatus {
        self.phase(name).map_or(PhaseStatus::NotBegun, |phase| phase.run(direction).status)
    }
    /// The phase that is open in the present direction.
    pub fn open_phase(&self) -> Option<&str> {
        self.open.and_then(|index| self.phases.get(index)).map(|phase| phase.name.as_str())
    }
    /// A step within a phase and direction. On the way back one step may run in several phases: the proofs of an
    /// earlier phase prove the undoing of each later one.
    pub fn step(&self, phase: &str, direction: Direction, step: &str) -> Option<&StepState> {
        self.phase(phase)?.run(direction).steps.get(step)
    }
    /// A step of the way forward.
    pub fn forward_step(&self, step: &str) -> Option<&StepState> {
        self.phases.get(*self.phase_of.get(step)?)?.forward.steps.get(step)
    }
    /// What a step of the way forward produced, if it is done: a value, or a body.
    pub fn output(&self, step: &str) -> Option<&Value> {
        self.forward_step(step).filter(|step| step.status == StepStatus::Done).map(|step| &step.output)
    }
    /// Steps in doubt, as (phase, direction, key).
    pub fn in_doubt(&self) -> Vec<(&str, Direction, &str)> {
        let mut found = Vec::new();
        for phase in &self.phases {
            for direction in [Direction::Forward, Direction::Back] {
                let steps = phase.run(direction).steps.iter();
                let doubtful = steps.filter(|(_, step)| step.status == StepStatus::InDoubt);
                found.extend(doubtful.map(|(key, _)| (phase.name.as_str(), direction, key.as_str())));
            }
        }
        found
    }
    /// All effects in order, of both directions.
    pub fn effects(&self) -> &[EffectState] {
        &self.effects
    }
    /// The effects of one step in one phase and direction, in order.
    pub fn effects_of(&self, phase: &str, direction: Direction, step: &str) -> Vec<&EffectState> {
        let step = self.step(phase, direction, step);
        step.into_iter().flat_map(|s| &s.effects).filter_map(|index| self.effects.get(*index)).collect()
    }
    /// What is still to be restored of a phase, last effect first.
    pub fn owed(&self, phase: &str) -> Vec<&EffectState> {
        let owed = |e: &&EffectState| e.phase == phase && matches!(e.undo, Undo::Owed | Undo::Begun);
        self.effects.iter().rev().filter(owed).collect()
    }
    /// The first effect after which there is no way back.
    pub fn point_of_no_return(&self) -> Option<&EffectState> {
        self.effects
            .iter()
            .find(|e| e.effect.direction == Direction::Forward && e.effect.class == EffectClass::Final)
    }
    /// What the run has written and restarted, in order, for [`stdlib::gate::Gate::history`]. Announced counts as
    /// written; what was found as it had been before when it was to be put back, counts as put back then: it may never
    /// have been written at all. Summaries are as the record has them: [`crate::Journal::history`] resolves bodies.
    pub fn history(&self) -> Vec<Past> {
        self.told().map(|(effect, back)| if back { turned(effect.past()) } else { effect.past() }).collect()
    }
    /// Effects in the order in which they count, and whether each was then found put back.
    pub(crate) fn told(&self) -> impl Iterator<Item = (&EffectState, bool)> {
        let found_before = move |made: usize| {
            let here = self.found_back.iter().filter(move |(at, _)| *at == made);
            here.filter_map(|(_, index)| Some((self.effects.get(*index)?, true)))
        };
        let made = self.effects.iter().enumerate();
        made.flat_map(move |(n, effect)| found_before(n).chain(std::iter::once((effect, false))))
            .chain(found_before(self.effects.len()))
    }
    /// What was approved, in order.
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }
    /// Whether something was approved.
    pub fn approved(&self, what: &str) -> bool {
        self.approvals.iter().any(|approval| approval.what == what)
    }
    /// The last forecast.
    pub fn forecast(&self) -> Option<&Forecast> {
        self.forecast.as_ref()
    }
    /// Why it turned back, if it did.
    pub fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }
    /// The notes in order.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
    /// How many records the last checkpoint covers.
    pub fn signed(&self) -> u64 {
        self.signed
    }
    /// How many records of a newer format could not be read.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    fn open_run(&self) -> Option<&PhaseRun> {
        self.phases.get(self.open?).map(|phase| phase.run(self.direction))
    }
}

impl EffectState {
    /// The effect as a run's history tells it: a compensable one that names a marker is a restart.
    pub fn past(&self) -> Past {
        let place = self.effect.place.clone();
        let marker = self.effect.summary.get("marker").and_then(Value::as_str);
        match marker.filter(|_| self.effect.class == EffectClass::Compensable) {
            Some(marker) => Past::Restarted { marker: marker.to_owned(), place },
            None => Past::Wrote { place, summary: self.effect.summary.clone() },
        }
    }
}

/// A write turned round: it left what it had found.
pub(crate) fn turned(past: Past) -> Past {
    let Past::Wrote { place, mut summary } = past else { return past };
    if let Some(map) = summary.as_object_mut() {
        let (before, after) = (map.remove("before"), map.remove("after"));
        map.extend(before.map(|value| ("after".to_owned(), value)));
        map.extend(after.map(|value| ("before".to_owned(), value)));
    }
    Past::Wrote { place, summary }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("there is no header yet"),
            Self::Begun => f.write_str("no session has begun"),
            Self::Running => f.write_str("the run is open"),
            Self::Stuck(stuck) => write!(f, "the run is stuck at step `{}`", stuck.step),
            Self::Ended(End { state, .. }) => write!(f, "the run has ended ({state})"),
        }
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBegun => "not begun",
            Self::InDoubt => "in doubt",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// What an event says, for an error message.
fn describe(event: &Event) -> String {
    match event {
        Event::Run(e) => format!("the header of run {}", e.run_id),
        Event::Session(e) => format!("a session ({:?})", e.why).to_lowercase(),
        Event::PhaseBegin(e) => format!("the beginning of phase `{}` ({})", e.phase, e.direction),
        Event::PhaseEnd(e) => format!("the end of phase `{}` ({})", e.phase, e.direction),
        Event::Forecast(e) => format!("a forecast of phase `{}` ({})", e.phase, e.direction),
        Event::Expanded(e) => format!("an expansion of step `{}` ({})", e.step, e.direction),
        Event::Intent(e) => format!("intent {} of step `{}` ({})", e.attempt, e.step, e.direction),
        Event::Effect(e) => format!("effect {} of step `{}` ({})", e.n, e.step, e.direction),
        Event::Outcome(e) => format!("an outcome of step `{}` ({})", e.step, e.direction),
        Event::Turn(e) => format!("a turn ({})", e.direction),
        Event::Stuck(e) => format!("being stuck at step `{}`", e.step),
        Event::End(e) => format!("the end ({})", e.state),
        Event::Approval(e) => format!("an approval of {}", e.what),
        Event::Note(_) => "a note".to_owned(),
        Event::Checkpoint(_) => "a checkpoint".to_owned(),
        Event::Unknown(e) => format!("an unreadable event `{}` ({})", e.name, e.why),
    }
}

/// Whether a run that ended like this may be taken up again, and for what.
fn may_reopen(state: EndState, why: crate::event::Why) -> bool {
    use crate::event::Why;
    match state {
        EndState::Done => why == Why::Rollback,
        EndState::Aborted => why != Why::Start,
        EndState::RolledBack => false,
    }
}
