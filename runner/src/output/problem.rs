//! Failures, in the operator's words: what, where, expected and found, what to type next.

use serde_json::json;

use super::style;
use crate::cli::args::Format;
use crate::error::Failure;

/// The text of a failure.
pub fn text(failure: &Failure) -> String {
    let mut lines = Vec::new();
    let object = if failure.object.is_empty() {
        String::new()
    } else {
        format!("{}: ", style::name().for_stderr().apply_to(&failure.object))
    };
    lines.push(format!("{} {object}{}", style::bad().for_stderr().apply_to("error:"), failure.message));
    let mut detail = |label: &str, value: &str| {
        lines.push(format!("  {} {value}", style::faint().for_stderr().apply_to(format!("{label:<9}"))));
    };
    if let Some(step) = &failure.step {
        detail("step", step);
    }
    if let Some(at) = &failure.at {
        detail("declared", &format!("{}:{}:{}", at.file, at.line, at.column));
    }
    if let Some(expected) = &failure.expected {
        detail("expected", expected);
    }
    if let Some(found) = &failure.found {
        detail("found", found);
    }
    if let Some(hint) = &failure.hint {
        lines.push(format!("{} {hint}", style::name().for_stderr().apply_to("hint:")));
    }
    lines.join("\n")
}

/// Prints a failure: to stderr for people, as an object on stdout for programs.
pub fn print(failure: &Failure, format: Format) {
    match format {
        Format::Human => super::say(&text(failure)),
        Format::Json => super::data(
            &json!({"event": "error", "exit_code": failure.exit as u8, "failure": failure}).to_string(),
        ),
    }
}
