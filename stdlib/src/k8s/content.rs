//! What a Secret or ConfigMap holds: its bytes, its digest, and the part of it that a record may show.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cert::{self, Certificate, Key};
use crate::error::PrimError;
use crate::secret::{Secret, SecretStore};

use super::object::{Ref, at, text};

/// Which field layout an object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// `data` in base64, keys to be kept secret.
    Secret,
    /// `data` as text.
    ConfigMap,
}

impl Flavor {
    /// By kind.
    pub fn of(object: &Ref) -> Result<Self, PrimError> {
        match object.kind.as_str() {
            "Secret" => Ok(Self::Secret),
            "ConfigMap" => Ok(Self::ConfigMap),
            kind => Err(PrimError::internal(format!("a {kind} holds no data keys")).on(object.to_string())),
        }
    }
}

/// The values of an object by key.
pub type Content = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Reads `data` of an object as the API gave it.
pub fn read(flavor: Flavor, object: &Ref, value: &Value) -> Result<Content, PrimError> {
    let Some(data) = value.get("data").and_then(Value::as_object) else { return Ok(Content::new()) };
    data.iter()
        .map(|(key, value)| {
            let text = value.as_str().unwrap_or_default();
            let bytes = match flavor {
                Flavor::ConfigMap => text.as_bytes().to_vec(),
                Flavor::Secret => BASE64.decode(text).map_err(|_| {
                    PrimError::invalid(format!("key `{key}` is not base64")).on(object.to_string())
                })?,
            };
            Ok((key.clone(), Zeroizing::new(bytes)))
        })
        .collect()
}

/// Values as the API takes them.
pub fn encode(flavor: Flavor, bytes: &[u8]) -> Value {
    match flavor {
        Flavor::Secret => BASE64.encode(bytes).into(),
        Flavor::ConfigMap => String::from_utf8_lossy(bytes).into_owned().into(),
    }
}

/// What one value is, as far as a record may know it.
pub enum Public {
    /// Certificates only: the text whole.
    Certificates(String),
    /// Anything that may be secret: a fingerprint that tells nothing else.
    Fingerprint(String),
    /// Text of a ConfigMap.
    Text(String),
}

/// The public form of one value.
pub fn public(flavor: Flavor, bytes: &[u8], secrets: &dyn SecretStore) -> Public {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if text.contains("PRIVATE KEY-----") {
        return Public::Fingerprint(
            key_fingerprint(bytes, "").unwrap_or_else(|_| secrets.keyed_digest(bytes)),
        );
    }
    if text.contains("-----BEGIN CERTIFICATE-----") && only_certificates(text) {
        return Public::Certificates(text.to_owned());
    }
    match flavor {
        Flavor::Secret => Public::Fingerprint(secrets.keyed_digest(bytes)),
        Flavor::ConfigMap => Public::Text(text.to_owned()),
    }
}

/// Explanatory text around the blocks (as `openssl x509 -text` writes it) may hold anything, so it makes a value secret.
fn only_certificates(text: &str) -> bool {
    let mut inside = false;
    text.lines().map(str::trim).all(|line| match line {
        "-----BEGIN CERTIFICATE-----" => !std::mem::replace(&mut inside, true),
        "-----END CERTIFICATE-----" => std::mem::replace(&mut inside, false),
        line => inside || line.is_empty() || line.starts_with('#'),
    }) && !inside
}

/// Public values of some keys, for a summary; a ConfigMap's longer texts by digest, since a record is limited in size.
pub fn summary(flavor: Flavor, content: &Content, keys: &[String], secrets: &dyn SecretStore) -> Value {
    let mut map = Map::new();
    for key in keys {
        let Some(bytes) = content.get(key) else { continue };
        let value = match public(flavor, bytes, secrets) {
            Public::Certificates(text) => text,
            Public::Text(text) if text.len() <= 4096 => text,
            Public::Text(text) => format!("sha256:{}", hex::encode(Sha256::digest(text))),
            Public::Fingerprint(fingerprint) => fingerprint,
        };
        map.insert(key.clone(), value.into());
    }
    Value::Object(map)
}

