//! `k8s::secret`: a TLS Secret as a workflow sees it.

use serde_json::{Value, json};

use crate::cert::{self, Certificate};
use crate::error::{Code, PrimError};
use crate::gate::Gate;
use crate::secret::Secret;
use crate::world::World;

use super::client::Objects;
use super::content::{self, Content, Flavor};
use super::object::{Ref, at, text};
use super::{args, owner};

/// The three keys of a TLS Secret.
pub const KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A TLS Secret that was found sound: all keys there, the key fits its certificate.
pub struct Tls {
    /// The object as the API gave it.
    pub value: Value,
    /// `tls.crt`, leaf first.
    pub chain: Vec<Certificate>,
    /// `ca.crt`.
    pub anchors: Vec<Certificate>,
    /// The object's data.
    pub content: Content,
    /// The private key's fingerprint.
    pub key_fingerprint: String,
    /// What other readers of the certificates would trip over.
    pub notes: Vec<String>,
}

impl Tls {
    /// Checks what lies in a Secret.
    pub fn of(object: &Ref, value: Value) -> Result<Self, PrimError> {
        let content = content::read(Flavor::Secret, object, &value)?;
        let missing: Vec<&str> =
            KEYS.into_iter().filter(|key| content.get(*key).is_none_or(|v| v.is_empty())).collect();
        if !missing.is_empty() {
            let found: Vec<&str> = content.keys().map(String::as_str).collect();
            return Err(PrimError::not_found(format!("it lacks {}", quoted(&missing)))
                .on(object.to_string())
                .expected("the keys `tls.crt`, `tls.key`, `ca.crt`", quoted(&found)));
        }
        let mut notes = Vec::new();
        let mut certificates = |key: &str| -> Result<Vec<Certificate>, PrimError> {
            let on = format!("{object}, key `{key}`");
            let parsed = cert::parse(content.get(key).map_or(&[][..], |v| v.as_slice()), &on)?;
            notes.extend(parsed.notes.into_iter().map(|note| format!("{on}: {note}")));
            Ok(parsed.certificates)
        };
        let chain = certificates("tls.crt")?;
        let anchors = certificates("ca.crt")?;
        let key = content.get("tls.key").map_or(&[][..], |v| v.as_slice());
        let key_fingerprint = content::key_fingerprint(key, &format!("{object}, key `tls.key`"))?;
        if let Some(leaf) = chain.first() {
            fits(object, leaf, &key_fingerprint)?;
        }
        Ok(Self { value, chain, anchors, content, key_fingerprint, notes })
    }

    /// The text of a public key of the data.
    pub fn pem(&self, key: &str) -> String {
        self.content.get(key).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }

    /// The private key, put where secrets lie.
    pub fn key_handle(&self, world: &World) -> Result<Value, PrimError> {
        let bytes = self.content.get("tls.key").map(|v| v.to_vec()).unwrap_or_default();
        world.secrets.put(&Secret::new(bytes, &self.key_fingerprint))
    }
}

/// That a private key belongs to a certificate.
pub fn fits(object: &Ref, leaf: &Certificate, key: &str) -> Result<(), PrimError> {
    let wanted = leaf.spki_fingerprint();
    if wanted == key {
        return Ok(());
    }
    Err(PrimError::new(
        Code::KeyMismatch,
        format!("`tls.key` is not the key of the certificate in `tls.crt` ({})", leaf.fingerprint()),
    )
    .on(object.to_string())
    .expected(format!("the key {wanted}"), key)
    .hint("put the certificate and the key of one request into the Secret, in one write"))
}

/// `k8s::secret(namespace, name)`.
pub async fn read(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = Ref::secret(args::text(args, 0, "namespace")?, args::text(args, 1, "name")?);
    let value = Objects::of(world)?.get(&object).await.map_err(|error| match error.hint {
        None => {
            let hint =
                format!("`kubectl --namespace {} get secrets` lists those that exist", object.namespace);
            error.hint(hint)
        }
        Some(_) => error,
    })?;
    let tls = Tls::of(&object, value)?;
    describe(world, &object, &tls)
}

/// The fact that a script gets.
pub fn describe(world: &World, object: &Ref, tls: &Tls) -> Result<Value, PrimError> {
    let mut warnings = tls.notes.clone();
    warnings.extend(owner::warning(object, &tls.value));
    let keys: Vec<&String> = tls.content.keys().collect();
    Ok(json!({
        "namespace": object.namespace,
        "name": object.name,
        "type": text(&tls.value, &["type"]),
        "uid": text(&tls.value, &["metadata", "uid"]),
        "keys": keys,
        "immutable": at(&tls.value, &["immutable"]) == Some(&Value::Bool(true)),
        "tls.crt": tls.pem("tls.crt"),
        "tls.key": tls.key_handle(world)?,
        "ca.crt": tls.pem("ca.crt"),
        "fingerprint": tls.chain.first().map(Certificate::fingerprint),
        "ca_fingerprints": tls.anchors.iter().map(Certificate::fingerprint).collect::<Vec<_>>(),
        "warnings": warnings,
    }))
}

fn quoted(keys: &[&str]) -> String {
    if keys.is_empty() {
        return "no keys".into();
    }
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
