//! What may follow the declaration of a step: `.deadline`, `.retry`, `.ask`, `.parallel`, `.when`, `.each`.

use std::sync::Arc;

use rhai::{Dynamic, Engine, FuncRegistration, NativeCallContext};
use serde_json::Value;
use stdlib::duration;

use super::natives::Answer;
use super::promise::Promise;
use super::state::{Shared, StepDraft};
use super::surface::{Word, no_data, text};
use super::values::{plain_type, to_expr};
use crate::diagnostic::Diagnostic;
use crate::plan::{Expr, OnFailure};

/// Methods of what a step declaration returns.
pub(crate) const OPTIONS: &[Word] = &[
    Word {
        name: "deadline",
        args: &[1],
        usage: "step.deadline(\"45m\")",
        doc: "How long it may take, all attempts together.",
    },
    Word {
        name: "retry",
        args: &[2],
        usage: "step.retry(3, \"2s\")",
        doc: "Tries again, waiting twice as long each time.",
    },
    Word { name: "ask", args: &[0], usage: "step.ask()", doc: "Asks the operator when it fails." },
    Word {
        name: "parallel",
        args: &[1],
        usage: "step.parallel(4)",
        doc: "Runs with its neighbours, so many at once.",
    },
    Word {
        name: "when",
        args: &[1],
        usage: "step.when(condition)",
        doc: "Skips the step unless the condition holds.",
    },
    Word {
        name: "each",
        args: &[1],
        usage: "step.each(list)",
        doc: "Runs the step for each `item()` of a list.",
    },
];

/// Registers all of them.
pub(super) fn register(engine: &mut Engine, shared: &Arc<Shared>) {
    let on = |name: &'static str| FuncRegistration::new(name).with_purity(true).with_volatility(true);

    let s = Arc::clone(shared);
    on("deadline").register_into_engine(
        engine,
        move |context: NativeCallContext, step: &mut Promise, limit: Dynamic| {
            let limit = text(&s, &context, &limit, "a deadline")?;
            let limit = period(&s, &context, &limit)?.as_secs();
            if limit == 0 {
                return Err(refused(&s, &context, "a deadline is at least `1s`"));
            }
            with(&s, &context, step, move |draft| draft.deadline_s = Some(limit))
        },
    );
    let s = Arc::clone(shared);
    on("retry").register_into_engine(
        engine,
        move |context: NativeCallContext, step: &mut Promise, times: Dynamic, pause: Dynamic| {
            let times = count(&s, &context, &times, "the number of retries", 100)?;
            let pause = text(&s, &context, &pause, "the pause between retries")?;
            let pause_ms = u64::try_from(period(&s, &context, &pause)?.as_millis()).unwrap_or(u64::MAX);
            with(&s, &context, step, move |draft| draft.on_failure = OnFailure::Retry { times, pause_ms })
        },
    );
    let s = Arc::clone(shared);
    on("ask").register_into_engine(engine, move |context: NativeCallContext, step: &mut Promise| {
        with(&s, &context, step, |draft| draft.on_failure = OnFailure::Ask)
    });
    let s = Arc::clone(shared);
    on("parallel").register_into_engine(
        engine,
        move |context: NativeCallContext, step: &mut Promise, width: Dynamic| {
            let width = count(&s, &context, &width, "the width of `.parallel`", 1000)?;
            with(&s, &context, step, move |draft| draft.width = Some(width))
        },
    );
    let s = Arc::clone(shared);
    on("when").register_into_engine(
        engine,
        move |context: NativeCallContext, step: &mut Promise, value: Dynamic| {
            let condition = match query(&s, &context, &value, "the condition")? {
                Expr::Lit(Value::Bool(true)) => None,
                Expr::Lit(Value::Bool(false)) => Some(Expr::Lit(Value::Bool(false))),
                expr @ (Expr::Ref { .. } | Expr::Call { .. }) => Some(expr),
                _ => {
                    return Err(expected(&s, &context, "`.when` takes `true`, `false` or a promise", &value));
                }
            };
            with(&s, &context, step, move |draft| draft.when = condition)
        },
    );
    let s = Arc::clone(shared);
    on("each").register_into_engine(
        engine,
        move |context: NativeCallContext, step: &mut Promise, value: Dynamic| {
            let list = query(&s, &context, &value, "the list")?;
            let fits = matches!(
                list,
                Expr::Lit(Value::Array(_)) | Expr::List(_) | Expr::Ref { .. } | Expr::Call { .. }
            );
            if !fits {
                return Err(expected(&s, &context, "`.each` takes a list or a promise of one", &value));
            }
            with(&s, &context, step, move |draft| draft.each = Some(list))
        },
    );
}

fn refused(shared: &Shared, context: &NativeCallContext, message: &str) -> Box<rhai::EvalAltResult> {
    shared.refuse(Diagnostic::error("script::option", message), context)
}

fn expected(
    shared: &Shared,
    context: &NativeCallContext,
    what: &str,
    found: &Dynamic,
) -> Box<rhai::EvalAltResult> {
    refused(shared, context, &format!("{what}, found {}", plain_type(found.type_name())))
}

fn query(shared: &Shared, context: &NativeCallContext, value: &Dynamic, what: &str) -> Answer<Expr> {
    shared.check_running(context)?;
    let mut size = 0;
    let expr = to_expr(value, &mut size).map_err(|unfit| shared.refuse(no_data(what, &unfit), context))?;
    shared.count(size, context)?;
    Ok(expr)
}

fn period(shared: &Shared, context: &NativeCallContext, text: &str) -> Answer<std::time::Duration> {
    duration::parse(text).map_err(|message| refused(shared, context, &message))
}

fn count(
    shared: &Shared,
    context: &NativeCallContext,
    value: &Dynamic,
    what: &str,
    most: u32,
) -> Answer<u32> {
    shared.check_running(context)?;
    if let Some(promise) = value.read_lock::<Promise>() {
        return Err(shared.refuse(promise.unknown_yet(), context));
    }
    let number = value.as_int().ok().and_then(|number| u32::try_from(number).ok());
    match number.filter(|number| (1..=most).contains(number)) {
        Some(number) => Ok(number),
        None => Err(refused(shared, context, &format!("{what} is an integer from 1 to {most}"))),
    }
}

/// Changes the step that a promise stands for; a projection or a computed promise stands for none.
fn with(
    shared: &Shared,
    context: &NativeCallContext,
    promise: &Promise,
    change: impl FnOnce(&mut StepDraft),
) -> Answer<Promise> {
    shared.check_running(context)?;
    let Some(index) = promise.step else {
        let name = context.fn_name();
        return Err(refused(
            shared,
            context,
            &format!("`.{name}` follows the declaration of a step, nothing else"),
        ));
    };
    if let Some(draft) = shared.state().steps.get_mut(index) {
        change(draft);
    }
    Ok(promise.clone())
}
