//! The namespace `cert` as scripts see it.

use serde_json::{Value, json};

use super::{Certificate, date};
use crate::error::PrimError;
use crate::registry::{Kind, Param, Primitive, Type};

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[Primitive {
    name: "cert::inspect",
    kind: Kind::Pure,
    params: &[Param {
        name: "pem",
        ty: Type::Text,
        optional: false,
        doc: "PEM text with one or more certificates.",
    }],
    returns: "a map: `certificates`, a list of maps (`subject`, `issuer`, `common_name`, `sans`, `key`, `key_usage`, \
              `ext_usage`, `is_ca`, `path_len`, `serial`, `not_before`, `not_after`, `fingerprint`, `spki`, `skid`, \
              `akid`, `signature`, `self_issued`); `notes`, what was repaired in reading",
    doc: "Says what a PEM text's certificates are.\n\nFails with `invalid` where a block is damaged, naming its line.",
    example: "let seen = cert::inspect(ca.cert); print(seen.certificates[0].subject);",
    run: |_, args, _| {
        Box::pin(async move {
            let text = args
                .first()
                .and_then(Value::as_str)
                .ok_or_else(|| PrimError::argument("cert::inspect takes a PEM text"))?;
            let parsed = super::parse(text.as_bytes(), "the text")?;
            let all: Vec<Value> = parsed.certificates.iter().map(describe).collect();
            Ok(json!({ "certificates": all, "notes": parsed.notes }))
        })
    },
    restore: None,
    forecast: None,
    touches: |_| Vec::new(),
}];

/// A certificate's public facts as a value.
pub(super) fn describe(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject_text(),
        "issuer": certificate.issuer_text(),
        "common_name": certificate.common_name(),
        "sans": certificate.sans().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "key": certificate.key_text(),
        "key_usage": certificate.key_usage().map(super::KeyUsage::names),
        "ext_usage": certificate.ext_usage().map(|all| all.iter().map(super::ExtUsage::name).collect::<Vec<_>>()),
        "is_ca": certificate.is_ca(),
        "path_len": certificate.basic_constraints().and_then(|basic| basic.path_len),
        "serial": certificate.serial_hex(),
        "not_before": date(certificate.not_before()),
        "not_after": date(certificate.not_after()),
        "fingerprint": certificate.fingerprint(),
        "spki": certificate.spki_fingerprint(),
        "skid": certificate.skid().map(hex::encode),
        "akid": certificate.akid().map(hex::encode),
        "signature": certificate.signature_algorithm(),
        "self_issued": certificate.self_issued(),
    })
}
