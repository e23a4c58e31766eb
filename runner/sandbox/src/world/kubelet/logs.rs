//! What a container has written: of its present life and of the one before.

use std::collections::VecDeque;

/// How many lines of a life are kept.
const KEPT: usize = 100;

/// The lives of a container.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    now: Life,
    before: Option<Life>,
}

#[derive(Debug, Default)]
struct Life {
    lines: VecDeque<String>,
    ended: bool,
}

impl Logs {
    /// A life begins.
    pub(crate) fn begin(&mut self) {
        let last = std::mem::take(&mut self.now);
        self.before = last.ended.then_some(last).or(self.before.take());
    }

    /// It writes a line.
    pub(crate) fn write(&mut self, line: &str) {
        if self.now.lines.len() >= KEPT {
            self.now.lines.pop_front();
        }
        self.now.lines.push_back(line.to_owned());
    }

    /// It ends.
    pub(crate) fn end(&mut self) {
        self.now.ended = true;
    }

    /// The last lines of the present life, or of the last that has ended; nothing where none has.
    pub(crate) fn read(&self, ended: bool, lines: Option<usize>) -> Option<String> {
        let life = if ended && !self.now.ended { self.before.as_ref()? } else { &self.now };
        let skipped = lines.map_or(0, |lines| life.lines.len().saturating_sub(lines));
        Some(life.lines.iter().skip(skipped).flat_map(|line| [line.as_str(), "\n"]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_that_has_ended_last_is_told_apart_from_the_present_one() {
        let mut logs = Logs::default();
        logs.begin();
        logs.write("one");
        logs.write("two");
        assert_eq!(logs.read(true, None), None, "none has ended");
        assert_eq!(logs.read(false, Some(1)).as_deref(), Some("two\n"));
        logs.end();
        assert_eq!(logs.read(true, None).as_deref(), Some("one\ntwo\n"));
        logs.begin();
        logs.write("three");
        assert_eq!(logs.read(true, None).as_deref(), Some("one\ntwo\n"));
        assert_eq!(logs.read(false, None).as_deref(), Some("three\n"));
    }
}
