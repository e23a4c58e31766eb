//! `rollover status`: where every run stands, or one run step by step.

use std::path::PathBuf;

use journal::{Direction, JournalError, Lifecycle, RunId, State, StepStatus, Store};
use serde_json::{Value, json};

use super::records::{self, Read};
use super::{Context, connect};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, style, table};
use crate::plan::Plan;

pub(crate) fn status(context: &Context, run: Option<&str>) -> Result<ExitCode, Failure> {
    match run {
        None => all(context),
        Some(run) => one(context, run),
    }
}

/// How a run stands, as a word.
pub(crate) fn standing(state: &State) -> &'static str {
    match state.lifecycle() {
        Lifecycle::Blank | Lifecycle::Begun => "not begun",
        Lifecycle::Running if state.direction() == Direction::Back => "going back",
        Lifecycle::Running => "unfinished",
        Lifecycle::Stuck(_) => "STUCK",
        Lifecycle::Ended(end) => match end.state {
            journal::EndState::Done => "done",
            journal::EndState::RolledBack => "rolled back",
            journal::EndState::Aborted => "given up",
        },
    }
}

/// The step at which an unfinished run stands: in doubt or failed, else the next one.
fn step_of(state: &State, plan: Option<&Plan>) -> String {
    if over(state) {
        return String::new();
    }
    if let Some((_, _, step)) = state.in_doubt().first() {
        return format!("{step} (in doubt)");
    }
    for phase in state.phases() {
        let run = phase.run(state.direction());
        if let Some((key, _)) = run.steps.iter().find(|(_, step)| step.status == StepStatus::Failed) {
            return format!("{key} (failed)");
        }
    }
    let next = plan.and_then(|plan| {
        plan.phases.iter().flat_map(|phase| &phase.steps).find(|step| {
            !state
                .forward_step(&step.key)
                .is_some_and(|step| matches!(step.status, StepStatus::Done | StepStatus::Skipped))
        })
    });
    match (state.direction(), next) {
        (Direction::Forward, Some(step)) => format!("{} (next)", step.key),
        _ => state.open_phase().unwrap_or_default().to_owned(),
    }
}

fn target(plan: Option<&Plan>) -> String {
    plan.and_then(|plan| plan.target.as_ref()).map(|target| target.title.clone()).unwrap_or_default()
}

fn all(context: &Context) -> Result<ExitCode, Failure> {
    let store = records::store(context);
    let runs = store.list().map_err(records::failure)?;
    let mut rows: Vec<Line> = Vec::new();
    for id in runs.iter().rev() {
        let run = id.as_str().to_owned();
        rows.push(match records::read(&store.dir(id)) {
            Ok(Read { loaded, plan, .. }) => {
                let header = loaded.state.header();
                let state = now(&store, id, &loaded.state);
                let at = match &plan {
                    Ok(plan) => at(state, &step_of(&loaded.state, Some(plan))),
                    Err(failure) => failure.message.clone(),
                };
                Line {
                    run,
                    workflow: header.map(|header| header.workflow.clone()).unwrap_or_default(),
                    target: target(plan.as_ref().ok()),
                    state: state.to_owned(),
                    at,
                    gone: header.filter(|_| !over(&loaded.state)).and_then(connect::ended_sandbox),
                }
            }
            Err(failure) => {
                Line { run, state: "unreadable".into(), at: failure.to_string(), ..Line::default() }
            }
        });
    }
    if context.json() {
        output::data(&Value::from(rows.iter().map(Line::object).collect::<Vec<_>>()).to_string());
    } else if runs.is_empty() {
        output::say("no run has been recorded yet; `rollover run tidb/cfssl-rotate --sandbox` makes one");
    } else {
        output::data(&listed(&rows));
    }
    Ok(ExitCode::Ok)
}

/// The same, of a run that may be at work this moment: whoever works on it holds its lock.
fn now(store: &Store, id: &RunId, state: &State) -> &'static str {
    let held = !over(state) && matches!(store.lock(id), Err(JournalError::Held { .. }));
    match (held, state.direction()) {
        (false, _) => standing(state),
        (true, Direction::Forward) => "running",
        (true, Direction::Back) => "running back",
    }
}

/// Where a run stands; a step that somebody works on is in nobody's doubt.
fn at(state: &str, step: &str) -> String {
    if state.starts_with("running") { step.trim_end_matches(" (in doubt)") } else { step }.to_owned()
}

fn over(state: &State) -> bool {
    matches!(state.lifecycle(), Lifecycle::Ended(_))
}

/// One run in the list.
#[derive(Default)]
struct Line {
    run: String,
    workflow: String,
    target: String,
    state: String,
    /// At which step, or what is wrong.
    at: String,
    /// The sandbox that it worked in, where that has ended.
    gone: Option<PathBuf>,
}

impl Line {
    fn object(&self) -> Value {
        json!({"run": self.run, "workflow": self.workflow, "target": self.target, "state": self.state, "at": self.at, "sandbox_ended": self.gone.is_some()})
    }
}

