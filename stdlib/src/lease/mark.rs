//! The mark on a target, and what is said of it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::error::{Code, PrimError};
use crate::k8s::object::{Ref, at, text};

/// The annotation on the target.
pub const MARK: &str = "rollover.dev/run";

/// The annotation that a run leaves when it is over: what an auditor holds its record against.
pub const LAST: &str = "rollover.dev/last-run";

/// A run that is over, as it stands in the annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Its id.
    pub run: String,
    /// How it ended.
    pub ended: String,
    /// The head of its closed record, `SIZE:ROOT`.
    pub head: String,
}

/// What is left on a target that is let go of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    /// The mark: the run is not finished.
    Mark,
    /// Nothing: the run has changed nothing.
    Nothing,
    /// Which run was here, and the head of its record.
    Last(Last),
}

impl Leave {
    /// The annotations to write; `None` where the mark stays.
    pub(super) fn annotations(&self) -> Option<Value> {
        match self {
            Self::Mark => None,
            Self::Nothing => Some(annotation(&Value::Null)),
            Self::Last(last) => {
                let told = serde_json::to_string(last).unwrap_or_default();
                Some(json!({ "metadata": { "annotations": { MARK: Value::Null, LAST: told } } }))
            }
        }
    }
}

/// The mark, as it stands in the annotation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Id of the run.
    pub run: String,
    /// When it took the target first.
    pub since: String,
    /// The step that it was at.
    #[serde(default)]
    pub step: String,
    /// The head of its record.
    #[serde(default)]
    pub head: Value,
    /// The machine.
    #[serde(default)]
    pub host: String,
    /// The person.
    #[serde(default)]
    pub user: String,
    /// The token of the taking.
    #[serde(default)]
    pub token: String,
}

impl Mark {
    /// What somebody has written. What cannot be read was written by somebody all the same.
    pub(crate) fn read(written: &[u8]) -> Self {
        serde_json::from_slice(written).unwrap_or_else(|_| Self {
            run: String::from_utf8_lossy(written).chars().take(64).collect(),
            ..Self::default()
        })
    }
}

pub(super) fn mark_of(value: &Value) -> Option<Mark> {
    Some(Mark::read(at(value, &["metadata", "annotations", MARK])?.as_str()?.as_bytes()))
}

pub(super) fn annotation(mark: &Value) -> Value {
    json!({ "metadata": { "annotations": { MARK: mark } } })
}

pub(super) fn version(value: &Value) -> &str {
    text(value, &["metadata", "resourceVersion"])
}

pub(super) fn locked(object: &str, mark: &Mark) -> PrimError {
    let step = match mark.step.as_str() {
        "" => ", before its first step".to_owned(),
        step => format!(", at step `{step}`"),
    };
    PrimError::new(
        Code::Locked,
        format!("run `{}` of {}@{} has it since {}{step}", mark.run, mark.user, mark.host, mark.since),
    )
    .on(object)
}

/// Who has not finished with a target, if there is a mark on it; for whoever finds it in no good state.
pub fn unfinished_run(object: &Ref, value: &Value) -> Option<PrimError> {
    mark_of(value).map(|mark| unfinished(&object.to_string(), &mark))
}

/// Who has not finished with an object or a host.
pub(crate) fn unfinished(object: &str, mark: &Mark) -> PrimError {
    if mark.token.is_empty() {
        return PrimError::new(Code::Locked, "its mark cannot be read")
            .on(object)
            .expected("the mark of a run", format!("`{}`", mark.run))
            .hint("find out who wrote it; once no run is unfinished there, remove it and begin again");
    }
    locked(object, mark).hint(format!(
        "that run is not finished: `rollover resume {0}`, `rollover rollback {0}` or `rollover abort {0}`, on {1} or with its folder",
        mark.run, mark.host
    ))
}

pub(super) fn busy(object: &Ref) -> PrimError {
    PrimError::new(Code::Unavailable, "it changes so often that our write always comes late")
        .on(object.to_string())
}

pub(super) fn micros(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

pub(crate) fn seconds(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}
