//! A cluster whose certificates come from cert-manager: its kinds, the issuers, and a Certificate for each component, as
//! TiDB's documentation has them.

use serde_json::{Map, Value, json};

use super::objects::established;
use super::{Operator, Pki, Scenario};
use crate::world::kube::{CERTIFICATE_REQUESTS, CERTIFICATES, CLUSTER_ISSUERS, CRDS, ISSUERS, Kind, Kube};

/// Makes them all.
pub(super) async fn create(kube: &Kube, scenario: &Scenario, pki: &Pki) -> kube::Result<()> {
    let kinds = [CERTIFICATES, CERTIFICATE_REQUESTS, ISSUERS, CLUSTER_ISSUERS];
    for kind in kinds {
        kube.ensure(CRDS, "", definition(kind)).await?;
    }
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

/// The fields of cert-manager's own definitions that are used here, and nothing else.
fn definition(kind: Kind) -> Value {
    let text = json!({ "type": "string" });
    let number = json!({ "type": "integer" });
    let flag = json!({ "type": "boolean" });
    let bytes = json!({ "type": "string", "format": "byte" });
    let moment = json!({ "type": "string", "format": "date-time" });
    let texts = json!({ "type": "array", "items": text, "x-kubernetes-list-type": "atomic" });
    let map = json!({ "type": "object", "additionalProperties": text });
    let object = |fields: &[(&str, &Value)]| {
        let fields: Map<String, Value> =
            fields.iter().map(|(name, schema)| ((*name).to_owned(), (*schema).clone())).collect();
        json!({ "type": "object", "properties": fields })
    };
    let issuer_ref = object(&[("group", &text), ("kind", &text), ("name", &text)]);
    let condition = object(&[
        ("type", &text),
        ("status", &text),
        ("reason", &text),
        ("message", &text),
        ("lastTransitionTime", &moment),
        ("observedGeneration", &number),
    ]);
    let conditions = json!({
        "type": "array", "items": merged(&condition, json!({ "required": ["type", "status"] })),
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    });
    let (spec, status, short, categories) = match kind.kind {
        "Certificate" => {
            let subject: Vec<&str> = vec![
                "countries",
                "localities",
                "organizationalUnits",
                "organizations",
                "postalCodes",
                "provinces",
                "streetAddresses",
            ];
            let mut subject: Vec<(&str, &Value)> = subject.into_iter().map(|field| (field, &texts)).collect();
            subject.push(("serialNumber", &text));
            let private_key = object(&[
                ("algorithm", &text),
                ("encoding", &text),
                ("rotationPolicy", &text),
                ("size", &number),
            ]);
            let template = object(&[("annotations", &map), ("labels", &map)]);
            let spec = object(&[
                ("commonName", &text),
                ("dnsNames", &texts),
                ("duration", &text),
                ("emailAddresses", &texts),
                ("ipAddresses", &texts),
                ("isCA", &flag),
                ("issuerRef", &issuer_ref),
                ("privateKey", &private_key),
                ("renewBefore", &text),
                ("renewBeforePercentage", &number),
                ("revisionHistoryLimit", &number),
                ("secretName", &text),
                ("secretTemplate", &template),
                ("subject", &object(&subject)),
                ("uris", &texts),
                ("usages", &texts),
            ]);
            let status = object(&[
                ("conditions", &conditions),
                ("failedIssuanceAttempts", &number),
                ("lastFailureTime", &moment),
                ("nextPrivateKeySecretName", &text),
                ("notAfter", &moment),
                ("notBefore", &moment),
                ("renewalTime", &moment),
                ("revision", &number),
            ]);
            (
                merged(&spec, json!({ "required": ["issuerRef", "secretName"] })),
                status,
                vec!["cert", "certs"],
                true,
            )
        }
        "CertificateRequest" => {
            let spec = object(&[
                ("duration", &text),
                ("isCA", &flag),
                ("issuerRef", &issuer_ref),
                ("request", &bytes),
                ("usages", &texts),
            ]);
            let status = object(&[
                ("ca", &bytes),
                ("certificate", &bytes),
                ("conditions", &conditions),
                ("failureTime", &moment),
            ]);
            (merged(&spec, json!({ "required": ["issuerRef", "request"] })), status, vec!["cr", "crs"], true)
        }
        _ => {
            let ca = object(&[("secretName", &text)]);
            let spec = object(&[("ca", &ca), ("selfSigned", &json!({ "type": "object" }))]);
            (spec, object(&[("conditions", &conditions)]), Vec::new(), true)
        }
    };
    let column = |name: &str, path: &str| json!({ "name": name, "type": "string", "jsonPath": path });
    let mut columns = vec![column("Ready", ".status.conditions[?(@.type == \"Ready\")].status")];
    if kind.kind == "Certificate" {
        columns.push(column("Secret", ".spec.secretName"));
    }
    columns.push(json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" }));
    json!({
        "metadata": { "name": format!("{}.cert-manager.io", kind.plural) },
        "spec": {
            "group": "cert-manager.io",
            "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind.kind, "listKind": format!("{}List", kind.kind), "plural": kind.plural,
                "singular": kind.kind.to_lowercase(), "shortNames": short,
                "categories": if categories { json!(["cert-manager"]) } else { json!([]) },
            },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": object(&[("spec", &spec), ("status", &status)]) },
                "subresources": { "status": {} },
                "additionalPrinterColumns": columns,
            }],
        },
    })
}

fn merged(schema: &Value, more: Value) -> Value {
    let mut whole = schema.clone();
    if let (Some(map), Value::Object(more)) = (whole.as_object_mut(), more) {
        map.extend(more);
    }
    whole
}
