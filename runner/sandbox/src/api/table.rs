//! Tables, the form in which `kubectl get` asks for objects.

use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::columns::builtin_columns;
use super::object::{Object, meta_str};
use super::reading::metadata_of;
use super::request::Call;

/// A `Table` of objects.
pub(crate) fn table(
    call: &Call,
    objects: &[Arc<Object>],
    now: OffsetDateTime,
    metadata: &Value,
    columns: bool,
) -> Value {
    let include = call.query.get("includeObject").unwrap_or("Metadata");
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut row = json!({"cells": cells(call, object.value(), now)});
            let shown = match include {
                "None" => None,
                "Object" => Some(object.value().clone()),
                _ => Some(metadata_of(object.value())),
            };
            if let (Some(shown), Some(map)) = (shown, row.as_object_mut()) {
                map.insert("object".into(), shown);
            }
            row
        })
        .collect();
    let mut table =
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "rows": rows});
    if let Some(map) = table.as_object_mut() {
        map.insert("columnDefinitions".into(), if columns { definitions(call) } else { Value::Null });
    }
    table
}

fn definitions(call: &Call) -> Value {
    let define = |name: &str, kind: &str, wide: bool| {
        let format = if name == "Name" { "name" } else { "" };
        json!({"name": name, "type": kind, "format": format, "description": "", "priority": i32::from(wide)})
    };
    if call.resource.builtin {
        return builtin_columns(&call.resource.gr.plural)
            .iter()
            .map(|(name, kind, wide)| define(name, kind, *wide))
            .collect();
    }
    let mut columns = vec![define("Name", "string", false)];
    for column in &call.version.columns {
        let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default();
        let wide = column.get("priority").and_then(Value::as_i64).unwrap_or(0) > 0;
        columns.push(define(text("name"), text("type"), wide));
    }
    if call.version.columns.is_empty() {
        columns.push(define("Age", "date", false));
    }
    Value::Array(columns)
}

fn cells(call: &Call, object: &Value, now: OffsetDateTime) -> Value {
    if call.resource.builtin {
        return Value::Array(builtin_cells(&call.resource.gr.plural, object, now));
    }
    let mut cells = vec![json!(meta_str(object, "name"))];
    for column in &call.version.columns {
        let path = column.get("jsonPath").and_then(Value::as_str).unwrap_or_default();
        let found = json_path(object, path);
        let date = column.get("type").and_then(Value::as_str) == Some("date");
        cells.push(match found {
            Some(Value::String(text)) if date => json!(age(text, now)),
            Some(value) => value.clone(),
            None => Value::Null,
        });
    }
    if call.version.columns.is_empty() {
        cells.push(json!(age(meta_str(object, "creationTimestamp"), now)));
    }
    Value::Array(cells)
}

/// The simple JSON paths of printer columns: `.a.b`, `.a[0].b`, `.a[?(@.k=="v")].b`.
fn json_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            let (field, tail) = tail.split_at(end);
            at = at.get(field)?;
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('[') {
            let (inner, tail) = tail.split_once(']')?;
            rest = tail;
            at = if let Some(filter) = inner.strip_prefix("?(@.").and_then(|text| text.strip_suffix(')')) {
                let (key, value) = filter.split_once("==")?;
                let value = value.trim().trim_matches(['"', '\'']);
                at.as_array()?
                    .iter()
                    .find(|item| item.get(key.trim()).and_then(Value::as_str) == Some(value))?
            } else {
                at.get(inner.parse::<usize>().ok()?)?
            };
        } else {
            return None;
        }
    }
    Some(at)
}

