//! What a Certificate asks for: its name, key, usages and lifetime, the request made of them, and whether a request or a
//! certificate is still what it asks for.

use serde_json::{Value, json};
use stdlib::PrimError;
use stdlib::cert::usage::{Named, by_name};
use stdlib::cert::{Certificate, ExtUsage, Key, KeyKind, KeyUsage, San, SigningRequest, name};
use time::{Duration, OffsetDateTime};

use crate::world::json as js;

/// How long a certificate lives where nothing is said.
const DURATION: Duration = Duration::hours(90 * 24);
/// What it is for where nothing is said.
const USAGES: [&str; 2] = ["digital signature", "key encipherment"];

fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    js::items(object, pointer).iter().filter_map(Value::as_str).collect()
}

/// The subject's name, DER, in the order in which Go writes it.
pub(super) fn subject(certificate: &Value) -> Result<Vec<u8>, PrimError> {
    let part = |field: &str| texts(certificate, &format!("/spec/subject/{field}"));
    name::Builder::default()
        .with("C", part("countries"))
        .with("O", part("organizations"))
        .with("OU", part("organizationalUnits"))
        .with("L", part("localities"))
        .with("ST", part("provinces"))
        .with("street", part("streetAddresses"))
        .with("postalCode", part("postalCodes"))
        .with("CN", [js::text(certificate, "/spec/commonName")])
        .with("serialNumber", [js::text(certificate, "/spec/subject/serialNumber")])
        .to_der()
}

fn sans(certificate: &Value) -> Result<Vec<San>, PrimError> {
    let hosts = ["dnsNames", "ipAddresses", "uris", "emailAddresses"];
    let all = hosts.iter().flat_map(|field| texts(certificate, &format!("/spec/{field}")));
    all.map(San::from_host).collect()
}

/// The kind of its private key.
pub(super) fn key_kind(certificate: &Value) -> Result<KeyKind, PrimError> {
    let size = js::number(certificate, "/spec/privateKey/size").unwrap_or(0);
    let text = match (js::text(certificate, "/spec/privateKey/algorithm"), size) {
        ("ECDSA", 0) => "ecdsa 256".to_owned(),
        ("ECDSA", size) => format!("ecdsa {size}"),
        ("Ed25519", _) => "ed25519".to_owned(),
        (_, 0) => "rsa 2048".to_owned(),
        (_, size) => format!("rsa {size}"),
    };
    KeyKind::parse(&text)
}

/// Whether a renewal makes a new key. It has done so by default since cert-manager 1.18.
pub(super) fn new_key_each_time(certificate: &Value) -> bool {
    js::text(certificate, "/spec/privateKey/rotationPolicy") != "Never"
}

/// How long it is to live, of a Certificate or a CertificateRequest.
pub(super) fn duration(object: &Value) -> Duration {
    lifetime(js::text(object, "/spec/duration")).unwrap_or(DURATION)
}

fn lifetime(text: &str) -> Option<Duration> {
    Duration::try_from(stdlib::duration::parse(text).ok()?).ok().filter(|d| d.is_positive())
}

/// When a certificate is renewed: as long before its end as the Certificate says, or a third of its life.
pub(super) fn renewal_time(certificate: &Value, issued: &Certificate) -> OffsetDateTime {
    let life = issued.not_after() - issued.not_before();
    let percentage = js::number(certificate, "/spec/renewBeforePercentage").filter(|p| (1..100).contains(p));
    let before = lifetime(js::text(certificate, "/spec/renewBefore"))
        .filter(|before| *before < life)
        .or_else(|| percentage.and_then(|p| i32::try_from(p).ok()).map(|p| life * p / 100))
        .unwrap_or(life / 3);
    issued.not_after() - before
}

