//! A recorded run, told for a person: who changed what, when, from which fingerprint to which, with which approval.

use journal::{Direction, Event, Loaded, OutcomeStatus};
use serde_json::Value;

use super::{style, summary};
use crate::plan::Plan;

/// The whole story.
pub fn text(loaded: &Loaded, plan: Option<&Plan>) -> String {
    let mut lines = Vec::new();
    for record in &loaded.records {
        let when = record.t.get(..19).unwrap_or(&record.t).replace('T', " ");
        let mut tell = |text: String| lines.push(format!("{:>5}  {when}  {text}", record.seq));
        match &record.event {
            Event::Run(header) => {
                tell(format!(
                    "run {} of {} begun by {} on {} with {}",
                    header.run_id, header.workflow, header.user, header.host, header.program
                ));
                if let Some(target) = plan.and_then(|plan| plan.target.as_ref()) {
                    tell(format!("  target {} (uid {})", target.title, target.uid));
                }
                for (name, digest) in &header.sources {
                    tell(format!("  by {name} {}", summary::short(digest)));
                }
            }
            Event::Session(session) => tell(format!(
                "{} on {} (pid {}): {}",
                session.user,
                session.host,
                session.pid,
                word(session.why)
            )),
            Event::PhaseBegin(phase) => {
                let why = plan
                    .and_then(|plan| plan.phases.iter().find(|known| known.name == phase.phase))
                    .map_or("", |known| known.why.as_str());
                tell(format!("{} {}  {why}", arrow(phase.direction), style::strong().apply_to(&phase.phase)));
            }
            Event::Forecast(forecast) => {
                tell(format!("  forecast of {}: {}", forecast.phase, verdict(&forecast.summary)))
            }
            Event::Expanded(expanded) => tell(format!(
                "  {} applies {}",
                expanded.step,
                match (expanded.when, expanded.count) {
                    (Some(false), _) => "not".to_owned(),
                    (_, Some(count)) => style::plural(count, "time"),
                    _ => "once".to_owned(),
                }
            )),
            Event::Intent(intent) if intent.attempt > 1 => {
                tell(format!("  {} begins, attempt {}", intent.step, intent.attempt))
            }
            Event::Intent(intent) => tell(format!("  {} begins", intent.step)),
            Event::Effect(effect) => {
                let verb = if effect.restores.is_some() { "puts back" } else { "changes" };
                tell(format!("    {verb} {}", effect.place.0));
                tell(format!(
                    "      {} -> {}",
                    summary::short(&effect.before),
                    summary::short(&effect.after)
                ));
                if let Some(marker) = effect.summary.get("marker").and_then(Value::as_str) {
                    tell(format!("      restart marker {marker}"));
                }
            }
            Event::Outcome(outcome) => match (outcome.status, &outcome.error) {
                (OutcomeStatus::Done, _) => {
                    tell(format!("  {} {}", outcome.step, style::good().apply_to("done")))
                }
                (OutcomeStatus::Skipped, _) => tell(format!("  {} skipped", outcome.step)),
                (OutcomeStatus::Failed, error) => {
                    let why = error
                        .as_ref()
                        .map(|error| format!("{} {}", error.object, error.message))
                        .unwrap_or_default();
                    tell(format!("  {} {} {}", outcome.step, style::bad().apply_to("FAILED"), why.trim()));
                }
            },
            Event::PhaseEnd(phase) => tell(format!(
                "{} {} {}",
                arrow(phase.direction),
                phase.phase,
                if phase.direction == Direction::Forward { "proved" } else { "taken back" }
            )),
            Event::Approval(approval) => {
                tell(format!("approved: {} by {} ({})", approval.what, approval.by, approval.how))
            }
            Event::Turn(turn) => tell(format!("{} {}", style::warn().apply_to("turned back:"), turn.why)),
            Event::Note(note) => tell(format!("note: {}", note.text)),
            Event::Checkpoint(_) => {
                tell(style::faint().apply_to("signed checkpoint over everything above").to_string())
            }
            Event::Stuck(stuck) => {
                tell(format!("{} at {}: {}", style::bad().apply_to("STUCK"), stuck.step, stuck.repair))
            }
            Event::End(end) => tell(format!(
                "{} {}{}",
                style::strong().apply_to("end:"),
                end.state,
                if end.why.is_empty() { String::new() } else { format!(" ({})", end.why) }
            )),
            Event::Unknown(unknown) => tell(format!("an event of a newer version: {}", unknown.name)),
        }
    }
    if loaded.torn > 0 {
        lines.push(format!("       a torn last line of {} was left out", style::plural(loaded.torn, "byte")));
    }
    lines.push(format!("       head {}", loaded.head));
    lines.join("\n")
}

fn word(why: journal::Why) -> &'static str {
    match why {
        journal::Why::Start => "began",
        journal::Why::Resume => "went on",
        journal::Why::Rollback => "went back",
        journal::Why::Abort => "gave up",
    }
}

fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "==>",
        Direction::Back => "<==",
    }
}

fn verdict(summary: &Value) -> String {
    let broken = summary.get("broken").and_then(Value::as_array).map_or(0, Vec::len);
    if broken == 0 {
        "no link breaks".into()
    } else {
        format!("{} would break", style::plural(broken as u64, "link"))
    }
}
