//! The functions of the step language: `param`, `phase`, `target`, `trust`, …, and the methods of phases.

use std::sync::Arc;

use rhai::{Dynamic, Engine, FuncRegistration, NativeCallContext};
use serde_json::Value;
use stdlib::registry::{Kind, Registry};

use super::natives::Answer;
use super::promise::{Action, PhaseHandle, Promise};
use super::state::{PhaseDraft, Shared, StepDraft};
use super::target;
use super::values::{Unfit, plain_type, to_dynamic, to_expr};
use crate::diagnostic::{Diagnostic, nearest};
use crate::manifest::Manifest;
use crate::plan::{At, Call, Expr, Note, OnFailure, Role, belongs, does, role_takes};

/// A function or method of the step language: name, number of arguments without the receiver, documentation.
pub(crate) struct Word {
    pub(crate) name: &'static str,
    pub(crate) args: &'static [usize],
    pub(crate) usage: &'static str,
    pub(crate) doc: &'static str,
}

/// Functions.
pub(crate) const FUNCTIONS: &[Word] = &[
    Word {
        name: "param",
        args: &[1],
        usage: "param(name)",
        doc: "The value of a parameter of the manifest.",
    },
    Word {
        name: "phase",
        args: &[2],
        usage: "phase(name, why)",
        doc: "Declares the next phase and says why it exists.",
    },
    Word { name: "target", args: &[1], usage: "target(map)", doc: "Names what the run locks and marks." },
    Word {
        name: "trust",
        args: &[1],
        usage: "trust(read)",
        doc: "Names the read that gives the trust view.",
    },
    Word {
        name: "forward_only",
        args: &[0],
        usage: "forward_only()",
        doc: "Begun with a broken target: no way back.",
    },
    Word { name: "note", args: &[1], usage: "note(text)", doc: "Says something to the reader of the plan." },
    Word { name: "item", args: &[0], usage: "item()", doc: "The item of the step's `.each`." },
];

/// Methods of a phase.
pub(crate) const PHASE_METHODS: &[Word] = &[
    Word {
        name: "stage",
        args: &[2],
        usage: "phase.stage(item, action)",
        doc: "Makes something random, into the vault.",
    },
    Word { name: "change", args: &[2], usage: "phase.change(item, action)", doc: "Writes objects or files." },
    Word {
        name: "settle",
        args: &[2],
        usage: "phase.settle(item, action)",
        doc: "Makes running parties load them.",
    },
    Word { name: "prove", args: &[2], usage: "phase.prove(item, action)", doc: "Observes that they did." },
    Word {
        name: "back",
        args: &[2],
        usage: "phase.back(item, action)",
        doc: "Runs on the way back in place of the undo.",
    },
    Word { name: "outage", args: &[0], usage: "phase.outage()", doc: "Links may fail while it runs." },
    Word {
        name: "final",
        args: &[0],
        usage: "phase.final()",
        doc: "Its first change is the point of no return.",
    },
];

/// How every function and method of the step language is written, and what it does: for the reference.
pub fn reference() -> impl Iterator<Item = (&'static str, &'static str)> {
    FUNCTIONS.iter().chain(PHASE_METHODS).chain(super::options::OPTIONS).map(|word| (word.usage, word.doc))
}

