//! What a promise, an action, a phase and a secret refuse: rule 3 of the script surface.

use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, FuncRegistration, ImmutableString, Module, NativeCallContext};
use std::any::TypeId;

use super::natives::Answer;
use super::promise::{Action, PhaseHandle, Promise, SecretHandle};
use super::state::{Shared, unknown_yet};
use crate::diagnostic::Diagnostic;

const BINARY: [&str; 17] =
    ["==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "**", "&", "|", "^", "<<", ">>"];

/// Registers the types and everything that they refuse or answer.
pub(super) fn register(engine: &mut Engine, shared: &Arc<Shared>) {
    engine.register_type_with_name::<Promise>(PROMISE);
    engine.register_type_with_name::<Action>("action");
    engine.register_type_with_name::<PhaseHandle>("phase");
    engine.register_type_with_name::<SecretHandle>("secret");
    promises(engine, shared);
    others(engine, shared);
    forbidden(engine, shared);
}

/// The type's name in messages of the engine.
pub(super) const PROMISE: &str = "promise";

fn promises(engine: &mut Engine, shared: &Arc<Shared>) {
    for operator in BINARY {
        let s = Arc::clone(shared);
        engine.register_fn(
            operator,
            move |context: NativeCallContext, promise: Promise, _: Dynamic| -> Answer<bool> {
                Err(s.refuse(promise.unknown_yet(), &context))
            },
        );
        let s = Arc::clone(shared);
        engine.register_fn(
            operator,
            move |context: NativeCallContext, _: Dynamic, promise: Promise| -> Answer<bool> {
                Err(s.refuse(promise.unknown_yet(), &context))
            },
        );
    }
    for name in ["!", "-", "to_string", "to_debug"] {
        let s = Arc::clone(shared);
        engine.register_fn(
            name,
            move |context: NativeCallContext, promise: &mut Promise| -> Answer<ImmutableString> {
                Err(s.refuse(promise.unknown_yet(), &context))
            },
        );
    }
    let s = Arc::clone(shared);
    FuncRegistration::new_index_getter()
        .with_purity(true)
        .register_into_engine(engine, move |promise: &mut Promise, field: ImmutableString| {
            project(&s, promise, &field)
        });
    let s = Arc::clone(shared);
    FuncRegistration::new_index_getter().with_purity(true).register_into_engine(
        engine,
        move |context: NativeCallContext, promise: &mut Promise, index: i64| {
            if index < 0 {
                let text = "an item of a promise is counted from the front, from 0";
                return Err(s.refuse(Diagnostic::error("script::unknown-yet", text), &context));
            }
            Ok(project(&s, promise, &index.to_string()))
        },
    );
    // Every value has a `tag` in Rhai; of a promise it is a field like any other.
    let s = Arc::clone(shared);
    FuncRegistration::new_getter("tag")
        .with_purity(true)
        .register_into_engine(engine, move |promise: &mut Promise| project(&s, promise, "tag"));
    let s = Arc::clone(shared);
    let mut iterators = Module::new();
    iterators.set_iter_result(TypeId::of::<Promise>(), move |value: Dynamic| {
        let when = value.read_lock::<Promise>().map(|promise| promise.when_known()).unwrap_or_default();
        let diagnostic =
            unknown_yet(&when).hint("where a step runs once for each item, use `.each(list)` and `item()`");
        Box::new(std::iter::once(Err(s.refuse_somewhere(diagnostic))))
    });
    engine.register_global_module(iterators.into());
    last_seen(engine, shared);
}

fn project(shared: &Shared, promise: &Promise, field: &str) -> Promise {
    let projected = Promise::of(promise.expr.project(field).unwrap_or_else(|| promise.expr.clone()));
    shared.state().last_promise = Some(projected.when_known());
    projected
}

/// `if promise` and the like fail inside the engine, which names only the type: remember which promise was looked at.
#[allow(deprecated)] // "volatile", says Rhai; the version is pinned.
fn last_seen(engine: &mut Engine, shared: &Arc<Shared>) {
    let s = Arc::clone(shared);
    engine.on_var(move |name, _, context| {
        if let Some(promise) = context.scope().get(name).and_then(Dynamic::read_lock::<Promise>) {
            s.state().last_promise = Some(promise.when_known());
        }
        Ok(None)
    });
    let s = Arc::clone(shared);
    engine.on_missing_function(move |_, args, _, _| {
        let found =
            args.iter().find_map(|arg| arg.read_lock::<Promise>().map(|promise| promise.when_known()));
        // Kept here, so that no `catch` hides it; the engine's own error follows and brings the place.
        if let Some(when) = found {
            let _ = s.refuse_somewhere(unknown_yet(&when));
        }
        Ok(None)
    });
}

fn others(engine: &mut Engine, shared: &Arc<Shared>) {
    for name in ["to_string", "to_debug"] {
        engine.register_fn(name, |secret: &mut SecretHandle| secret.shown());
        engine.register_fn(name, |action: &mut Action| format!("action {}", action.call.primitive));
        let s = Arc::clone(shared);
        engine.register_fn(name, move |phase: &mut PhaseHandle| {
            s.state().phases.get(phase.0).map(|draft| format!("phase {}", draft.name)).unwrap_or_default()
        });
    }
    FuncRegistration::new_getter("fp").with_purity(true).register_into_engine(
        engine,
        |secret: &mut SecretHandle| {
            secret.0.get("fp").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
        },
    );
    let s = Arc::clone(shared);
    engine.register_fn(
        "print",
        move |context: NativeCallContext, value: Dynamic| -> Answer<ImmutableString> {
            print(&s, &context, value)
        },
    );
    let s = Arc::clone(shared);
    engine.register_fn(
        "print",
        move |context: NativeCallContext, text: ImmutableString| -> Answer<ImmutableString> {
            print(&s, &context, text.into())
        },
    );
}

/// `print` speaks to the reader of the plan, as `note` does.
fn print(shared: &Shared, context: &NativeCallContext, mut value: Dynamic) -> Answer<ImmutableString> {
    shared.check_running(context)?;
    if let Some(promise) = value.read_lock::<Promise>() {
        return Err(shared.refuse(promise.unknown_yet(), context));
    }
    if !value.is_string() {
        value = context.call_native_fn_raw("to_string", true, &mut [&mut value])?;
    }
    let text = value.into_immutable_string().unwrap_or_default();
    shared.count(text.len(), context)?;
    let at = shared.at(context);
    shared.state().notes.push(crate::plan::Note { text: text.to_string(), at });
    Ok(text)
}

/// Functions of Rhai that have no place where a script only declares.
fn forbidden(engine: &mut Engine, shared: &Arc<Shared>) {
    fn refuse(shared: &Shared, context: &NativeCallContext, why: &str) -> Box<EvalAltResult> {
        let message = format!("`{}` {why}", context.fn_name());
        shared.refuse(Diagnostic::error("script::forbidden", message), context)
    }
    const SLEEP: &str = "has no use here: a script declares what a run does, and does not wait";
    const EXIT: &str =
        "would leave the declaration half done; use `return` in the main script, or `throw` a reason";
    let s = Arc::clone(shared);
    engine.register_fn("sleep", move |context: NativeCallContext, _: i64| -> Answer<()> {
        Err(refuse(&s, &context, SLEEP))
    });
    let s = Arc::clone(shared);
    engine.register_fn("sleep", move |context: NativeCallContext, _: f64| -> Answer<()> {
        Err(refuse(&s, &context, SLEEP))
    });
    let s = Arc::clone(shared);
    engine.register_fn("exit", move |context: NativeCallContext| -> Answer<()> {
        Err(refuse(&s, &context, EXIT))
    });
    let s = Arc::clone(shared);
    engine.register_fn("exit", move |context: NativeCallContext, _: Dynamic| -> Answer<()> {
        Err(refuse(&s, &context, EXIT))
    });
}
