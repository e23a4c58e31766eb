//! Custom resources: from definition to served resource; validation by the structural schema.

use regex_lite::Regex;
use serde_json::{Map, Value, json};

use super::error::{FieldError, Wrong, quoted};
use super::object::as_map;
use super::request::Call;
use super::resources::{Gr, Resource, Version};
use super::strategy::go;

/// The resource that a CustomResourceDefinition serves.
pub(crate) fn resource_of(definition: &Value) -> Result<Resource, &'static str> {
    let spec = definition.get("spec").ok_or("no spec")?;
    let names = spec.get("names").ok_or("no names")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |value: Option<&Value>| -> Vec<String> {
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(ToOwned::to_owned)
            .collect()
    };
    let kind = text(names.get("kind"));
    let plural = text(names.get("plural"));
    if kind.is_empty() || plural.is_empty() {
        return Err("no kind or plural name");
    }
    let all = spec.get("versions").and_then(Value::as_array).ok_or("no versions")?;
    let stored = all
        .iter()
        .find(|version| version.get("storage") == Some(&json!(true)))
        .ok_or("no storage version")?;
    let mut versions: Vec<Version> = all
        .iter()
        .filter(|version| version.get("served") == Some(&json!(true)))
        .map(|version| {
            let sub = version.get("subresources");
            let selectable = version.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
            Version {
                name: text(version.get("name")),
                status: sub.and_then(|sub| sub.get("status")).is_some(),
                scale: sub.and_then(|sub| sub.get("scale")).is_some(),
                schema: version.get("schema").and_then(|schema| schema.get("openAPIV3Schema")).cloned(),
                columns: version
                    .get("additionalPrinterColumns")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default(),
                selectable: selectable
                    .map(|field| text(field.get("jsonPath")).trim_start_matches('.').to_owned())
                    .collect(),
            }
        })
        .collect();
    versions.sort_by_key(|version| std::cmp::Reverse(priority(&version.name)));
    let singular =
        Some(text(names.get("singular"))).filter(|s| !s.is_empty()).unwrap_or_else(|| kind.to_lowercase());
    Ok(Resource {
        gr: Gr { group: text(spec.get("group")), plural },
        list_kind: Some(text(names.get("listKind")))
            .filter(|s| !s.is_empty())
            .unwrap_or_else(|| format!("{kind}List")),
        kind,
        singular,
        namespaced: text(spec.get("scope")) != "Cluster",
        short_names: list(names.get("shortNames")),
        categories: list(names.get("categories")),
        builtin: false,
        storage: text(stored.get("name")),
        versions,
    })
}

/// `v2` before `v1` before `v1beta1` before `v1alpha1`.
pub(crate) fn priority(version: &str) -> (u8, u32, u32) {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let rest = version.strip_prefix('v').unwrap_or_default();
    let major = digits(rest);
    let tail = rest.strip_prefix(major.as_str()).unwrap_or_default();
    let major = major.parse().unwrap_or(0);
    if tail.is_empty() && major > 0 {
        (3, major, 0)
    } else if let Some(n) = tail.strip_prefix("beta") {
        (2, major, n.parse().unwrap_or(0))
    } else if let Some(n) = tail.strip_prefix("alpha") {
        (1, major, n.parse().unwrap_or(0))
    } else {
        (0, 0, 0)
    }
}

/// The status of a definition whose names are accepted.
pub(crate) fn established(definition: &Value, now: &str) -> Value {
    let spec = definition.get("spec").unwrap_or(&Value::Null);
    let mut names = spec.get("names").cloned().unwrap_or_else(|| json!({}));
    let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let map = as_map(&mut names);
    map.entry("singular").or_insert_with(|| Value::String(kind.to_lowercase()));
    map.entry("listKind").or_insert_with(|| Value::String(format!("{kind}List")));
    let stored: Vec<&Value> = spec
        .get("versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|version| version.get("storage") == Some(&json!(true)))
        .filter_map(|version| version.get("name"))
        .collect();
    json!({
        "acceptedNames": names,
        "storedVersions": stored,
        "conditions": [
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found", "lastTransitionTime": now},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted", "lastTransitionTime": now},
        ],
    })
}

fn preserves(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true))
}

/// Drops fields that the schema does not know and fills in its defaults.
pub(crate) fn prune_and_default(call: &Call, value: &mut Value) {
    let Some(schema) = &call.version.schema else { return };
    if let Some(map) = value.as_object_mut() {
        fit_map(map, schema, true);
    }
}

