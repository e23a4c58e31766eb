//! Workflows as the commands need them: found, read, checked, evaluated.

use std::collections::BTreeMap;

use sandbox::hosts::Layout;
use sandbox::world::Scenario;
use serde_json::Value;
use stdlib::error::Code;
use stdlib::files::SystemDisk;
use stdlib::world::Disk as _;
use stdlib::{PrimError, World};

use super::args::Parameters;
use super::{Context, paths};
use crate::catalog::{Catalog, Workflow};
use crate::diagnostic::{Diagnostic, Paint, render_all};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::manifest::{Given, ParamType};
use crate::output::{self, style};
use crate::plan::Plan;
use crate::script;

/// The shipped workflows and the user's own.
pub(crate) fn catalog(context: &Context) -> Catalog {
    let mut folders = context.global.workflows.clone();
    folders.extend(context.paths.user_workflows.clone());
    Catalog::new(folders)
}

/// That the folders that were given can be read.
pub(crate) fn folders(context: &Context) -> Result<(), Failure> {
    for folder in &context.global.workflows {
        if let Err(error) = SystemDisk.list(folder) {
            let text = format!("`--workflows {}`: {error}", folder.display());
            return Err(Failure::new(ExitCode::Usage, text)
                .hint("give a folder that holds workflows, or leave it out"));
        }
    }
    Ok(())
}

/// Reads a workflow, by name or by the path of its folder.
pub(crate) fn parse(context: &Context, name: &str) -> Result<Result<Workflow, Vec<Diagnostic>>, Failure> {
    // The folder that one stands in has a name too.
    let here = std::env::current_dir().ok().and_then(|here| here.to_str().map(str::to_owned));
    let name = match (name.trim_end_matches('/'), &here) {
        (".", Some(here)) => here.as_str(),
        (name, _) => name,
    };
    catalog(context).load(&SystemDisk, name).map_err(|missing| {
        Failure::new(ExitCode::Usage, missing.to_string())
            .hint("`rollover list` lists the workflows; `--workflows DIR` adds a folder of your own")
    })
}

/// Reads a workflow that must be whole.
pub(crate) fn load(context: &Context, name: &str) -> Result<Workflow, Failure> {
    match parse(context, name)? {
        Ok(workflow) => Ok(workflow),
        Err(findings) => refuse(findings)
            .map_or_else(Err, |()| Err(Failure::new(ExitCode::CheckFailed, "the workflow cannot be read"))),
    }
}

/// What `check` finds in it.
pub(crate) fn findings(workflow: &Workflow) -> Vec<Diagnostic> {
    script::check(&workflow.sources, &workflow.manifest, stdlib::registry())
}

/// Findings as text for stderr.
pub(crate) fn rendered(findings: &[Diagnostic]) -> String {
    let paint = if console::colors_enabled_stderr() { Paint::Colour } else { Paint::Plain };
    render_all(findings, paint).trim_end().to_owned()
}

/// Prints findings and stops where one of them is an error. The exit code is that of the first that has one.
pub(crate) fn refuse(findings: Vec<Diagnostic>) -> Result<(), Failure> {
    if findings.is_empty() {
        return Ok(());
    }
    output::say(&rendered(&findings));
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let Some(first) = findings.iter().find(|finding| finding.is_error()) else { return Ok(()) };
    let exit = first
        .failure
        .map_or(ExitCode::CheckFailed, |code: Code| ExitCode::before_start(&PrimError::new(code, "")));
    Err(Failure::new(exit, format!("{} above; nothing was changed", style::plural(errors as u64, "error"))))
}

/// Stops where `check` finds an error.
pub(crate) fn refuse_faulty(workflow: &Workflow) -> Result<(), Failure> {
    refuse(findings(workflow).into_iter().filter(Diagnostic::is_error).collect())
}

