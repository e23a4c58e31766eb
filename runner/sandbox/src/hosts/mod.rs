//! Hosts to rehearse on: a folder in place of each root, services, a few of the programs that every machine has.
//!
//! A host keeps the contract of [`stdlib::host::Host`], as a real one over OpenSSH does.

mod commands;
mod folder;
mod machine;
mod replace;
mod timer;
mod unit;

pub use machine::{Fault, Machine};
pub use unit::{Program, Unit};