fn fit(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => fit_map(map, schema, false),
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                for item in list {
                    fit(item, items);
                }
            }
        }
        _ => {}
    }
}

fn fit_map(map: &mut Map<String, Value>, schema: &Value, root: bool) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&json!(true));
    let system = |key: &str| (root || embedded) && matches!(key, "apiVersion" | "kind" | "metadata");
    if let Some(additional) = schema.get("additionalProperties").filter(|all| all.is_object()) {
        for value in map.values_mut() {
            fit(value, additional);
        }
        return;
    }
    if !preserves(schema) && schema.get("additionalProperties") != Some(&json!(true)) {
        map.retain(|key, _| system(key) || properties.is_some_and(|all| all.contains_key(key)));
    }
    for (key, below) in properties.into_iter().flatten() {
        if system(key) {
            continue;
        }
        if !map.contains_key(key)
            && let Some(default) = below.get("default")
        {
            map.insert(key.clone(), default.clone());
        }
        if let Some(value) = map.get_mut(key) {
            fit(value, below);
        }
    }
}

/// What is wrong with a custom object by its schema: types, required fields, enums and bounds.
pub(crate) fn validate(call: &Call, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(schema) = &call.version.schema {
        check(object, schema, "", &mut errors, true);
    }
    errors
}

fn check(value: &Value, schema: &Value, path: &str, errors: &mut Vec<FieldError>, root: bool) {
    if value.is_null() && schema.get("nullable") == Some(&json!(true)) {
        return;
    }
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let int_or_string = schema.get("x-kubernetes-int-or-string") == Some(&json!(true));
    if let Some(expected) = schema.get("type").and_then(Value::as_str)
        && !int_or_string
        && !has_type(value, expected)
    {
        let found = type_name(value);
        let detail = format!(
            "{} in body must be of type {expected}: \"{found}\"",
            if path.is_empty() { "\"\"" } else { path }
        );
        errors.push(FieldError::of(Wrong::Type, path, format!("\"{found}\""), &detail));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(|one| go(Some(one))).collect();
        errors.push(FieldError::of(
            Wrong::Unsupported,
            path,
            go(Some(value)),
            &format!("supported values: {}", list.join(", ")),
        ));
    }
    if let (Some(number), Some(minimum)) = (value.as_f64(), schema.get("minimum").and_then(Value::as_f64))
        && number < minimum
    {
        let detail = format!("{path} in body should be greater than or equal to {minimum}");
        errors.push(FieldError::invalid(path, value.to_string(), &detail));
    }
    if let (Some(number), Some(maximum)) = (value.as_f64(), schema.get("maximum").and_then(Value::as_f64))
        && number > maximum
    {
        let detail = format!("{path} in body should be less than or equal to {maximum}");
        errors.push(FieldError::invalid(path, value.to_string(), &detail));
    }
    if let Some(text) = value.as_str() {
        errors
            .extend(unfit(text, schema, path).map(|detail| FieldError::invalid(path, quoted(text), &detail)));
    }
    match value {
        Value::Object(map) => {
            for key in schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                if !map.contains_key(key) {
                    errors.push(FieldError::required(&at(key), ""));
                }
            }
            for (key, value) in map {
                if root && matches!(key.as_str(), "metadata" | "apiVersion" | "kind") {
                    continue;
                }
                let below = schema
                    .get("properties")
                    .and_then(|all| all.get(key))
                    .or_else(|| schema.get("additionalProperties").filter(|all| all.is_object()));
                if let Some(below) = below {
                    check(value, below, &at(key), errors, false);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                for (n, item) in list.iter().enumerate() {
                    check(item, items, &format!("{path}[{n}]"), errors, false);
                }
            }
        }
        _ => {}
    }
}

/// What a text is not that its schema asks for. A pattern that we cannot read is not asked.
fn unfit(text: &str, schema: &Value, path: &str) -> Option<String> {
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or_default();
    if u64::try_from(text.chars().count()).is_ok_and(|length| length < least) {
        return Some(format!("{path} in body should be at least {least} chars long"));
    }
    let pattern = schema.get("pattern")?.as_str()?;
    let fits = Regex::new(pattern).ok()?.is_match(text);
    (!fits).then(|| format!("{path} in body should match '{pattern}'"))
}

fn has_type(value: &Value, expected: &str) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
