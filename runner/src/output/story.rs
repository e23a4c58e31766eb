//! A recorded run, told for a person: who changed what, when, from which fingerprint to which, with which approval.

use journal::{Direction, Event, Loaded, OutcomeStatus, Record};
use serde_json::Value;

use super::{style, summary};
use crate::plan::Plan;

/// The columns before the text of a record: its number and its time of day.
const MARGIN: usize = 17;

/// Writes the lines: number and time once a record, the date where it changes, long lines broken on a terminal.
struct Teller {
    lines: Vec<String>,
    date: String,
    width: usize,
}

impl Teller {
    fn record(&mut self, record: &Record, text: &str) {
        let (date, time) = record.t.split_once('T').unwrap_or(("", &record.t));
        if date != self.date {
            date.clone_into(&mut self.date);
            self.lines.push(format!("{:7}{}", "", style::faint().apply_to(format!("{date}, UTC"))));
        }
        let text = style::hang(text, MARGIN + 2, self.width);
        self.lines.push(format!("{:>5}  {}  {text}", record.seq, time.get(..8).unwrap_or(time)));
    }

    fn more(&mut self, text: &str) {
        let text = style::hang(text, MARGIN + 4, self.width);
        self.lines.push(format!("{:MARGIN$}  {text}", ""));
    }
}

/// The whole story. `content` finds what the record keeps beside it.
pub fn text(loaded: &Loaded, plan: Option<&Plan>, content: &dyn Fn(&Value) -> Value, width: usize) -> String {
    let mut teller = Teller { lines: Vec::new(), date: String::new(), width };
    for record in &loaded.records {
        match &record.event {
            Event::Run(header) => {
                let text = format!(
                    "run {} of {} begun by {} on {} with {}",
                    header.run_id, header.workflow, header.user, header.host, header.program
                );
                teller.record(record, &text);
                if let Some(target) = plan.and_then(|plan| plan.target.as_ref()) {
                    teller.more(&format!("target {} (uid {})", target.title, target.uid));
                }
                for (name, digest) in &header.sources {
                    teller.more(&format!("by {name} {}", summary::short(digest)));
                }
            }
            Event::PhaseBegin(phase) => {
                let head = format!("{} {}", arrow(phase.direction), style::strong().apply_to(&phase.phase));
                teller.record(record, &head);
                if let Some(known) =
                    plan.and_then(|plan| plan.phases.iter().find(|known| known.name == phase.phase))
                {
                    teller.more(&known.why);
                }
            }
            Event::Effect(effect) => {
                let verb = if effect.restores.is_some() { "puts back" } else { "changes" };
                let place = effect.place.0.strip_prefix("k8s:").unwrap_or(&effect.place.0);
                teller.record(record, &format!("{verb} {place}"));
                let summary = content(&effect.summary);
                let part = |name: &str| summary.get(name).cloned().unwrap_or_default();
                let fields = summary::differences(&part("before"), &part("after"));
                for (key, change) in &fields {
                    teller.more(&format!("{key} {change}"));
                }
                if fields.is_empty() {
                    let (before, after) = (summary::short(&effect.before), summary::short(&effect.after));
                    teller.more(&format!("{before} -> {after}"));
                }
                if let Some(marker) = summary.get("marker").and_then(Value::as_str) {
                    teller.more(&format!("restart marker {marker}"));
                }
            }
            event => teller.record(record, &told(event, content)),
        }
    }
    if loaded.torn > 0 {
        let text = format!("a torn last line of {} was left out", style::plural(loaded.torn, "byte"));
        teller.lines.push(format!("{:7}{text}", ""));
    }
    teller.lines.push(format!("{:7}head {}", "", loaded.head));
    teller.lines.join("\n")
}

