//! Sets of fields in the form of `managedFields`, and the differences of two objects as such sets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::shape::{Cursor, Kind};

/// A set of paths. Keys are path elements as `FieldsV1` writes them: `f:name`, `k:{…}`, `v:…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(BTreeMap<String, Node>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    /// The element itself is in the set.
    owned: bool,
    below: Fields,
}

impl Fields {
    /// Reads `fieldsV1`.
    pub(crate) fn parse(value: &Value) -> Self {
        let mut set = Self::default();
        for (key, below) in value.as_object().into_iter().flatten().filter(|(key, _)| *key != ".") {
            let leaf = below.as_object().is_none_or(Map::is_empty);
            let owned = leaf || below.get(".").is_some();
            set.0.insert(canonical(key), Node { owned, below: Self::parse(below) });
        }
        set
    }

    /// Writes `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (key, node) in &self.0 {
            let mut below = node.below.to_json();
            if node.owned
                && !node.below.0.is_empty()
                && let Some(inner) = below.as_object_mut()
            {
                inner.insert(".".into(), Value::Object(Map::new()));
            }
            map.insert(key.clone(), below);
        }
        Value::Object(map)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.0.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.owned = true;
        } else {
            node.below.insert(rest);
        }
    }

    pub(crate) fn union(&mut self, other: &Self) {
        for (key, node) in &other.0 {
            let mine = self.0.entry(key.clone()).or_default();
            mine.owned |= node.owned;
            mine.below.union(&node.below);
        }
    }

    /// Removes the members of another set.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (key, node) in &other.0 {
            let empty = match self.0.get_mut(key) {
                Some(mine) => {
                    mine.owned &= !node.owned;
                    mine.below.subtract(&node.below);
                    !mine.owned && mine.below.is_empty()
                }
                None => false,
            };
            if empty {
                self.0.remove(key);
            }
        }
    }

    /// Removes whole subtrees: every path that lies at or below a member of the other set.
    pub(crate) fn prune(&mut self, gone: &Self) {
        for (key, node) in &gone.0 {
            if node.owned {
                self.0.remove(key);
                continue;
            }
            let empty = match self.0.get_mut(key) {
                Some(mine) => {
                    mine.below.prune(&node.below);
                    !mine.owned && mine.below.is_empty()
                }
                None => false,
            };
            if empty {
                self.0.remove(key);
            }
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut set = Self::default();
        for (key, node) in &self.0 {
            if let Some(theirs) = other.0.get(key) {
                let both =
                    Node { owned: node.owned && theirs.owned, below: node.below.intersection(&theirs.below) };
                if both.owned || !both.below.is_empty() {
                    set.0.insert(key.clone(), both);
                }
            }
        }
        set
    }

    /// The members, in order.
    pub(crate) fn paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<String>, into: &mut Vec<Vec<String>>) {
        for (key, node) in &self.0 {
            prefix.push(key.clone());
            if node.owned {
                into.push(prefix.clone());
            }
            node.below.collect(prefix, into);
            prefix.pop();
        }
    }
}

/// Associative keys with their parts in one order, whoever wrote them.
fn canonical(key: &str) -> String {
    match key.strip_prefix("k:").and_then(|text| serde_json::from_str::<BTreeMap<String, Value>>(text).ok()) {
        Some(parts) => format!("k:{}", serde_json::to_string(&parts).unwrap_or_default()),
        None => key.to_owned(),
    }
}

/// A path as messages write it: `.spec.containers[name="a"].image`.
pub(crate) fn display(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if let Some(field) = part.strip_prefix("f:") {
            text.push('.');
            text.push_str(field);
        } else if let Some(key) = part.strip_prefix("k:") {
            let parts: BTreeMap<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let parts: Vec<String> = parts.iter().map(|(key, value)| format!("{key}={value}")).collect();
            write!(text, "[{}]", parts.join(",")).ok();
        } else if let Some(value) = part.strip_prefix("v:") {
            write!(text, "[={value}]").ok();
        }
    }
    text
}

/// The fields that nobody owns: who the object is, and what the server counts.
const UNOWNED: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn owned(path: &[String], key: &str) -> bool {
    match path {
        [] => !matches!(key, "apiVersion" | "kind"),
        [only] if only == "f:metadata" => !UNOWNED.contains(&key),
        _ => true,
    }
}

