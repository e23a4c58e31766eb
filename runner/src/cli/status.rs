//! `rollover status`: where every run stands, or one run step by step.

use journal::{Direction, Lifecycle, State, StepStatus};
use serde_json::{Value, json};

use super::Context;
use super::records::{self, Read};
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
    if let Lifecycle::Ended(_) = state.lifecycle() {
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
    let mut rows = table::plain(&["run", "workflow", "target", "state", "at"]);
    let mut data = Vec::new();
    for id in runs.iter().rev() {
        match records::read(&store.dir(id)) {
            Ok(Read { loaded, plan }) => {
                let workflow =
                    loaded.state.header().map(|header| header.workflow.clone()).unwrap_or_default();
                let at = match &plan {
                    Ok(plan) => step_of(&loaded.state, Some(plan)),
                    Err(failure) => failure.message.clone(),
                };
                let plan = plan.ok();
                data.push(json!({"run": id.as_str(), "workflow": workflow, "target": target(plan.as_ref()), "state": standing(&loaded.state), "at": at}));
                rows.add_row([id.as_str(), &workflow, &target(plan.as_ref()), standing(&loaded.state), &at]);
            }
            Err(failure) => {
                data.push(json!({"run": id.as_str(), "state": "unreadable", "why": failure.to_string()}));
                rows.add_row([id.as_str(), "", "", "unreadable", &failure.message]);
            }
        }
    }
    if context.json() {
        output::data(&Value::from(data).to_string());
    } else if runs.is_empty() {
        output::say("no run has been recorded yet; `rollover run tidb/cfssl-rotate --sandbox` makes one");
    } else {
        output::data(&table::text(&rows));
    }
    Ok(ExitCode::Ok)
}

fn one(context: &Context, run: &str) -> Result<ExitCode, Failure> {
    let store = records::store(context);
    let dir = records::folder(&store, run)?;
    let Read { loaded, plan } = records::read(&dir)?;
    records::say_unreadable(plan.as_ref().err());
    let plan = plan.ok();
    let state = &loaded.state;
    let header = state.header().cloned();
    let id = header.as_ref().map(|header| header.run_id.clone()).unwrap_or_default();
    if context.json() {
        let steps: Vec<Value> = steps(state, plan.as_ref())
            .into_iter()
            .map(|row| json!({"phase": row.phase, "step": row.key, "direction": row.direction.to_string(), "status": row.status}))
            .collect();
        let object = json!({
            "run": id, "state": standing(state), "target": target(plan.as_ref()), "at": step_of(state, plan.as_ref()), "steps": steps,
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
    lines.push(format!("  state     {}", standing(state)));
    if let Lifecycle::Stuck(stuck) = state.lifecycle() {
        lines.push(format!("  stuck at  {}\n  repair    {}", stuck.step, stuck.repair));
    }
    let at = step_of(state, plan.as_ref());
    if !at.is_empty() {
        lines.push(format!("  at        {at}"));
    }
    let mut last = String::new();
    for row in steps(state, plan.as_ref()) {
        let heading = format!("{} ({})", row.phase, row.direction);
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
    if !matches!(state.lifecycle(), Lifecycle::Ended(_)) {
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
            for (key, step) in &phase.back.steps {
                rows.push(Row {
                    phase: phase.name.clone(),
                    key: key.clone(),
                    direction: Direction::Back,
                    status: word(step.status),
                });
            }
        }
    }
    rows
}