/// The list: a row a run, and below it where one stands that is not over.
fn listed(rows: &[Line]) -> String {
    let mut shown = table::plain(&["run", "workflow", "target", "state"]);
    for row in rows {
        shown.add_row([&row.run, &row.workflow, &row.target, &row.state]);
    }
    table::whole(&mut shown, &[0, 1, 3]);
    let text = table::text(&shown);
    let mut lines = Vec::new();
    let mut rest = rows.iter();
    for line in text.lines() {
        lines.push(line.to_owned());
        // A cell that took a second line belongs to the row above.
        let Some(row) = rest.as_slice().first().filter(|row| line.trim_start().starts_with(&row.run)) else {
            continue;
        };
        rest.next();
        if !row.at.is_empty() {
            lines.push(format!("   {}", style::hang(&format!("at {}", row.at), 6, style::width())));
        }
        if row.gone.is_some() {
            lines.push(format!("   its sandbox has ended: `rollover abort {}` closes the record", row.run));
        }
    }
    lines.join("\n")
}

fn one(context: &Context, run: &str) -> Result<ExitCode, Failure> {
    let store = records::store(context);
    let dir = records::folder(&store, run)?;
    let Read { loaded, plan, .. } = records::read(&dir)?;
    records::say_unreadable(plan.as_ref().err());
    let plan = plan.ok();
    let state = &loaded.state;
    let stands = match records::find(&store, run) {
        Ok(id) => now(&store, &id, state),
        Err(_) => standing(state),
    };
    let header = state.header().cloned();
    let id = header.as_ref().map(|header| header.run_id.clone()).unwrap_or_default();
    if context.json() {
        let steps: Vec<Value> = steps(state, plan.as_ref())
            .into_iter()
            .map(|row| json!({"phase": row.phase, "step": row.key, "direction": row.direction.to_string(), "status": row.status}))
            .collect();
        let object = json!({
            "run": id, "state": stands, "target": target(plan.as_ref()), "at": step_of(state, plan.as_ref()), "steps": steps,
            "record": dir.display().to_string(), "records": loaded.head.size, "head": loaded.head.to_string(), "torn_bytes": loaded.torn,
        });
        output::data(&object.to_string());
        return Ok(ExitCode::Ok);
    }
    let mut lines = vec![format!("{} {}", style::strong().apply_to("Run"), style::name().apply_to(&id))];
    if let Some(header) = &header {
        lines.push(format!("  workflow  {}", header.workflow));
        lines.push(format!("  begun by  {} on {} with {}", header.user, header.host, header.program));
    }
    lines.push(format!("  target    {}", target(plan.as_ref())));
    lines.push(format!("  state     {stands}"));
    if let Lifecycle::Stuck(stuck) = state.lifecycle() {
        lines.push(format!("  stuck at  {}\n  repair    {}", stuck.step, stuck.repair));
    }
    let at = at(stands, &step_of(state, plan.as_ref()));
    if !at.is_empty() {
        lines.push(format!("  at        {at}"));
    }
    let mut last = String::new();
    for row in steps(state, plan.as_ref()) {
        let heading = match row.direction {
            Direction::Forward => row.phase.clone(),
            Direction::Back => format!("{} (taken back)", row.phase),
        };
        if heading != last {
            lines.push(String::new());
            lines.push(format!("  {}", style::strong().apply_to(&heading)));
            last = heading;
        }
        let mark = match row.status {
            "done" => style::good().apply_to(format!("{:<10}", row.status)),
            "failed" | "in doubt" => style::bad().apply_to(format!("{:<10}", row.status)),
            _ => style::faint().apply_to(format!("{:<10}", row.status)),
        };
        lines.push(format!(
            "    {mark} {}",
            row.key.split_once('/').map_or(row.key.as_str(), |(_, rest)| rest)
        ));
    }
    lines.push(String::new());
    lines.push(format!("  record    {} ({} records)", dir.display(), loaded.head.size));
    if !over(state) {
        lines.push(format!("\nGo on with `rollover resume {id}`, go back with `rollover rollback {id}`."));
    }
    output::data(&lines.join("\n"));
    Ok(ExitCode::Ok)
}

struct Row {
    phase: String,
    key: String,
    direction: Direction,
    status: &'static str,
}

fn word(status: StepStatus) -> &'static str {
    match status {
        StepStatus::NotBegun => "to do",
        StepStatus::InDoubt => "in doubt",
        StepStatus::Done => "done",
        StepStatus::Failed => "failed",
        StepStatus::Skipped => "skipped",
    }
}

/// Every step of the plan, then what was done on the way back.
fn steps(state: &State, plan: Option<&Plan>) -> Vec<Row> {
    let mut rows = Vec::new();
    for phase in plan.iter().flat_map(|plan| &plan.phases) {
        for step in &phase.steps {
            let status = state.forward_step(&step.key).map_or(StepStatus::NotBegun, |step| step.status);
            rows.push(Row {
                phase: phase.name.clone(),
                key: step.key.clone(),
                direction: Direction::Forward,
                status: word(status),
            });
        }
    }
    if state.direction() == Direction::Back {
        for phase in state.phases().iter().rev() {
            let mut back: Vec<Row> = phase
                .back
                .steps
                .iter()
                .map(|(key, step)| Row {
                    phase: phase.name.clone(),
                    key: key.clone(),
                    direction: Direction::Back,
                    status: word(step.status),
                })
                .collect();
            back.sort_by_key(|row| rank(&row.key));
            rows.extend(back);
        }
    }
    rows
}

/// Where a step stands within its phase: changes, then what makes them felt, then the proofs.
fn rank(key: &str) -> usize {
    let role = key.split('/').nth(1).unwrap_or_default();
    ["back", "change", "settle", "prove"].iter().position(|known| *known == role).unwrap_or(0)
}
