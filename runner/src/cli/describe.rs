//! `rollover describe`: what a workflow does, from its manifest and script alone.

use serde_json::json;

use super::{Context, run, workflows};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::manifest::Allowed;
use crate::output::{self, style, table};

pub(crate) fn describe(context: &Context, name: &str) -> Result<ExitCode, Failure> {
    let workflow = workflows::load(context, name)?;
    let manifest = &workflow.manifest;
    let phases = workflow.phases();
    if context.json() {
        let params: Vec<_> = manifest
            .params
            .iter()
            .map(|(name, spec)| json!({"name": name, "type": spec.ty.word(), "default": spec.default, "required": spec.is_required(), "help": spec.help, "choices": spec.choices}))
            .collect();
        let phases: Vec<_> = phases
            .iter()
            .map(|phase| json!({"name": phase.name, "why": phase.why, "only": phase.only}))
            .collect();
        let object = json!({
            "workflow": workflow.name, "title": manifest.title, "summary": manifest.summary, "source": manifest.source, "params": params,
            "phases": phases, "outage": manifest.outage, "point_of_no_return": manifest.point_of_no_return, "forward_only": manifest.forward_only,
            "from": workflow.origin.to_string(),
        });
        output::data(&object.to_string());
        return Ok(ExitCode::Ok);
    }
    let mut lines = vec![format!("{}  {}", style::strong().apply_to(&workflow.name), manifest.title)];
    if !manifest.summary.is_empty() {
        lines.push(style::wrap(&manifest.summary, 2, style::width()));
    }
    if let Some(source) = &manifest.source {
        lines.push(format!("  {} {source}", style::faint().apply_to("source")));
    }
    lines.push(format!("\n{}", style::strong().apply_to("Phases")));
    for phase in &phases {
        let only = phase.only.as_ref().map(|only| format!("  ({only})")).unwrap_or_default();
        lines.push(format!("  {}{}", phase.name, style::warn().apply_to(only)));
        lines.push(style::wrap(&phase.why, 4, style::width()));
    }
    lines.push(format!("\n{}", style::strong().apply_to("Parameters")));
    let mut rows = table::plain(&["name", "type", "default", "what it is"]);
    for (name, spec) in manifest.params.iter() {
        let default = match &spec.default {
            Some(value) => run::word(value),
            None if spec.is_required() => "(required)".into(),
            None => String::new(),
        };
        let help = if spec.choices.is_empty() {
            spec.help.clone()
        } else {
            format!("{} ({})", spec.help, spec.choices.join(", "))
        };
        rows.add_row([name.to_owned(), spec.ty.word().to_owned(), default, help]);
    }
    lines.push(table::text(&rows));
    lines.push(format!("\n{}", style::strong().apply_to("May touch")));
    for allowed in &manifest.touches {
        // A parameter's place is shown as the placeholder that it is: `<namespace>`.
        lines.push(format!("  {}", touched(allowed).replace("{{", "<").replace("}}", ">")));
    }
    lines.push(format!("\n{}", style::strong().apply_to("Outage")));
    let outage = manifest.outage.as_deref().unwrap_or("none: no link may break");
    lines.push(style::wrap(outage, 2, style::width()));
    lines.push(format!("\n{}", style::strong().apply_to("Point of no return")));
    let no_return = manifest.point_of_no_return.as_deref().unwrap_or("none: every phase can be taken back");
    lines.push(style::wrap(no_return, 2, style::width()));
    // A sandbox has hosts where the manifest says so.
    let on_hosts = manifest.touches.iter().any(|allowed| matches!(allowed, Allowed::Hosts(_)));
    let first = if on_hosts && manifest.sandbox.etcd.is_none() {
        format!(
            "See what it would do: {}",
            style::name().apply_to(format!("rollover plan {} --set …", workflow.name))
        )
    } else {
        format!("Try it: {}", style::name().apply_to(format!("rollover run {} --sandbox", workflow.name)))
    };
    lines.push(format!("\n{first}"));
    output::data(&lines.join("\n"));
    Ok(ExitCode::Ok)
}

fn touched(allowed: &Allowed) -> String {
    match allowed {
        Allowed::Kube(kube) => {
            let group = if kube.group.is_empty() { String::new() } else { format!(".{}", kube.group) };
            let names =
                if kube.names.is_empty() { String::new() } else { format!(" ({})", kube.names.join(", ")) };
            format!(
                "{:<6} {}{group} in namespace {}{names}",
                if kube.write { "write" } else { "read" },
                kube.resource,
                kube.namespace
            )
        }
        Allowed::Files(files) => {
            format!("{:<6} files below {}", if files.write { "write" } else { "read" }, files.path)
        }
        Allowed::Hosts(hosts) => {
            let on = if hosts.name == "*" { "any host of the inventory" } else { &hosts.name };
            let what: Vec<&str> = hosts.paths.iter().chain(&hosts.services).map(String::as_str).collect();
            let files = (!what.is_empty()).then(|| {
                format!("{:<6} {} on {on}", if hosts.write { "write" } else { "read" }, what.join(", "))
            });
            let commands: Vec<String> = hosts.commands.iter().map(|command| format!("`{command}`")).collect();
            let run = (!commands.is_empty()).then(|| format!("{:<6} {} on {on}", "run", commands.join(", ")));
            files.into_iter().chain(run).collect::<Vec<_>>().join("; ")
        }
        Allowed::Net(net) => {
            let ports: Vec<String> = net.ports.iter().map(ToString::to_string).collect();
            format!(
                "{:<6} {}{}",
                "dial",
                net.host,
                if ports.is_empty() { String::new() } else { format!(" on {}", ports.join(", ")) }
            )
        }
    }
}
