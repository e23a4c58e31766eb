//! Finding and reading records: what `status`, `audit`, `resume` and the rest share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::{Bodies, Header, JournalError, Loaded, RunId, Store};
use stdlib::files::SystemDisk;

use super::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, problem};
use crate::plan::Plan;
use crate::record;

/// The store of this state folder.
pub(crate) fn store(context: &Context) -> Store {
    Store::new(Arc::new(SystemDisk), &context.paths.state)
}

/// A journal's error with its exit code and what to type next.
pub(crate) fn failure(error: JournalError) -> Failure {
    record::failure(&error, false)
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
    /// The pinned plan, or why it cannot be read.
    pub plan: Result<Plan, Failure>,
    /// What the record keeps beside it.
    pub bodies: Bodies,
}

/// Says on stderr what could not be read of a record that is shown all the same.
pub(crate) fn say_unreadable(why: Option<&Failure>) {
    if let Some(failure) = why {
        output::say(&problem::text(failure));
    }
}

impl Read {
    /// The run's header.
    ///
    /// # Errors
    /// The run never began.
    pub(crate) fn header(&self) -> Result<&Header, Failure> {
        let missing = || Failure::new(ExitCode::RunNotFound, "the run never began: its record has no header");
        self.loaded.state.header().ok_or_else(missing)
    }
}

/// Reads a record without locking it.
pub(crate) fn read(dir: &Path) -> Result<Read, Failure> {
    let loaded = journal::load(&SystemDisk, dir).map_err(failure)?;
    let bodies = Bodies::new(Arc::new(SystemDisk), dir);
    let plan = match loaded.state.header() {
        Some(header) => record::plan(header, &bodies),
        None => Err(Failure::new(ExitCode::RunNotFound, "the run never began")),
    };
    Ok(Read { loaded, plan, bodies })
}
