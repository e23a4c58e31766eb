//! The cells of a pod in a table: its status as `kubectl get pods` words it.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::object::meta_field;
use super::table::age;

/// Name, ready, status, restarts, age, and the wide cells.
pub(crate) fn cells(pod: &Value, name: &Value, since: &Value, now: OffsetDateTime) -> Vec<Value> {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or("<none>").to_owned();
    let total = pod.pointer("/spec/containers").and_then(Value::as_array).map_or(0, Vec::len);
    let statuses =
        pod.pointer("/status/containerStatuses").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let ready = statuses.iter().filter(|one| one.get("ready") == Some(&json!(true))).count();
    let restarts: i64 =
        statuses.iter().filter_map(|one| one.get("restartCount").and_then(Value::as_i64)).sum();
    let mut status = match pod.pointer("/status/reason").and_then(Value::as_str) {
        Some(reason) => reason.to_owned(),
        None => pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Unknown").to_owned(),
    };
    let mut last = None;
    for one in statuses {
        let reason = |state: &str| {
            one.pointer(&format!("/state/{state}/reason")).and_then(Value::as_str).filter(|r| !r.is_empty())
        };
        if let Some(reason) = reason("waiting").or_else(|| reason("terminated")) {
            reason.clone_into(&mut status);
        }
        last = last.max(one.pointer("/lastState/terminated/finishedAt").and_then(Value::as_str));
    }
    if meta_field(pod, "deletionTimestamp").is_some() {
        "Terminating".clone_into(&mut status);
    }
    let restarts = match last {
        Some(at) if restarts > 0 => format!("{restarts} ({} ago)", age(at, now)),
        _ => restarts.to_string(),
    };
    vec![
        name.clone(),
        json!(format!("{ready}/{total}")),
        json!(status),
        json!(restarts),
        since.clone(),
        json!(text("/status/podIP")),
        json!(text("/spec/nodeName")),
        json!("<none>"),
        json!("<none>"),
    ]
}
