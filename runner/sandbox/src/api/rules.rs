//! The rules of single built-in resources: validation, what is immutable.

use serde_json::{Map, Value, json};

use super::error::{FieldError, Wrong};
use super::names;
use super::object::as_map;
use super::request::Call;
use super::strategy::go;

const MAX_DATA: usize = 1024 * 1024;

/// What is wrong with an object of a built-in resource, or with its change.
pub(crate) fn validate(call: &Call, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (call.gr().group.as_str(), call.gr().plural.as_str()) {
        ("", "secrets") => secret(new, old, &mut errors),
        ("", "configmaps") => {
            data_keys(new, "data", &mut errors);
            data_keys(new, "binaryData", &mut errors);
            immutable_data(new, old, &["data", "binaryData"], &mut errors);
        }
        ("", "pods") => pod(new, old, &mut errors),
        ("", "services") => service(new, old, &mut errors),
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets") => {
            workload(call, new, old, &mut errors);
        }
        ("apps", "controllerrevisions") => {
            if let Some(old) = old
                && old.get("data") != new.get("data")
            {
                errors.push(immutable("data", new.get("data")));
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            if let Some(old) = old
                && old.get("roleRef") != new.get("roleRef")
            {
                errors.push(FieldError::invalid("roleRef", go(new.get("roleRef")), "cannot change roleRef"));
            }
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition(new, &mut errors),
        _ => {}
    }
    errors
}

fn immutable(field: &str, value: Option<&Value>) -> FieldError {
    FieldError::invalid(field, go(value), "field is immutable")
}

fn definition(new: &Value, errors: &mut Vec<FieldError>) {
    let spec = new.get("spec").unwrap_or(&Value::Null);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let expected =
        format!("{}.{}", text(spec.get("names").and_then(|n| n.get("plural"))), text(spec.get("group")));
    let name = super::object::meta_str(new, "name");
    if name != expected {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", super::error::quoted(name), detail));
    }
    let versions = spec.get("versions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let stored = versions.iter().filter(|version| version.get("storage") == Some(&json!(true))).count();
    if stored != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            "[]",
            "must have exactly one version marked as storage version",
        ));
    }
    if !matches!(spec.get("scope").and_then(Value::as_str), Some("Namespaced" | "Cluster")) {
        errors.push(FieldError::of(
            Wrong::Unsupported,
            "spec.scope",
            go(spec.get("scope")),
            "supported values: \"Cluster\", \"Namespaced\"",
        ));
    }
}

fn data_keys(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
        if let Some(wrong) = names::data_key(key) {
            errors.push(FieldError::invalid(&format!("{field}[{key}]"), super::error::quoted(key), wrong));
        }
        size += value.as_str().map_or(0, str::len);
    }
    let limit = if field == "data" && object.get("kind") == Some(&json!("ConfigMap")) {
        MAX_DATA
    } else {
        MAX_DATA / 3 * 4
    };
    if size > limit {
        errors.push(FieldError::of(Wrong::TooLong, field, "", "may not be more than 1048576 bytes"));
    }
}

