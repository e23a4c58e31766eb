//! From what a client sent to what is stored: unknown fields, `stringData`, bytes.

use base64::Engine as _;
use serde_json::Value;

use super::error::{ApiError, FieldError, Result};
use super::object::{as_map, child};
use super::request::Call;

/// Brings an object into stored form: `stringData` merged, bytes checked.
pub(crate) fn decode(call: &Call, value: &mut Value) -> Result<()> {
    if call.resource.builtin {
        prune(call, value)?;
    }
    if call.resource.is("", "secrets") {
        let strings = as_map(value).remove("stringData");
        if let Some(Value::Object(strings)) = strings {
            let data = child(value, "data");
            for (key, text) in strings {
                let text = text.as_str().ok_or_else(|| wrong_type(call, "stringData", "string"))?;
                data.insert(key, Value::String(base64::engine::general_purpose::STANDARD.encode(text)));
            }
        }
        check_bytes(call, value, "data")?;
    }
    if call.resource.is("", "configmaps") {
        if let Some(data) = value.get("data") {
            let map = data.as_object().ok_or_else(|| wrong_type(call, "data", "map[string]string"))?;
            if map.values().any(|value| !value.is_string()) {
                return Err(wrong_type(call, "data", "string"));
            }
        }
        check_bytes(call, value, "binaryData")?;
    }
    Ok(())
}

const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn top_level(plural: &str) -> &'static [&'static str] {
    match plural {
        "secrets" => &["data", "immutable", "stringData", "type"],
        "configmaps" => &["binaryData", "data", "immutable"],
        "serviceaccounts" => &["automountServiceAccountToken", "imagePullSecrets", "secrets"],
        "endpoints" => &["subsets"],
        "controllerrevisions" => &["data", "revision"],
        "roles" => &["rules"],
        "clusterroles" => &["aggregationRule", "rules"],
        "rolebindings" | "clusterrolebindings" => &["roleRef", "subjects"],
        "events" => &[
            "action",
            "count",
            "eventTime",
            "firstTimestamp",
            "involvedObject",
            "lastTimestamp",
            "message",
            "reason",
            "related",
            "reportingComponent",
            "reportingInstance",
            "series",
            "source",
            "type",
        ],
        _ => &["spec", "status"],
    }
}

/// Drops fields that the type does not have (at the top and in the metadata), or refuses them where the client asked
/// for strictness.
fn prune(call: &Call, value: &mut Value) -> Result<()> {
    let known = top_level(&call.gr().plural);
    let mut unknown = Vec::new();
    as_map(value).retain(|key, _| {
        let keep =
            known.contains(&key.as_str()) || matches!(key.as_str(), "apiVersion" | "kind" | "metadata");
        if !keep {
            unknown.push(format!("unknown field \"{key}\""));
        }
        keep
    });
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| {
            let keep = METADATA.contains(&key.as_str());
            if !keep {
                unknown.push(format!("unknown field \"metadata.{key}\""));
            }
            keep
        });
    }
    if !unknown.is_empty() && call.query.get("fieldValidation") == Some("Strict") {
        let (kind, version) = (&call.resource.kind, &call.version.name);
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
            unknown.join(", ")
        )));
    }
    Ok(())
}

fn wrong_type(call: &Call, field: &str, expected: &str) -> ApiError {
    let kind = &call.resource.kind;
    undecodable(
        call,
        format!("json: cannot unmarshal into Go struct field {kind}.{field} of type {expected}"),
    )
}

/// What cannot be an object of its kind: a bad request, but as the outcome of a patch an invalid patch.
fn undecodable(call: &Call, why: String) -> ApiError {
    let kind = &call.resource.kind;
    if call.content_type.contains("patch") && !call.content_type.contains("apply") {
        return ApiError::invalid("", "", "", vec![FieldError::invalid("patch", "\"\"", &why)]);
    }
    ApiError::bad_request(format!("{kind} in version \"v1\" cannot be handled as a {kind}: {why}"))
}

fn check_bytes(call: &Call, value: &Value, field: &str) -> Result<()> {
    let Some(data) = value.get(field) else { return Ok(()) };
    let map = data.as_object().ok_or_else(|| wrong_type(call, field, "map[string][]uint8"))?;
    for text in map.values() {
        let text = text.as_str().ok_or_else(|| wrong_type(call, field, "[]uint8"))?;
        if let Some(at) = wrong_base64(text) {
            return Err(undecodable(call, format!("illegal base64 data at input byte {at}")));
        }
    }
    Ok(())
}

/// Where a text stops being base64, if it does. Line breaks are skipped, as Go's decoder does.
fn wrong_base64(text: &str) -> Option<usize> {
    let (mut count, mut padding) = (0_usize, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' | b'\r' => continue,
            b'=' if padding < 2 && count % 4 >= 2 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return Some(at),
        }
        count += 1;
    }
    (count % 4 != 0).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::wrong_base64;

    #[test]
    fn base64_as_go_takes_it() {
        for good in ["", "dg==", "dHdv", "dH\r\ndv\n", "dHc="] {
            assert_eq!(wrong_base64(good), None, "{good:?}");
        }
        assert_eq!(wrong_base64("dg="), Some(3));
        assert_eq!(wrong_base64("d==="), Some(1));
        assert_eq!(wrong_base64("dg==dg=="), Some(4));
        assert_eq!(wrong_base64("d%g="), Some(1));
    }
}
