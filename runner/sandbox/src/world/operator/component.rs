//! The StatefulSet and Services that the operator wants for each component of a TidbCluster: pure functions.

use serde_json::{Map, Value, json};

use crate::world::json as js;
use crate::world::pod::program::{Program, SQL_FOLDER, program};

/// In the order in which they are reconciled.
pub const ORDER: &[&str] = &["pd", "tiproxy", "tiflash", "tikv", "pump", "tidb", "ticdc"];

/// Which components must not be upgrading while one begins.
pub fn waits_for(component: &str) -> &'static [&'static str] {
    match component {
        "tiflash" => &["pd"],
        "tikv" => &["pd", "tiflash"],
        "pump" => &["pd", "tikv"],
        "tidb" => &["pd", "tikv", "tiflash", "pump"],
        "ticdc" => &["pd", "tikv"],
        _ => &[],
    }
}

/// The annotation that holds the template as the operator wrote it, so that what a server fills in does not count.
pub const LAST_APPLIED: &str = "pingcap.com/last-applied-configuration";

/// The programs that a cluster has, in order.
pub fn programs(cluster: &Value) -> impl Iterator<Item = &'static Program> {
    ORDER.iter().filter(|c| replicas(cluster, c) > 0).filter_map(|c| program(c))
}

/// How many pods a component wants.
pub fn replicas(cluster: &Value, component: &str) -> u32 {
    let wanted = js::number(cluster, &format!("/spec/{component}/replicas")).unwrap_or(0);
    u32::try_from(wanted).unwrap_or(0)
}

/// Labels by which the objects of a component are known.
pub fn labels(cluster: &str, component: &str) -> Map<String, Value> {
    [
        ("app.kubernetes.io/name", "tidb-cluster"),
        ("app.kubernetes.io/managed-by", "tidb-operator"),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/component", component),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), json!(v)))
    .collect()
}

/// Who owns what the operator makes.
pub fn owner(cluster: &Value) -> Value {
    json!([{
        "apiVersion": "pingcap.com/v1alpha1", "kind": "TidbCluster", "name": js::name(cluster), "uid": js::uid(cluster),
        "controller": true, "blockOwnerDeletion": true,
    }])
}

/// Common names that the component's configuration (TOML) allows of its clients.
fn allowed_cn(cluster: &Value, component: &str) -> String {
    // TiFlash has two, and the other is that of its proxy.
    let path = if component == "tiflash" { "tiflash/config/config" } else { &format!("{component}/config") };
    let config = js::text(cluster, &format!("/spec/{path}"));
    let key = if component == "tidb" { "cluster-verify-cn" } else { "cert-allowed-cn" };
    let line = config.lines().map(str::trim).find(|line| line.starts_with(key)).unwrap_or_default();
    line.split('"').skip(1).step_by(2).collect::<Vec<_>>().join(",")
}

/// Whether TiDB's MySQL side is to speak TLS.
fn sql_tls(cluster: &Value) -> bool {
    cluster.pointer("/spec/tidb/tlsClient/enabled") == Some(&json!(true))
}

/// The pod template of a component.
pub fn template(cluster: &Value, program: &Program) -> Value {
    let (name, component) = (js::name(cluster), program.component);
    let mut annotations = js::texts(cluster, "/spec/annotations");
    annotations.extend(js::texts(cluster, &format!("/spec/{component}/annotations")));
    let version = match js::text(cluster, "/spec/version") {
        "" => "v8.5.0",
        version => version,
    };
    let ports: Vec<Value> =
        program.ports.iter().map(|p| json!({ "containerPort": p, "protocol": "TCP" })).collect();
    let mut container = json!({
        "name": component,
        "image": format!("pingcap/{}:{version}", program.image),
        "ports": ports,
    });
    let mut spec = json!({ "terminationGracePeriodSeconds": 30 });
    let cn = allowed_cn(cluster, component);
    if !cn.is_empty() {
        put(&mut container, "env", json!([{ "name": "CERT_ALLOWED_CN", "value": cn }]));
    }
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    let mut mount = |volume: String, folder: &str, secret: String| {
        mounts.push(json!({ "name": volume, "mountPath": folder, "readOnly": true }));
        volumes.push(json!({ "name": volume, "secret": { "secretName": secret } }));
    };
    if cluster.pointer("/spec/tlsCluster/enabled") == Some(&json!(true)) {
        let secret = format!("{name}-{component}-cluster-secret");
        mount(format!("{component}-tls"), &program.folder(), secret);
    }
    if program.has_sql() && sql_tls(cluster) {
        mount("tidb-server-tls".to_owned(), SQL_FOLDER, format!("{name}-tidb-server-secret"));
    }
    if !mounts.is_empty() {
        put(&mut container, "volumeMounts", json!(mounts));
        put(&mut spec, "volumes", json!(volumes));
    }
    put(&mut spec, "containers", json!([container]));
    json!({ "metadata": { "labels": labels(name, component), "annotations": annotations }, "spec": spec })
}

fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

/// The StatefulSet of a component, all of whose pods stay as they are until its partition moves.
pub fn set(cluster: &Value, program: &Program, template: &Value, partition: u32) -> Value {
    let (name, component) = (js::name(cluster), program.component);
    let peer = if program.peer_service { "-peer" } else { "" };
    json!({
        "metadata": {
            "name": program.service(name),
            "namespace": js::namespace(cluster),
            "labels": labels(name, component),
            "annotations": { LAST_APPLIED: template.to_string() },
            "ownerReferences": owner(cluster),
        },
        "spec": {
            "replicas": replicas(cluster, component),
            "serviceName": format!("{}{peer}", program.service(name)),
            "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": labels(name, component) },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": partition } },
            "template": template,
        },
    })
}