/// An event that is told in one sentence.
fn told(event: &Event, content: &dyn Fn(&Value) -> Value) -> String {
    match event {
        Event::Session(session) => {
            format!("{} on {} (pid {}): {}", session.user, session.host, session.pid, word(session.why))
        }
        Event::Forecast(forecast) => {
            format!("forecast of {}: {}", forecast.phase, verdict(&content(&forecast.summary), content))
        }
        Event::Expanded(expanded) => format!(
            "{} applies {}",
            expanded.step,
            match (expanded.when, expanded.count) {
                (Some(false), _) => "not".to_owned(),
                (_, Some(count)) => style::plural(count, "time"),
                _ => "once".to_owned(),
            }
        ),
        Event::Intent(intent) if intent.attempt > 1 => {
            format!("{} begins, attempt {}", intent.step, intent.attempt)
        }
        Event::Intent(intent) => format!("{} begins", intent.step),
        Event::Outcome(outcome) => match (outcome.status, &outcome.error) {
            (OutcomeStatus::Done, _) => format!("{} {}", outcome.step, style::good().apply_to("done")),
            (OutcomeStatus::Skipped, _) => format!("{} skipped", outcome.step),
            (OutcomeStatus::Failed, error) => {
                let why = error
                    .as_ref()
                    .map(|error| format!("{} {}", error.object, error.message))
                    .unwrap_or_default();
                format!("{} {} {}", outcome.step, style::bad().apply_to("FAILED"), why.trim())
            }
        },
        Event::PhaseEnd(phase) => format!(
            "{} {} {}",
            arrow(phase.direction),
            phase.phase,
            if phase.direction == Direction::Forward { "proved" } else { "taken back" }
        ),
        Event::Approval(approval) => {
            format!("approved: {} by {} ({})", approval.what, approval.by, approval.how)
        }
        Event::Turn(turn) => format!("{} {}", style::warn().apply_to("turned back:"), turn.why),
        Event::Note(note) => format!("note: {}", note.text),
        Event::Checkpoint(_) => {
            style::faint().apply_to("signed checkpoint over everything above").to_string()
        }
        Event::Stuck(stuck) => {
            format!("{} at {}: {}", style::bad().apply_to("STUCK"), stuck.step, stuck.repair)
        }
        Event::End(end) => {
            let why = if end.why.is_empty() { String::new() } else { format!(" ({})", end.why) };
            format!("{} {}{why}", style::strong().apply_to("end:"), end.state)
        }
        Event::Unknown(unknown) => format!("an event of a newer version: {}", unknown.name),
        Event::Run(_) | Event::PhaseBegin(_) | Event::Effect(_) => String::new(),
    }
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

/// What a forecast found, and what was made of it.
fn verdict(summary: &Value, content: &dyn Fn(&Value) -> Value) -> String {
    let says = |name: &str| summary.get(name).and_then(Value::as_bool) == Some(true);
    if says("gap_free") {
        return "no link breaks".into();
    }
    let result = content(summary.get("result").unwrap_or(&Value::Null));
    let broken = result.get("broken").and_then(Value::as_array).map_or(0, Vec::len);
    let what = match broken {
        0 => "links would break".to_owned(),
        broken => format!("{} would break", style::plural(broken as u64, "link")),
    };
    format!("{what}, {}", if says("accepted") { "accepted as an outage" } else { "refused" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_forecast_is_told_as_it_was() {
        // As the record keeps what is large: beside itself.
        let content = |value: &Value| match value.get("$body") {
            Some(_) => json!({"broken": [1, 2]}),
            None => value.clone(),
        };
        let told = |summary: Value| verdict(&summary, &content);
        assert_eq!(told(json!({"gap_free": true, "accepted": false, "result": {}})), "no link breaks");
        let refused = json!({"gap_free": false, "accepted": false, "result": {"broken": [1]}});
        assert_eq!(told(refused), "1 link would break, refused");
        let accepted = json!({"gap_free": false, "accepted": true, "result": {"$body": "x"}});
        assert_eq!(told(accepted), "2 links would break, accepted as an outage");
    }
}
