//! What people and programs see. The only module that prints: stdout is data, all else is stderr.

pub mod human;
pub mod json;
pub mod live;
pub mod matrix;
pub mod plan;
pub mod problem;
pub mod story;
pub mod style;
pub mod summary;
pub mod table;

use std::io::Write as _;

/// Prints a line of data to stdout. A closed pipe is no error: whoever listened has heard enough.
pub fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Prints a line that is not data to stderr.
pub fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{text}");
}
