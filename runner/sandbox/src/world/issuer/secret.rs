//! The Secret that a certificate is kept in: its data, annotations and labels.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stdlib::cert::{Certificate, San};

use crate::world::json as js;

/// The annotation that names the Certificate.
pub(super) const CERTIFICATE_NAME: &str = "cert-manager.io/certificate-name";
/// The annotation that names the issuer.
pub(super) const ISSUER_NAME: &str = "cert-manager.io/issuer-name";
/// The label of everything that cert-manager watches.
const FAO: &str = "controller.cert-manager.io/fao";
/// The label of a Secret that holds the key of a certificate that is being issued.
pub(super) const NEXT_KEY: &str = "cert-manager.io/next-private-key";

/// What a field in base64 holds.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A key of a Secret's data.
pub(super) fn value(secret: &Value, key: &str) -> Option<Vec<u8>> {
    decoded(secret.get("data")?.get(key)?.as_str()?)
}

/// Who issued it.
pub(super) fn issuer_annotations(certificate: &Value) -> [(&'static str, String); 3] {
    let part = |field: &str, unsaid: &str| match js::text(certificate, &format!("/spec/issuerRef/{field}")) {
        "" => unsaid.to_owned(),
        said => said.to_owned(),
    };
    [
        (ISSUER_NAME, part("name", "")),
        ("cert-manager.io/issuer-kind", part("kind", "Issuer")),
        ("cert-manager.io/issuer-group", part("group", "cert-manager.io")),
    ]
}

/// What the certificate says, for who looks at the Secret.
fn details(leaf: &Certificate) -> BTreeMap<String, String> {
    let names = |wanted: fn(&San) -> Option<String>| {
        leaf.sans().iter().filter_map(wanted).collect::<Vec<_>>().join(",")
    };
    let mut said = BTreeMap::from([
        ("cert-manager.io/common-name", leaf.common_name().to_owned()),
        (
            "cert-manager.io/alt-names",
            names(|san| if let San::Dns(name) = san { Some(name.clone()) } else { None }),
        ),
        (
            "cert-manager.io/ip-sans",
            names(|san| if let San::Ip(ip) = san { Some(ip.to_string()) } else { None }),
        ),
        (
            "cert-manager.io/uri-sans",
            names(|san| if let San::Uri(uri) = san { Some(uri.clone()) } else { None }),
        ),
    ]);
    if !leaf.organizations().is_empty() {
        said.insert("cert-manager.io/subject-organizations", leaf.organizations().join(","));
    }
    said.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What is kept in it.
pub(super) struct Data {
    /// `tls.key`.
    pub key: Vec<u8>,
    /// `tls.crt`.
    pub chain: Vec<u8>,
    /// `ca.crt`; empty where the issuer gave none.
    pub ca: Vec<u8>,
}

/// Its metadata for this certificate.
fn metadata(certificate: &Value, leaf: &Certificate) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let mut annotations = js::texts(certificate, "/spec/secretTemplate/annotations");
    annotations.extend(details(leaf));
    annotations.insert(CERTIFICATE_NAME.into(), js::name(certificate).to_owned());
    annotations.extend(issuer_annotations(certificate).map(|(key, value)| (key.to_owned(), value)));
    let mut labels = js::texts(certificate, "/spec/secretTemplate/labels");
    labels.insert(FAO.into(), "true".into());
    (annotations, labels)
}

/// The Secret to apply. A type cannot be changed, so that of one that is there stays.
pub(super) fn wanted(certificate: &Value, present: Option<&Value>, data: &Data, leaf: &Certificate) -> Value {
    let (annotations, labels) = metadata(certificate, leaf);
    let kind = present.map_or("kubernetes.io/tls", |secret| js::text(secret, "/type"));
    let mut encoded = serde_json::Map::new();
    for (key, bytes) in [("tls.key", &data.key), ("tls.crt", &data.chain), ("ca.crt", &data.ca)] {
        if !bytes.is_empty() {
            encoded.insert(key.into(), json!(STANDARD.encode(bytes)));
        }
    }
    json!({
        "metadata": {
            "name": js::text(certificate, "/spec/secretName"), "namespace": js::namespace(certificate),
            "annotations": annotations, "labels": labels,
        },
        "type": kind,
        "data": encoded,
    })
}

/// Whether a Secret's metadata is not what it should be for what it holds; who put it back by hand may have left it out.
/// What it holds is not looked at, `ca.crt` least of all.
pub(super) fn untidy(certificate: &Value, secret: &Value, leaf: &Certificate) -> bool {
    let (annotations, labels) = metadata(certificate, leaf);
    annotations.iter().any(|(key, value)| js::annotation(secret, key) != value)
        || labels.iter().any(|(key, value)| js::label(secret, key) != value)
}

/// What a Secret holds now.
pub(super) fn held(secret: &Value) -> Data {
    let part = |key: &str| value(secret, key).unwrap_or_default();
    Data { key: part("tls.key"), chain: part("tls.crt"), ca: part("ca.crt") }
}

/// A Secret with the key of a certificate that is being issued.
pub(super) fn next_key(certificate: &Value, name: &str, key: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "labels": { NEXT_KEY: "true", FAO: "true" },
            "ownerReferences": [owner(certificate)],
        },
        "data": { "tls.key": STANDARD.encode(key) },
    })
}

/// Who owns what is made for a Certificate.
pub(super) fn owner(certificate: &Value) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": js::name(certificate),
        "uid": js::uid(certificate), "controller": true, "blockOwnerDeletion": true,
    })
}
