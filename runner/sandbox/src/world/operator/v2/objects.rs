//! What operator v2 makes of a group: instances, each with a pod of its own, and Services. Pure functions.

use serde_json::{Map, Value, json};

use super::{GROUP_VERSION, Group};
use crate::world::controllers::template::{hash, owner};
use crate::world::json as js;
use crate::world::pod::program::{Program, SQL_FOLDER_V2};

/// The pod's annotation that holds the template of its instance, by which the operator compares.
pub const LAST_TEMPLATE: &str = "core.pingcap.com/last-instance-template";

/// A label of the operator's.
pub fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    js::label(object, &format!("pingcap.com/{key}"))
}

/// The revision that a group's template asks for.
pub fn revision(group: &Value) -> String {
    let template = group.pointer("/spec/template").cloned().unwrap_or_default();
    format!("{}-{}", js::name(group), hash(&template))
}

/// How many instances a group wants.
pub fn replicas(group: &Value) -> usize {
    usize::try_from(js::number(group, "/spec/replicas").unwrap_or(1)).unwrap_or(0)
}

fn labels(group: &Value, component: &str) -> Map<String, Value> {
    [
        ("managed-by", "tidb-operator"),
        ("component", component),
        ("cluster", js::text(group, "/spec/cluster/name")),
        ("group", js::name(group)),
    ]
    .into_iter()
    .map(|(key, value)| (format!("pingcap.com/{key}"), json!(value)))
    .collect()
}

/// What an instance takes from its group.
fn taken(group: &Value, kind: &Group, revision: &str) -> (Value, Value, Value) {
    let mut all = labels(group, kind.component);
    all.insert("pingcap.com/instance-revision-hash".into(), json!(revision));
    all.extend(own(group, "labels"));
    let mut spec = group.pointer("/spec/template/spec").cloned().unwrap_or_else(|| json!({}));
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("cluster".into(), group.pointer("/spec/cluster").cloned().unwrap_or_default());
        spec.insert("subdomain".into(), json!(format!("{}-{}-peer", js::name(group), kind.component)));
    }
    (Value::Object(all), Value::Object(own(group, "annotations")), spec)
}

fn own(group: &Value, what: &str) -> Map<String, Value> {
    let own = group.pointer(&format!("/spec/template/metadata/{what}"));
    own.and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A new instance of a group.
pub fn instance(group: &Value, kind: &Group, revision: &str, suffix: &str) -> Value {
    let (labels, annotations, spec) = taken(group, kind, revision);
    json!({
        "metadata": {
            "name": format!("{}-{suffix}", js::name(group)), "namespace": js::namespace(group), "labels": labels,
            "annotations": annotations, "ownerReferences": [owner(GROUP_VERSION, kind.group.kind, group)],
        },
        "spec": spec,
    })
}

/// An instance with what its group wants now, at the version that was seen.
pub fn updated(instance: &Value, group: &Value, kind: &Group, revision: &str) -> Value {
    let (labels, annotations, spec) = taken(group, kind, revision);
    let mut object = instance.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".into(), labels);
        metadata.insert("annotations".into(), annotations);
    }
    if let Some(object) = object.as_object_mut() {
        object.insert("spec".into(), spec);
    }
    object
}

/// The template of an instance: what its pod must have been made with.
pub fn template(instance: &Value) -> Value {
    let mut spec = instance.get("spec").cloned().unwrap_or_else(|| json!({}));
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|key, _| !matches!(key.as_str(), "cluster" | "subdomain"));
    }
    let annotations = instance.pointer("/metadata/annotations").cloned().unwrap_or_else(|| json!({}));
    json!({ "metadata": { "annotations": annotations }, "spec": spec })
}

/// Whether a pod was made with its instance's template of now.
pub fn is_current(pod: &Value, instance: &Value) -> bool {
    js::annotation(pod, LAST_TEMPLATE).parse::<Value>().is_ok_and(|last| last == template(instance))
}

/// The name of an instance's pod: the component stands between the group's name and what was drawn.
pub fn pod_name(instance: &Value, component: &str) -> String {
    let (group, suffix) = js::name(instance).rsplit_once('-').unwrap_or_default();
    format!("{group}-{component}-{suffix}")
}

/// The Secret with a group's identity and trust.
fn secret(instance: &Value, component: &str) -> String {
    match js::text(instance, "/spec/security/tls/cluster/certKeyPair/name") {
        "" => format!("{}-{component}-cluster-secret", label(instance, "group")),
        named => named.to_owned(),
    }
}

/// The Secret of a TiDB group's MySQL side.
fn sql_secret(instance: &Value) -> String {
    match js::text(instance, "/spec/security/tls/mysql/certKeyPair/name") {
        "" => format!("{}-tidb-server-secret", label(instance, "group")),
        named => named.to_owned(),
    }
}

fn allowed_cn(instance: &Value, component: &str) -> String {
    let key = if component == "tidb" { "cluster-verify-cn" } else { "cert-allowed-cn" };
    let config = js::text(instance, "/spec/config");
    let line = config.lines().map(str::trim).find(|line| line.starts_with(key)).unwrap_or_default();
    line.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(",")
}