/// The Services of a component.
pub fn services(cluster: &Value, program: &Program) -> Vec<Value> {
    let (name, component) = (js::name(cluster), program.component);
    let ports: Vec<Value> = program
        .ports
        .iter()
        .map(|p| json!({ "name": format!("p{p}"), "port": p, "targetPort": p }))
        .collect();
    let service = |suffix: &str, headless: bool| {
        let mut spec = json!({ "ports": ports, "selector": labels(name, component), "type": "ClusterIP" });
        if headless {
            put(&mut spec, "clusterIP", json!("None"));
            put(&mut spec, "publishNotReadyAddresses", json!(true));
        }
        json!({
            "metadata": {
                "name": format!("{}{suffix}", program.service(name)),
                "namespace": js::namespace(cluster),
                "labels": labels(name, component),
                "ownerReferences": owner(cluster),
            },
            "spec": spec,
        })
    };
    if program.peer_service {
        vec![service("", false), service("-peer", true)]
    } else {
        vec![service("", true)]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn annotations_of_a_component_flow_into_its_pods_alone() {
        let cluster = json!({
            "metadata": { "name": "basic", "namespace": "tidb", "uid": "u" },
            "spec": {
                "tlsCluster": { "enabled": true },
                "pd": { "replicas": 3, "annotations": { "tidb.pingcap.com/restartedAt": "m1" },
                    "config": "[security]\ncert-allowed-cn = [\"TiDB\", \"other\"]\n" },
                "tikv": { "replicas": 3 },
            },
        });
        let names: Vec<_> = programs(&cluster).map(|p| p.component).collect();
        assert_eq!(names, ["pd", "tikv"]);
        let pd = template(&cluster, program("pd").unwrap());
        assert_eq!(pd["metadata"]["annotations"]["tidb.pingcap.com/restartedAt"], "m1");
        assert_eq!(pd["spec"]["volumes"][0]["secret"]["secretName"], "basic-pd-cluster-secret");
        assert_eq!(pd["spec"]["containers"][0]["env"][0]["value"], "TiDB,other");
        let tikv = template(&cluster, program("tikv").unwrap());
        assert_eq!(tikv["metadata"]["annotations"], json!({}));
    }
}
