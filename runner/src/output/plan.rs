//! The plan, for people: phases, steps, what each restarts, the point of no return.

use super::style;
use crate::events::PlannedPhase;
use crate::plan::Role;

/// The word for a role, as wide as the widest.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Stage => "stage",
        Role::Change => "change",
        Role::Settle => "settle",
        Role::Prove => "prove",
        Role::Back => "back",
    }
}

/// The plan's phases and steps. Adjacent steps of one role and action share a line.
pub fn text(phases: &[PlannedPhase]) -> String {
    let mut lines = Vec::new();
    for (index, phase) in phases.iter().enumerate() {
        lines.push(format!(
            "  {} {}",
            style::strong().apply_to(format!("{}.", index + 1)),
            style::strong().apply_to(&phase.name)
        ));
        lines.push(style::wrap(&phase.why, 5, style::width()));
        if phase.point_of_no_return {
            lines.push(format!(
                "     {}",
                style::warn().apply_to("! point of no return: what this phase changes cannot be taken back")
            ));
        }
        if phase.outage {
            lines.push(format!(
                "     {}",
                style::warn().apply_to("! outage: links may fail while this phase runs")
            ));
        }
        let mut rest = phase.steps.as_slice();
        while let Some(first) = rest.first() {
            let same =
                rest.iter().take_while(|step| step.role == first.role && step.action == first.action).count();
            let (group, tail) = rest.split_at(same);
            let items: Vec<&str> = group.iter().map(|step| step.item.as_str()).collect();
            let head = format!("     {:<6} {:<22} ", role(first.role), first.action);
            let body = style::wrap(&items.join(", "), head.len(), style::width());
            lines.push(format!("{}{}", style::faint().apply_to(&head), body.trim_start()));
            rest = tail;
        }
        lines.push(String::new());
    }
    lines.pop();
    lines.join("\n")
}