fn immutable_data(new: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Vec<FieldError>) {
    let Some(old) = old else { return };
    if old.get("immutable") != Some(&json!(true)) {
        return;
    }
    if new.get("immutable") != Some(&json!(true)) {
        errors.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for field in fields {
        if old.get(field) != new.get(field) {
            errors.push(FieldError::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}

fn secret(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    data_keys(new, "data", errors);
    let has = |key: &str| new.get("data").and_then(|data| data.get(key)).is_some();
    match new.get("type").and_then(Value::as_str) {
        Some("kubernetes.io/tls") => {
            for key in ["tls.crt", "tls.key"] {
                if !has(key) {
                    errors.push(FieldError::required(&format!("data[{key}]"), ""));
                }
            }
        }
        Some("kubernetes.io/dockerconfigjson") if !has(".dockerconfigjson") => {
            errors.push(FieldError::required("data[.dockerconfigjson]", ""));
        }
        Some("kubernetes.io/ssh-auth") if !has("ssh-privatekey") => {
            errors.push(FieldError::required("data[ssh-privatekey]", ""));
        }
        _ => {}
    }
    if let Some(old) = old
        && old.get("type") != new.get("type")
    {
        errors.push(immutable("type", new.get("type")));
    }
    immutable_data(new, old, &["data"], errors);
}

fn pod(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = new.get("spec").unwrap_or(&Value::Null);
    pod_spec(spec, "spec", errors);
    let Some(old) = old else { return };
    let before = old.get("spec").unwrap_or(&Value::Null);
    let mut same = spec.clone();
    let map = as_map(&mut same);
    for key in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
        match before.get(key) {
            Some(value) => map.insert(key.into(), value.clone()),
            None => map.remove(key),
        };
    }
    for list in ["containers", "initContainers"] {
        let images: Vec<Option<Value>> = before
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|container| container.get("image").cloned())
            .collect();
        for (container, image) in
            map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().zip(images)
        {
            if let Some(image) = image {
                as_map(container).insert("image".into(), image);
            }
        }
    }
    if same != *before {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

fn pod_spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let containers = spec.get("containers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        errors.push(FieldError::required(&format!("{path}.containers"), ""));
    }
    let volumes: Vec<&str> = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.get("name").and_then(Value::as_str))
        .collect();
    for (at, container) in containers.iter().enumerate() {
        let here = format!("{path}.containers[{at}]");
        match container.get("name").and_then(Value::as_str).unwrap_or_default() {
            "" => errors.push(FieldError::required(&format!("{here}.name"), "")),
            name => {
                if let Some(wrong) = names::dns_label(name) {
                    errors.push(FieldError::invalid(
                        &format!("{here}.name"),
                        super::error::quoted(name),
                        wrong,
                    ));
                }
            }
        }
        if container.get("image").and_then(Value::as_str).unwrap_or_default().is_empty()
            && !path.contains("template")
        {
            errors.push(FieldError::required(&format!("{here}.image"), ""));
        }
        for (n, mount) in
            container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let name = mount.get("name").and_then(Value::as_str).unwrap_or_default();
            // The claims of a StatefulSet become volumes of its pods only.
            if !volumes.contains(&name) && !path.contains("template") {
                let field = format!("{here}.volumeMounts[{n}].name");
                errors.push(FieldError::of(Wrong::NotFound, &field, super::error::quoted(name), ""));
            }
        }
    }
}

fn service(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let address = |object: &Value| object.get("spec").and_then(|spec| spec.get("clusterIP")).cloned();
    let kind = |object: &Value| object.get("spec").and_then(|spec| spec.get("type")).cloned();
    if let Some(old) = old
        && kind(old) == kind(new)
        && address(old) != address(new)
    {
        let text = go(address(new).as_ref());
        errors.push(FieldError::invalid("spec.clusterIPs[0]", text, "field is immutable"));
    }
    let headless = address(new) == Some(json!("None"));
    let ports = new.get("spec").and_then(|spec| spec.get("ports")).and_then(Value::as_array);
    if ports.is_none_or(Vec::is_empty) && !headless && kind(new) != Some(json!("ExternalName")) {
        errors.push(FieldError::required("spec.ports", ""));
    }
}

fn workload(call: &Call, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = new.get("spec").unwrap_or(&Value::Null);
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    let template = spec.get("template").unwrap_or(&Value::Null);
    if selector.as_object().is_none_or(Map::is_empty) {
        errors.push(FieldError::required("spec.selector", ""));
    } else if !super::selector::Labels::of_object(selector).matches(template) {
        let labels =
            template.get("metadata").and_then(|m| m.get("labels")).cloned().unwrap_or_else(|| json!({}));
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels.to_string(), detail));
    }
    if let Some(replicas) = spec.get("replicas").and_then(Value::as_i64)
        && replicas < 0
    {
        errors.push(FieldError::invalid(
            "spec.replicas",
            replicas.to_string(),
            "must be greater than or equal to 0",
        ));
    }
    pod_spec(template.get("spec").unwrap_or(&Value::Null), "spec.template.spec", errors);
    let Some(old) = old else { return };
    let before = old.get("spec").unwrap_or(&Value::Null);
    if call.gr().plural == "statefulsets" {
        let fixed = |spec: &Value| {
            let mut copy = spec.clone();
            let map = as_map(&mut copy);
            for key in [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ] {
                map.remove(key);
            }
            copy
        };
        if fixed(spec) != fixed(before) {
            errors.push(FieldError::forbidden(
                "spec",
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ));
        }
    } else if before.get("selector") != spec.get("selector") {
        errors.push(immutable("spec.selector", spec.get("selector")));
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let mut any = false;
    let mut all_limited = true;
    for container in pod
        .get("spec")
        .and_then(|spec| spec.get("containers"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let part = |key: &str| container.get("resources").and_then(|r| r.get(key)).and_then(Value::as_object);
        let (limits, requests) = (part("limits"), part("requests"));
        any |= limits.is_some_and(|map| !map.is_empty()) || requests.is_some_and(|map| !map.is_empty());
        for resource in ["cpu", "memory"] {
            let limit = limits.and_then(|map| map.get(resource));
            let request = requests.and_then(|map| map.get(resource)).or(limit);
            all_limited &= limit.is_some() && limit == request;
        }
    }
    match (any, all_limited) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
