//! A run as it goes, for people.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::live::Live;
use super::style;
use super::{matrix, plan, problem, summary, table};
use crate::events::{Direction, Event, PlannedPhase, Reporter, StepResult};
use crate::plan::Role;

/// Prints lines as things end, and keeps one moving line for what goes on.
#[derive(Default)]
pub struct Human {
    state: Mutex<State>,
    live: Live,
}

#[derive(Default)]
struct State {
    phases: Vec<PlannedPhase>,
    open: Vec<(String, Role)>,
    notes: BTreeMap<String, String>,
}

impl State {
    fn item(key: &str) -> String {
        key.splitn(3, '/').nth(2).unwrap_or(key).to_owned()
    }

    /// The step after this one on the way forward, for *what is next*.
    fn next(&self, key: &str) -> Option<String> {
        let mut steps = self.phases.iter().flat_map(|phase| &phase.steps);
        steps.find(|step| step.key == key)?;
        let next = steps.next()?;
        Some(format!("{} {}", plan::role(next.role), next.item))
    }

    fn moving(&self, key: &str, text: &str) -> String {
        let role = self.open.iter().find(|(open, _)| open == key).map_or("", |(_, role)| plan::role(*role));
        let mut line = format!("{role} {}", Self::item(key));
        if self.open.len() > 1 {
            line.push_str(&format!(" (and {} beside it)", self.open.len() - 1));
        }
        if !text.is_empty() {
            line.push_str(&format!(": {text}"));
        }
        if let Some(next) = self.next(key) {
            line.push_str(&format!("   next: {next}"));
        }
        line
    }
}

fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "==>",
        Direction::Back => "<==",
    }
}

impl Human {
    fn lines(&self, event: &Event) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { run, workflow, title, target, direction, resumed } => {
                let verb = match (direction, resumed) {
                    (Direction::Forward, false) => "Run",
                    (Direction::Forward, true) => "Going on with run",
                    (Direction::Back, false) => "Taking back run",
                    (Direction::Back, true) => "Going on taking back run",
                };
                let mut text = format!(
                    "{} {} of {}",
                    style::strong().apply_to(verb),
                    style::name().apply_to(run),
                    style::strong().apply_to(workflow)
                );
                if !title.is_empty() {
                    text.push_str(&format!("\n  {title}"));
                }
                if let Some(target) = target {
                    text.push_str(&format!("\n  target: {target}"));
                }
                Some(text)
            }
            Event::Plan { phases, .. } => {
                state.phases.clone_from(phases);
                None
            }
            Event::PhaseStarted { phase, why, direction, number, of } => {
                let back = if *direction == Direction::Back { "Taken back: " } else { "" };
                Some(format!(
                    "\n{} {}\n{}",
                    style::strong().apply_to(format!("{} [{number}/{of}]", arrow(*direction))),
                    style::strong().apply_to(phase),
                    style::wrap(&format!("{back}{why}"), 4, style::width())
                ))
            }
            Event::Forecast { gap_free, result, .. } => Some(matrix::forecast(*gap_free, result)),
            Event::Matrix { matrix, .. } => Some(matrix::text(matrix)),
            Event::StepStarted { step, role, .. } => {
                state.open.push((step.clone(), *role));
                let text = state.moving(step, "");
                self.live.begin(text);
                None
            }
            Event::StepProgress { step, text, done } => {
                let text = match done {
                    Some((done, of)) => format!("{text} ({done}/{of})"),
                    None => text.clone(),
                };
                self.live.update(state.moving(step, &text));
                state.notes.insert(step.clone(), text);
                None
            }
            Event::Changing { .. } | Event::Answered { .. } => None,
            Event::Asked { .. } => {
                // The question has the terminal for itself.
                self.live.end();
                None
            }
            Event::StepEnded { step, result, ms, failure, again_in_ms, .. } => {
                let role =
                    state.open.iter().find(|(open, _)| open == step).map(|(_, role)| plan::role(*role));
                state.open.retain(|(open, _)| open != step);
                let last = state.notes.remove(step).unwrap_or_default();
                if state.open.is_empty() {
                    self.live.end();
                }
                let mark = match result {
                    StepResult::Done => style::good().apply_to("ok  "),
                    StepResult::Skipped => style::faint().apply_to("skip"),
                    StepResult::Failed => style::bad().apply_to("FAIL"),
                };
                let item = State::item(step);
                let mut text =
                    format!("    {mark} {:<6} {item:<34} {:>7}", role.unwrap_or(""), style::duration(*ms));
                if *result == StepResult::Failed && !last.is_empty() {
                    text.push_str(&format!("   {}", style::faint().apply_to(last)));
                }
                if let Some(failure) = failure {
                    text.push('\n');
                    text.push_str(&indent(&problem::within(failure, style::width().saturating_sub(9)), 9));
                }
                if let Some(pause) = again_in_ms {
                    text.push_str(&format!("\n         again in {}", style::duration(*pause)));
                }
                Some(text)
            }
            // The whole head, so that it can be kept elsewhere and given to `--expect-head`.
            Event::PhaseEnded { phase, ms, head, direction } => Some(format!(
                "    {} {} {} in {}\n    {}",
                style::good().apply_to("ok"),
                phase,
                if *direction == Direction::Forward { "done" } else { "taken back" },
                style::duration(*ms),
                style::faint().apply_to(format!("head {}:{}", head.size, head.root))
            )),
            Event::Table { table: shown, .. } => Some(indent(&table::seen(shown), 4)),
            Event::Note { text } => Some(format!("    {} {text}", style::warn().apply_to("note:"))),
            Event::RunEnded { ending } => {
                self.live.end();
                Some(format!("\n{}", summary::text(ending)))
            }
        }
    }
}

fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    text.lines().map(|line| format!("{pad}{line}")).collect::<Vec<_>>().join("\n")
}

impl Reporter for Human {
    fn event(&self, _: time::OffsetDateTime, event: &Event) {
        if let Some(text) = self.lines(event) {
            self.live.print(&text);
        }
    }
}
