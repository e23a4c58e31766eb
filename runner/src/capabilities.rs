//! Law 9 of the design: a workflow touches only what its manifest names. Held twice: against the plan, before anything
//! runs, and at the gate, where what was only known later has its name.

use std::sync::Arc;

use stdlib::error::Code;
use stdlib::gate::Place;
use stdlib::k8s::object::Ref;
use stdlib::registry::{Registry, Touch};

use stdlib::{PrimError, World};

use crate::diagnostic::Diagnostic;
use crate::engine::MayTouch;
use crate::manifest::{Allowance, Manifest};
use crate::plan::{At, Plan};
use crate::script::Sources;

/// Every step, fact and trust read that touches what the manifest does not name.
pub fn check(plan: &Plan, allowance: &Allowance, registry: &Registry, sources: &Sources) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut look = |what: &str, at: Option<&At>, touches: &[Touch]| {
        if let Some(diagnostic) = first_forbidden(allowance, what, touches) {
            findings.push(match at {
                Some(at) => diagnostic.spot(at.clone(), sources.text(&at.file), ""),
                None => diagnostic,
            });
        }
    };
    for fact in &plan.facts {
        look(&fact.primitive, Some(&fact.at), &fact.touches(registry));
    }
    if let Some(trust) = &plan.trust {
        look(&trust.primitive, None, &plan.trust_touches(registry));
    }
    for (step, touches) in plan.touches(registry) {
        look(&format!("step `{}`", step.key), Some(&step.at), &touches);
    }
    findings
}

/// The first of these that may not be touched, with the line that would allow it.
pub fn first_forbidden(allowance: &Allowance, what: &str, touches: &[Touch]) -> Option<Diagnostic> {
    let touch = touches.iter().find(|touch| !allowance.allows(touch))?;
    let message = format!("{what} would touch {}, which the manifest does not name", described(touch));
    let hint = format!("if it should, add to `touches` in workflow.yaml: `{}`", Allowance::line_for(touch));
    Some(Diagnostic::error("script::capability", message).hint(hint))
}

/// What a run of this plan may change, judged place by place when an effect is announced.
pub(crate) fn at_gate(manifest: &Manifest, plan: &Plan, world: &World) -> MayTouch {
    let allowance = manifest.allowance(&plan.params, &world.folder);
    Arc::new(move |place| {
        let touch = written(place)?;
        if allowance.allows(&touch) {
            return Ok(());
        }
        Err(PrimError::new(Code::Refused, "the workflow may not change this: its manifest does not name it")
            .on(place.0.clone())
            .hint(format!(
                "it was not known before the run that the step would come to this; if it should, take the run back, add `{}` to `touches` in workflow.yaml, and begin again",
                Allowance::line_for(&touch)
            )))
    })
}

/// A place that is about to be changed, as what a call touches.
fn written(place: &Place) -> Result<Touch, PrimError> {
    if let Some(path) = place.0.strip_prefix("file:") {
        return Ok(Touch::File { path: path.to_owned(), write: true });
    }
    if let Some((host, what)) = place.0.strip_prefix("host:").and_then(|rest| rest.split_once(':')) {
        // Who leads is the service's own affair: whoever may restart it may move that too.
        let what = match what.strip_prefix("leadership:") {
            Some(service) => &format!("service:{service}"),
            None => what,
        };
        return Ok(Touch::Host { host: host.to_owned(), what: what.to_owned(), write: true });
    }
    if let Some((host, port)) = place
        .0
        .strip_prefix("mysql:")
        .and_then(|rest| rest.split_once('#'))
        .and_then(|(at, _)| at.rsplit_once(':'))
    {
        let port =
            port.parse().map_err(|_| PrimError::internal("a place has no port").on(place.0.clone()))?;
        return Ok(Touch::Net { host: host.to_owned(), port });
    }
    Ok(Ref::from_place(place)?.touch(&["patch"]))
}

fn described(touch: &Touch) -> String {
    match touch {
        Touch::Kube { group, resource, namespace, name, verbs } => {
            let group = if group.is_empty() { String::new() } else { format!(".{group}") };
            let name = if name.is_empty() { "*" } else { name };
            let place = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
            format!("{resource}{group} {place} ({})", verbs.join(", "))
        }
        Touch::File { path, write: true } => format!("the file {path} (write)"),
        Touch::File { path, write: false } => format!("the file {path}"),
        Touch::Host { host, what, write } => {
            let host = if host.is_empty() { "a host" } else { host };
            let what = match what.strip_prefix("command:") {
                Some(line) => &format!("the command `{line}`"),
                None => what,
            };
            format!("{what} on {host}{}", if *write { " (write)" } else { "" })
        }
        Touch::Net { host, port } => format!("{host}:{port} on the network"),
    }
}
