//! A stored object: a JSON value whose text is made once and shared by every answer that carries it.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Map, Value};

/// An immutable version of an object.
#[derive(Debug)]
pub(crate) struct Object {
    value: Value,
    full: OnceLock<Bytes>,
    item: OnceLock<Bytes>,
}

impl Object {
    pub(crate) fn new(value: Value) -> Self {
        Self { value, full: OnceLock::new(), item: OnceLock::new() }
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// The whole text. (`Display` of a value is compiled with `serde_json`, optimised even in a debug build.)
    pub(crate) fn json(&self) -> Bytes {
        self.full.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }

    /// The object as an item of a typed list, which leaves out `kind` and `apiVersion`.
    pub(crate) fn item(&self) -> Bytes {
        let text = || {
            let mut out = String::from("{");
            let fields = self.value.as_object().into_iter().flatten();
            for (key, value) in fields.filter(|(key, _)| *key != "kind" && *key != "apiVersion") {
                if out.len() > 1 {
                    out.push(',');
                }
                out.extend([Value::from(key.as_str()).to_string().as_str(), ":", &value.to_string()]);
            }
            out.push('}');
            Bytes::from(out)
        };
        self.item.get_or_init(text).clone()
    }
}

/// `metadata`, or null.
pub(crate) fn meta(object: &Value) -> &Value {
    object.get("metadata").unwrap_or(&Value::Null)
}

/// A string of `metadata`, or the empty string.
pub(crate) fn meta_str<'a>(object: &'a Value, key: &str) -> &'a str {
    meta(object).get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A field of `metadata`, unless it is absent or null.
pub(crate) fn meta_field<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    meta(object).get(key).filter(|value| !value.is_null())
}

/// The map of a value that must be one; anything else becomes an empty one.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // The line above made it an object.
        _ => unreachable!("value is an object"),
    }
}

/// A child map, made where it is missing.
pub(crate) fn child<'a>(value: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    as_map(as_map(value).entry(key).or_insert(Value::Null))
}

/// `metadata` as a map, made where it is missing.
pub(crate) fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// Sets a field of `metadata`, or removes it.
pub(crate) fn set_meta(object: &mut Value, key: &str, value: Option<Value>) {
    let map = meta_mut(object);
    match value {
        Some(value) => {
            map.insert(key.into(), value);
        }
        None => {
            map.remove(key);
        }
    }
}

/// Sets a default where the field is missing or null.
pub(crate) fn default_to(map: &mut Map<String, Value>, key: &str, value: impl FnOnce() -> Value) {
    match map.get(key) {
        None | Some(Value::Null) => {
            map.insert(key.into(), value());
        }
        Some(_) => {}
    }
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    meta(object)
        .get("finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The uids of the owners.
pub(crate) fn owner_uids(object: &Value) -> Vec<String> {
    meta(object)
        .get("ownerReferences")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|owner| owner.get("uid").and_then(Value::as_str))
        .map(ToOwned::to_owned)
        .collect()
}

/// Removes nulls, empty strings of system fields and the like that a Go client sends (`creationTimestamp: null`).
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            for value in map.values_mut() {
                drop_nulls(value);
            }
        }
        Value::Array(list) => {
            for value in list {
                drop_nulls(value);
            }
        }
        _ => {}
    }
}

/// RFC 3339 with seconds, as `metav1.Time`.
pub(crate) fn timestamp(at: time::OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
