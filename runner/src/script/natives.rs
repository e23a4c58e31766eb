//! The primitives as a script sees them: `namespace::name(…)`, with dynamic arguments that are checked here.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;
use rhai::{Dynamic, Engine, EvalAltResult, FuncRegistration, Module, NativeCallContext, RhaiFunc};
use serde_json::Value;
use stdlib::duration;
use stdlib::gate::ReadOnly;
use stdlib::registry::{Kind, Param, Primitive, Registry, Type};
use stdlib::secret::handle_id;

use super::promise::{Action, Promise};
use super::state::{MAX_BYTES, Need, Shared, Stop};
use super::values::{Unfit, to_dynamic, to_expr};
use crate::diagnostic::Diagnostic;
use crate::plan::{Call, Expr};

/// `Err` ends the evaluation.
pub(super) type Answer<T> = Result<T, Box<EvalAltResult>>;

/// Registers every primitive under its namespace, once for each count of arguments that it takes.
pub(super) fn register(engine: &mut Engine, shared: &Arc<Shared>, registry: &Registry) {
    let mut modules: BTreeMap<&str, Module> = BTreeMap::new();
    for primitive in registry.iter() {
        let Some((namespace, name)) = primitive.name.split_once("::") else { continue };
        let module = modules.entry(namespace).or_default();
        for count in required(primitive)..=primitive.params.len() {
            let (shared, primitive) = (Arc::clone(shared), *primitive);
            let func = RhaiFunc::Pure {
                func: Arc::new(move |context: Option<NativeCallContext>, args: &mut [&mut Dynamic]| {
                    match context {
                        Some(context) => call(&shared, &primitive, &context, args),
                        None => Err("a native was called without its context".into()),
                    }
                }),
                has_context: true,
                is_pure: true,
                is_volatile: true,
            };
            let names = primitive.params.iter().take(count).map(|param| param.name);
            FuncRegistration::new(name).with_params_info(names).set_into_module_raw(
                module,
                vec![TypeId::of::<Dynamic>(); count],
                func,
            );
        }
    }
    for (namespace, module) in modules {
        engine.register_static_module(namespace, module.into());
    }
}

/// How many arguments a primitive needs at least.
pub(super) fn required(primitive: &Primitive) -> usize {
    primitive.params.iter().filter(|param| !param.optional).count()
}

fn call(
    shared: &Arc<Shared>,
    primitive: &Primitive,
    context: &NativeCallContext,
    args: &[&mut Dynamic],
) -> Answer<Dynamic> {
    shared.check_running(context)?;
    let mut exprs = Vec::with_capacity(args.len());
    for (param, arg) in primitive.params.iter().zip(args) {
        exprs.push(argument(shared, primitive, param, arg, context)?);
    }
    match primitive.kind {
        Kind::Make | Kind::Change | Kind::Settle | Kind::Prove => {
            Ok(action(shared, primitive, exprs, context))
        }
        Kind::Pure | Kind::Read => {
            let at = shared.at(context);
            let waits =
                primitive.kind == Kind::Read && shared.deferred.contains(&at.file, at.line, at.column);
            let known: Option<Vec<Value>> = exprs.iter().map(|expr| expr.literal().cloned()).collect();
            match (known, primitive.kind) {
                (Some(known), Kind::Read) if !waits => read(shared, primitive, known, context),
                (Some(known), Kind::Pure) => compute(shared, primitive, &known, context),
                _ => {
                    let primitive = primitive.name.to_owned();
                    Ok(Dynamic::from(Promise::of(Expr::Call { primitive, args: exprs, path: Vec::new() })))
                }
            }
        }
    }
}

fn action(shared: &Shared, primitive: &Primitive, args: Vec<Expr>, context: &NativeCallContext) -> Dynamic {
    let at = shared.at(context);
    let mut state = shared.state();
    let number = state.actions.len();
    state.actions.push((primitive.name.to_owned(), at, false));
    Dynamic::from(Action { call: Call { primitive: primitive.name.to_owned(), args }, number })
}

fn read(
    shared: &Shared,
    primitive: &Primitive,
    args: Vec<Value>,
    context: &NativeCallContext,
) -> Answer<Dynamic> {
    let at = shared.at(context);
    let text = format!("{}{}", primitive.name, Value::from(args.clone()));
    let known = {
        let mut state = shared.state();
        if let Some(fact) = state.answers.get(&text).and_then(|index| state.facts.get(*index)) {
            return Ok(to_dynamic(&fact.answer));
        }
        let index = state.used;
        let fact = state.facts.get(index).cloned();
        if fact.as_ref().is_some_and(|fact| fact.primitive == primitive.name && fact.args == args) {
            state.used += 1;
            state.answers.insert(text, index);
        }
        fact.map(|fact| (index, fact))
    };
    match known {
        None => {
            let need = Need { primitive: primitive.name.to_owned(), args, at };
            Err(shared.stop(Stop::Needs(need), context.call_position()))
        }
        Some((_, fact)) if fact.primitive == primitive.name && fact.args == args => {
            shared.count(size_of(&fact.answer), context)?;
            Ok(to_dynamic(&fact.answer))
        }
        Some((index, fact)) => {
            let message = "the script asks for something else than the record holds";
            let recorded = format!("{}({})", fact.primitive, listed(&fact.args));
            let hint = format!(
                "read {} was {recorded}, at {}; now it is {}({})",
                index + 1,
                fact.at,
                primitive.name,
                listed(&args)
            );
            Err(shared.refuse(Diagnostic::error("script::facts-differ", message).hint(hint), context))
        }
    }
}