fn builtin_cells(plural: &str, object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let name = json!(meta_str(object, "name"));
    let age = json!(age(meta_str(object, "creationTimestamp"), now));
    let at = |path: &str| object.pointer(path).cloned().unwrap_or(Value::Null);
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let size = |path: &str| object.pointer(path).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let or = |value: Value, other: &str| if value.is_null() || value == "" { json!(other) } else { value };
    let ready = |want: &str, have: &str| json!(format!("{}/{}", number(have), number(want)));
    let containers = || template_list(object, "name");
    let images = || template_list(object, "image");
    match plural {
        "pods" => super::podcells::cells(object, &name, &age, now),
        "secrets" => vec![name, at("/type"), json!(size("/data")), age],
        "configmaps" => vec![name, json!(size("/data") + size("/binaryData")), age],
        "namespaces" => vec![name, at("/status/phase"), age],
        "nodes" => {
            let ready = conditions(object).any(|one| {
                one.get("type") == Some(&json!("Ready")) && one.get("status") == Some(&json!("True"))
            });
            let mut status = if ready { "Ready" } else { "NotReady" }.to_owned();
            if at("/spec/unschedulable") == json!(true) {
                status.push_str(",SchedulingDisabled");
            }
            vec![name, json!(status), json!("<none>"), age, or(at("/status/nodeInfo/kubeletVersion"), "")]
        }
        "services" => {
            let ports: Vec<String> = object
                .pointer("/spec/ports")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|port| {
                    let text = |key: &str| {
                        port.get(key).map(|v| v.to_string().trim_matches('"').to_owned()).unwrap_or_default()
                    };
                    format!("{}/{}", text("port"), text("protocol"))
                })
                .collect();
            let selector = or(json!(pairs(object.pointer("/spec/selector"))), "<none>");
            let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
            vec![
                name,
                at("/spec/type"),
                or(at("/spec/clusterIP"), "<none>"),
                json!("<none>"),
                json!(ports),
                age,
                selector,
            ]
        }
        "serviceaccounts" => {
            let secrets = object.get("secrets").and_then(Value::as_array).map_or(0, Vec::len);
            vec![name, json!(secrets), age]
        }
        "statefulsets" => {
            vec![name, ready("/spec/replicas", "/status/readyReplicas"), age, containers(), images()]
        }
        "deployments" => vec![
            name,
            ready("/spec/replicas", "/status/readyReplicas"),
            json!(number("/status/updatedReplicas")),
            json!(number("/status/availableReplicas")),
            age,
            containers(),
            images(),
            json!(pairs(object.pointer("/spec/selector/matchLabels"))),
        ],
        "replicasets" => vec![
            name,
            json!(number("/spec/replicas")),
            json!(number("/status/replicas")),
            json!(number("/status/readyReplicas")),
            age,
        ],
        "daemonsets" => vec![
            name,
            json!(number("/status/desiredNumberScheduled")),
            json!(number("/status/currentNumberScheduled")),
            json!(number("/status/numberReady")),
            json!(number("/status/updatedNumberScheduled")),
            json!(number("/status/numberAvailable")),
            or(json!(pairs(object.pointer("/spec/template/spec/nodeSelector"))), "<none>"),
            age,
        ],
        "controllerrevisions" => {
            let owner = at("/metadata/ownerReferences/0");
            let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default().to_lowercase();
            let controller = if owner.is_null() {
                "<none>".to_owned()
            } else {
                format!("{}.apps/{}", text("kind"), text("name"))
            };
            vec![name, json!(controller), at("/revision"), age]
        }
        "poddisruptionbudgets" => vec![
            name,
            or(at("/spec/minAvailable"), "N/A"),
            or(at("/spec/maxUnavailable"), "N/A"),
            json!(number("/status/disruptionsAllowed")),
            age,
        ],
        "leases" => vec![name, or(at("/spec/holderIdentity"), ""), age],
        "persistentvolumeclaims" => vec![
            name,
            at("/status/phase"),
            or(at("/spec/volumeName"), ""),
            or(at("/status/capacity/storage"), ""),
            json!(""),
            or(at("/spec/storageClassName"), ""),
            age,
        ],
        "rolebindings" | "clusterrolebindings" => {
            let text = |path: &str| at(path).as_str().unwrap_or_default().to_owned();
            vec![name, json!(format!("{}/{}", text("/roleRef/kind"), text("/roleRef/name"))), age]
        }
        "roles" | "clusterroles" | "customresourcedefinitions" => {
            vec![name, at("/metadata/creationTimestamp")]
        }
        "endpoints" => vec![name, json!("<none>"), age],
        "events" => {
            let seen =
                ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
            let seen =
                seen.iter().find_map(|path| object.pointer(path).and_then(Value::as_str)).unwrap_or_default();
            let text = |path: &str| at(path).as_str().unwrap_or_default().to_owned();
            let about =
                format!("{}/{}", text("/involvedObject/kind").to_lowercase(), text("/involvedObject/name"));
            vec![
                json!(self::age(seen, now)),
                at("/type"),
                at("/reason"),
                json!(about),
                at("/message"),
                name,
                at("/count"),
            ]
        }
        _ => vec![name, age],
    }
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

fn template_list(object: &Value, key: &str) -> Value {
    let list: Vec<&str> = object
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|container| container.get(key).and_then(Value::as_str))
        .collect();
    json!(list.join(","))
}

fn pairs(map: Option<&Value>) -> String {
    let pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.join(",")
}

/// How long ago, as kubectl words it.
pub(crate) fn age(since: &str, now: OffsetDateTime) -> String {
    let Ok(since) = OffsetDateTime::parse(since, &Rfc3339) else { return "<unknown>".into() };
    let seconds = (now - since).whole_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ if days < 730 => format!("{days}d"),
        _ => format!("{}y{}d", days / 365, days % 365),
    }
}
