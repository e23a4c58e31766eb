//! From what was declared to a plan: order, parallel groups, and what manifest and plan say of it.

use std::collections::HashMap;

use stdlib::registry::Registry;

use super::state::{PhaseDraft, Shared, State, StepDraft};
use crate::diagnostic::Diagnostic;
use crate::plan::{Expr, Flaw, Parallel, Phase, Plan, Role, Step};

/// Seconds that a step may take where its script does not say.
fn default_deadline(role: Role) -> u64 {
    match role {
        Role::Stage => 120,
        Role::Change => 300,
        Role::Settle => 3600,
        Role::Prove => 600,
        Role::Back => 3600,
    }
}

/// The plan, or what is wrong with it.
pub(super) fn plan(shared: &Shared, workflow: &str, registry: &Registry) -> Result<Plan, Vec<Diagnostic>> {
    let mut state = shared.state();
    let taken = std::mem::take(&mut *state);
    drop(state);
    let mut findings = leftovers(shared, &taken);
    findings.extend(against_manifest(shared, &taken));
    let plan = Plan {
        workflow: workflow.to_owned(),
        title: shared.manifest.title.clone(),
        params: shared.params.clone(),
        facts: taken.facts,
        target: taken.target.map(|(target, _)| target),
        trust: taken.trust.map(|(call, _)| call),
        forward_only: taken.forward_only.is_some(),
        success: shared.manifest.success.clone(),
        notes: taken.notes,
        phases: phases(taken.phases, taken.steps),
    };
    findings.extend(plan.validate(registry).into_iter().map(|flaw| from_flaw(shared, flaw)));
    if findings.is_empty() { Ok(plan) } else { Err(findings) }
}

/// Actions that no step carries, facts that nobody asked for, phases without steps.
fn leftovers(shared: &Shared, state: &State) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for (name, at, carried) in &state.actions {
        if !carried {
            let message =
                format!("`{name}` is called but no step carries the action, so nothing would happen");
            let hint = "an action acts only inside a step: `phase.change(\"name\", …)`";
            findings.push(shared.spot(
                Diagnostic::error("script::unused-action", message).hint(hint),
                at,
                "",
            ));
        }
    }
    if state.used < state.facts.len() {
        let message =
            format!("the record holds {} reads, the script asks for {}", state.facts.len(), state.used);
        findings.push(Diagnostic::error("script::facts-differ", message));
    }
    for (index, phase) in state.phases.iter().enumerate() {
        if !state.steps.iter().any(|step| step.phase == index) {
            let diagnostic =
                Diagnostic::error("script::empty-phase", format!("phase `{}` has no steps", phase.name));
            findings.push(shared.spot(diagnostic, &phase.at, ""));
        }
    }
    findings
}

fn against_manifest(shared: &Shared, state: &State) -> Vec<Diagnostic> {
    let manifest = &shared.manifest;
    let mut findings = Vec::new();
    let mut unsaid = |at: &crate::plan::At, what: &str, line: &str| {
        let diagnostic =
            Diagnostic::error("script::unannounced", format!("{what}, which the manifest does not announce"));
        findings.push(shared.spot(diagnostic.hint(format!("add `{line}` to workflow.yaml")), at, ""));
    };
    for phase in &state.phases {
        if let (Some(at), None) = (&phase.outage, &manifest.outage) {
            unsaid(at, &format!("phase `{}` is an outage", phase.name), "outage: why links may fail");
        }
        if let (Some(at), None) = (&phase.final_, &manifest.point_of_no_return) {
            let what = format!("phase `{}` cannot be taken back", phase.name);
            unsaid(at, &what, "point_of_no_return: what can no longer be taken back");
        }
    }
    if let (Some(at), false) = (&state.forward_only, manifest.forward_only) {
        unsaid(at, "the workflow only goes forward", "forward_only: true");
    }
    findings
}

fn phases(drafts: Vec<PhaseDraft>, steps: Vec<StepDraft>) -> Vec<Phase> {
    let mut by_phase: HashMap<usize, Vec<StepDraft>> = HashMap::new();
    for step in steps {
        by_phase.entry(step.phase).or_default().push(step);
    }
    drafts
        .into_iter()
        .enumerate()
        .map(|(index, draft)| {
            let mut steps = by_phase.remove(&index).unwrap_or_default();
            steps.sort_by_key(|step| step.role.rank());
            let (back, forward): (Vec<_>, Vec<_>) =
                steps.into_iter().partition(|step| step.role == Role::Back);
            Phase {
                name: draft.name,
                why: draft.why,
                final_: draft.final_.is_some(),
                outage: draft.outage.is_some(),
                steps: grouped(stages_first(forward)),
                back: grouped(back),
                at: draft.at,
            }
        })
        .collect()
}

/// Lets parallel changes that only stages divide stand together, by making what the stages make before the first of
/// them: `for s in secrets { p.stage(…); p.change(…).parallel(4); }`. A stage that needs one of the changes divides them.
fn stages_first(drafts: Vec<StepDraft>) -> Vec<StepDraft> {
    let mut ordered: Vec<StepDraft> = Vec::with_capacity(drafts.len());
    // Where the parallel changes at the end of `ordered` begin.
    let mut run: Option<usize> = None;
    for draft in drafts {
        let open = run.and_then(|begin| ordered.get(begin..).map(|changes| (begin, changes)));
        match (draft.role, open) {
            (Role::Stage, Some((begin, changes))) if !needs_any(&draft, changes) => {
                ordered.insert(begin, draft);
                run = Some(begin + 1);
                continue;
            }
            (Role::Change, Some((_, [first, ..]))) if draft.width == first.width => {}
            (Role::Change, _) => run = draft.width.map(|_| ordered.len()),
            _ => run = None,
        }
        ordered.push(draft);
    }
    ordered
}

fn needs_any(draft: &StepDraft, changes: &[StepDraft]) -> bool {
    let exprs = draft.action.args.iter().chain(&draft.when).chain(&draft.each);
    exprs.flat_map(Expr::steps).any(|step| changes.iter().any(|change| change.key == step))
}

/// Adjacent steps of one role and width are one group. A width that groups nothing is dropped, unless the step has an
/// `each`: then its items are the group.
fn grouped(drafts: Vec<StepDraft>) -> Vec<Step> {
    let marks: Vec<(Role, Option<u32>)> = drafts.iter().map(|draft| (draft.role, draft.width)).collect();
    let mut group = 0;
    drafts
        .into_iter()
        .enumerate()
        .map(|(index, draft)| {
            let own = (draft.role, draft.width);
            let before = index.checked_sub(1).and_then(|before| marks.get(before)) == Some(&own);
            let after = marks.get(index + 1) == Some(&own);
            if !before {
                group += 1;
            }
            let parallel = draft
                .width
                .filter(|_| before || after || draft.each.is_some())
                .map(|width| Parallel { group, width });
            Step {
                key: draft.key,
                role: draft.role,
                item: draft.item,
                action: draft.action,
                deadline_s: draft.deadline_s.unwrap_or_else(|| default_deadline(draft.role)),
                on_failure: draft.on_failure,
                parallel,
                when: draft.when,
                each: draft.each,
                at: draft.at,
            }
        })
        .collect()
}

fn from_flaw(shared: &Shared, flaw: Flaw) -> Diagnostic {
    let diagnostic = Diagnostic::error(&format!("script::{}", flaw.code), flaw.message).maybe_hint(flaw.hint);
    let diagnostic = shared.spot(diagnostic, &flaw.at, "");
    match flaw.other {
        Some(other) => shared.spot(diagnostic, &other, "first declared here"),
        None => diagnostic,
    }
}
