//! `managedFields`: who wrote which field, kept up to date on every write.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::fields::{Fields, compare};
use super::object::{meta, set_meta, timestamp};
use super::request::Call;
use super::shape::Cursor;

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) apply: bool,
    pub(crate) api_version: String,
    pub(crate) time: String,
    pub(crate) subresource: String,
    pub(crate) fields: Fields,
}

impl Entry {
    fn parse(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let entry = Self {
            manager: text("manager"),
            apply: text("operation") == "Apply",
            api_version: text("apiVersion"),
            time: text("time"),
            subresource: text("subresource"),
            fields: Fields::parse(value.get("fieldsV1").unwrap_or(&Value::Null)),
        };
        (!entry.manager.is_empty() && !entry.fields.is_empty()).then_some(entry)
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("manager".into(), json!(self.manager));
        map.insert("operation".into(), json!(if self.apply { "Apply" } else { "Update" }));
        map.insert("apiVersion".into(), json!(self.api_version));
        map.insert("time".into(), json!(self.time));
        map.insert("fieldsType".into(), json!("FieldsV1"));
        map.insert("fieldsV1".into(), self.fields.to_json());
        if !self.subresource.is_empty() {
            map.insert("subresource".into(), json!(self.subresource));
        }
        Value::Object(map)
    }

    /// The same writer by the same way.
    pub(crate) fn is(&self, call: &Call, apply: bool) -> bool {
        self.manager == call.manager()
            && self.apply == apply
            && self.subresource == call.sub()
            && self.api_version == call.api_version()
    }

    /// The entry's name in messages about conflicts.
    pub(crate) fn title(&self) -> String {
        let mut text = format!("\"{}\"", self.manager);
        if !self.subresource.is_empty() {
            write!(text, " with subresource \"{}\"", self.subresource).ok();
        }
        if !self.apply {
            write!(text, " using {}", self.api_version).ok();
            if !self.time.is_empty() {
                write!(text, " at {}", self.time).ok();
            }
        }
        text
    }
}

/// The entries of an object.
pub(crate) fn entries(object: &Value) -> Vec<Entry> {
    meta(object)
        .get("managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Entry::parse)
        .collect()
}

/// Writes the entries in the server's order.
pub(crate) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    entries.sort_by(|a, b| {
        (!a.apply, &a.time, &a.manager, &a.subresource).cmp(&(!b.apply, &b.time, &b.manager, &b.subresource))
    });
    let list: Vec<Value> = entries.iter().map(Entry::to_json).collect();
    set_meta(object, "managedFields", (!list.is_empty()).then_some(Value::Array(list)));
}

/// Records an update of `old` to `new` (both whole objects; `old` is null for a new one).
pub(crate) fn record_update(call: &Call, old: &Value, new: &mut Value, now: time::OffsetDateTime) {
    let difference = compare(old, new, Cursor::root(call));
    // What the writer sent counts where it sent something; sending none keeps what is there.
    let given = meta(new).get("managedFields").and_then(Value::as_array);
    let mut all = match given {
        Some(list) if list.iter().all(|entry| entry.as_object().is_some_and(Map::is_empty)) => Vec::new(),
        Some(_) => entries(new),
        None => entries(old),
    };
    if difference.changed.is_empty() && difference.removed.is_empty() {
        write(new, all);
        return;
    }
    let mut mine = None;
    for entry in &mut all {
        entry.fields.prune(&difference.removed);
        if entry.is(call, false) {
            mine = Some(entry.fields.clone());
        } else {
            entry.fields.subtract(&difference.changed);
        }
    }
    let mut fields = mine.unwrap_or_default();
    fields.union(&difference.changed);
    // A new value counts as much as a new field: the real server moves the entry's time then too.
    if !difference.changed.is_empty() {
        all.retain(|entry| !entry.is(call, false));
        all.push(Entry {
            manager: call.manager(),
            apply: false,
            api_version: call.api_version(),
            time: timestamp(now),
            subresource: call.sub().to_owned(),
            fields,
        });
    }
    write(new, all);
}

/// Whether two objects are the same but for the times in `managedFields`: then nothing is written.
pub(crate) fn same_but_times(old: &Value, new: &Value) -> bool {
    let timeless = |value: &Value| -> Vec<Entry> {
        entries(value).into_iter().map(|entry| Entry { time: String::new(), ..entry }).collect()
    };
    same_but(old, new, "metadata")
        && same_but(meta(old), meta(new), "managedFields")
        && (meta(old).get("managedFields") == meta(new).get("managedFields")
            || timeless(old) == timeless(new))
}

/// Whether two maps are the same but for one key.
fn same_but(old: &Value, new: &Value, but: &str) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    let count = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key(but));
    count(old) == count(new) && old.iter().all(|(key, value)| key == but || new.get(key) == Some(value))
}
