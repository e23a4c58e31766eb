//! Reading Kubernetes objects as JSON without ceremony.

use std::collections::BTreeMap;

use serde_json::Value;

/// The text at a path, or `""`.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a path.
pub fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// The items of the array at a path.
pub fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// `metadata.generation`.
pub fn generation(object: &Value) -> i64 {
    number(object, "/metadata/generation").unwrap_or(0)
}

/// A label's value, or `""`.
pub fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    let labels = object.pointer("/metadata/labels");
    labels.and_then(|l| l.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// An annotation's value, or `""`.
pub fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    let annotations = object.pointer("/metadata/annotations");
    annotations.and_then(|a| a.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// Whether it is being deleted.
pub fn terminating(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null())
}

/// The uid of the controller that owns it, or `""`.
pub fn controller(object: &Value) -> &str {
    items(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
        .map_or("", |owner| text(owner, "/uid"))
}

/// The status (`True`, `False`, `Unknown`) of a condition, or `""`.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    items(object, "/status/conditions")
        .iter()
        .find(|c| text(c, "/type") == kind)
        .map_or("", |c| text(c, "/status"))
}

/// Whether a pod is ready.
pub fn ready(pod: &Value) -> bool {
    !terminating(pod) && condition(pod, "Ready") == "True"
}

/// The map of texts at a path.
pub fn texts(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let Some(map) = value.pointer(pointer).and_then(Value::as_object) else { return BTreeMap::new() };
    map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}
