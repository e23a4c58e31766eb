//! Parts of objects as JSON merge patches (RFC 7386): what a change touches, what was there before, what there is now.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Fields of the metadata that the server keeps for itself.
const SERVERS: [&str; 6] =
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
    fn what_the_server_keeps_for_itself_is_no_difference() {
        let of = |version: &str| json!({"metadata": {"resourceVersion": version, "managedFields": [version]}, "a": 1});
        assert_eq!(difference(&of("1"), &of("2")), None);
    }
}
