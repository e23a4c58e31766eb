//! `rollover plan` and `rollover run`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use stdlib::World;

use super::args::{Connection, Parameters};
use super::session::{Agreed, Operator};
use super::{Context, connect, records, sandboxes, session, signing, watch, workflows};
use crate::catalog::{Origin, Workflow};
use crate::engine::Options;
use crate::engine::{Begin, Run, planned, told};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, plan as shown, style};
use crate::plan::Plan;

/// What was said on the command line beside the workflow.
pub(crate) struct Asked {
    pub yes: bool,
    pub yes_final: bool,
    pub accept_outage: bool,
    pub plan_only: bool,
    pub rollback_on_failure: bool,
}

/// A plan, with the world that it was read from.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) way: connect::Way,
    pub(crate) world: World,
    workflow: Workflow,
}

pub(crate) async fn make_plan(
    context: &Context,
    name: &str,
    connection: &Connection,
    parameters: &Parameters,
) -> Result<Planned, Failure> {
    let workflow = workflows::load(context, name)?;
    workflows::refuse_faulty(&workflow)?;
    let mut given = workflows::given(&workflow, parameters)?;
    let scenario = workflows::sandbox_of(&workflow, &given);
    let mut way =
        connect::find(context, connection, &scenario, || workflows::known_wrong(&workflow, &given)).await?;
    if let Some(ready) = way.sandbox.as_ref().and_then(|dir| sandboxes::ready(dir)) {
        workflows::sandbox_defaults(&workflow, &ready, &mut given);
    }
    let world = connect::world(&way).await?;
    let params = workflows::resolve(&workflow, &given, &world)?;
    way.dial(connection.dialling, || workflow.manifest.allowance(&params, &world.folder).pod_namespaces());
    let world = connect::forwarding(world, &way)?;
    let plan = workflows::evaluate(&workflow, &params, &world).await?;
    Ok(Planned { plan, way, world, workflow })
}

fn show(context: &Context, planned_run: &Planned) {
    let plan = &planned_run.plan;
    if context.json() {
        output::data(&output::json::line(planned_run.world.clock.now(), &told(plan)));
        return;
    }
    let mut lines = vec![format!("{}  {}", style::strong().apply_to(&plan.workflow), plan.title)];
    let wide = plan.params.keys().map(String::len).max().unwrap_or(0).max("target".len());
    if let Some(target) = &plan.target {
        lines.push(format!("  {:<wide$}  {}", "target", target.title));
    }
    if planned_run.way.forward.is_some() {
        lines.push(format!("  {:<wide$}  {}", "pods", "dialled through the API server"));
    }
    for (name, value) in plan.params.iter().filter(|(_, value)| !matches!(word(value).as_str(), "" | "[]")) {
        lines.push(format!("  {name:<wide$}  {}", word(value)));
    }
    lines.push(String::new());
    lines.push(style::strong().apply_to("Plan").to_string());
    lines.push(shown::text(&planned(plan)));
    lines.push(String::new());
    for note in &plan.notes {
        let text = style::wrap(&note.text, 8, style::width());
        lines.push(format!("  {} {}", style::warn().apply_to("note:"), text.trim_start()));
    }
    let no_return = planned_run.workflow.manifest.point_of_no_return.as_deref();
    let no_return = no_return.unwrap_or("none; every phase can be taken back").trim();
    lines.push(style::wrap(&format!("Point of no return: {no_return}"), 2, style::width()));
    output::data(&lines.join("\n"));
}

pub(crate) async fn plan(
    context: &Context,
    name: &str,
    connection: &Connection,
    parameters: &Parameters,
) -> Result<ExitCode, Failure> {
    let planned = make_plan(context, name, connection, parameters).await?;
    show(context, &planned);
    Ok(ExitCode::Ok)
}

pub(crate) async fn run(
    context: &Context,
    name: &str,
    connection: &Connection,
    parameters: &Parameters,
    asked: Asked,
) -> Result<ExitCode, Failure> {
    let planned = make_plan(context, name, connection, parameters).await?;
    if !context.json() || asked.plan_only {
        show(context, &planned);
    }
    if asked.plan_only {
        return Ok(ExitCode::Ok);
    }
    let Planned { plan, mut way, world, workflow } = planned;
    if let Origin::Folder(folder) = &workflow.origin {
        way.workflow = std::path::absolute(folder).ok();
    }
    let agreed = Agreed { begin: asked.yes, no_return: asked.yes_final, outage: asked.accept_outage };
    let watched = watch::Watched::new(session::reporter(context.json()), way.sandbox.clone());
    let options = Options {
        reporter: watched.clone(),
        approver: Arc::new(Operator { agreed }),
        lock: session::lock(&world),
        cancel: session::cancel_on_signal(),
        rollback_on_failure: asked.rollback_on_failure,
        ..Options::default()
    };
    let reach =
        serde_json::to_value(&way).map_err(|error| Failure::new(ExitCode::Unknown, error.to_string()))?;
    let begin = Begin { plan, sources: workflow.pinned(), reach: Some(reach), actor: session::actor() };
    let tools = signing::tools(context, &world)?;
    let run = Run::start(begin, world, &records::store(context), tools, options)?;
    let ending = run.forward().await;
    watched.tell(context.json()).await;
    Ok(ending.exit)
}

/// The workflow's sources as they are now, to say on a resume whether they differ from the pinned copies. What cannot be
/// read any more has none.
pub(crate) fn current_sources(
    context: &Context,
    folder: Option<&Path>,
    name: &str,
) -> Option<BTreeMap<String, Vec<u8>>> {
    let found = match folder.map(Path::to_str) {
        None => workflows::load(context, name),
        Some(folder) => workflows::load(context, folder?),
    };
    Some(found.map(|workflow| workflow.pinned()).unwrap_or_default())
}

/// A value for people.
pub(crate) fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
