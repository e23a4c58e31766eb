//! What must hold of every plan, whoever wrote it, before a run begins.

use std::collections::HashMap;

use stdlib::registry::{Kind, Registry};

use super::{At, Expr, Phase, Plan, Role, Step};

/// Something in a plan that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Stable word: `twin`, `late-reference`, …
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub at: At,
    /// The other place, where two contradict each other.
    pub other: Option<At>,
    /// What to do.
    pub hint: Option<String>,
}

impl Flaw {
    fn new(code: &'static str, message: String, at: &At) -> Self {
        Self { code, message, at: at.clone(), other: None, hint: None }
    }
    fn other(mut self, at: &At) -> Self {
        self.other = Some(at.clone());
        self
    }
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Plan {
    /// Checks keys, order, references and that each primitive stands where its kind may.
    pub fn validate(&self, registry: &Registry) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        phases_are_distinct(&self.phases, &mut flaws);
        steps_are_distinct(self, &mut flaws);
        trust_is_a_read(self, registry, &mut flaws);
        let order = execution_order(self);
        for (place, phase) in self.phases.iter().enumerate() {
            for step in phase.steps.iter().chain(&phase.back) {
                kind_fits(step, registry, &mut flaws);
                references_are_earlier(place, step, &order, &mut flaws);
                item_has_each(step, &mut flaws);
            }
            for (step, next) in phase.steps.iter().zip(phase.steps.iter().skip(1)) {
                if step.role.rank() > next.role.rank() {
                    let text = format!("step `{}` stands after a later part of its phase", next.key);
                    flaws.push(Flaw::new("order", text, &next.at));
                }
            }
        }
        flaws
    }
}

fn phases_are_distinct(phases: &[Phase], flaws: &mut Vec<Flaw>) {
    let mut seen: HashMap<&str, &At> = HashMap::new();
    for phase in phases {
        if let Some(first) = seen.insert(&phase.name, &phase.at) {
            let text = format!("two phases are named `{}`", phase.name);
            flaws.push(Flaw::new("twin-phase", text, &phase.at).other(first));
        }
    }
}

fn steps_are_distinct(plan: &Plan, flaws: &mut Vec<Flaw>) {
    let mut seen: HashMap<&str, &At> = HashMap::new();
    for (_, step) in plan.all_steps() {
        if let Some(first) = seen.insert(&step.key, &step.at) {
            flaws.push(
                Flaw::new("twin", format!("two steps have the key `{}`", step.key), &step.at)
                    .other(first)
                    .hint("give each step of a phase an item name of its own"),
            );
        }
    }
}

/// Where a step stands: phase, then index in it, and the number of its parallel group.
struct Place {
    phase: usize,
    index: usize,
    back: bool,
    group: Option<(u8, u32)>,
}

fn execution_order(plan: &Plan) -> HashMap<&str, Place> {
    let mut order = HashMap::new();
    for (number, phase) in plan.phases.iter().enumerate() {
        for (steps, back) in [(&phase.steps, false), (&phase.back, true)] {
            for (index, step) in steps.iter().enumerate() {
                let group = step.parallel.map(|parallel| (step.role.rank(), parallel.group));
                order.entry(step.key.as_str()).or_insert(Place { phase: number, index, back, group });
            }
        }
    }
    order
}

fn references_are_earlier(phase: usize, step: &Step, order: &HashMap<&str, Place>, flaws: &mut Vec<Flaw>) {
    let Some(own) = order.get(step.key.as_str()) else { return };
    let exprs = step.action.args.iter().chain(&step.when).chain(&step.each);
    for wanted in exprs.flat_map(Expr::steps) {
        let Some(found) = order.get(wanted) else {
            let text = format!("step `{}` needs `{wanted}`, which no phase declares", step.key);
            flaws.push(Flaw::new("unknown-reference", text, &step.at));
            continue;
        };
        let earlier = match (own.back, found.back) {
            (false, true) => false,
            (true, false) => found.phase <= phase,
            _ => (found.phase, found.index) < (phase, own.index),
        };
        let hint = "steps run phase by phase, in each: stages and changes as declared, settles, proofs";
        if !earlier {
            let text = format!("step `{}` needs the result of `{wanted}`, which runs later", step.key);
            flaws.push(Flaw::new("late-reference", text, &step.at).hint(hint));
        } else if own.group.is_some()
            && own.group == found.group
            && found.phase == phase
            && own.back == found.back
        {
            let text =
                format!("step `{}` needs the result of `{wanted}`, which runs at the same time", step.key);
            let flaw = Flaw::new("parallel-reference", text, &step.at);
            flaws.push(flaw.hint("take `.parallel` off one of them, or put them into different phases"));
        }
    }
}

