//! Facts in two columns, within 80: a label, and words that are wrapped.

use crate::output::style;

/// How wide output is, whatever the terminal: it is read in tickets and mails too.
pub(super) const WIDTH: usize = 80;
/// Where the second column begins.
const LABEL: usize = 13;

/// A heading with facts below it.
pub(super) struct Facts {
    lines: Vec<String>,
}

impl Facts {
    /// Begins under a heading.
    pub(super) fn under(heading: &str) -> Self {
        Self { lines: vec![style::strong().apply_to(heading).to_string()] }
    }

    /// One fact. Words too long for a line stay whole, since they are meant to be copied.
    pub(super) fn fact(&mut self, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        for (index, line) in style::wrap(text, 0, WIDTH - LABEL).lines().enumerate() {
            let label = if index == 0 { label } else { "" };
            self.lines.push(format!("  {} {line}", style::faint().apply_to(format!("{label:<10}"))));
        }
    }

    /// A fact that is good or bad, said by words and by colour.
    pub(super) fn verdict(&mut self, label: &str, good: bool, text: &str) {
        let colour = if good { style::good() } else { style::bad() };
        for (index, line) in style::wrap(text, 0, WIDTH - LABEL).lines().enumerate() {
            let label = if index == 0 { label } else { "" };
            let line = colour.apply_to(line);
            self.lines.push(format!("  {} {line}", style::faint().apply_to(format!("{label:<10}"))));
        }
    }

    /// The text.
    pub(super) fn text(self) -> String {
        self.lines.join("\n")
    }
}

/// A table within the width.
pub(super) fn table(heading: &[&str]) -> comfy_table::Table {
    let mut table = crate::output::table::plain(heading);
    table.set_width(u16::try_from(WIDTH).unwrap_or(80));
    table
}
