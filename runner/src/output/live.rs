//! The one line that moves, on stderr, and only on a terminal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that shows what goes on now. Where stderr is no terminal it shows nothing.
#[derive(Debug)]
pub struct Live {
    bar: ProgressBar,
    moving: AtomicBool,
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
        Self { bar, moving: AtomicBool::new(false) }
    }
}

impl Live {
    /// Shows this, counting the time from now.
    pub fn begin(&self, text: String) {
        self.moving.store(true, Ordering::Relaxed);
        self.bar.reset();
        self.bar.set_message(text);
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    /// Shows this instead, the time going on.
    pub fn update(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Prints lines above, on stdout.
    pub fn print(&self, text: &str) {
        if self.moving.load(Ordering::Relaxed) {
            self.bar.suspend(|| super::data(text));
        } else {
            super::data(text);
        }
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.moving.store(false, Ordering::Relaxed);
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
    }
}