fn item_has_each(step: &Step, flaws: &mut Vec<Flaw>) {
    if step.each.is_none() && step.action.args.iter().chain(&step.when).any(Expr::uses_item) {
        let text = format!("step `{}` uses `item()` but has no `.each(…)`", step.key);
        flaws.push(Flaw::new("item-without-each", text, &step.at));
    }
    if step.each.as_ref().is_some_and(Expr::uses_item) {
        let text = format!("the list of `.each` of step `{}` cannot use `item()`", step.key);
        flaws.push(Flaw::new("item-without-each", text, &step.at));
    }
}

/// It is read before the first phase, so it can wait for nothing.
fn trust_is_a_read(plan: &Plan, registry: &Registry, flaws: &mut Vec<Flaw>) {
    let (Some(trust), Some(first)) = (&plan.trust, plan.phases.first()) else { return };
    let name = &trust.primitive;
    if !registry.get(name).is_some_and(|primitive| primitive.kind == Kind::Read) {
        flaws.push(Flaw::new(
            "trust",
            format!("`{name}` does not read, so it gives no trust view"),
            &first.at,
        ));
    }
    if trust.args.iter().any(|arg| !arg.steps().is_empty() || arg.uses_item()) {
        let text = format!("`trust({name}(…))` waits for a step, but it is read before the first one");
        flaws.push(Flaw::new("trust", text, &first.at));
    }
}

fn kind_fits(step: &Step, registry: &Registry, flaws: &mut Vec<Flaw>) {
    let name = &step.action.primitive;
    let Some(primitive) = registry.get(name) else {
        let flaw = Flaw::new("unknown-primitive", format!("no primitive is named `{name}`"), &step.at);
        flaws.push(match registry.nearest(name) {
            Some(near) => flaw.hint(format!("did you mean `{near}`?")),
            None => flaw,
        });
        return;
    };
    if !role_takes(step.role, primitive.kind) {
        let text =
            format!("`{name}` {}, so it cannot stand in `.{}`", does(primitive.kind), step.role.word());
        flaws.push(Flaw::new("wrong-role", text, &step.at).hint(belongs(primitive.kind)));
    }
    for expr in step.action.args.iter().chain(&step.when).chain(&step.each) {
        expr.walk(&mut |part| {
            let Expr::Call { primitive, .. } = part else { return };
            if !registry.get(primitive).is_some_and(|found| matches!(found.kind, Kind::Pure | Kind::Read)) {
                let text = format!(
                    "`{primitive}` neither computes nor reads, so it cannot stand inside an argument"
                );
                flaws.push(Flaw::new("wrong-role", text, &step.at));
            }
        });
    }
}

/// Whether a primitive of this kind may be the action of such a step.
pub(crate) fn role_takes(role: Role, kind: Kind) -> bool {
    match role {
        Role::Stage => kind == Kind::Make,
        Role::Change => kind == Kind::Change,
        Role::Settle => kind == Kind::Settle,
        Role::Prove => kind == Kind::Prove,
        Role::Back => matches!(kind, Kind::Change | Kind::Settle | Kind::Prove),
    }
}

/// What a kind does, for sentences.
pub(crate) fn does(kind: Kind) -> &'static str {
    match kind {
        Kind::Pure => "computes a value",
        Kind::Read => "reads the world",
        Kind::Make => "makes something random",
        Kind::Change => "changes the world",
        Kind::Settle => "makes running parties load what was changed",
        Kind::Prove => "observes that something holds",
    }
}

/// Where a kind belongs, for hints.
pub(crate) fn belongs(kind: Kind) -> &'static str {
    match kind {
        Kind::Pure | Kind::Read => "call it by itself and hand its result to an action",
        Kind::Make => "declare it with `.stage(item, action)`",
        Kind::Change => "declare it with `.change(item, action)`",
        Kind::Settle => "declare it with `.settle(item, action)`",
        Kind::Prove => "declare it with `.prove(item, action)`",
    }
}
