//! What the record of a run means to the rest of the program: its errors as failures, its pinned plan and manifest.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use journal::{Bodies, Header, JournalError};

use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::manifest::Manifest;
use crate::plan::Plan;
use crate::script::MANIFEST;

/// A journal's error with its exit code and what to type next. While a run `begins`, what cannot be written is the state
/// folder: there is no journal yet that could have stopped.
pub(crate) fn failure(error: &JournalError, begins: bool) -> Failure {
    let (exit, hint) = match error {
        JournalError::Altered { .. } => (
            ExitCode::PinnedAltered,
            "put the recorded copy back from a backup of the run's folder; an altered copy is never run",
        ),
        JournalError::Corrupt { .. } => (
            ExitCode::PinnedAltered,
            "`rollover audit verify RUN` says which record was altered; restore the folder from a copy",
        ),
        JournalError::Newer { .. } => (ExitCode::Format, "use the version of rollover that wrote it"),
        JournalError::Held { .. } => (ExitCode::RunBusy, "wait for it, or end that process first"),
        JournalError::Exposed { .. } => {
            (ExitCode::Forbidden, "secrets lie there: take the rights away from others, then try again")
        }
        JournalError::BadKey { .. } => (
            ExitCode::Malformed,
            "bring the key back from a copy; or move it away, and the next run makes another one",
        ),
        JournalError::NoRun(_) | JournalError::Empty { .. } => {
            (ExitCode::RunNotFound, "`rollover status` lists the runs")
        }
        JournalError::Ambiguous { .. } => (ExitCode::RunNotFound, "type more of the id"),
        JournalError::Io { source, .. } if !begins && source.kind() == ErrorKind::NotFound => {
            (ExitCode::RunNotFound, "`rollover status` lists the runs")
        }
        JournalError::Io { .. } | JournalError::Unwritable { .. } => (
            ExitCode::StateUnwritable,
            "look at the owner, the mode and the free space of the folder, or name another with `--state DIR`",
        ),
        JournalError::Poisoned | JournalError::Stopped { .. } if !begins => {
            (ExitCode::JournalUnwritable, "make room or repair the disk, then `rollover resume RUN`")
        }
        _ if begins => (ExitCode::StateUnwritable, "name another state folder with `--state DIR`"),
        _ => (ExitCode::Unknown, "run with `-vv` and report what it says"),
    };
    Failure::new(exit, error.to_string()).hint(hint)
}

/// The step list that the run goes by.
pub(crate) fn plan(header: &Header, bodies: &Bodies) -> Result<Plan, Failure> {
    let value = bodies.resolve(&header.plan).map_err(|error| failure(&error, false))?;
    serde_json::from_value(value).map_err(|error| unreadable("step list", &error))
}

/// The manifest among the pinned sources; none for a plan that was made without one.
pub(crate) fn manifest(sources: &BTreeMap<String, Vec<u8>>) -> Result<Option<Manifest>, Failure> {
    let Some(text) = sources.get(MANIFEST) else { return Ok(None) };
    let parsed = Manifest::parse(&String::from_utf8_lossy(text));
    parsed.map(Some).map_err(|findings| {
        let first = findings.first().map(ToString::to_string).unwrap_or_default();
        unreadable("manifest", &first)
    })
}

/// A part of the record that this version cannot make sense of.
pub(crate) fn unreadable(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(ExitCode::Format, format!("the run's {what} cannot be read: {why}"))
        .hint("use the version of rollover that began the run")
}