/// The pod of an instance.
pub fn pod(instance: &Value, kind: &Group, program: &Program, tls: bool) -> Value {
    let (component, cluster) = (kind.component, label(instance, "cluster"));
    let name = pod_name(instance, component);
    let mut labels: Map<String, Value> =
        ["managed-by", "component", "cluster", "group", "instance-revision-hash"]
            .into_iter()
            .map(|key| (format!("pingcap.com/{key}"), json!(label(instance, key))))
            .collect();
    let further = [
        ("pingcap.com/instance", js::name(instance)),
        ("app.kubernetes.io/name", "tidb-cluster"),
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/managed-by", "tidb-operator"),
    ];
    labels.extend(further.into_iter().map(|(key, value)| (key.to_owned(), json!(value))));
    let ports: Vec<Value> =
        program.ports.iter().map(|p| json!({ "containerPort": p, "protocol": "TCP" })).collect();
    let version = js::text(instance, "/spec/version");
    let mut container = Map::new();
    container.insert("name".into(), json!(component));
    container.insert("image".into(), json!(format!("pingcap/{}:{version}", program.image)));
    container.insert("ports".into(), json!(ports));
    let cn = allowed_cn(instance, component);
    if !cn.is_empty() {
        container.insert("env".into(), json!([{ "name": "CERT_ALLOWED_CN", "value": cn }]));
    }
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    let mut mount = |volume: &str, folder: &str, secret: &str| {
        mounts.push(json!({ "name": volume, "mountPath": folder, "readOnly": true }));
        volumes.push(json!({ "name": volume, "secret": { "secretName": secret } }));
    };
    if tls {
        mount("cluster-tls", &program.folder(), &secret(instance, component));
    }
    if component == "tidb" && instance.pointer("/spec/security/tls/mysql/enabled") == Some(&json!(true)) {
        mount("tidb-sql-tls", SQL_FOLDER_V2, &sql_secret(instance));
    }
    if !mounts.is_empty() {
        container.insert("volumeMounts".into(), json!(mounts));
    }
    json!({
        "metadata": {
            "name": name, "namespace": js::namespace(instance), "labels": labels,
            "annotations": { LAST_TEMPLATE: template(instance).to_string() },
            "ownerReferences": [owner(GROUP_VERSION, kind.instance.kind, instance)],
        },
        "spec": {
            "hostname": name, "subdomain": js::text(instance, "/spec/subdomain"),
            "terminationGracePeriodSeconds": 30, "containers": [container], "volumes": volumes,
        },
    })
}

/// The Services of a group.
pub fn services(group: &Value, kind: &Group, program: &Program) -> Vec<Value> {
    let ports: Vec<Value> = program
        .ports
        .iter()
        .map(|p| json!({ "name": format!("p{p}"), "port": p, "targetPort": p }))
        .collect();
    let selector = labels(group, kind.component);
    let service = |suffix: &str, spec: Value| {
        json!({
            "metadata": {
                "name": format!("{}-{}{suffix}", js::name(group), kind.component), "namespace": js::namespace(group),
                "labels": selector, "ownerReferences": [owner(GROUP_VERSION, kind.group.kind, group)],
            },
            "spec": spec,
        })
    };
    let plain = json!({ "ports": ports, "selector": selector, "type": "ClusterIP" });
    let headless = json!({ "ports": ports, "selector": selector, "type": "ClusterIP", "clusterIP": "None",
        "publishNotReadyAddresses": true });
    vec![service("", plain), service("-peer", headless)]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::GROUPS;
    use super::*;
    use crate::world::pod::program::program;

    #[test]
    fn a_changed_annotation_of_the_group_asks_for_other_pods() {
        let mut group = json!({
            "metadata": { "name": "pd", "namespace": "tidb", "uid": "u" },
            "spec": { "cluster": { "name": "basic" }, "replicas": 1, "template": { "spec": {
                "version": "v8.5.0", "config": "[security]\ncert-allowed-cn = [\"TiDB\"]\n" } } },
        });
        let kind = GROUPS.iter().find(|kind| kind.component == "pd").unwrap();
        let before = instance(&group, kind, &revision(&group), "x1y2");
        let pod = pod(&before, kind, program("pd").unwrap(), true);
        assert_eq!(js::name(&pod), "pd-pd-x1y2");
        assert_eq!(js::text(&pod, "/spec/volumes/0/secret/secretName"), "pd-pd-cluster-secret");
        assert_eq!(js::text(&pod, "/spec/subdomain"), "pd-pd-peer");
        assert_eq!(js::text(&pod, "/spec/containers/0/env/0/value"), "TiDB");
        assert!(is_current(&pod, &before));
        group["spec"]["template"]["metadata"] = json!({ "annotations": { "pingcap.com/restartedAt": "m1" } });
        let after = updated(&before, &group, kind, &revision(&group));
        assert_ne!(label(&after, "instance-revision-hash"), label(&before, "instance-revision-hash"));
        assert!(!is_current(&pod, &after));
    }
}
