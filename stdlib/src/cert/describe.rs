//! A certificate's or a request's public facts as a value: what `cert::inspect` and `rollover cert inspect` give.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Certificate, ExtUsage, KeyUsage, SigningRequest, date};

/// A certificate's public facts.
pub fn describe(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject_text(),
        "subject_der": STANDARD.encode(certificate.subject()),
        "issuer": certificate.issuer_text(),
        "issuer_der": STANDARD.encode(certificate.issuer()),
        "common_name": certificate.common_name(),
        "organizations": certificate.organizations(),
        "sans": certificate.sans().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "key": certificate.key_text(),
        "key_usage": certificate.key_usage().map(KeyUsage::names),
        "ext_usage": certificate.ext_usage().map(|all| all.iter().map(ExtUsage::name).collect::<Vec<_>>()),
        "is_ca": certificate.is_ca(),
        "path_len": certificate.basic_constraints().and_then(|basic| basic.path_len),
        "name_constraints": certificate.name_constraints(),
        "other_extensions": certificate.other_extensions().iter()
            .map(|(oid, critical, _)| json!({ "oid": oid, "critical": critical })).collect::<Vec<_>>(),
        "version": certificate.version(),
        "serial": certificate.serial_hex(),
        "not_before": date(certificate.not_before()),
        "not_after": date(certificate.not_after()),
        "fingerprint": certificate.fingerprint(),
        "sha1": certificate.sha1_fingerprint(),
        "spki": certificate.spki_fingerprint(),
        "pin": certificate.pin(),
        "skid": certificate.skid().map(hex::encode),
        "akid": certificate.akid().map(hex::encode),
        "signature": certificate.signature_algorithm(),
        "self_issued": certificate.self_issued(),
    })
}

/// A signing request's public facts.
pub fn describe_request(request: &SigningRequest) -> Value {
    json!({
        "subject": request.subject_text,
        "sans": request.sans.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "key": request.key_text,
        "spki": request.spki_fingerprint(),
    })
}
