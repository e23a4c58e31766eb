//! What stops a command or a run, with the exit code that it means.

use std::fmt;

use serde::{Deserialize, Serialize};
use stdlib::PrimError;
use stdlib::error::sentence;

use crate::exit_code::ExitCode;
use crate::plan::At;

/// A failure as it is shown and recorded: the step, its place in the script, the object, what was expected and found,
/// and what to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it means for the operating system.
    pub exit: ExitCode,
    /// Key of the step, where one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Where the step was declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// The object or file; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// What went wrong: a lowercase fragment.
    pub message: String,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What to type or do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// A failure that belongs to no step.
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self {
            exit,
            step: None,
            at: None,
            object: String::new(),
            message: message.into(),
            expected: None,
            found: None,
            hint: None,
        }
    }

    /// A primitive's error under the exit code given.
    pub fn of(exit: ExitCode, error: PrimError) -> Self {
        Self {
            object: error.object,
            expected: error.expected,
            found: error.found,
            hint: error.hint,
            ..Self::new(exit, error.message)
        }
    }

    /// Names the step and where it was declared.
    #[must_use]
    pub fn in_step(mut self, key: impl Into<String>, at: &At) -> Self {
        self.step = Some(key.into());
        self.at = Some(at.clone());
        self
    }

    /// Names the object.
    #[must_use]
    pub fn on(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// Says what to do next, unless that is already said.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = &self.step {
            write!(f, "step `{step}`: ")?;
        }
        sentence(f, &self.object, &self.message, self.expected.as_deref(), self.found.as_deref())
    }
}

impl std::error::Error for Failure {}
