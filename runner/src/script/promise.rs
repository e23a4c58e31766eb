//! The three things that a script holds of what it declares: promises, actions, phases; and secrets, opaque.

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::plan::{Call, Expr};

/// What a step will produce, or what is computed from it. It can be projected and handed on, nothing else.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub(super) expr: Expr,
    /// The step that this very promise belongs to: options follow it.
    pub(super) step: Option<usize>,
}

impl Promise {
    pub(super) fn of(expr: Expr) -> Self {
        Self { expr, step: None }
    }

    /// When it is known: `known only once step … has run`.
    pub(super) fn when_known(&self) -> String {
        when_known(&self.expr)
    }

    /// The refusal to use it as if it were known.
    pub(super) fn unknown_yet(&self) -> Diagnostic {
        super::state::unknown_yet(&self.when_known())
    }
}

/// When the value of an expression is known, for sentences.
pub(super) fn when_known(expr: &Expr) -> String {
    let mut query = None;
    expr.walk(&mut |part| {
        if let Expr::Call { primitive, .. } = part {
            query.get_or_insert(primitive.clone());
        }
    });
    match (expr.steps().last(), expr.uses_item(), query) {
        (Some(step), ..) => format!("known only once step `{step}` has run"),
        (None, true, _) => "known only when its step runs, for each item".to_owned(),
        (None, false, Some(primitive)) => format!("known only when the run asks `{primitive}`"),
        (None, false, None) => "known only in the run".to_owned(),
    }
}

/// What a mutating primitive returns: the description of what a step will do.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) call: Call,
    /// Its number among all actions, to find those that no step carries.
    pub(super) number: usize,
}

/// A declared phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhaseHandle(pub(super) usize);

/// A secret: it can be handed on, and prints as its public fingerprint.
#[derive(Debug, Clone)]
pub(super) struct SecretHandle(pub(super) Value);

impl SecretHandle {
    pub(super) fn shown(&self) -> String {
        let fingerprint = self.0.get("fp").and_then(Value::as_str).unwrap_or("unknown");
        format!("secret {fingerprint}")
    }
}
