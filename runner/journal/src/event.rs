//! What a record can say.
//!
//! A reader meets an event that it does not know, or one of unknown shape, as [`Event::Unknown`]: it may show it. The
//! fold accepts such an event only in a record of a newer format, and the writer refuses to append to one of those.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stdlib::PrimError;
use stdlib::gate::{EffectClass, Place};

/// Which way the run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Towards the end of the plan.
    Forward,
    /// Towards where it began.
    Back,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Back => "back",
        })
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// The first record: what this run is.
    Run(Header),
    /// A process begins to work on the run.
    Session(Session),
    /// A phase begins.
    PhaseBegin(PhaseBegin),
    /// What a step's `when` and `each` were resolved to.
    Expanded(Expanded),
    /// What the forecast of a phase said.
    Forecast(Forecast),
    /// A step is about to begin.
    Intent(Intent),
    /// A primitive is about to make one change.
    Effect(Effect),
    /// A step ended.
    Outcome(Outcome),
    /// A phase ended.
    PhaseEnd(PhaseEnd),
    /// A person agreed to something.
    Approval(Approval),
    /// The run turns back.
    Turn(Turn),
    /// Something worth telling an auditor.
    Note(Note),
    /// A signed statement about all records before this one.
    Checkpoint(Checkpoint),
    /// The run is stuck; a later resume or rollback may go on.
    Stuck(Stuck),
    /// The run ended.
    End(End),
    /// An event that this program does not know. Never written.
    #[serde(skip)]
    Unknown(Unknown),
}

/// The first record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the record's format, see [`crate::FORMAT`].
    pub format: u32,
    /// The run's id.
    pub run_id: String,
    /// `tidb/cfssl-rotate`.
    pub workflow: String,
    /// Name and version of the program, e.g. `rollover 0.1.0`.
    pub program: String,
    /// Host it was begun on.
    pub host: String,
    /// Who began it.
    pub user: String,
    /// The plan: a body, or whole.
    pub plan: Value,
    /// Digests of the pinned sources by file name; each is a body of the run.
    pub sources: BTreeMap<String, String>,
    /// Digest of the parameters as resolved.
    pub params: String,
    /// What is locked, where something is.
    pub target: Option<Value>,
    /// How to reach the world again on a resume: context, server, sandbox. Public.
    pub world: Option<Value>,
    /// The key whose checkpoints this record carries, in C2SP vkey form. Filled in by the writer.
    pub signer: String,
}

/// Why a session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The run's first.
    Start,
    /// To go on in the direction it had.
    Resume,
    /// To go back.
    Rollback,
    /// To stop where it stands.
    Abort,
}

/// A process works on the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Name and version of the program.
    pub program: String,
    /// On which host.
    pub host: String,
    /// For whom.
    pub user: String,
    /// Its process id there.
    pub pid: u32,
    /// Why it began.
    pub why: Why,
    /// The key of this session's checkpoints, where it is not the one before (the run moved to another machine).
    /// Filled in by the writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// A phase begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseBegin {
    /// Its name.
    pub phase: String,
    /// Forward, or undone.
    pub direction: Direction,
}

/// What `when` and `each` gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expanded {
    /// Key of the step.
    pub step: String,
    /// Forward or back.
    pub direction: Direction,
    /// What `when` gave; `None` where the step has none.
    pub when: Option<bool>,
    /// What `each` gave, an array; `None` where the step has none. Large ones are a body.
    pub items: Option<Value>,
    /// How many items.
    pub count: Option<u64>,
}

/// What the forecast said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// Of which phase.
    pub phase: String,
    /// Forward or back.
    pub direction: Direction,
    /// Verdict and counterexamples.
    pub summary: Value,
}

/// A step is about to begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Key of the step.
    pub step: String,
    /// Forward or back.
    pub direction: Direction,
    /// Counted from 1.
    pub attempt: u32,
    /// Digest of the action as planned.
    pub action: String,
    /// Digest of its arguments as resolved.
    pub inputs: String,
}

/// A primitive is about to make one change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Key of the step.
    pub step: String,
    /// Forward or back.
    pub direction: Direction,
    /// Counted from 1 within the step and direction, all attempts together.
    pub n: u32,
    /// What is changed.
    pub place: Place,
    /// Digest of what is there.
    pub before: String,
    /// Digest of what will be there.
    pub after: String,
    /// How it can be taken back.
    pub class: EffectClass,
    /// The primitive that makes it and can put it back.
    pub primitive: String,
    /// The sealed copy of what is there: a handle into the run's vault.
    pub backup: Option<Value>,
    /// Going back: the sequence number of the effect that this one puts back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
    /// Public content before and after. Of a restart: `{"marker": …}` and what else helps a reader.
    pub summary: Value,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeStatus {
    /// It holds.
    Done,
    /// It did not work. Without an intent: it could not even begin.
    Failed,
    /// There was nothing to do.
    Skipped,
}