/// Registers all of them.
pub(super) fn register(engine: &mut Engine, shared: &Arc<Shared>, registry: &Registry) {
    let on = |name: &'static str| FuncRegistration::new(name).with_purity(true).with_volatility(true);

    let s = Arc::clone(shared);
    on("param").register_into_engine(engine, move |context: NativeCallContext, name: Dynamic| {
        param(&s, &context, &name)
    });
    let s = Arc::clone(shared);
    on("phase")
        .register_into_engine(engine, move |context: NativeCallContext, name: Dynamic, why: Dynamic| {
            phase(&s, &context, &name, &why)
        });
    let s = Arc::clone(shared);
    on("target").register_into_engine(engine, move |context: NativeCallContext, map: Dynamic| {
        target::declare(&s, &context, &map)
    });
    let s = Arc::clone(shared);
    on("trust").register_into_engine(engine, move |context: NativeCallContext, read: Dynamic| {
        trust(&s, &context, &read)
    });
    let s = Arc::clone(shared);
    on("forward_only").register_into_engine(engine, move |context: NativeCallContext| -> Answer<()> {
        s.check_running(&context)?;
        let at = s.at(&context);
        s.state().forward_only = Some(at);
        Ok(())
    });
    let s = Arc::clone(shared);
    on("note").register_into_engine(engine, move |context: NativeCallContext, said: Dynamic| -> Answer<()> {
        let said = text(&s, &context, &said, "the note")?;
        s.count(said.len(), &context)?;
        let at = s.at(&context);
        s.state().notes.push(Note { text: said, at });
        Ok(())
    });
    on("item").register_into_engine(engine, || Promise::of(Expr::Item { path: Vec::new() }));

    for role in [Role::Stage, Role::Change, Role::Settle, Role::Prove, Role::Back] {
        let s = Arc::clone(shared);
        let kinds: Vec<(&'static str, Kind)> =
            registry.iter().map(|primitive| (primitive.name, primitive.kind)).collect();
        let kinds = Arc::new(kinds);
        on(role.word()).register_into_engine(
            engine,
            move |context: NativeCallContext, phase: &mut PhaseHandle, item: Dynamic, action: Dynamic| {
                step(&s, &context, *phase, role, &item, &action, &kinds)
            },
        );
    }
    let s = Arc::clone(shared);
    on("outage").register_into_engine(engine, move |context: NativeCallContext, phase: &mut PhaseHandle| {
        mark(&s, &context, *phase, |draft, at| draft.outage = Some(at))
    });
    let s = Arc::clone(shared);
    on("final").register_into_engine(engine, move |context: NativeCallContext, phase: &mut PhaseHandle| {
        mark(&s, &context, *phase, |draft, at| draft.final_ = Some(at))
    });
}

fn mark(
    shared: &Shared,
    context: &NativeCallContext,
    phase: PhaseHandle,
    set: impl FnOnce(&mut PhaseDraft, At),
) -> Answer<PhaseHandle> {
    shared.check_running(context)?;
    let at = shared.at(context);
    if let Some(draft) = shared.state().phases.get_mut(phase.0) {
        set(draft, at);
    }
    Ok(phase)
}

/// A text argument; a promise is refused as not yet known.
pub(super) fn text(
    shared: &Shared,
    context: &NativeCallContext,
    value: &Dynamic,
    what: &str,
) -> Answer<String> {
    shared.check_running(context)?;
    if let Some(promise) = value.read_lock::<Promise>() {
        return Err(shared.refuse(promise.unknown_yet(), context));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(text.to_string());
    }
    let message = format!("{what} must be a text, found {}", plain_type(value.type_name()));
    Err(shared.refuse(Diagnostic::error("script::argument-type", message), context))
}

fn param(shared: &Shared, context: &NativeCallContext, name: &Dynamic) -> Answer<Dynamic> {
    let name = text(shared, context, name, "the name of a parameter")?;
    match shared.params.get(&name) {
        Some(value) => Ok(to_dynamic(value)),
        None => Err(shared.refuse(unknown_param(&name, &shared.manifest), context)),
    }
}

/// The diagnostic for a parameter that the manifest does not have.
pub(super) fn unknown_param(name: &str, manifest: &Manifest) -> Diagnostic {
    let diagnostic =
        Diagnostic::error("script::unknown-param", format!("the manifest has no parameter `{name}`"));
    let listed: Vec<_> = manifest.params.names().map(|name| format!("`{name}`")).collect();
    diagnostic.hint(match (nearest(name, manifest.params.names()), listed.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, true) => "it declares none: add it under `params:` in workflow.yaml".to_owned(),
        (None, false) => {
            format!("it declares {}; add others under `params:` in workflow.yaml", listed.join(", "))
        }
    })
}

fn phase(shared: &Shared, context: &NativeCallContext, name: &Dynamic, why: &Dynamic) -> Answer<PhaseHandle> {
    let name = text(shared, context, name, "the name of a phase")?;
    let why = text(shared, context, why, "the reason of a phase")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
        let message = format!("`{name}` is no name for a phase");
        let hint = "letters, digits, `-`, `_` and `.`, as in `trust-both`";
        return Err(shared.refuse(Diagnostic::error("script::name", message).hint(hint), context));
    }
    let at = shared.at(context);
    shared.count(why.len() + name.len(), context)?;
    let mut state = shared.state();
    if let Some(first) = state.phases.iter().find(|phase| phase.name == name).map(|phase| phase.at.clone()) {
        drop(state);
        let diagnostic = Diagnostic::error("script::twin-phase", format!("two phases are named `{name}`"));
        return Err(refuse_twin(shared, context, diagnostic, &first));
    }
    state.phases.push(PhaseDraft { name, why, final_: None, outage: None, at });
    Ok(PhaseHandle(state.phases.len() - 1))
}

pub(super) fn refuse_twin(
    shared: &Shared,
    context: &NativeCallContext,
    diagnostic: Diagnostic,
    first: &At,
) -> Box<rhai::EvalAltResult> {
    let diagnostic = shared.spot(diagnostic, &shared.at(context), "declared again here");
    let diagnostic = shared.spot(diagnostic, first, "first declared here");
    shared.refuse_somewhere(diagnostic)
}

