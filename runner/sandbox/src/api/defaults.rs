//! What the server fills in where the writer said nothing.

use serde_json::{Map, Value, json};

use super::object::{as_map, child, default_to};

/// Fills in the defaults of an object of a built-in resource. Doing it twice changes nothing.
pub(crate) fn fill(group: &str, plural: &str, object: &mut Value) {
    match (group, plural) {
        ("", "secrets") => {
            default_to(as_map(object), "type", || json!("Opaque"));
        }
        ("", "pods") => pod_spec(child(object, "spec")),
        ("", "services") => service(child(object, "spec")),
        ("", "persistentvolumeclaims") => {
            default_to(child(object, "spec"), "volumeMode", || json!("Filesystem"));
        }
        ("", "namespaces") => namespace(object),
        ("apps", "deployments") => {
            let spec = child(object, "spec");
            default_to(spec, "replicas", || json!(1));
            default_to(spec, "revisionHistoryLimit", || json!(10));
            default_to(spec, "progressDeadlineSeconds", || json!(600));
            let strategy = as_map(spec.entry("strategy").or_insert(Value::Null));
            default_to(strategy, "type", || json!("RollingUpdate"));
            if strategy.get("type") == Some(&json!("RollingUpdate")) {
                let rolling = as_map(strategy.entry("rollingUpdate").or_insert(Value::Null));
                default_to(rolling, "maxSurge", || json!("25%"));
                default_to(rolling, "maxUnavailable", || json!("25%"));
            }
            // A real server writes neither out where it says nothing.
            if spec.get("paused") == Some(&json!(false)) {
                spec.remove("paused");
            }
            if spec.get("minReadySeconds") == Some(&json!(0)) {
                spec.remove("minReadySeconds");
            }
            template(spec);
        }
        ("apps", "replicasets") => {
            let spec = child(object, "spec");
            default_to(spec, "replicas", || json!(1));
            template(spec);
        }
        ("apps", "statefulsets") => {
            let spec = child(object, "spec");
            default_to(spec, "replicas", || json!(1));
            default_to(spec, "podManagementPolicy", || json!("OrderedReady"));
            default_to(spec, "revisionHistoryLimit", || json!(10));
            let retention = as_map(spec.entry("persistentVolumeClaimRetentionPolicy").or_insert(Value::Null));
            default_to(retention, "whenDeleted", || json!("Retain"));
            default_to(retention, "whenScaled", || json!("Retain"));
            let strategy = as_map(spec.entry("updateStrategy").or_insert(Value::Null));
            default_to(strategy, "type", || json!("RollingUpdate"));
            if strategy.get("type") == Some(&json!("RollingUpdate")) {
                let rolling = as_map(strategy.entry("rollingUpdate").or_insert(Value::Null));
                default_to(rolling, "partition", || json!(0));
            }
            for claim in
                spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten()
            {
                let map = as_map(claim);
                default_to(map, "apiVersion", || json!("v1"));
                default_to(map, "kind", || json!("PersistentVolumeClaim"));
                default_to(map, "status", || json!({"phase": "Pending"}));
                default_to(child(claim, "spec"), "volumeMode", || json!("Filesystem"));
            }
            template(spec);
        }
        ("apps", "daemonsets") => {
            let spec = child(object, "spec");
            default_to(spec, "revisionHistoryLimit", || json!(10));
            let strategy = as_map(spec.entry("updateStrategy").or_insert(Value::Null));
            default_to(strategy, "type", || json!("RollingUpdate"));
            if strategy.get("type") == Some(&json!("RollingUpdate")) {
                let rolling = as_map(strategy.entry("rollingUpdate").or_insert(Value::Null));
                default_to(rolling, "maxSurge", || json!(0));
                default_to(rolling, "maxUnavailable", || json!(1));
            }
            template(spec);
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                let account = subject.get("kind") == Some(&json!("ServiceAccount"));
                default_to(as_map(subject), "apiGroup", || {
                    json!(if account { "" } else { "rbac.authorization.k8s.io" })
                });
                if account {
                    as_map(subject).remove("apiGroup");
                }
            }
        }
        _ => {}
    }
}

fn namespace(object: &mut Value) {
    let name = super::object::meta_str(object, "name").to_owned();
    let labels = as_map(super::object::meta_mut(object).entry("labels").or_insert(Value::Null));
    labels.insert("kubernetes.io/metadata.name".into(), Value::String(name));
}

fn template(spec: &mut Map<String, Value>) {
    let template = spec.entry("template").or_insert(Value::Null);
    pod_spec(child(template, "spec"));
    let metadata = child(template, "metadata");
    metadata.retain(|_, value| !value.is_null());
}

fn pod_spec(spec: &mut Map<String, Value>) {
    default_to(spec, "restartPolicy", || json!("Always"));
    default_to(spec, "dnsPolicy", || json!("ClusterFirst"));
    default_to(spec, "terminationGracePeriodSeconds", || json!(30));
    default_to(spec, "schedulerName", || json!("default-scheduler"));
    default_to(spec, "securityContext", || json!({}));
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        default_to(spec, "serviceAccount", || account);
    }
    for list in ["containers", "initContainers"] {
        for one in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container(as_map(one));
        }
    }
    for one in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        let volume = as_map(one);
        for source in ["secret", "configMap", "projected", "downwardAPI"] {
            if let Some(Value::Object(source)) = volume.get_mut(source) {
                default_to(source, "defaultMode", || json!(420));
            }
        }
        if volume.len() == 1 {
            volume.insert("emptyDir".into(), json!({}));
        }
    }
}

fn container(one: &mut Map<String, Value>) {
    default_to(one, "terminationMessagePath", || json!("/dev/termination-log"));
    default_to(one, "terminationMessagePolicy", || json!("File"));
    default_to(one, "resources", || json!({}));
    let image = one.get("image").and_then(Value::as_str).unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default();
    let latest = !tag.contains('@') && (!tag.contains(':') || tag.ends_with(":latest"));
    default_to(one, "imagePullPolicy", || json!(if latest { "Always" } else { "IfNotPresent" }));
    for port in one.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default_to(as_map(port), "protocol", || json!("TCP"));
    }
    for entry in one.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(Value::Object(field)) =
            entry.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef"))
        {
            default_to(field, "apiVersion", || json!("v1"));
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(Value::Object(probe)) = one.get_mut(probe) {
            default_to(probe, "timeoutSeconds", || json!(1));
            default_to(probe, "periodSeconds", || json!(10));
            default_to(probe, "successThreshold", || json!(1));
            default_to(probe, "failureThreshold", || json!(3));
            if let Some(Value::Object(get)) = probe.get_mut("httpGet") {
                default_to(get, "path", || json!("/"));
                default_to(get, "scheme", || json!("HTTP"));
            }
        }
    }
}

fn service(spec: &mut Map<String, Value>) {
    default_to(spec, "type", || json!("ClusterIP"));
    default_to(spec, "sessionAffinity", || json!("None"));
    let external = spec.get("type") == Some(&json!("ExternalName"));
    if !external {
        default_to(spec, "internalTrafficPolicy", || json!("Cluster"));
        default_to(spec, "ipFamilies", || json!(["IPv4"]));
        default_to(spec, "ipFamilyPolicy", || json!("SingleStack"));
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let port = as_map(port);
        default_to(port, "protocol", || json!("TCP"));
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        default_to(port, "targetPort", || number);
    }
}
