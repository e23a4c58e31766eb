//! Key material and other secrets as a type: law 6 of the design.
//!
//! A [`Secret`] has no `Display`, a masked `Debug`, and no `Serialize`; in values that a script or a journal can see it
//! appears as a *handle*, `{"$secret": ID, "fp": FINGERPRINT}`, and its bytes stay in a [`SecretStore`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::PrimError;

/// Bytes that must never be printed.
#[derive(Clone)]
pub struct Secret {
    bytes: Zeroizing<Vec<u8>>,
    fingerprint: String,
}

impl Secret {
    /// A secret with the public fingerprint under which records may speak of it: for a private key, `spki:` and the
    /// hex SHA-256 of its SubjectPublicKeyInfo; for anything else a *keyed* digest (`hmac:`), see [`SecretStore::put`].
    pub fn new(bytes: impl Into<Vec<u8>>, fingerprint: impl Into<String>) -> Self {
        Self { bytes: Zeroizing::new(bytes.into()), fingerprint: fingerprint.into() }
    }

    /// The bytes, for the code that signs, seals or sends them. Never for printing.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// The public fingerprint.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.fingerprint)
    }
}

/// Refuses a private key that is given as text: text becomes part of the record. `what` names the argument.
///
/// # Errors
/// It is one.
pub fn not_a_key(text: &str, what: &str) -> Result<(), PrimError> {
    if !text.contains("PRIVATE KEY-----") {
        return Ok(());
    }
    Err(PrimError::argument(format!("`{what}` is a private key as text"))
        .hint("pass the handle of the key instead; its text would become part of the record"))
}

/// Whether a value is a secret handle, and if so its id.
pub fn handle_id(value: &Value) -> Option<&str> {
    value.as_object()?.get("$secret")?.as_str()
}

/// The JSON form in which a secret crosses steps.
pub fn handle(id: &str, fingerprint: &str) -> Value {
    json!({ "$secret": id, "fp": fingerprint })
}

/// Where secrets lie while a run needs them. The run's vault implements it on disk, [`MemorySecrets`] for a plan.
pub trait SecretStore: Send + Sync {
    /// Stores a secret durably and returns its handle. The same bytes give the same handle.
    ///
    /// # Errors
    /// The store cannot be written.
    fn put(&self, secret: &Secret) -> Result<Value, PrimError>;

    /// The secret behind a handle.
    ///
    /// # Errors
    /// The value is no handle, or the store does not know it.
    fn get(&self, handle: &Value) -> Result<Secret, PrimError>;

    /// A digest of low-entropy or unknown secret bytes that only this store's owner can recompute, as `hmac:HEX`.
    fn keyed_digest(&self, bytes: &[u8]) -> String;
}

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub struct MemorySecrets {
    held: Mutex<HashMap<String, Secret>>,
}

impl SecretStore for MemorySecrets {
    fn put(&self, secret: &Secret) -> Result<Value, PrimError> {
        let id = hex::encode(&Sha256::digest(secret.expose())[..16]);
        let mut held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.insert(id.clone(), secret.clone());
        Ok(handle(&id, secret.fingerprint()))
    }

    fn get(&self, value: &Value) -> Result<Secret, PrimError> {
        let id = handle_id(value).ok_or_else(|| PrimError::argument("expected a secret handle"))?;
        let held = self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        held.get(id).cloned().ok_or_else(|| PrimError::internal(format!("no secret is held under `{id}`")))
    }

    fn keyed_digest(&self, bytes: &[u8]) -> String {
        format!("hmac:{}", hex::encode(Sha256::digest(bytes)))
    }
}
