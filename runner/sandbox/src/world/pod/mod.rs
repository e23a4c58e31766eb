//! Pods: real TLS servers and clients with what they loaded when they started.

pub mod dial;
pub mod party;
pub mod process;
pub mod program;
mod respond;
mod serve;
pub mod sql;
