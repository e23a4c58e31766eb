//! Runs a plan with a journal: forward, again after a kill, and back.
//!
//! All of a run is one tree of futures on any tokio runtime; nothing here uses threads or blocking waits, so that tests
//! run it on paused time and can drop it at any moment as a kill would.

#![allow(clippy::result_large_err, reason = "errors are made for a person, and at most a few in a run")]

pub mod approve;
mod back;
pub mod cancel;
mod core;
mod ending;
mod forward;
mod gate;
mod group;
mod hold;
mod hosts;
mod judge;
mod lease;
mod ledger;
pub mod lock;
mod open;
mod options;
mod outage;
mod run;
mod step;
mod stop;
#[cfg(test)]
mod tests;
pub mod trust;
mod waited;
mod x509;

pub use gate::MayTouch;
pub use lease::{LeaseLock, lease_target};
pub use options::Options;
pub use run::{Actor, Begin, Run, planned, told};
pub use x509::X509;
