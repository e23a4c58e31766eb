//! The runner: command line, script engine, runs, reports.
pub mod capabilities;
pub mod catalog;
pub mod cli;
pub mod diagnostic;
pub mod engine;
pub mod error;
pub mod events;
pub mod exit_code;
pub mod manifest;
pub mod output;
pub mod plan;
pub mod rbac;
mod record;
pub mod script;
