//! The one line that moves, on stderr, and only on a terminal.

use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that shows what goes on now. Where stderr is no terminal it shows nothing.
#[derive(Debug)]
pub struct Live {
    bar: ProgressBar,
}

impl Default for Live {
    fn default() -> Self {
        let target = if Term::stderr().is_term() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(look) = ProgressStyle::with_template("  {spinner} {wide_msg} {elapsed}") {
            bar.set_style(look);
        }
        Self { bar }
    }
}

impl Live {
    /// Shows this, counting the time from now.
    pub fn begin(&self, text: String) {
        self.bar.reset_elapsed();
        self.bar.set_message(text);
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    /// Shows this instead, the time going on.
    pub fn update(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Prints lines above, on stdout.
    pub fn print(&self, text: &str) {
        self.bar.suspend(|| super::data(text));
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}
