//! What is particular to a resource: what is filled in, what may not change, what follows a write.

use serde_json::{Value, json};

use super::error::{FieldError, Result, quoted};
use super::object::{Object, as_map, child, meta_field, meta_str, set_meta, timestamp};
use super::request::Call;
use super::resources::{Gr, Resource};
use super::store::Store;
use super::{customs, decoding, defaults, rules};

/// Whether the server counts generations of this resource.
pub(crate) fn has_generation(resource: &Resource) -> bool {
    !resource.builtin
        || matches!(
            resource.gr.plural.as_str(),
            "deployments"
                | "statefulsets"
                | "daemonsets"
                | "replicasets"
                | "poddisruptionbudgets"
                | "customresourcedefinitions"
        )
}

/// Whether an update must carry the version that it read.
pub(crate) fn needs_version(resource: &Resource) -> bool {
    !resource.builtin
        || matches!(
            resource.gr.plural.as_str(),
            "leases" | "customresourcedefinitions" | "poddisruptionbudgets"
        )
}

/// Whether the generation counts this difference.
pub(crate) fn spec_differs(call: &Call, old: &Value, new: &Value) -> bool {
    if call.resource.builtin {
        return old.get("spec") != new.get("spec");
    }
    let body = |value: &Value| {
        let mut copy = value.clone();
        let map = as_map(&mut copy);
        map.remove("metadata");
        if call.version.status {
            map.remove("status");
        }
        copy
    };
    body(old) != body(new)
}

/// Whether nothing but the finalizers of the metadata holds an object that is being deleted.
pub(crate) fn finalized(resource: &Resource, object: &Value) -> bool {
    if !resource.is("", "namespaces") {
        return true;
    }
    let held = object.get("spec").and_then(|spec| spec.get("finalizers")).and_then(Value::as_array);
    held.is_none_or(Vec::is_empty)
}

/// Brings a new object into stored form, with defaults. These the writer owns.
pub(crate) fn prepare_create(call: &Call, value: &mut Value) -> Result<()> {
    decoding::decode(call, value)?;
    if call.resource.builtin {
        defaults::fill(&call.gr().group, &call.gr().plural, value);
    } else {
        customs::prune_and_default(call, value);
    }
    Ok(())
}

/// What the server itself sets in a new object. Nobody owns that.
pub(crate) fn complete(store: &mut Store, call: &Call, value: &mut Value, now: time::OffsetDateTime) {
    let gr = call.gr();
    match (gr.group.as_str(), gr.plural.as_str()) {
        ("", "pods") => {
            default_account(value);
            let class = rules::qos_class(value);
            as_map(value).insert("status".into(), json!({"phase": "Pending", "qosClass": class}));
        }
        ("", "namespaces") => {
            as_map(value).insert("status".into(), json!({"phase": "Active"}));
            child(value, "spec").insert("finalizers".into(), json!(["kubernetes"]));
        }
        ("", "persistentvolumeclaims") => {
            as_map(value).insert("status".into(), json!({"phase": "Pending"}));
        }
        ("", "services") => {
            as_map(value).insert("status".into(), json!({"loadBalancer": {}}));
            let third = store.below(255);
            let fourth = store.below(254) + 1;
            let spec = child(value, "spec");
            if spec.get("type") != Some(&json!("ExternalName")) {
                let address = format!("10.96.{third}.{fourth}");
                let address = spec.entry("clusterIP").or_insert(Value::String(address)).clone();
                spec.insert("clusterIPs".into(), json!([address]));
            }
        }
        ("apps", _) if call.version.status => {
            let replicas = matches!(gr.plural.as_str(), "statefulsets" | "replicasets");
            let status = if replicas {
                let mut status = json!({"replicas": 0});
                if gr.plural == "statefulsets" {
                    as_map(&mut status).insert("availableReplicas".into(), json!(0));
                }
                status
            } else if gr.plural == "daemonsets" {
                json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0})
            } else {
                json!({})
            };
            as_map(value).insert("status".into(), status);
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            let status = customs::established(value, &timestamp(now));
            as_map(value).insert("status".into(), status);
        }
        _ => {}
    }
}

