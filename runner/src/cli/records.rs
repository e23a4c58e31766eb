//! Finding and reading records: what `status`, `audit`, `resume` and the rest share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::{JournalError, Loaded, RunId, Store};
use stdlib::files::SystemDisk;

use super::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::plan::Plan;

/// The store of this state folder.
pub(crate) fn store(context: &Context) -> Store {
    Store::new(Arc::new(SystemDisk), &context.paths.state)
}

/// A journal's error with its exit code and what to type next.
pub(crate) fn failure(error: JournalError) -> Failure {
    let (exit, hint) = match &error {
        JournalError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            (ExitCode::RunNotFound, "`rollover status` lists the runs")
        }
        JournalError::Io { .. } => (
            ExitCode::StateUnwritable,
            "look at the owner, the mode and the free space of the folder, or pass `--state DIR`",
        ),
        JournalError::Unwritable { .. } | JournalError::Poisoned => {
            (ExitCode::JournalUnwritable, "make room or repair the disk, then `rollover resume RUN`")
        }
        JournalError::Corrupt { .. } => (
            ExitCode::PinnedAltered,
            "`rollover audit verify RUN` says which record was altered; restore the folder from a copy",
        ),
        JournalError::Altered { .. } => (
            ExitCode::PinnedAltered,
            "put the recorded copy back from a backup of the run's folder; an altered copy is never run",
        ),
        JournalError::Newer { .. } => (ExitCode::Format, "use the version of rollover that wrote it"),
        JournalError::Held { .. } => (ExitCode::RunBusy, "wait for it, or stop that process first"),
        JournalError::NoRun(_) | JournalError::Empty { .. } => {
            (ExitCode::RunNotFound, "`rollover status` lists the runs")
        }
        JournalError::Ambiguous { .. } => (ExitCode::RunNotFound, "type more of the id"),
        JournalError::Exposed { .. } => {
            (ExitCode::Forbidden, "secrets lie there: take the rights away from others, then try again")
        }
        _ => (ExitCode::Unknown, "run with `-vv` and report what it says"),
    };
    Failure::new(exit, error.to_string()).hint(hint)
}

/// The run that a prefix of its id names.
pub(crate) fn find(store: &Store, prefix: &str) -> Result<RunId, Failure> {
    store.find(prefix).map_err(failure)
}

/// A run's folder, named by id or by path, so that a record works wherever it was moved to.
pub(crate) fn folder(store: &Store, run: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(run);
    if path.join("journal.jsonl").exists() {
        return Ok(path.to_owned());
    }
    Ok(store.dir(&find(store, run)?))
}

/// A record that was read, with its plan.
pub(crate) struct Read {
    /// Records and state.
    pub loaded: Loaded,
    /// The pinned plan, where it can be read.
    pub plan: Option<Plan>,
}

/// Reads a record without locking it.
pub(crate) fn read(dir: &Path) -> Result<Read, Failure> {
    let loaded = journal::load(&SystemDisk, dir).map_err(failure)?;
    let bodies = journal::Bodies::new(Arc::new(SystemDisk), dir);
    let plan = loaded
        .state
        .header()
        .and_then(|header| bodies.resolve(&header.plan).ok())
        .and_then(|value| serde_json::from_value(value).ok());
    Ok(Read { loaded, plan })
}
