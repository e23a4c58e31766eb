//! Why the engine stops before the end.

use crate::error::Failure;
use crate::events::EndState;
use crate::exit_code::ExitCode;

use super::ledger::Halt;

/// What ends a run early. Everything but [`Stop::Failed`] passes through every layer unchanged.
#[derive(Debug, Clone)]
pub(crate) enum Stop {
    /// A step failed.
    Failed(Failure),
    /// Going back failed.
    Stuck(Failure),
    /// Something was not permitted, before it was begun.
    Refused(Failure),
    /// The lock on the target was lost.
    LockLost(Failure),
    /// The journal cannot be written, or the process was killed by a test.
    Halted(Halt),
    /// Cancelled from outside.
    Cancelled,
}

impl Stop {
    /// The state in which the run ends.
    pub(crate) fn state(&self) -> EndState {
        match self {
            Self::Failed(_) | Self::LockLost(_) => EndState::Stopped,
            Self::Stuck(_) => EndState::Stuck,
            Self::Refused(_) => EndState::Refused,
            Self::Halted(halt) if halt.killed => EndState::Killed,
            Self::Halted(_) => EndState::Halted,
            Self::Cancelled => EndState::Interrupted,
        }
    }

    /// What is shown and recorded.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Failed(failure)
            | Self::Stuck(failure)
            | Self::Refused(failure)
            | Self::LockLost(failure) => failure,
            Self::Halted(halt) => halt.failure(),
            Self::Cancelled => Failure::new(ExitCode::Interrupted, "interrupted"),
        }
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halted(halt)
    }
}
