//! Server-side apply: merge, ownership, conflicts, removal of what is no longer applied.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{ApiError, Result};
use super::fields::{Fields, all_of, compare, display};
use super::managed::{self, Entry};
use super::object::{as_map, meta_str, timestamp};
use super::request::Call;
use super::shape::{Cursor, Kind};

/// The part of a configuration that this endpoint lets a client own.
fn ownable(call: &Call, applied: &Value) -> Value {
    let mut copy = applied.clone();
    let map = as_map(&mut copy);
    if call.sub() == "status" {
        map.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    } else if call.version.status {
        map.remove("status");
    }
    copy
}

fn entry(call: &Call, fields: Fields, now: time::OffsetDateTime) -> Entry {
    Entry {
        manager: call.manager(),
        apply: true,
        api_version: call.api_version(),
        time: timestamp(now),
        subresource: call.sub().to_owned(),
        fields,
    }
}

/// A new object from an applied configuration.
pub(crate) fn fresh(call: &Call, applied: &Value, now: time::OffsetDateTime) -> Value {
    let mut new = ownable(call, applied);
    let fields = all_of(&new, Cursor::root(call));
    managed::write(&mut new, vec![entry(call, fields, now)]);
    new
}

/// The live object with a configuration applied to it.
pub(crate) fn onto(call: &Call, live: &Value, applied: &Value, now: time::OffsetDateTime) -> Result<Value> {
    let applied = ownable(call, applied);
    let root = Cursor::root(call);
    let fields = all_of(&applied, root);
    let mut entries = managed::entries(live);
    let before = entries.iter().find(|entry| entry.is(call, true)).cloned();

    let mut merged = live.clone();
    merge(&mut merged, &applied, root);
    let difference = compare(live, &merged, root);

    let mut conflicts: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for other in entries.iter_mut().filter(|entry| !entry.is(call, true)) {
        let taken = other.fields.intersection(&difference.changed);
        if taken.is_empty() {
            continue;
        }
        if call.query.flag("force") {
            other.fields.subtract(&taken);
        } else {
            conflicts.entry(other.title()).or_default().extend(taken.paths());
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }

    if let Some(before) = &before {
        let mut dropped = before.fields.clone();
        dropped.subtract(&fields);
        for other in entries.iter().filter(|entry| !entry.is(call, true)) {
            dropped.subtract(&other.fields);
        }
        for path in dropped.paths().iter().rev() {
            // An item that others own fields of stays.
            let held = entries.iter().any(|entry| !entry.is(call, true) && below(&entry.fields, path));
            if !held && !below(&fields, path) {
                remove(&mut merged, path, root);
            }
        }
    }
    entries.retain(|entry| !entry.is(call, true));
    let removed = compare(live, &merged, root).removed;
    for other in &mut entries {
        other.fields.prune(&removed);
    }
    let same = before.as_ref().is_some_and(|before| before.fields == fields);
    let mut mine = entry(call, fields, now);
    if same && let Some(before) = before {
        mine.time = before.time;
    }
    entries.push(mine);
    managed::write(&mut merged, entries);
    if !meta_str(&applied, "resourceVersion").is_empty() {
        super::object::set_meta(
            &mut merged,
            "resourceVersion",
            applied.pointer("/metadata/resourceVersion").cloned(),
        );
    }
    Ok(merged)
}

/// Whether a set has a member strictly below a path.
fn below(fields: &Fields, path: &[String]) -> bool {
    fields.paths().iter().any(|member| member.len() > path.len() && member.starts_with(path))
}

fn conflict(conflicts: &BTreeMap<String, Vec<Vec<String>>>) -> ApiError {
    let all: Vec<(&String, &Vec<String>)> =
        conflicts.iter().flat_map(|(title, paths)| paths.iter().map(move |path| (title, path))).collect();
    let message = match all.as_slice() {
        [(title, path)] => format!("Apply failed with 1 conflict: conflict with {title}: {}", display(path)),
        many => {
            let mut lines = Vec::new();
            for (title, paths) in conflicts {
                lines.push(format!("conflicts with {title}:"));
                lines.extend(paths.iter().map(|path| format!("- {}", display(path))));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let mut error = ApiError::new(409, "Conflict", message);
    for (title, path) in all {
        error = error.cause("FieldManagerConflict", &display(path), format!("conflict with {title}"));
    }
    error
}

/// Merges a configuration into a value.
fn merge(live: &mut Value, applied: &Value, cursor: Cursor<'_>) {
    match (cursor.kind(applied), applied) {
        (Kind::Map, Value::Object(from)) => {
            let map = as_map(live);
            for (key, value) in from {
                match map.get_mut(key) {
                    Some(have) => merge(have, value, cursor.field(key)),
                    None => {
                        map.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Kind::Keyed(keys), Value::Array(from)) if live.is_array() => {
            let Some(list) = live.as_array_mut() else { return };
            for item in from {
                let id = cursor.key_of(item, &keys);
                match list.iter_mut().find(|have| cursor.key_of(have, &keys) == id) {
                    Some(have) => merge(have, item, cursor.item()),
                    None => list.push(item.clone()),
                }
            }
        }
        (Kind::Set, Value::Array(from)) if live.is_array() => {
            let Some(list) = live.as_array_mut() else { return };
            for item in from {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        }
        _ => *live = applied.clone(),
    }
}

/// Removes the field at a path.
fn remove(value: &mut Value, path: &[String], cursor: Cursor<'_>) {
    let Some((first, rest)) = path.split_first() else { return };
    if let Some(field) = first.strip_prefix("f:") {
        let Some(map) = value.as_object_mut() else { return };
        if rest.is_empty() {
            map.remove(field);
        } else if let Some(below) = map.get_mut(field) {
            remove(below, rest, cursor.field(field));
            prune_empty(map, field);
        }
        return;
    }
    let kind = cursor.kind(value);
    let Some(list) = value.as_array_mut() else { return };
    let at = list.iter().position(|item| match &kind {
        Kind::Keyed(keys) => cursor.key_of(item, keys) == *first,
        _ => format!("v:{item}") == *first,
    });
    if let Some(at) = at {
        if rest.is_empty() {
            list.remove(at);
        } else if let Some(item) = list.get_mut(at) {
            remove(item, rest, cursor.item());
        }
    }
}

/// A map or list that lost its last member by an apply goes too.
fn prune_empty(map: &mut Map<String, Value>, field: &str) {
    let empty = match map.get(field) {
        Some(Value::Object(inner)) => inner.is_empty(),
        Some(Value::Array(inner)) => inner.is_empty(),
        _ => false,
    };
    if empty {
        map.remove(field);
    }
}