fn step(
    shared: &Shared,
    context: &NativeCallContext,
    phase: PhaseHandle,
    role: Role,
    item: &Dynamic,
    action: &Dynamic,
    kinds: &[(&'static str, Kind)],
) -> Answer<Promise> {
    let item = text(shared, context, item, "the item of a step")?;
    if item.is_empty() || item.len() > 200 || item.chars().any(char::is_control) {
        let message = "the item of a step is a name of 1 to 200 characters on one line";
        return Err(shared.refuse(Diagnostic::error("script::name", message), context));
    }
    let action = carried(shared, context, role, action)?;
    let name = &action.call.primitive;
    let kind = kinds.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
    if let Some(kind) = kind.filter(|kind| !role_takes(role, *kind)) {
        let message = format!("`{name}` {}, so it cannot stand in `.{}`", does(kind), role.word());
        return Err(
            shared.refuse(Diagnostic::error("script::wrong-role", message).hint(belongs(kind)), context)
        );
    }
    let at = shared.at(context);
    let mut state = shared.state();
    let phase_name = state.phases.get(phase.0).map(|draft| draft.name.clone()).unwrap_or_default();
    let key = format!("{phase_name}/{}/{item}", role.word());
    if let Some(first) =
        state.keys.get(&key).and_then(|index| state.steps.get(*index)).map(|step| step.at.clone())
    {
        drop(state);
        let diagnostic = Diagnostic::error("script::twin", format!("two steps have the key `{key}`"))
            .hint("give each step of a phase an item name of its own");
        return Err(refuse_twin(shared, context, diagnostic, &first));
    }
    if let Some(carried) = state.actions.get_mut(action.number) {
        carried.2 = true;
    }
    let index = state.steps.len();
    state.keys.insert(key.clone(), index);
    state.steps.push(StepDraft {
        phase: phase.0,
        role,
        item,
        key: key.clone(),
        action: action.call,
        deadline_s: None,
        on_failure: OnFailure::Stop,
        width: None,
        when: None,
        each: None,
        at,
    });
    Ok(Promise { expr: Expr::Ref { step: key, path: Vec::new() }, step: Some(index) })
}

/// The action that a step is given, or what to give it instead.
fn carried(shared: &Shared, context: &NativeCallContext, role: Role, action: &Dynamic) -> Answer<Action> {
    if let Some(action) = action.read_lock::<Action>() {
        return Ok(action.clone());
    }
    let (what, hint) = if action.is::<Promise>() {
        (
            "a value that is not yet known",
            "a step takes an action: a call that makes, changes, settles or proves",
        )
    } else if action.is_fnptr() {
        (
            "a closure",
            "an action is data: call the primitive itself, `phase.change(\"x\", k8s::patch_secret(…))`",
        )
    } else {
        ("a value", "a read or a computation is no action: call it by itself and hand its result to one")
    };
    let message = format!("`.{}` takes an action, found {what}", role.word());
    Err(shared.refuse(Diagnostic::error("script::no-action", message).hint(hint), context))
}

/// A value that is known now.
pub(super) fn concrete(
    shared: &Shared,
    context: &NativeCallContext,
    value: &Dynamic,
    what: &str,
) -> Answer<Value> {
    let mut size = 0;
    match to_expr(value, &mut size) {
        Ok(Expr::Lit(value)) => {
            shared.count(size, context)?;
            Ok(value)
        }
        Ok(expr) => {
            Err(shared.refuse(super::state::unknown_yet(&super::promise::when_known(&expr)), context))
        }
        Err(unfit) => Err(shared.refuse(no_data(what, &unfit), context)),
    }
}

/// The diagnostic for something that is no data.
pub(super) fn no_data(what: &str, unfit: &Unfit) -> Diagnostic {
    let found = match unfit {
        Unfit::Action(name) => format!("the action `{name}`"),
        Unfit::Other(other) => other.clone(),
        Unfit::Wide(number) => format!("{number}, an integer beyond 2^53"),
        Unfit::Forged(key) => format!("a map with the reserved key `{key}`"),
    };
    Diagnostic::error("script::not-data", format!("{what} must be data, found {found}"))
}

fn trust(shared: &Shared, context: &NativeCallContext, read: &Dynamic) -> Answer<()> {
    shared.check_running(context)?;
    let call = match read.read_lock::<Promise>().map(|promise| promise.expr.clone()) {
        Some(Expr::Call { primitive, args, path }) if path.is_empty() => Call { primitive, args },
        _ => {
            let message = "`trust` takes the reading call itself, not what it answered";
            let diagnostic = Diagnostic::error("script::trust", message);
            let hint =
                "write the call inside the brackets: `trust(tidb::trust(…))`; it is read before each phase";
            return Err(shared.refuse(diagnostic.hint(hint), context));
        }
    };
    let at = shared.at(context);
    let mut state = shared.state();
    if let Some((_, first)) = &state.trust {
        let first = first.clone();
        drop(state);
        let diagnostic = Diagnostic::error("script::twin", "a workflow has one trust view");
        return Err(refuse_twin(shared, context, diagnostic, &first));
    }
    state.trust = Some((call, at));
    Ok(())
}
