//! What is wrong with a workflow, and where: the one type that the manifest, the script and the plan report with.

mod render;
mod token;

use serde::Serialize;
use stdlib::error::{Code, PrimError};

pub use render::{Paint, render, render_all};
pub use stdlib::near::nearest;

use crate::plan::At;

/// Whether a finding stops the workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The workflow cannot run.
    Error,
    /// It can, but not as its author expects.
    Warning,
}

/// A place in a file, with the words that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// Where it begins.
    pub at: At,
    /// How many characters it covers, at least one.
    pub length: usize,
    /// The whole line.
    pub line: String,
    /// What to say about it; may be empty.
    pub label: String,
}

/// One level of the way from the main script to the place of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// The script function that was called, or the file that was imported.
    pub callee: String,
    /// Where it was called.
    pub at: At,
}

/// A finding, as a compiler would give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable word, e.g. `script::unknown-native`.
    pub code: String,
    /// Whether it stops the workflow.
    pub severity: Severity,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// The places, the main one first. Empty where there is none.
    pub spots: Vec<Spot>,
    /// How the script got there, outermost call first.
    pub chain: Vec<Frame>,
    /// What to type or do next.
    pub hint: Option<String>,
    /// What kind of failure a primitive reported, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Code>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            message: message.into(),
            spots: Vec::new(),
            chain: Vec::new(),
            hint: None,
            failure: None,
        }
    }

    /// A warning without a place.
    pub fn warning(code: &str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// What a primitive answered to a call in a script.
    pub fn from_primitive(primitive: &str, error: &PrimError) -> Self {
        let mut diagnostic = Self::error("script::primitive", format!("`{primitive}` failed: {error}"));
        diagnostic.hint.clone_from(&error.hint);
        diagnostic.failure = Some(error.code);
        diagnostic
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what to do next, where something is known.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Adds a place, given the text of its file.
    #[must_use]
    pub fn spot(mut self, at: At, text: Option<&str>, label: impl Into<String>) -> Self {
        self.spots.push(Spot::new(at, text, label));
        self
    }

    /// The main place.
    pub fn at(&self) -> Option<&At> {
        self.spots.first().map(|spot| &spot.at)
    }

    /// Whether it stops the workflow.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Spot {
    /// A place that covers the word, path or text literal there; a path is covered from its beginning.
    pub fn new(mut at: At, text: Option<&str>, label: impl Into<String>) -> Self {
        let line = text.and_then(|text| text.lines().nth(at.line.saturating_sub(1))).unwrap_or("").to_owned();
        at.column = token::path_start(&line, at.column);
        let length = token::token_length(&line, at.column);
        Self { at, length, line, label: label.into() }
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(at) = self.at() {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}
