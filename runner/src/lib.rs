//! The runner: command line, script engine, runs, reports.
pub mod plan;