fn compute(
    shared: &Shared,
    primitive: &Primitive,
    args: &[Value],
    context: &NativeCallContext,
) -> Answer<Dynamic> {
    // Panics of a native would unwind through the engine and the run.
    let run = std::panic::AssertUnwindSafe(|| (primitive.run)(&shared.world, args, &ReadOnly).now_or_never());
    match std::panic::catch_unwind(run) {
        Ok(Some(Ok(value))) => {
            shared.count(size_of(&value), context)?;
            Ok(to_dynamic(&value))
        }
        Ok(Some(Err(error))) => {
            Err(shared.refuse(Diagnostic::from_primitive(primitive.name, &error), context))
        }
        Ok(None) => Err(internal(shared, primitive, "waits, which a pure primitive must not", context)),
        Err(_) => Err(internal(shared, primitive, "panicked", context)),
    }
}

fn internal(
    shared: &Shared,
    primitive: &Primitive,
    what: &str,
    context: &NativeCallContext,
) -> Box<EvalAltResult> {
    let message = format!("`{}` {what}", primitive.name);
    let hint = "this is a defect of Rollover; please report it with the script";
    shared.refuse(Diagnostic::error("script::internal", message).hint(hint), context)
}

fn argument(
    shared: &Shared,
    primitive: &Primitive,
    param: &Param,
    arg: &Dynamic,
    context: &NativeCallContext,
) -> Answer<Expr> {
    let mut size = 0;
    let expr = to_expr(arg, &mut size)
        .map_err(|unfit| shared.refuse(unfit_argument(primitive, param, unfit), context))?;
    shared.count(size, context)?;
    let Some(found) = mismatch(param, &expr) else { return Ok(expr) };
    let message = format!(
        "`{}` expects {} for `{}`, found {found}",
        primitive.name,
        with_article(param.ty),
        param.name
    );
    let hint = format!("{}: {}", primitive.signature(), param.doc);
    Err(shared.refuse(Diagnostic::error("script::argument-type", message).hint(hint), context))
}

fn unfit_argument(primitive: &Primitive, param: &Param, unfit: Unfit) -> Diagnostic {
    let place = format!("`{}` of `{}`", param.name, primitive.name);
    match unfit {
        Unfit::Action(name) => {
            Diagnostic::error("script::action-as-value", format!("{place} is the action `{name}`"))
                .hint("an action is not a value: declare it as a step, and hand on what the step returns")
        }
        Unfit::Other(what) => {
            Diagnostic::error("script::not-data", format!("{place} is {what}, which is no data"))
        }
        Unfit::Wide(number) => {
            Diagnostic::error("script::not-data", format!("{place} is {number}, too large for an integer"))
                .hint("beyond 2^53 write it as text")
        }
        Unfit::Forged(key) => Diagnostic::error(
            "script::not-data",
            format!("{place} is a map with the key `{key}`, which is reserved"),
        )
        .hint("a script cannot make a secret; take the handle from a step, a fact or a parameter"),
    }
}

/// What is wrong with an argument that is (partly) known; promises are checked when they are resolved.
fn mismatch(param: &Param, expr: &Expr) -> Option<String> {
    let value = match (expr, param.ty) {
        (Expr::Ref { .. } | Expr::Call { .. } | Expr::Item { .. }, _) => return None,
        (Expr::List(_), Type::List | Type::Any) | (Expr::Map(_), Type::Map | Type::Any) => return None,
        (Expr::List(_), _) => return Some("a list".to_owned()),
        (Expr::Map(_), _) => return Some("a map".to_owned()),
        (Expr::Lit(value), _) => value,
    };
    let fits = match param.ty {
        Type::Any => true,
        _ if value.is_null() => param.optional,
        Type::Text => value.is_string(),
        Type::Int => value.is_i64(),
        Type::Bool => value.is_boolean(),
        Type::Map => value.is_object() && handle_id(value).is_none(),
        Type::List => value.is_array(),
        Type::Secret => handle_id(value).is_some(),
        Type::Duration => match value.as_str().map(duration::parse) {
            Some(Err(message)) => return Some(message),
            other => other.is_some(),
        },
    };
    (!fits).then(|| described(value))
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "nothing `()`".to_owned(),
        Value::Bool(flag) => format!("`{flag}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 40 => format!("the text \"{text}\""),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) if handle_id(value).is_some() => "a secret".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

fn with_article(ty: Type) -> &'static str {
    match ty {
        Type::Text => "a text",
        Type::Int => "an integer",
        Type::Bool => "`true` or `false`",
        Type::Duration => "a duration such as `45m`",
        Type::Map => "a map",
        Type::List => "a list",
        Type::Secret => "a secret",
        Type::Any => "anything",
    }
}

/// Arguments for an error message, cut where they are long.
fn listed(args: &[Value]) -> String {
    let text = args.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    if text.chars().count() <= 120 { text } else { text.chars().take(117).chain("...".chars()).collect() }
}

/// Roughly the bytes that a value holds; gives up counting beyond the limit.
fn size_of(value: &Value) -> usize {
    let inner = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size_of).sum(),
        Value::Object(fields) => fields.iter().map(|(name, field)| name.len() + size_of(field)).sum(),
        _ => 0,
    };
    (inner + 32).min(MAX_BYTES + 1)
}
