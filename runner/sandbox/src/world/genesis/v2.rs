//! A cluster of TiDB operator v2: its kinds, the operator's own Deployment, a Cluster and a group for each component.

use serde_json::{Map, Value, json};

use super::Scenario;
use super::objects::established;
use crate::world::kube::{CRDS, DEPLOYMENTS, Kind, Kube};
use crate::world::operator::v2::{CLUSTERS, COMPONENT, GROUP_VERSION, GROUPS, NAMESPACE};

/// The operator's own definitions, cut as `definitions/README.md` says.
const DEFINITIONS: [&str; 7] = [
    include_str!("definitions/clusters.json"),
    include_str!("definitions/pdgroups.json"),
    include_str!("definitions/tikvgroups.json"),
    include_str!("definitions/tidbgroups.json"),
    include_str!("definitions/tiflashgroups.json"),
    include_str!("definitions/ticdcgroups.json"),
    include_str!("definitions/tiproxygroups.json"),
];

/// The definitions, and the operator's Deployment.
pub(super) async fn operator(kube: &Kube) -> kube::Result<()> {
    for text in DEFINITIONS {
        kube.ensure(CRDS, "", text.parse().map_err(kube::Error::SerdeError)?).await?;
    }
    for group in GROUPS {
        kube.ensure(CRDS, "", instances(group.instance)).await?;
    }
    for kind in GROUPS.iter().flat_map(|group| [group.group, group.instance]).chain([CLUSTERS]) {
        established(kube, kind).await?;
    }
    kube.ensure(DEPLOYMENTS, NAMESPACE, deployment()).await
}

/// The Cluster and its groups, each called as its component is.
pub(super) async fn create(kube: &Kube, scenario: &Scenario) -> kube::Result<()> {
    let ns = &scenario.namespace;
    let cluster = json!({
        "metadata": { "name": scenario.cluster },
        "spec": { "tlsCluster": { "enabled": true }, "upgradePolicy": "Default" },
    });
    kube.ensure(CLUSTERS, ns, cluster).await?;
    for kind in GROUPS {
        if let Some(replicas) = scenario.components.get(kind.component) {
            kube.ensure(kind.group, ns, group(scenario, kind.component, *replicas)).await?;
        }
    }
    Ok(())
}

fn group(scenario: &Scenario, component: &str, replicas: u32) -> Value {
    let mut spec = Map::new();
    spec.insert("version".into(), json!("v8.5.0"));
    if matches!(component, "pd" | "tikv" | "tiflash") {
        let volume = json!({ "name": "data", "mounts": [{ "type": "data" }], "storage": "10Gi" });
        spec.insert("volumes".into(), json!([volume]));
    }
    if !scenario.allowed_cn.is_empty() {
        let key = if component == "tidb" { "cluster-verify-cn" } else { "cert-allowed-cn" };
        let config = format!("[security]\n{key} = {}\n", json!(scenario.allowed_cn));
        spec.insert("config".into(), json!(config));
    }
    if scenario.sql_tls && component == "tidb" {
        spec.insert("security".into(), json!({ "tls": { "mysql": { "enabled": true } } }));
    }
    json!({
        "metadata": { "name": component },
        "spec": { "cluster": { "name": scenario.cluster }, "replicas": replicas, "template": { "spec": spec } },
    })
}

fn deployment() -> Value {
    let labels = json!({
        "app.kubernetes.io/name": "tidb-operator",
        "app.kubernetes.io/instance": "tidb-operator",
        "app.kubernetes.io/component": COMPONENT,
    });
    json!({
        "metadata": { "name": "tidb-operator", "labels": labels },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "tidb-operator", "image": "pingcap/tidb-operator:v2.0.0", "command": ["/tidb-operator"],
                }] },
            },
        },
    })
}

/// Instances are the operator's own business: their definitions say no more than that they are there.
fn instances(kind: Kind) -> Value {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let (group, version) = GROUP_VERSION.split_once('/').unwrap_or_default();
    json!({
        "metadata": { "name": format!("{}.{group}", kind.plural) },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": { "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural,
                "singular": kind.kind.to_lowercase() },
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": open, "status": open } } },
            }],
        },
    })
}
