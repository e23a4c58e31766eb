//! Strategic merge patches of the built-in types.

use serde_json::{Map, Value};

use super::error::{ApiError, Result};
use super::shape::builtin_keys;

/// Merges a strategic patch into an object.
pub(crate) fn merge(object: &mut Value, patch: &Value) -> Result<()> {
    let (Some(map), Some(patch)) = (object.as_object_mut(), patch.as_object()) else {
        return Err(ApiError::bad_request("the patch is not a JSON object"));
    };
    merge_map(map, patch)
}

fn merge_map(map: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            map.clear();
            for (key, value) in patch.iter().filter(|(key, _)| *key != "$patch") {
                map.insert(key.clone(), value.clone());
            }
            return Ok(());
        }
        Some("delete") => {
            map.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(ApiError::bad_request(format!("unrecognized patch type: {other}"))),
    }
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| keep.iter().any(|kept| kept == key.as_str()));
    }
    for (key, value) in patch {
        if key == "$patch" || key == "$retainKeys" {
            continue;
        }
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(list) = map.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if key.starts_with("$setElementOrder/") {
            continue;
        }
        merge_field(map, key, value, patch.get(&format!("$setElementOrder/{key}")))?;
    }
    Ok(())
}

fn merge_field(map: &mut Map<String, Value>, key: &str, value: &Value, order: Option<&Value>) -> Result<()> {
    match value {
        Value::Null => {
            map.remove(key);
        }
        Value::Object(patch) => match map.get_mut(key) {
            Some(Value::Object(below)) => merge_map(below, patch)?,
            _ => {
                let mut fresh = Map::new();
                merge_map(&mut fresh, patch)?;
                map.insert(key.into(), Value::Object(fresh));
            }
        },
        Value::Array(patch) => {
            let existing = map.get(key).cloned().unwrap_or(Value::Null);
            let merge_key = builtin_keys(key, value)
                .or_else(|| builtin_keys(key, &existing))
                .and_then(|keys| keys.first());
            let list = existing.as_array().cloned().unwrap_or_default();
            let merged = if key == "finalizers" {
                union(list, patch)
            } else if let Some(merge_key) = merge_key {
                merge_list(list, patch, merge_key, order)?
            } else {
                patch.clone()
            };
            map.insert(key.into(), Value::Array(merged));
        }
        other => {
            map.insert(key.into(), other.clone());
        }
    }
    Ok(())
}

fn union(mut list: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    for item in patch {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
    list
}

fn merge_list(mut list: Vec<Value>, patch: &[Value], key: &str, order: Option<&Value>) -> Result<Vec<Value>> {
    if patch.iter().any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace")) {
        let rest = patch.iter().filter(|item| item.get("$patch").is_none());
        return Ok(rest.cloned().collect());
    }
    for item in patch {
        let Some(id) = item.get(key) else {
            return Err(ApiError::bad_request(format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        };
        let at = list.iter().position(|have| have.get(key) == Some(id));
        if item.get("$patch").and_then(Value::as_str) == Some("delete") {
            if let Some(at) = at {
                list.remove(at);
            }
            continue;
        }
        let patch = item.as_object().cloned().unwrap_or_default();
        match at.and_then(|at| list.get_mut(at)).and_then(Value::as_object_mut) {
            Some(have) => merge_map(have, &patch)?,
            None => {
                let mut fresh = Map::new();
                merge_map(&mut fresh, &patch)?;
                list.push(Value::Object(fresh));
            }
        }
    }
    if let Some(order) = order.and_then(Value::as_array) {
        let rank =
            |item: &Value| order.iter().position(|one| one.get(key) == item.get(key)).unwrap_or(usize::MAX);
        list.sort_by_key(rank);
    }
    Ok(list)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_merge_by_their_key() {
        let mut object = json!({"spec": {"containers": [
            {"name": "a", "image": "x:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "b", "image": "y:1"},
        ], "tolerations": [{"key": "k"}]}});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [
                {"name": "a", "image": "x:2", "env": [{"name": "A", "$patch": "delete"}]},
                {"name": "b", "$patch": "delete"},
                {"name": "c", "image": "z:1"},
            ],
            "tolerations": [],
        }});
        merge(&mut object, &patch).unwrap();
        assert_eq!(
            object,
            json!({"spec": {"containers": [
                {"name": "c", "image": "z:1"},
                {"name": "a", "image": "x:2", "env": [{"name": "B", "value": "2"}]},
            ], "tolerations": []}})
        );
    }

    #[test]
    fn directives_on_maps() {
        let mut object = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "a": 1}});
        merge(
            &mut object,
            &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "a": null}}),
        )
        .unwrap();
        assert_eq!(object, json!({"spec": {"strategy": {"type": "Recreate"}}}));
        merge(&mut object, &json!({"spec": {"$patch": "replace", "b": 1}})).unwrap();
        assert_eq!(object, json!({"spec": {"b": 1}}));
        let mut object = json!({"metadata": {"finalizers": ["a/b", "c/d"]}});
        merge(
            &mut object,
            &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f"]}}),
        )
        .unwrap();
        assert_eq!(object, json!({"metadata": {"finalizers": ["c/d", "e/f"]}}));
    }
}
