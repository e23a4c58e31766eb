//! `ca::request`: what a cfssl request must say for an authority like one that is there. Pure.

use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer as _, X509Name};

use crate::cert::{Certificate, KeyKind};
use crate::error::PrimError;

/// Attributes of a subject that have fields of their own in a request.
const FIELDS: [(&str, &str); 6] = [
    ("2.5.4.6", "C"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("1.2.840.113549.1.9.1", "E"),
];
const COMMON_NAME: &str = "2.5.4.3";
const SERIAL_NUMBER: &str = "2.5.4.5";

/// The request for another authority with the whole subject of this one and a key of its kind and size; its common name
/// and how long it is valid may be others.
///
/// # Errors
/// Its subject cannot be read as texts, or no request names a key of its kind.
pub fn like(old: &Certificate, common_name: Option<&str>, expiry: Option<&str>) -> Result<Value, PrimError> {
    let invalid = |message: String| PrimError::invalid(message).on(old.to_string());
    let (_, subject) =
        X509Name::from_der(old.subject()).map_err(|_| invalid("has a subject that cannot be read".into()))?;
    let mut request = Map::new();
    let mut names: Vec<Map<String, Value>> = Vec::new();
    // The nth value of an attribute stands in the nth part.
    let mut put = |field: &str, inner: Option<&str>, value: &str| {
        let full = |part: &Map<String, Value>| match inner {
            None => part.contains_key(field),
            Some(oid) => part.get(field).is_some_and(|map| map.get(oid).is_some()),
        };
        let at = names.iter().position(|part| !full(part)).unwrap_or(names.len());
        if at == names.len() {
            names.push(Map::new());
        }
        let Some(part) = names.get_mut(at) else { return };
        match inner {
            None => drop(part.insert(field.to_owned(), value.into())),
            Some(oid) => {
                let map = part.entry(field).or_insert_with(|| json!({}));
                if let Some(map) = map.as_object_mut() {
                    map.insert(oid.to_owned(), value.into());
                }
            }
        }
    };
    for attribute in subject.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let value = attribute
            .as_str()
            .map_err(|_| invalid(format!("has an attribute in its subject that is no text: `{oid}`")))?;
        match FIELDS.iter().find(|(known, _)| *known == oid) {
            Some((_, field)) => put(field, None, value),
            None if oid == COMMON_NAME => {
                request.entry("CN").or_insert_with(|| value.into());
            }
            None if oid == SERIAL_NUMBER => drop(request.insert("serialnumber".into(), value.into())),
            None => put("OID", Some(&oid), value),
        }
    }
    if !names.is_empty() {
        request.insert("names".into(), names.into_iter().map(Value::Object).collect());
    }
    if let Some(name) = common_name {
        request.insert("CN".into(), name.into());
    }
    request.insert("key".into(), key(old)?);
    if let Some(expiry) = expiry {
        request.insert("ca".into(), json!({ "expiry": expiry }));
    }
    Ok(Value::Object(request))
}

fn key(old: &Certificate) -> Result<Value, PrimError> {
    Ok(match old.key_kind() {
        Some(KeyKind::Rsa(bits)) => json!({ "algo": "rsa", "size": bits }),
        Some(KeyKind::P256) => json!({ "algo": "ecdsa", "size": 256 }),
        Some(KeyKind::P384) => json!({ "algo": "ecdsa", "size": 384 }),
        Some(KeyKind::P521) => json!({ "algo": "ecdsa", "size": 521 }),
        Some(KeyKind::Ed25519) => json!({ "algo": "ed25519" }),
        None => {
            return Err(PrimError::invalid(format!(
                "has a key of a kind that cannot be made: `{}`",
                old.key_text()
            ))
            .on(old.to_string())
            .expected("RSA, ECDSA or Ed25519", old.key_text())
            .hint("give a request of its own to `ca::create`"));
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::cfssl::Request;

    fn made(request: &Value) -> Certificate {
        let request = Request::from_value(request, "request").unwrap();
        crate::ca::create(&request, datetime!(2026-06-01 12:00 UTC)).unwrap().0
    }

    #[test]
    fn an_authority_like_another_has_its_whole_subject_and_a_key_of_its_kind_and_size() {
        for key in [
            json!({ "algo": "rsa", "size": 2048 }),
            json!({ "algo": "ecdsa", "size": 256 }),
            json!({ "algo": "ecdsa", "size": 384 }),
            json!({ "algo": "ecdsa", "size": 521 }),
            json!({ "algo": "ed25519" }),
        ] {
            let asked = json!({
                "CN": "etcd CA", "serialnumber": "7", "key": key,
                "names": [
                    { "C": "DE", "ST": "Berlin", "L": "Mitte", "O": "Example", "OU": "Storage", "E": "a@example.org" },
                    { "O": "Second", "OU": "Other", "OID": { "2.5.4.12": "Title" } },
                ],
            });
            let old = made(&asked);
            let request = like(&old, None, None).unwrap();
            assert_eq!(request["key"], key);
            let new = made(&request);
            assert_eq!((new.subject(), new.key_text()), (old.subject(), old.key_text()), "{request}");
            assert_ne!(new.spki_fingerprint(), old.spki_fingerprint());
        }
    }

    #[test]
    fn its_common_name_and_its_expiry_may_be_others() {
        let old = made(&json!({ "CN": "old", "names": [{ "O": "Example" }] }));
        let request = like(&old, Some("new"), Some("87600h")).unwrap();
        let expected = json!({
            "CN": "new", "names": [{ "O": "Example" }], "key": { "algo": "ecdsa", "size": 256 }, "ca": { "expiry": "87600h" },
        });
        assert_eq!(request, expected);
        let nameless = made(&json!({ "names": [{ "O": "Example" }] }));
        assert!(like(&nameless, None, None).unwrap().get("CN").is_none());
    }
}
