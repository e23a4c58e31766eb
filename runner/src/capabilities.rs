//! Law 9 of the design: a workflow touches only what its manifest names.

use stdlib::registry::{Registry, Touch};

use crate::diagnostic::Diagnostic;
use crate::manifest::{Allowance, Manifest};
use crate::plan::{At, Plan};
use crate::script::Sources;

/// Every step, fact and trust read that touches what the manifest does not name.
pub fn check(plan: &Plan, manifest: &Manifest, registry: &Registry, sources: &Sources) -> Vec<Diagnostic> {
    let allowance = manifest.allowance(&plan.params);
    let mut findings = Vec::new();
    let mut look = |what: &str, at: Option<&At>, touches: &[Touch]| {
        if let Some(diagnostic) = first_forbidden(&allowance, what, touches) {
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
        Touch::Net { host, port } => format!("{host}:{port} on the network"),
    }
}
