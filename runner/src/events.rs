//! What a run tells while it works: one enum, many reporters. Events may be lost; the journal may not.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::plan::{At, Role};

pub use journal::Direction;

/// The version of the event format, in every line of `--output json`.
pub const EVENTS_VERSION: u32 = 1;

/// One step of a plan as it is shown before the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its key.
    pub key: String,
    /// What it is for.
    pub role: Role,
    /// Its name within the phase.
    pub item: String,
    /// Name of the primitive.
    pub action: String,
    /// Seconds it may take.
    pub deadline_s: u64,
    /// Whether it runs beside its neighbours.
    pub parallel: bool,
}

/// One phase of a plan as it is shown before the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPhase {
    /// Its name.
    pub name: String,
    /// Why it exists.
    pub why: String,
    /// Whether it is a point of no return.
    pub point_of_no_return: bool,
    /// Whether links may fail while it runs.
    pub outage: bool,
    /// Its steps.
    pub steps: Vec<PlannedStep>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    /// It did what it is for; the world may have been so already.
    Done,
    /// Its condition was false.
    Skipped,
    /// It failed.
    Failed,
}

/// One change of the target, told at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedPlace {
    /// The place.
    pub place: String,
    /// Digest before the run.
    pub before: String,
    /// Digest now.
    pub after: String,
    /// Public content before the run, e.g. certificates as PEM.
    #[serde(default)]
    pub was: Value,
    /// Public content now.
    #[serde(default)]
    pub is: Value,
}

/// How a run stands when the engine returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndState {
    /// Every phase is done.
    Done,
    /// The target is as it was.
    RolledBack,
    /// A step failed; the run stopped there.
    Stopped,
    /// Going back failed.
    Stuck,
    /// Something was not permitted: a forecast, an approval, a held target, an altered copy. Nothing was begun.
    Refused,
    /// Given up where it stands.
    Aborted,
    /// Cancelled; the record is whole.
    Interrupted,
    /// The journal could not be written.
    Halted,
    /// The process died here, as far as the world can tell (fault injection only).
    Killed,
}

/// The end of a run, or of this part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Id of the run.
    pub run: String,
    /// Where it stands.
    pub state: EndState,
    /// The exit code.
    pub exit: ExitCode,
    /// What failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What the workflow says of its success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<String>,
    /// Places that differ from what they were before the run.
    pub changed: Vec<ChangedPlace>,
    /// The run's folder.
    pub record: String,
    /// Number of records and the root of the Merkle tree over them, to be kept elsewhere.
    pub head: Head,
    /// What to type next, each with what it does.
    pub next: Vec<Next>,
}

/// The head of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of records.
    pub size: u64,
    /// Root hash, hex.
    pub root: String,
}

/// A command to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The command.
    pub command: String,
    /// What it does.
    pub does: String,
}

/// What happens in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run begins, continues or turns back.
    RunStarted {
        /// Its id.
        run: String,
        /// `tidb/cfssl-rotate`.
        workflow: String,
        /// One line.
        title: String,
        /// What it holds a lock on, for people.
        target: Option<String>,
        /// Which way.
        direction: Direction,
        /// Whether it had begun before.
        resumed: bool,
    },
    /// What the run will do.
    Plan {
        /// Its phases.
        phases: Vec<PlannedPhase>,
        /// What the script says to whoever reads the plan.
        #[serde(default)]
        notes: Vec<String>,
    },
    /// A phase begins or goes on.
    PhaseStarted {
        /// Its name.
        phase: String,
        /// Why it exists.
        why: String,
        /// Which way.
        direction: Direction,
        /// Its number in the plan, from 1.
        number: usize,
        /// How many phases there are.
        of: usize,
    },
    /// What the forecast says of a phase.
    Forecast {
        /// The phase.
        phase: String,
        /// Which way.
        direction: Direction,
        /// Whether every link holds throughout.
        gap_free: bool,
        /// The result as the trust model gives it.
        result: Value,
    },
    /// Who trusts whom, measured after a phase.
    Matrix {
        /// The phase.
        phase: String,
        /// Which way.
        direction: Direction,
        /// The matrix as the trust model gives it.
        matrix: Value,
    },
    /// A step begins.
    StepStarted {
        /// The phase that it belongs to.
        phase: String,
        /// Its key.
        step: String,
        /// What it is for.
        role: Role,
        /// Which way.
        direction: Direction,
        /// From 1.
        attempt: u32,
        /// Where it was declared.
        at: At,
    },
    /// A step has something to show.
    StepProgress {
        /// Its key.
        step: String,
        /// What is happening.
        text: String,
        /// Done of total.
        done: Option<(u64, u64)>,
    },
    /// A change is about to be made; it is on record.
    Changing {
        /// Key of the step.
        step: String,
        /// What is changed.
        place: String,
        /// Digest before.
        before: String,
        /// Digest after.
        after: String,
    },
    /// A step is over, or an attempt of it.
    StepEnded {
        /// Its key.
        step: String,
        /// Which way.
        direction: Direction,
        /// How.
        result: StepResult,
        /// How long it took.
        ms: u64,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// Milliseconds until it is tried again, where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again_in_ms: Option<u64>,
    },
    /// A phase is over.
    PhaseEnded {
        /// Its name.
        phase: String,
        /// Which way.
        direction: Direction,
        /// How long it took in this process.
        ms: u64,
        /// The head of the record, signed.
        head: Head,
    },
    /// The operator is asked.
    Asked {
        /// The question.
        question: Question,
    },
    /// The operator has answered.
    Answered {
        /// Yes or no.
        yes: bool,
        /// Who, as the approver gives it.
        who: String,
    },
    /// What a step has seen.
    Table {
        /// Its key.
        step: String,
        /// Words over columns, and cells.
        #[serde(flatten)]
        table: stdlib::gate::Table,
    },
    /// Something to know.
    Note {
        /// The text.
        text: String,
    },
    /// The run is over, or this part of it.
    RunEnded {
        /// How it stands.
        ending: Ending,
    },
}

/// What an operator is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum Question {
    /// Whether to begin.
    Begin {
        /// The workflow.
        workflow: String,
        /// The target, for people.
        target: Option<String>,
    },
    /// Whether to go past a point of no return.
    NoReturn {
        /// The phase.
        phase: String,
        /// Why it exists.
        why: String,
    },
    /// Whether to accept that links break while a phase runs.
    Outage {
        /// The phase.
        phase: String,
        /// Which way.
        direction: Direction,
        /// The forecast.
        forecast: Value,
    },
    /// Whether to try a failed step again.
    Again {
        /// Its key.
        step: String,
        /// Why it failed.
        failure: Failure,
    },
}

impl Question {
    /// A stable word, as the record has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "begin",
            Self::NoReturn { .. } => "no-return",
            Self::Outage { .. } => "outage",
            Self::Again { .. } => "again",
        }
    }
}

/// Shows events to somebody.
pub trait Reporter: Send + Sync {
    /// Shows one. `at` is the run's clock.
    fn event(&self, at: time::OffsetDateTime, event: &Event);
}

/// Shows nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: time::OffsetDateTime, _: &Event) {}
}

/// Keeps all events.
#[derive(Debug, Default)]
pub struct Collected {
    events: Mutex<Vec<Event>>,
}

impl Collected {
    /// What was reported so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reporter for Collected {
    fn event(&self, _: time::OffsetDateTime, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}
