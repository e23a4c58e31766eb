//! Failures, in the operator's words: what, where, expected and found, what to type next.

use serde_json::json;

use super::style;
use crate::cli::args::Format;
use crate::error::Failure;

/// The text of a failure, for stderr.
pub fn text(failure: &Failure) -> String {
    within(failure, style::width_stderr())
}

/// The text of a failure in lines of this width.
pub fn within(failure: &Failure, width: usize) -> String {
    let object = if failure.object.is_empty() { String::new() } else { format!("{}: ", failure.object) };
    let head = style::hang(&format!("error: {object}{}", failure.message), 2, width);
    let head = head.replacen("error:", &style::bad().for_stderr().apply_to("error:").to_string(), 1);
    let name = style::name().for_stderr().apply_to(&failure.object).to_string();
    let head = if failure.object.is_empty() { head } else { head.replacen(&failure.object, &name, 1) };
    let mut lines = vec![head];
    let mut detail = |label: &str, value: &str| {
        let value = style::hang(value, 12, width);
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
        let hint = style::hang(hint, 6, width);
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