/// A step ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Key of the step.
    pub step: String,
    /// Forward or back.
    pub direction: Direction,
    /// How.
    pub status: OutcomeStatus,
    /// What it produced: data and secret handles, or a body.
    pub output: Value,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// A failure as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The kind, as [`stdlib::error::Code`] writes it.
    pub code: String,
    /// What it is about.
    pub object: String,
    /// What went wrong.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// What was found.
    pub found: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl From<&PrimError> for Failure {
    fn from(error: &PrimError) -> Self {
        let code = serde_json::to_value(error.code).ok();
        Self {
            code: code.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default(),
            object: error.object.clone(),
            message: error.message.clone(),
            expected: error.expected.clone(),
            found: error.found.clone(),
            hint: error.hint.clone(),
        }
    }
}

impl From<&Failure> for PrimError {
    fn from(failure: &Failure) -> Self {
        let code = serde_json::from_value(Value::String(failure.code.clone()));
        Self {
            expected: failure.expected.clone(),
            found: failure.found.clone(),
            hint: failure.hint.clone(),
            ..Self::new(code.unwrap_or(stdlib::error::Code::Internal), failure.message.clone())
                .on(failure.object.clone())
        }
    }
}

/// A phase ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseEnd {
    /// Its name.
    pub phase: String,
    /// Forward, or undone.
    pub direction: Direction,
    /// The trust matrix as measured afterwards.
    pub matrix: Option<Value>,
}

/// A person agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// To what: `plan`, `phase remove-old`.
    pub what: String,
    /// Who.
    pub by: String,
    /// How: `typed yes at the prompt`, `--yes`.
    pub how: String,
}

/// The run turns back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Always [`Direction::Back`].
    pub direction: Direction,
    /// Why.
    pub why: String,
}

/// Something worth telling an auditor: a step found done by hand, a changed workflow file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// In the operator's words.
    pub text: String,
}

/// A signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The C2SP signed note.
    pub note: String,
}

/// The run is stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stuck {
    /// Which step cannot go on or back.
    pub step: String,
    /// What a person has to repair, and what to type then.
    pub repair: String,
}

/// How the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndState {
    /// Every phase is done. A rollback may still follow.
    Done,
    /// Everything is as it was.
    RolledBack,
    /// It was stopped where it stood; resume and rollback may still follow.
    Aborted,
}

impl fmt::Display for EndState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::RolledBack => "rolled back",
            Self::Aborted => "aborted",
        })
    }
}

/// The run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How.
    pub state: EndState,
    /// Why, in the operator's words; empty when it simply came to its end.
    pub why: String,
}

/// An event that this program does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// Its `type`, empty where there is none.
    pub name: String,
    /// All of it.
    pub event: Value,
    /// Why it could not be read.
    pub why: String,
}

impl Event {
    /// Its `type` in the record.
    pub fn name(&self) -> &str {
        match self {
            Self::Run(_) => "run",
            Self::Session(_) => "session",
            Self::PhaseBegin(_) => "phase-begin",
            Self::Expanded(_) => "expanded",
            Self::Forecast(_) => "forecast",
            Self::Intent(_) => "intent",
            Self::Effect(_) => "effect",
            Self::Outcome(_) => "outcome",
            Self::PhaseEnd(_) => "phase-end",
            Self::Approval(_) => "approval",
            Self::Turn(_) => "turn",
            Self::Note(_) => "note",
            Self::Checkpoint(_) => "checkpoint",
            Self::Stuck(_) => "stuck",
            Self::End(_) => "end",
            Self::Unknown(unknown) => &unknown.name,
        }
    }

    /// The values that may lie in a body instead of in the line.
    pub fn bulky(&self) -> Vec<&Value> {
        match self {
            Self::Run(e) => vec![&e.plan],
            Self::Expanded(e) => e.items.iter().collect(),
            Self::Forecast(e) => vec![&e.summary],
            Self::Effect(e) => vec![&e.summary],
            Self::Outcome(e) => vec![&e.output],
            Self::PhaseEnd(e) => e.matrix.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The same, for moving them there.
    pub(crate) fn bulky_mut(&mut self) -> Vec<&mut Value> {
        match self {
            Self::Run(e) => vec![&mut e.plan],
            Self::Expanded(e) => e.items.iter_mut().collect(),
            Self::Forecast(e) => vec![&mut e.summary],
            Self::Effect(e) => vec![&mut e.summary],
            Self::Outcome(e) => vec![&mut e.output],
            Self::PhaseEnd(e) => e.matrix.iter_mut().collect(),
            _ => Vec::new(),
        }
    }

    /// Free texts, which are cut rather than refused: an error message of a megabyte must not stop a run.
    pub(crate) fn texts_mut(&mut self) -> Vec<&mut String> {
        match self {
            Self::Outcome(Outcome { error: Some(e), .. }) => [&mut e.object, &mut e.message]
                .into_iter()
                .chain(e.expected.iter_mut())
                .chain(e.found.iter_mut())
                .chain(e.hint.iter_mut())
                .collect(),
            Self::Approval(e) => vec![&mut e.what, &mut e.by, &mut e.how],
            Self::Turn(e) => vec![&mut e.why],
            Self::Note(e) => vec![&mut e.text],
            Self::Stuck(e) => vec![&mut e.repair],
            Self::End(e) => vec![&mut e.why],
            _ => Vec::new(),
        }
    }
}