/// What was given for the parameters: flags, a file, the environment.
pub(crate) fn given(workflow: &Workflow, parameters: &Parameters) -> Result<Given, Failure> {
    let mut given = Given::default();
    for text in &parameters.set {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::new(ExitCode::Usage, format!("`--set {text}` has no value"))
                .hint("write `--set NAME=VALUE`")
        })?;
        given.set.push((name.to_owned(), value.to_owned()));
    }
    if let Some(path) = &parameters.params {
        let bytes = SystemDisk.read(path).map_err(|error| {
            Failure::new(ExitCode::Parameter, format!("cannot read the parameters: {error}"))
                .on(path.display().to_string())
        })?;
        given.file = Some((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    given.env = paths::parameters();
    for (_, spec) in workflow.manifest.params.iter() {
        if let Some((name, value)) = spec.env.as_ref().and_then(|name| Some((name, paths::variable(name)?))) {
            given.env.insert(name.clone(), value);
        }
    }
    Ok(given)
}

/// What a sandbox for a workflow begins with: where that is a cluster of etcd, in the layout that is asked for.
pub(crate) fn sandbox_of(workflow: &Workflow, given: &Given) -> Scenario {
    const LAYOUT: &str = "layout";
    let mut scenario = workflow.manifest.sandbox_for(given);
    let set = given.set.iter().rev().find(|(name, _)| name == LAYOUT).map(|(_, value)| value);
    let chosen = set.or_else(|| given.env.get(&crate::manifest::env_name(LAYOUT)));
    if let (Some(etcd), Some(chosen)) = (&mut scenario.etcd, chosen)
        && let Some(layout) = Layout::named(chosen)
    {
        etcd.layout = layout;
    }
    scenario
}

/// What a sandbox knows of itself fills in parameters that were not given.
pub(crate) fn sandbox_defaults(workflow: &Workflow, ready: &Value, given: &mut Given) {
    for (name, value) in ready.get("params").and_then(Value::as_object).into_iter().flatten() {
        let known = workflow.manifest.params.get(name).is_some();
        if known && !given.set.iter().any(|(set, _)| set == name) {
            given
                .env
                .entry(crate::manifest::env_name(name))
                .or_insert_with(|| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
}

/// Typed parameters. Paths are written out in full, so that the record means the same in whichever folder the run is
/// resumed.
pub(crate) fn resolve(
    workflow: &Workflow,
    given: &Given,
    world: &World,
) -> Result<BTreeMap<String, Value>, Failure> {
    let params =
        workflow.manifest.resolve(given, &*world.secrets).map_err(|errors| told(workflow, &errors))?;
    let in_full = |(name, value): (String, Value)| {
        let is_path = workflow.manifest.params.get(&name).is_some_and(|spec| spec.ty == ParamType::Path);
        match value {
            Value::String(path) if is_path => (name, paths::in_full(&path, &world.folder).into()),
            value => (name, value),
        }
    };
    Ok(params.into_iter().map(in_full).collect())
}

/// The plan: evaluates the script, reading the world where it asks.
pub(crate) async fn evaluate(
    workflow: &Workflow,
    params: &BTreeMap<String, Value>,
    world: &World,
) -> Result<Plan, Failure> {
    let input = script::Input {
        workflow: &workflow.name,
        sources: &workflow.sources,
        manifest: &workflow.manifest,
        params,
        world,
        registry: stdlib::registry(),
    };
    match script::evaluate(&input).await {
        Ok(plan) => Ok(plan),
        Err(findings) => refuse(findings)
            .map_or_else(Err, |()| Err(Failure::new(ExitCode::CheckFailed, "the workflow yields no plan"))),
    }
}

/// Parameters that are wrong whatever a sandbox would fill in: unknown ones and ill-typed ones.
pub(crate) fn known_wrong(workflow: &Workflow, given: &Given) -> Result<(), Failure> {
    let mut lenient = workflow.manifest.clone();
    for (_, spec) in &mut lenient.params.0 {
        spec.required = Some(false);
    }
    let secrets = stdlib::secret::MemorySecrets::default();
    match lenient.resolve(given, &secrets) {
        Ok(_) => Ok(()),
        Err(errors) => Err(told(workflow, &errors)),
    }
}

fn told(workflow: &Workflow, errors: &[crate::manifest::ParamError]) -> Failure {
    for error in errors {
        let hint = error.hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
        output::say(&format!("{} {error}{hint}", style::bad().for_stderr().apply_to("error:")));
    }
    Failure::new(
        ExitCode::Parameter,
        format!("{} cannot be used; nothing was changed", style::plural(errors.len() as u64, "parameter")),
    )
    .hint(format!("`rollover describe {}` lists them", workflow.name))
}
