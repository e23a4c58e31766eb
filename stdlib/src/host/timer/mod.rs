//! Commit confirmed: a timer on the host itself that takes a change back and restarts the service, unless it is confirmed
//! in time. It needs neither the runner nor a connection.

pub(crate) mod confirm;
mod posix;
mod scripts;

use std::time::Duration;

use super::port::Put;

/// What a host shall do by itself unless it is told in time that all is well.
#[derive(Clone)]
pub struct Guard {
    /// What is guarded, one timer each: letters, digits, `-_.@`. For a service the name of its restart marker.
    pub key: String,
    /// Another one each time a timer is armed: which of them is meant.
    pub id: String,
    /// The restart marker of the step that armed it.
    pub marker: String,
    /// What it puts back: `before` is what the files hold now, `bytes` what they shall hold again. A file that somebody
    /// else has changed by then is left alone.
    pub puts: Vec<Put>,
    /// What it runs then.
    pub restart: Vec<String>,
    /// How long it waits.
    pub within: Duration,
}

/// What became of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It waits to be confirmed.
    Armed,
    /// It is putting back and restarting just now.
    Firing,
    /// It was not confirmed in time: the files are back and the service was told to restart.
    Fired,
    /// It is gone without having fired, as after a reboot.
    Lost,
}

/// A timer as its host has it.
#[derive(Clone)]
pub struct Timer {
    /// What is guarded.
    pub key: String,
    /// Which arming it was.
    pub id: String,
    /// The restart marker of the step that armed it.
    pub marker: String,
    /// What became of it.
    pub state: State,
    /// How long it still waits; nothing where it does not.
    pub left: Duration,
    /// The exit code of its restart, once it has fired.
    pub code: Option<i32>,
    /// What would take back what it did: `before` is what it left there, `bytes` what lay there when it was armed.
    pub undone: Vec<Put>,
    /// Files that it left alone, because somebody else had changed them.
    pub kept: Vec<String>,
}