/// Every field of an object, as its owner would list them.
pub(crate) fn all_of(value: &Value, cursor: Cursor<'_>) -> Fields {
    let mut set = Fields::default();
    gather(value, cursor, &mut Vec::new(), &mut set, false);
    set
}

fn gather(value: &Value, cursor: Cursor<'_>, path: &mut Vec<String>, set: &mut Fields, dots: bool) {
    match (cursor.kind(value), value) {
        (Kind::Map, Value::Object(map)) if !map.is_empty() => {
            if dots && !path.is_empty() && cursor.is_dictionary() {
                set.insert(path);
            }
            for (key, value) in map {
                if !owned(path, key) {
                    continue;
                }
                path.push(format!("f:{key}"));
                gather(value, cursor.field(key), path, set, dots);
                path.pop();
            }
        }
        (Kind::Keyed(keys), Value::Array(list)) if !list.is_empty() => {
            for item in list {
                path.push(cursor.key_of(item, &keys));
                set.insert(path);
                if item.is_object() {
                    gather(item, cursor.item(), path, set, dots);
                }
                path.pop();
            }
        }
        (Kind::Set, Value::Array(list)) if !list.is_empty() => {
            for item in list {
                path.push(format!("v:{item}"));
                set.insert(path);
                path.pop();
            }
        }
        _ => {
            if !path.is_empty() {
                set.insert(path);
            }
        }
    }
}

/// What differs between two objects.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Fields that are new or have another value.
    pub(crate) changed: Fields,
    /// Fields that are gone.
    pub(crate) removed: Fields,
}

/// Compares two objects.
pub(crate) fn compare(old: &Value, new: &Value, cursor: Cursor<'_>) -> Difference {
    let mut difference = Difference::default();
    walk(old, new, cursor, &mut Vec::new(), &mut difference);
    difference
}

fn walk(old: &Value, new: &Value, cursor: Cursor<'_>, path: &mut Vec<String>, difference: &mut Difference) {
    match (cursor.kind(if new.is_null() { old } else { new }), old, new) {
        (_, Value::Null, new) => gather(new, cursor, path, &mut difference.changed, true),
        (_, old, Value::Null) => gather(old, cursor, path, &mut difference.removed, true),
        (Kind::Map, Value::Object(before), Value::Object(after)) => {
            for (key, value) in after {
                let earlier = before.get(key).unwrap_or(&Value::Null);
                if earlier == value || !owned(path, key) {
                    continue;
                }
                path.push(format!("f:{key}"));
                walk(earlier, value, cursor.field(key), path, difference);
                path.pop();
            }
            for (key, value) in before {
                if after.contains_key(key) || !owned(path, key) {
                    continue;
                }
                path.push(format!("f:{key}"));
                walk(value, &Value::Null, cursor.field(key), path, difference);
                path.pop();
            }
        }
        (kind @ (Kind::Keyed(_) | Kind::Set), Value::Array(before), Value::Array(after)) => {
            let element = |item: &Value| match &kind {
                Kind::Keyed(keys) => cursor.key_of(item, keys),
                _ => format!("v:{item}"),
            };
            let old_items: BTreeMap<String, &Value> =
                before.iter().map(|item| (element(item), item)).collect();
            let new_items: BTreeMap<String, &Value> =
                after.iter().map(|item| (element(item), item)).collect();
            for (key, item) in &new_items {
                path.push(key.clone());
                match old_items.get(key) {
                    Some(before) => walk(before, item, cursor.item(), path, difference),
                    None => {
                        difference.changed.insert(path);
                        if item.is_object() {
                            gather(item, cursor.item(), path, &mut difference.changed, true);
                        }
                    }
                }
                path.pop();
            }
            for (key, item) in old_items.iter().filter(|(key, _)| !new_items.contains_key(*key)) {
                path.push(key.clone());
                difference.removed.insert(path);
                if item.is_object() {
                    gather(item, cursor.item(), path, &mut difference.removed, true);
                }
                path.pop();
            }
        }
        _ => {
            if !path.is_empty() && old != new {
                difference.changed.insert(path);
            }
        }
    }
}
