//! The objects that a person or an installer would have made; everything else the controllers make of them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::Digest as _;

use super::{IssuedBy, Operator, Pki, Scenario, cert_manager, v2};
use crate::world::controllers::template::NODE;
use crate::world::kube::{CRDS, DEPLOYMENTS, Kind, Kube, NAMESPACES, NODES, SECRETS, TIDB_CLUSTERS};

/// The definition of operator v1, cut as `definitions/README.md` says.
const DEFINITION: &str = include_str!("definitions/tidbclusters.json");

/// Makes them all.
///
/// # Errors
/// The API refuses one.
pub async fn create(kube: &Kube, scenario: &Scenario, pki: &Pki) -> kube::Result<()> {
    kube.ensure(NODES, "", node()).await?;
    for name in ["tidb-admin", &scenario.namespace] {
        kube.ensure(NAMESPACES, "", json!({ "metadata": { "name": name } })).await?;
    }
    match scenario.operator {
        Operator::V1 => {
            kube.ensure(CRDS, "", DEFINITION.parse().map_err(kube::Error::SerdeError)?).await?;
        }
        Operator::V2 => v2::operator(kube).await?,
    }
    match scenario.issued_by {
        IssuedBy::Cfssl => {
            for component in pki.components() {
                if let Some(secret) = secret(scenario, pki, component) {
                    kube.ensure(SECRETS, &scenario.namespace, secret).await?;
                }
            }
        }
        IssuedBy::CertManager => cert_manager::create(kube, scenario, pki).await?,
    }
    if let Some(sql) = pki.sql() {
        for role in ["server", "client"] {
            let name = scenario.sql_secret(role);
            if let Some(data) = sql.secret(role) {
                kube.ensure(SECRETS, &scenario.namespace, object(&name, &scenario.secret_type, data)).await?;
            }
        }
        // As a TidbInitializer takes it: by account.
        let password = sql_password(&scenario.namespace, &scenario.cluster).into_bytes();
        let name = format!("{}-tidb-root", scenario.cluster);
        kube.ensure(SECRETS, &scenario.namespace, object(&name, "Opaque", [("root", password)].into()))
            .await?;
    }
    match scenario.operator {
        Operator::V1 => {
            established(kube, TIDB_CLUSTERS).await?;
            kube.ensure(TIDB_CLUSTERS, &scenario.namespace, cluster(scenario)).await?;
        }
        Operator::V2 => v2::create(kube, scenario).await?,
    }
    if scenario.clients > 0 {
        let secret = secret_name(&scenario.cluster, "client");
        let client = client(scenario, "client", "/var/lib/cluster-client-tls", &secret);
        kube.ensure(DEPLOYMENTS, &scenario.namespace, client).await?;
    }
    if scenario.clients > 0 && scenario.sql_tls {
        let client =
            client(scenario, "sql-client", "/var/lib/sql-client-tls", &scenario.sql_secret("client"));
        kube.ensure(DEPLOYMENTS, &scenario.namespace, client).await?;
    }
    Ok(())
}

/// Waits until the server serves a new kind.
pub(super) async fn established(kube: &Kube, kind: Kind) -> kube::Result<()> {
    for _ in 0..50 {
        match kube.list(kind, "").await {
            Ok(_) => return Ok(()),
            Err(e) if crate::world::kube::is(&e, 404) => {}
            Err(e) => return Err(e),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    kube.list(kind, "").await.map(|_| ())
}

fn node() -> Value {
    json!({
        "metadata": { "name": NODE, "labels": { "kubernetes.io/hostname": NODE } },
        "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }] },
    })
}

/// The name of a component's Secret.
pub(crate) fn secret_name(cluster: &str, component: &str) -> String {
    if component == "client" {
        format!("{cluster}-cluster-client-secret")
    } else {
        format!("{cluster}-{component}-cluster-secret")
    }
}

/// The password of `root` in TiDB: any, as long as server and Secret agree.
pub(crate) fn sql_password(namespace: &str, cluster: &str) -> String {
    hex::encode(sha2::Sha256::digest(format!("{namespace}/{cluster}/root"))).split_off(40)
}

fn secret(scenario: &Scenario, pki: &Pki, component: &str) -> Option<Value> {
    let name = scenario.secret_name(component);
    Some(object(&name, &scenario.secret_type, pki.secret(component)?))
}

fn object(name: &str, kind: &str, data: BTreeMap<&'static str, Vec<u8>>) -> Value {
    let data: Map<String, Value> =
        data.into_iter().map(|(k, v)| (k.to_owned(), json!(STANDARD.encode(v)))).collect();
    json!({ "metadata": { "name": name }, "type": kind, "data": data })
}

fn cluster(scenario: &Scenario) -> Value {
    let mut spec = Map::new();
    spec.insert("version".into(), json!("v8.5.0"));
    spec.insert("timezone".into(), json!("UTC"));
    spec.insert("tlsCluster".into(), json!({ "enabled": true }));
    for (component, replicas) in &scenario.components {
        let mut part = json!({ "replicas": replicas, "baseImage": format!("pingcap/{component}") });
        if let (false, Some(map)) = (scenario.allowed_cn.is_empty(), part.as_object_mut()) {
            let key = if component == "tidb" { "cluster-verify-cn" } else { "cert-allowed-cn" };
            let config = json!(format!("[security]\n{key} = {}\n", json!(scenario.allowed_cn)));
            let config = if component == "tiflash" { json!({ "config": config }) } else { config };
            map.insert("config".into(), config);
        }
        if let (true, "tidb", Some(map)) = (scenario.sql_tls, component.as_str(), part.as_object_mut()) {
            map.insert("tlsClient".into(), json!({ "enabled": true }));
        }
        if let ("tiflash", Some(map)) = (component.as_str(), part.as_object_mut()) {
            map.insert(
                "storageClaims".into(),
                json!([{ "resources": { "requests": { "storage": "10Gi" } } }]),
            );
        }
        spec.insert(component.clone(), part);
    }
    json!({ "metadata": { "name": scenario.cluster }, "spec": spec })
}

fn client(scenario: &Scenario, component: &str, folder: &str, secret: &str) -> Value {
    let name = format!("{}-{component}", scenario.cluster);
    let labels = json!({
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": scenario.cluster,
        "app.kubernetes.io/component": component,
    });
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "replicas": scenario.clients,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "containers": [{
                        "name": "client",
                        "image": format!("example.com/tidb-{component}:v1"),
                        "volumeMounts": [{ "name": "tls", "mountPath": folder, "readOnly": true }],
                    }],
                    "volumes": [{ "name": "tls", "secret": { "secretName": secret } }],
                },
            },
        },
    })
}
