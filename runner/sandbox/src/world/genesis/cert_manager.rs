//! A cluster whose certificates come from cert-manager: its kinds, the issuers, and a Certificate for each component, as
//! TiDB's documentation has them.

use serde_json::{Value, json};

use super::objects::established;
use super::{Operator, Pki, Scenario};
use crate::world::kube::{CERTIFICATE_REQUESTS, CERTIFICATES, CLUSTER_ISSUERS, CRDS, ISSUERS, Kube};

const ISSUER: &str = include_str!("definitions/issuers.json");
/// cert-manager's own definitions, cut as `definitions/README.md` says.
const DEFINITIONS: [&str; 3] = [
    include_str!("definitions/certificates.json"),
    include_str!("definitions/certificaterequests.json"),
    ISSUER,
];

/// Makes them all.
pub(super) async fn create(kube: &Kube, scenario: &Scenario, pki: &Pki) -> kube::Result<()> {
    let kinds = [CERTIFICATES, CERTIFICATE_REQUESTS, ISSUERS, CLUSTER_ISSUERS];
    for text in DEFINITIONS {
        kube.ensure(CRDS, "", text.parse().map_err(kube::Error::SerdeError)?).await?;
    }
    kube.ensure(CRDS, "", cluster_issuers()?).await?;
    for kind in kinds {
        established(kube, kind).await?;
    }
    let (ns, cluster) = (&scenario.namespace, &scenario.cluster);
    let issuer = |name: String, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let root = format!("{cluster}-selfsigned-ca-issuer");
    kube.ensure(ISSUERS, ns, issuer(root.clone(), json!({ "selfSigned": {} }))).await?;
    kube.ensure(CERTIFICATES, ns, authority(scenario, &root)).await?;
    let spec = json!({ "ca": { "secretName": format!("{cluster}-ca-secret") } });
    kube.ensure(ISSUERS, ns, issuer(issuer_name(scenario), spec)).await?;
    for component in pki.components() {
        kube.ensure(CERTIFICATES, ns, leaf(scenario, pki, component)).await?;
    }
    Ok(())
}

/// As the documentation of each operator calls the issuer of leaves.
fn issuer_name(scenario: &Scenario) -> String {
    let name = if scenario.operator == Operator::V2 { "certs-issuer" } else { "tidb-issuer" };
    format!("{}-{name}", scenario.cluster)
}

/// Smaller keys than cert-manager's own choice, which take long to make.
fn private_key(scenario: &Scenario) -> Value {
    json!({ "algorithm": "ECDSA", "size": 256, "rotationPolicy": scenario.rotation_policy.word() })
}

fn authority(scenario: &Scenario, issuer: &str) -> Value {
    json!({
        "metadata": { "name": format!("{}-ca", scenario.cluster) },
        "spec": {
            "secretName": format!("{}-ca-secret", scenario.cluster), "commonName": "TiDB", "isCA": true,
            "duration": "87600h", "renewBefore": "720h", "privateKey": private_key(scenario),
            "issuerRef": { "name": issuer, "kind": "Issuer", "group": "cert-manager.io" },
        },
    })
}

fn leaf(scenario: &Scenario, pki: &Pki, component: &str) -> Value {
    let name = scenario.secret_name(component);
    let usages =
        if component == "client" { json!(["client auth"]) } else { json!(["server auth", "client auth"]) };
    let mut spec = json!({
        "secretName": name, "commonName": "TiDB", "subject": { "organizations": ["PingCAP"] },
        "duration": "8760h", "renewBefore": "360h", "usages": usages, "privateKey": private_key(scenario),
        "issuerRef": {
            "name": issuer_name(scenario), "kind": "Issuer", "group": "cert-manager.io",
        },
    });
    let (ips, names): (Vec<String>, Vec<String>) =
        pki.hosts(component).into_iter().partition(|host| host.parse::<std::net::IpAddr>().is_ok());
    if let (Some(spec), false) = (spec.as_object_mut(), names.is_empty()) {
        spec.insert("dnsNames".into(), json!(names));
        spec.insert("ipAddresses".into(), json!(ips));
    }
    json!({ "metadata": { "name": name }, "spec": spec })
}

/// The definition of ClusterIssuers, which differs from that of Issuers in names and scope.
fn cluster_issuers() -> kube::Result<Value> {
    let text = ISSUER.replace("Issuer", "ClusterIssuer").replace("issuer", "clusterissuer");
    let mut definition: Value = text.parse().map_err(kube::Error::SerdeError)?;
    definition["spec"]["scope"] = json!("Cluster");
    definition["spec"]["names"]["shortNames"] = json!(["ciss"]);
    Ok(definition)
}
