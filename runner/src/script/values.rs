//! Between JSON and the values of a script.

use std::collections::BTreeMap;

use rhai::{Array, Dynamic, Map};
use serde_json::Value;
use stdlib::secret::handle_id;

use super::promise::{Action, PhaseHandle, Promise, SecretHandle};
use crate::plan::Expr;

/// Integers beyond this do not survive canonical JSON.
pub(super) const SAFE: i64 = 1 << 53;

/// Why a script value cannot be an argument.
pub(super) enum Unfit {
    /// An action is no value.
    Action(String),
    /// Anything else, named.
    Other(String),
    /// An integer beyond 2^53.
    Wide(i64),
    /// A map that pretends to be a secret or a promise.
    Forged(String),
}

/// A value of a script. Secret handles become opaque.
pub(super) fn to_dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), ..) => integer.into(),
            // Beyond what a script can count: text, as in the record.
            (None, Some(wide), _) => wide.to_string().into(),
            (None, None, float) => float.unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(to_dynamic).collect::<Array>()),
        Value::Object(_) if handle_id(value).is_some() => Dynamic::from(SecretHandle(value.clone())),
        Value::Object(fields) => Dynamic::from_map(
            fields.iter().map(|(name, field)| (name.as_str().into(), to_dynamic(field))).collect::<Map>(),
        ),
    }
}

/// An argument. `size` grows by what it holds, so that the sum of all can be limited.
pub(super) fn to_expr(value: &Dynamic, size: &mut usize) -> Result<Expr, Unfit> {
    *size += 32;
    let unshared;
    let value = if value.is_shared() {
        unshared = value.clone().flatten();
        &unshared
    } else {
        value
    };
    if value.is_unit() {
        return Ok(Expr::Lit(Value::Null));
    }
    if let Ok(flag) = value.as_bool() {
        return Ok(Expr::Lit(flag.into()));
    }
    if let Ok(integer) = value.as_int() {
        let safe = integer.unsigned_abs() <= SAFE.unsigned_abs();
        return if safe { Ok(Expr::Lit(integer.into())) } else { Err(Unfit::Wide(integer)) };
    }
    if let Ok(float) = value.as_float() {
        return serde_json::Number::from_f64(float)
            .map(|number| Expr::Lit(number.into()))
            .ok_or_else(|| Unfit::Other("a number that is not finite".to_owned()));
    }
    if let Ok(character) = value.as_char() {
        return Ok(Expr::Lit(character.to_string().into()));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        *size += text.len();
        return Ok(Expr::Lit(text.as_str().into()));
    }
    if let Ok(items) = value.as_array_ref() {
        return Ok(Expr::list(items.iter().map(|item| to_expr(item, size)).collect::<Result<_, _>>()?));
    }
    if let Ok(fields) = value.as_map_ref() {
        let mut known = BTreeMap::new();
        for (name, field) in fields.iter() {
            if name.as_str() == "$secret" {
                return Err(Unfit::Forged(name.to_string()));
            }
            *size += name.len();
            known.insert(name.to_string(), to_expr(field, size)?);
        }
        return Ok(Expr::map(known));
    }
    if let Some(promise) = value.read_lock::<Promise>() {
        return Ok(promise.expr.clone());
    }
    if let Some(secret) = value.read_lock::<SecretHandle>() {
        return Ok(Expr::Lit(secret.0.clone()));
    }
    if let Some(action) = value.read_lock::<Action>() {
        return Err(Unfit::Action(action.call.primitive.clone()));
    }
    if value.is::<PhaseHandle>() {
        return Err(Unfit::Other("a phase".to_owned()));
    }
    Err(Unfit::Other(format!("a {}", plain_type(value.type_name()))))
}

/// A type name as a script's author knows it.
pub(super) fn plain_type(name: &str) -> &str {
    match name {
        "()" => "nothing `()`",
        "i64" => "integer",
        "f64" => "float",
        "string" | "&str" | "ImmutableString" => "text",
        "map" => "map",
        "array" => "array",
        "Fn" => "function",
        other => other.rsplit("::").next().unwrap_or(other),
    }
}
