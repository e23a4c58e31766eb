//! Parts of objects as JSON merge patches (RFC 7386): what a change touches, what was there before, what there is now.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Fields of the metadata that the server keeps for itself.
pub(super) const SERVERS: [&str; 6] =
    ["resourceVersion", "generation", "managedFields", "uid", "creationTimestamp", "selfLink"];

/// The merge patch that makes `to` out of `from`; nothing where they are alike. The server's own fields do not count.
pub(super) fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (mut from, mut to) = (from.clone(), to.clone());
    for object in [&mut from, &mut to] {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| !SERVERS.contains(&key.as_str()));
        }
    }
    between(&from, &to)
}

fn between(from: &Value, to: &Value) -> Option<Value> {
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else {
        return (from != to).then(|| to.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new {
        if let Some(changed) = between(old.get(key).unwrap_or(&Value::Null), value) {
            patch.insert(key.clone(), changed);
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// What an object has where a merge patch writes: itself a merge patch, which takes that patch back.
pub(super) fn present(object: &Value, patch: &Value) -> Value {
    match (object.as_object(), patch.as_object()) {
        (Some(fields), Some(written)) => Value::Object(
            written
                .iter()
                .map(|(key, value)| {
                    let there = fields.get(key).map_or(Value::Null, |there| present(there, value));
                    (key.clone(), there)
                })
                .collect(),
        ),
        _ => object.clone(),
    }
}

/// How long the list of a place's fields may become.
const LONGEST: usize = 160;

/// Names the fields of such a part: `spec.paused,spec.strategy`; many of them by the first ones and a digest.
pub(super) fn paths(part: &Value) -> String {
    let mut all = Vec::new();
    below(part, "", &mut all);
    let whole = all.join(",");
    if whole.len() <= LONGEST {
        return whole;
    }
    let kept: String = whole.chars().take(LONGEST / 2).collect();
    format!("{kept}…{}", &hex::encode(Sha256::digest(&whole))[..16])
}

fn below(part: &Value, path: &str, all: &mut Vec<String>) {
    match part.as_object().filter(|fields| !fields.is_empty()) {
        None => all.push(path.to_owned()),
        Some(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                below(value, &path, all);
            }
        }
    }
}

/// The digest of such a part.
pub(super) fn digest(part: &Value) -> String {
    let bytes = serde_json_canonicalizer::to_vec(part).unwrap_or_default();
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(mut object: Value, patch: &Value) -> Value {
        json_patch::merge(&mut object, patch);
        object
    }

    /// Objects without nulls, as a server's are.
    fn objects() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            (0_i64..3).prop_map(Value::from),
            prop::collection::vec(0_i64..3, 0..3).prop_map(Value::from),
        ];
        let object = leaf.prop_recursive(3, 24, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect()))
        });
        prop::collection::btree_map("[a-c]", object, 0..3)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_difference_leads_there_and_what_was_present_leads_back(from in objects(), to in objects()) {
            match difference(&from, &to) {
                None => prop_assert_eq!(from, to),
                Some(patch) => {
                    let there = merged(from.clone(), &patch);
                    prop_assert_eq!(&there, &to);
                    let back = present(&from, &patch);
                    prop_assert_eq!(merged(there, &back), from.clone());
                    prop_assert_eq!(present(&from, &back), back);
                }
            }
        }
    }

    #[test]
    fn a_place_names_the_fields_and_many_fields_differ_by_a_digest() {
        assert_eq!(
            paths(&json!({"spec": {"paused": null, "strategy": {"type": "x"}}})),
            "spec.paused,spec.strategy.type"
        );
        let many = |last: &str| {
            let keys = (0..40).map(|n| format!("key-{n:02}")).chain([last.to_owned()]);
            paths(&json!({"data": keys.map(|key| (key, Value::Null)).collect::<Map<_, _>>()}))
        };
        assert!(
            many("x").chars().count() < LONGEST && many("x").starts_with("data.key-00,"),
            "{}",
            many("x")
        );
        assert_ne!(many("x"), many("y"));
    }

    #[test]
    fn what_the_server_keeps_for_itself_is_no_difference() {
        let of = |version: &str| json!({"metadata": {"resourceVersion": version, "managedFields": [version]}, "a": 1});
        assert_eq!(difference(&of("1"), &of("2")), None);
    }
}