/// Its key usages, of a Certificate or a CertificateRequest.
pub(super) fn usages(object: &Value) -> Result<(KeyUsage, Vec<ExtUsage>), PrimError> {
    let mut names = texts(object, "/spec/usages");
    if names.is_empty() {
        names = USAGES.to_vec();
    }
    let (mut key, mut extended) = (KeyUsage(0), Vec::new());
    for name in names {
        match by_name(name)? {
            Named::Key(usage) => key = key.with(usage),
            Named::Ext(usage) => extended.push(usage),
        }
    }
    if is_ca(object) {
        key = key.with(KeyUsage::CERT_SIGN);
    }
    Ok((key, extended))
}

/// Whether it is to be an authority, of a Certificate or a CertificateRequest.
pub(super) fn is_ca(object: &Value) -> bool {
    object.pointer("/spec/isCA") == Some(&json!(true))
}

/// The signing request for a key, PEM.
pub(super) fn request(certificate: &Value, key: &Key) -> Result<String, PrimError> {
    SigningRequest::create(&subject(certificate)?, &sans(certificate)?, key)
}

/// What a CertificateRequest copies from its Certificate.
pub(super) fn copied(certificate: &Value) -> Value {
    let mut spec = serde_json::Map::new();
    for field in ["duration", "issuerRef", "isCA", "usages"] {
        if let Some(value) = certificate.pointer(&format!("/spec/{field}")) {
            spec.insert(field.into(), value.clone());
        }
    }
    Value::Object(spec)
}

/// In which fields a CertificateRequest with this signing request is not what its Certificate asks for.
pub(super) fn differences(certificate: &Value, request: &Value, csr: &SigningRequest) -> Vec<&'static str> {
    let mut found = Vec::new();
    if subject(certificate).ok().as_ref() != Some(&csr.subject) {
        found.push("spec.subject");
    }
    if !sans(certificate).is_ok_and(|wanted| same(&wanted, &csr.sans)) {
        found.push("spec.dnsNames");
    }
    for (field, name) in [
        ("duration", "spec.duration"),
        ("issuerRef", "spec.issuerRef"),
        ("isCA", "spec.isCA"),
        ("usages", "spec.usages"),
    ] {
        // What a server fills in where nothing was said is no difference.
        let value = |object: &Value| object.pointer(&format!("/spec/{field}")).cloned();
        let unsaid = |value: &Option<Value>| value.as_ref().is_none_or(|v| *v == json!(false));
        let (wanted, asked) = (value(certificate), value(request));
        if wanted != asked && !(unsaid(&wanted) && unsaid(&asked)) {
            found.push(name);
        }
    }
    found
}

/// Whether a certificate has the names that are asked for, give or take what issuers may leave out.
pub(super) fn names_fit(certificate: &Value, issued: &Certificate) -> bool {
    let cn = js::text(certificate, "/spec/commonName");
    let named = issued.common_name() == cn
        || issued.sans().iter().any(|san| matches!(san, San::Dns(name) if name == cn));
    (cn.is_empty() || named) && sans(certificate).is_ok_and(|wanted| same(&wanted, issued.sans()))
}

fn same(one: &[San], other: &[San]) -> bool {
    one.len() == other.len() && one.iter().all(|san| other.iter().any(|known| known.same(san)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_its_certificate_asks_for_until_that_asks_for_something_else() {
        let mut certificate = json!({"spec": {
            "commonName": "TiDB", "subject": {"organizations": ["PingCAP"]}, "duration": "8760h",
            "dnsNames": ["basic-pd", "*.basic-pd-peer"], "ipAddresses": ["127.0.0.1"],
            "usages": ["server auth", "client auth"], "issuerRef": {"name": "ca", "kind": "Issuer"},
        }});
        let key = Key::generate(KeyKind::P256).unwrap();
        let csr = SigningRequest::from_pem(request(&certificate, &key).unwrap().as_bytes(), "csr").unwrap();
        let asked = json!({"spec": copied(&certificate)});
        assert!(differences(&certificate, &asked, &csr).is_empty());
        *certificate.pointer_mut("/spec/dnsNames/0").unwrap() = json!("other-pd");
        *certificate.pointer_mut("/spec/issuerRef/name").unwrap() = json!("another");
        assert_eq!(differences(&certificate, &asked, &csr), ["spec.dnsNames", "spec.issuerRef"]);
    }
}
