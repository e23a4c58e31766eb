//! What can go wrong with a record.

use std::io;
use std::path::{Path, PathBuf};

use stdlib::PrimError;
use stdlib::error::Code;
use thiserror::Error;

use crate::event::Session;
use crate::record::{FORMAT, RecordError};
use crate::state::IllegalTransition;

/// A failure of journal, vault or store.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The journal could not be written. Nothing is durable that was not acknowledged; the process must end.
    #[error("the journal cannot be written: {source}")]
    Unwritable {
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// An earlier append failed, so nothing more may be appended by this process.
    #[error("the journal could not be written before, so this run stops here")]
    Poisoned,
    /// A test demanded to stop here.
    #[error("stopped at record {seq} by a tripwire")]
    Stopped {
        /// At which record.
        seq: u64,
    },
    /// The event may not follow what the record says so far.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The event is no record.
    #[error("this cannot be recorded: {0}")]
    Record(RecordError),
    /// A value looks like a reference to a body, but there is no such body.
    #[error("a value with a member `$body` that names no body of this run cannot be recorded")]
    ForgedBody,
    /// A line of the journal was altered.
    #[error("{}: line {line} {why}", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What does not fit.
        why: String,
    },
    /// A body or pinned copy is missing or was altered.
    #[error("{what} was altered: {} is not what the record names ({why})", path.display())]
    Altered {
        /// What it is: `the pinned copy of main.rhai`.
        what: String,
        /// Where it lies.
        path: PathBuf,
        /// In which way.
        why: String,
    },
    /// There is no record yet: the run never began.
    #[error("{}: the run never began", path.display())]
    Empty {
        /// The journal.
        path: PathBuf,
    },
    /// Another program wrote it, in a format that this one does not know.
    #[error(
        "the record has format {found}, this program writes format {FORMAT}; use the program that wrote it"
    )]
    Newer {
        /// The record's format.
        found: u32,
    },
    /// Another process works on the run.
    #[error("run {run} is worked on by another process{}", holder_text(holder.as_deref()))]
    Held {
        /// Which run.
        run: String,
        /// Who, as far as the record tells.
        holder: Option<Box<Session>>,
    },
    /// No run has this id.
    #[error("no run begins with `{0}`")]
    NoRun(String),
    /// Several runs begin with this prefix.
    #[error("`{prefix}` is ambiguous: {}", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// The runs that begin with it.
        candidates: Vec<String>,
    },
    /// The file is not a key in C2SP form.
    #[error("{}: not an Ed25519 signing key", path.display())]
    BadKey {
        /// Which file.
        path: PathBuf,
    },
    /// Others than the owner can read what must be private.
    #[error("{}: mode {mode:04o} lets others in; type `chmod -R go= {}`", path.display(), path.display())]
    Exposed {
        /// Which file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
}

fn holder_text(holder: Option<&Session>) -> String {
    holder.map_or(String::new(), |s| format!(" (pid {} of {} on {})", s.pid, s.user, s.host))
}

impl JournalError {
    /// For `map_err`: an [`JournalError::Io`] that names the path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// What a primitive sees of it. A journal that cannot be written is a refusal, which no script can catch.
impl From<JournalError> for PrimError {
    fn from(error: JournalError) -> Self {
        let code = match &error {
            JournalError::Illegal(_) | JournalError::Record(_) | JournalError::ForgedBody => Code::Internal,
            JournalError::Held { .. } => Code::Locked,
            JournalError::NoRun(_) | JournalError::Ambiguous { .. } => Code::Argument,
            JournalError::Altered { .. } | JournalError::Corrupt { .. } | JournalError::BadKey { .. } => {
                Code::Invalid
            }
            JournalError::Exposed { .. } => Code::Forbidden,
            _ => Code::Refused,
        };
        Self::new(code, error.to_string())
    }
}
