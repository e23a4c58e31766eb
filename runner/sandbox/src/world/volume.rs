//! What a pod has mounted, and what a process has read of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The files of one mounted Secret.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The data of a Secret, decoded.
pub fn secret_files(secret: &Value) -> Files {
    let Some(data) = secret.get("data").and_then(Value::as_object) else { return Files::new() };
    data.iter()
        .filter_map(|(name, value)| Some((name.clone(), STANDARD.decode(value.as_str()?).ok()?)))
        .collect()
}

/// A mounted folder. The kubelet replaces all its files as one act (a rename of a link), so no reader ever sees a
/// certificate beside another's key.
#[derive(Clone, Default)]
pub struct Volume(Arc<Mutex<Arc<Files>>>);

impl Volume {
    /// The files as they are now.
    pub fn files(&self) -> Arc<Files> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other files there; tells whether they differ.
    pub fn put(&self, files: Files) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = **held != files;
        if differs {
            *held = Arc::new(files);
        }
        differs
    }
}

/// A short digest by which states of key material are told apart; of public bytes only.
pub type Digest = [u8; 16];

/// The digest of a sequence of byte strings.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let full: [u8; 32] = hash.finalize().into();
    let mut short = Digest::default();
    short.copy_from_slice(full.split_at(16).0);
    short
}
