//! Colours and marks. Nothing is said by colour alone.

use console::{Style, Term};

use crate::cli::args::ColorChoice;

/// Decides once, at the start, whether colour is used: `--color`, then `NO_COLOR`, then whether it is a terminal.
pub fn set_up(choice: ColorChoice, no_color: bool) {
    let (out, err) = match choice {
        ColorChoice::Always => (true, true),
        ColorChoice::Never => (false, false),
        ColorChoice::Auto if no_color => (false, false),
        ColorChoice::Auto => (Term::stdout().is_term(), Term::stderr().is_term()),
    };
    console::set_colors_enabled(out);
    console::set_colors_enabled_stderr(err);
}

/// Something is as it should be.
pub fn good() -> Style {
    Style::new().green()
}

/// Something is wrong.
pub fn bad() -> Style {
    Style::new().red().bold()
}

/// Something needs attention.
pub fn warn() -> Style {
    Style::new().yellow()
}

/// Names, commands and paths.
pub fn name() -> Style {
    Style::new().cyan()
}

/// Headings.
pub fn strong() -> Style {
    Style::new().bold()
}

/// What is there for completeness.
pub fn faint() -> Style {
    Style::new().dim()
}

/// How wide lines may be: the terminal's width, at most 110; 100 where there is none.
pub fn width() -> usize {
    let term = Term::stdout();
    if term.is_term() { usize::from(term.size().1).clamp(40, 110) } else { 100 }
}

/// The same for text that somebody may search when it is not read on a terminal: that is not broken into lines.
pub fn width_or_endless() -> usize {
    if Term::stdout().is_term() { width() } else { usize::MAX }
}

/// The same for stderr.
pub fn width_stderr() -> usize {
    let term = Term::stderr();
    if term.is_term() { usize::from(term.size().1).clamp(40, 110) } else { usize::MAX }
}

/// A duration for people: `0.4s`, `12s`, `3m 05s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        10_000..60_000 => format!("{}s", ms / 1000),
        _ => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// A count with its noun, in the right number.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 {
        return format!("1 {noun}");
    }
    match noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        Some(stem) => format!("{count} {stem}ies"),
        None if noun.ends_with(['s', 'x']) || noun.ends_with("ch") => format!("{count} {noun}es"),
        None => format!("{count} {noun}s"),
    }
}

/// Wraps text at spaces, with an indent on every line.
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let pad = " ".repeat(indent);
    let room = width.saturating_sub(indent).max(20);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let used = lines.last().map_or(0, |line| console::measure_text_width(line));
        let needs = console::measure_text_width(word);
        if used > 0 && used + 1 + needs > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{pad}{line}")).collect::<Vec<_>>().join("\n")
}

/// Wraps text that begins somewhere in a line: only the lines after the first are indented.
pub fn hang(text: &str, indent: usize, width: usize) -> String {
    wrap(text, indent, width).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_counts_read_well() {
        assert_eq!(duration(430), "0.4s");
        assert_eq!(duration(59_900), "59s");
        assert_eq!(duration(185_000), "3m 05s");
        assert_eq!(plural(1, "pod"), "1 pod");
        assert_eq!(plural(2, "party"), "2 parties");
        assert_eq!(plural(0, "day"), "0 days");
        assert_eq!(plural(3, "process"), "3 processes");
    }

    #[test]
    fn long_text_is_wrapped_at_words_and_indented() {
        let text = wrap("Every component trusts the old and the new certificate authority.", 4, 34);
        assert_eq!(text, "    Every component trusts the old\n    and the new certificate\n    authority.");
        assert_eq!(hang("old and new authorities", 6, 26), "old and new\n      authorities");
    }
}
