//! Validation of metadata, the same for every resource.

use serde_json::Value;

use super::error::{FieldError, Wrong, quoted};
use super::names;
use super::object::{finalizers, meta, meta_field, meta_str};
use super::resources::Resource;

/// What is wrong with the metadata of an object.
pub(crate) fn metadata(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = meta_str(object, "name");
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if let Some(wrong) = wrong_name(resource, name) {
        errors.push(FieldError::invalid("metadata.name", quoted(name), wrong));
    }
    if let Some(labels) = meta(object).get("labels").and_then(Value::as_object) {
        for (key, value) in labels {
            if let Some(wrong) = names::qualified_name(key) {
                errors.push(FieldError::invalid("metadata.labels", quoted(key), wrong));
            }
            match value.as_str() {
                Some(text) => {
                    if let Some(wrong) = names::label_value(text) {
                        errors.push(FieldError::invalid("metadata.labels", quoted(text), wrong));
                    }
                }
                None => {
                    errors.push(FieldError::invalid(
                        "metadata.labels",
                        value.to_string(),
                        "must be a string",
                    ));
                }
            }
        }
    }
    let mut size = 0;
    if let Some(annotations) = meta(object).get("annotations").and_then(Value::as_object) {
        for (key, value) in annotations {
            if let Some(wrong) = names::qualified_name(&key.to_lowercase()) {
                errors.push(FieldError::invalid("metadata.annotations", quoted(key), wrong));
            }
            match value.as_str() {
                Some(text) => size += key.len() + text.len(),
                None => errors.push(FieldError::invalid(
                    "metadata.annotations",
                    value.to_string(),
                    "must be a string",
                )),
            }
        }
    }
    if size > 256 * 1024 {
        errors.push(FieldError::of(
            Wrong::TooLong,
            "metadata.annotations",
            "",
            "may not be more than 262144 bytes",
        ));
    }
    for finalizer in finalizers(object) {
        if names::qualified_name(finalizer).is_some() {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                quoted(finalizer),
                "must be a qualified name",
            ));
        } else if resource.builtin
            && !finalizer.contains('/')
            && !matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes")
        {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                quoted(finalizer),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    owners(object, &mut errors);
    errors
}

fn owners(object: &Value, errors: &mut Vec<FieldError>) {
    let mut controllers = 0;
    for (at, owner) in
        meta(object).get("ownerReferences").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(key).and_then(Value::as_str).unwrap_or_default().is_empty() {
                let field = format!("metadata.ownerReferences[{at}].{key}");
                errors.push(FieldError::invalid(&field, "\"\"", &format!("{key} must not be empty")));
            }
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            controllers += 1;
        }
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid("metadata.ownerReferences", "[]", detail));
    }
}

fn wrong_name(resource: &Resource, name: &str) -> Option<&'static str> {
    match (resource.gr.group.as_str(), resource.gr.plural.as_str()) {
        ("", "namespaces") => names::dns_label(name),
        ("", "services") => names::dns_1035(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        _ => names::dns_subdomain(name),
    }
}

/// What an update may not do to metadata.
pub(crate) fn metadata_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if meta_field(old, "deletionTimestamp").is_some() {
        let before = finalizers(old);
        let added: Vec<String> =
            finalizers(new).into_iter().filter(|finalizer| !before.contains(finalizer)).map(quoted).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", &detail));
        }
    }
    errors
}