/// One digest of everything in the object: public values by SHA-256, private keys by their public half, all else keyed,
/// so that the digest of a password cannot be searched for.
pub fn digest(flavor: Flavor, content: &Content, secrets: &dyn SecretStore) -> String {
    let parts: BTreeMap<&str, String> = content
        .iter()
        .map(|(key, bytes)| {
            let part = match public(flavor, bytes, secrets) {
                Public::Certificates(text) | Public::Text(text) => {
                    format!("sha256:{}", hex::encode(Sha256::digest(text)))
                }
                Public::Fingerprint(fingerprint) => fingerprint,
            };
            (key.as_str(), part)
        })
        .collect();
    // A map of texts always serialises.
    let canonical = serde_json::to_vec(&parts).unwrap_or_default();
    format!("sha256:{}", hex::encode(Sha256::digest(canonical)))
}

/// Everything in the object as one secret, for putting it back.
pub fn seal(content: &Content, secrets: &dyn SecretStore) -> Secret {
    let data: BTreeMap<&str, String> =
        content.iter().map(|(key, bytes)| (key.as_str(), BASE64.encode(bytes.as_slice()))).collect();
    let bytes = serde_json::to_vec(&json!({ "data": data })).unwrap_or_default();
    let fingerprint = secrets.keyed_digest(&bytes);
    Secret::new(bytes, fingerprint)
}

/// Opens what [`seal`] made.
pub fn unseal(backup: &Secret) -> Result<Content, PrimError> {
    let broken = || PrimError::internal("the sealed copy cannot be read");
    let value: Value = serde_json::from_slice(backup.expose()).map_err(|_| broken())?;
    let data = value.get("data").and_then(Value::as_object).ok_or_else(broken)?;
    data.iter()
        .map(|(key, value)| {
            let bytes = BASE64.decode(value.as_str().unwrap_or_default()).map_err(|_| broken())?;
            Ok((key.clone(), Zeroizing::new(bytes)))
        })
        .collect()
}

/// Whether two values say the same, although their text may differ in blank lines or in the key's encoding.
pub fn same(old: &[u8], new: &[u8]) -> bool {
    if old == new {
        return true;
    }
    if let (Ok(old), Ok(new)) = (key_fingerprint(old, ""), key_fingerprint(new, "")) {
        return old == new;
    }
    // Text that other readers would trip over is not the same as text that they would not.
    match (cert::parse(old, ""), cert::parse(new, "")) {
        (Ok(old), Ok(new)) => {
            old.notes.is_empty() && !old.certificates.is_empty() && old.certificates == new.certificates
        }
        _ => false,
    }
}

/// The certificates in a PEM value, in order; `what` names it in errors.
pub fn certificates(bytes: &[u8], what: &str) -> Result<Vec<Certificate>, PrimError> {
    cert::parse_many(bytes, what)
}

/// `spki:` and the SHA-256 of the public half of a private key in PEM.
pub fn key_fingerprint(pem: &[u8], what: &str) -> Result<String, PrimError> {
    Key::from_pem(pem, what).map(|key| key.fingerprint())
}

/// Who wrote the object's data last, other than us, as the API server noted it: `kubectl-patch, 2026-11-22T06:00:00Z`.
pub fn last_foreign_writer(value: &Value, us: &str) -> Option<String> {
    let entry = data_owners(value)
        .filter(|entry| text(entry, &["manager"]) != us)
        .max_by_key(|entry| text(entry, &["time"]).to_owned())?;
    Some(format!("{}, {}", text(entry, &["manager"]), text(entry, &["time"])))
}

/// When a data key was last written, at the latest: a manager's time also moves when it writes another field.
pub fn last_written<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    let field = format!("f:{key}");
    data_owners(value)
        .filter(|entry| at(entry, &["fieldsV1", "f:data", &field]).is_some())
        .map(|entry| text(entry, &["time"]))
        .filter(|time| !time.is_empty())
        .max()
}

/// The entries of `managedFields` that own some of the data.
fn data_owners(value: &Value) -> impl Iterator<Item = &Value> {
    at(value, &["metadata", "managedFields"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|entry| at(entry, &["fieldsV1", "f:data"]).is_some())
}

/// Another manager than us that owns more of the object than its status and metadata, which controllers write.
pub fn other_owner<'a>(value: &'a Value, us: &str) -> Option<&'a str> {
    let entries = at(value, &["metadata", "managedFields"]).and_then(Value::as_array)?;
    let own = |entry: &&Value| {
        let fields = at(entry, &["fieldsV1"]).and_then(Value::as_object);
        fields.is_some_and(|fields| fields.keys().any(|key| key != "f:metadata" && key != "f:status"))
    };
    entries.iter().filter(own).map(|entry| text(entry, &["manager"])).find(|manager| *manager != us)
}