fn default_account(pod: &mut Value) {
    let spec = child(pod, "spec");
    super::object::default_to(spec, "serviceAccountName", || json!("default"));
    let account = spec.get("serviceAccountName").cloned().unwrap_or(Value::Null);
    spec.insert("serviceAccount".into(), account);
}

/// Keeps what this endpoint may not change, and fills in defaults again.
pub(crate) fn prepare_update(call: &Call, old: &Value, new: &mut Value) -> Result<()> {
    let gr = call.gr();
    if call.sub() == "status" {
        keep_all_but_status(old, new);
        if call.resource.builtin {
            set_meta(new, "ownerReferences", meta_field(old, "ownerReferences").cloned());
        } else {
            let fields = meta_field(new, "managedFields").cloned();
            let mut metadata = old.get("metadata").cloned().unwrap_or(Value::Null);
            if let Some(fields) = fields {
                as_map(&mut metadata).insert("managedFields".into(), fields);
            }
            as_map(new).insert("metadata".into(), metadata);
        }
        if !call.resource.builtin {
            customs::prune_and_default(call, new);
        }
        return Ok(());
    }
    decoding::decode(call, new)?;
    if call.version.status && !matches!(call.sub(), "finalize") {
        match old.get("status") {
            Some(status) => as_map(new).insert("status".into(), status.clone()),
            None => as_map(new).remove("status"),
        };
    }
    if !call.resource.builtin {
        customs::prune_and_default(call, new);
        return Ok(());
    }
    if gr.group.is_empty() && gr.plural == "namespaces" {
        let held = old.get("spec").and_then(|spec| spec.get("finalizers")).cloned();
        if call.sub() != "finalize"
            && let Some(held) = held
        {
            child(new, "spec").insert("finalizers".into(), held);
        }
    }
    if gr.group.is_empty() && gr.plural == "services" {
        // A writer that leaves the address out keeps it.
        for key in ["clusterIP", "clusterIPs"] {
            if let Some(address) = old.get("spec").and_then(|spec| spec.get(key)) {
                child(new, "spec").entry(key).or_insert_with(|| address.clone());
            }
        }
    }
    defaults::fill(&gr.group, &gr.plural, new);
    Ok(())
}

/// Takes everything but the status and the metadata from the old object.
fn keep_all_but_status(old: &Value, new: &mut Value) {
    let free = |key: &str| matches!(key, "status" | "metadata");
    let Some(old) = old.as_object() else { return };
    let map = as_map(new);
    map.retain(|key, _| free(key) || old.contains_key(key));
    for (key, value) in old {
        if !free(key) && map.get(key) != Some(value) {
            map.insert(key.clone(), value.clone());
        }
    }
}

/// What is wrong with an object, or with its change.
pub(crate) fn validate(call: &Call, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if call.resource.builtin {
        return if call.sub() == "status" { Vec::new() } else { rules::validate(call, new, old) };
    }
    customs::validate(call, new)
}

/// What follows a write at once.
pub(crate) fn after_write(store: &mut Store, call: &Call, object: &Object) {
    if call.resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        match customs::resource_of(object.value()) {
            Ok(resource) => store.catalog.insert(resource),
            Err(why) => {
                tracing::warn!(name = meta_str(object.value(), "name"), why, "definition is not served");
            }
        }
    }
}

/// What follows the end of an object at once.
pub(crate) fn after_delete(store: &mut Store, resource: &Resource, object: &Object) {
    if resource.is("apiextensions.k8s.io", "customresourcedefinitions") {
        let text = |key: &str| {
            let spec = object.value().get("spec");
            match key {
                "group" => spec.and_then(|spec| spec.get("group")),
                _ => spec.and_then(|spec| spec.get("names")).and_then(|names| names.get("plural")),
            }
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
        };
        let gr = Gr { group: text("group"), plural: text("plural") };
        for (key, _) in store.list(&gr, None) {
            store.remove(&gr, &key);
        }
        store.catalog.remove(&gr);
    }
}

/// A string in Go's quotes, for messages.
pub(crate) fn go(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => quoted(text),
        Some(other) => other.to_string(),
        None => "\"\"".into(),
    }
}
