//! Checked access to the arguments of a call.

use serde_json::{Map, Value};

use crate::error::PrimError;

use super::object::Ref;

/// The object that the first four arguments name: `api_version, kind, namespace, name`.
pub(super) fn object(args: &[Value]) -> Result<Ref, PrimError> {
    let namespace = args.get(2).and_then(Value::as_str).unwrap_or_default();
    Ok(Ref::new(text(args, 0, "api_version")?, text(args, 1, "kind")?, namespace, text(args, 3, "name")?))
}

/// A text that must not be empty.
pub fn text<'a>(args: &'a [Value], index: usize, name: &str) -> Result<&'a str, PrimError> {
    match args.get(index) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::String(_)) => Err(PrimError::argument(format!("`{name}` is empty"))),
        other => Err(wrong(name, "a text", other)),
    }
}

/// A map.
pub fn map<'a>(args: &'a [Value], index: usize, name: &str) -> Result<&'a Map<String, Value>, PrimError> {
    match args.get(index) {
        Some(Value::Object(map)) => Ok(map),
        other => Err(wrong(name, "a map", other)),
    }
}

/// A field of a map argument that must be a text.
pub fn field<'a>(map: &'a Map<String, Value>, field: &str, name: &str) -> Result<&'a str, PrimError> {
    match map.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(Value::String(_)) => Err(PrimError::argument(format!("`{name}.{field}` is empty"))),
        other => Err(wrong(&format!("{name}.{field}"), "a text", other)),
    }
}

/// A text field for what a call touches, where an argument may still be a promise: empty stands for any.
pub fn hint<'a>(args: &'a [Value], index: usize, field: &str) -> &'a str {
    let value = args.get(index);
    let value = if field.is_empty() { value } else { value.and_then(|v| v.get(field)) };
    value.and_then(Value::as_str).unwrap_or_default()
}

fn wrong(name: &str, wanted: &str, found: Option<&Value>) -> PrimError {
    let found = match found {
        None | Some(Value::Null) => "nothing",
        Some(Value::Bool(_)) => "a truth value",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "a map",
    };
    PrimError::argument(format!("`{name}` has the wrong type")).expected(wanted, found)
}
