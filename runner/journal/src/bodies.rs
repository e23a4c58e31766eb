//! Bodies: what is too large for a line, in files named by their digest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stdlib::world::Disk;

use crate::error::JournalError;
use crate::record::{RecordError, canonical, normalise};

/// Deeper than a line may nest, shallower than parsers stop at.
const MAX_DEPTH: usize = 110;

/// The reference that stands in a record for a body: `{"$body": "sha256:HEX", "bytes": N}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BodyRef {
    /// Hex of the SHA-256.
    pub hex: String,
    /// How long it is.
    pub bytes: u64,
}

impl BodyRef {
    fn of(content: &[u8]) -> Self {
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        Self { hex: hex::encode(Sha256::digest(content)), bytes }
    }

    /// The reference that a value is, if it is one.
    pub fn from_value(value: &Value) -> Option<Self> {
        let members = value.as_object().filter(|members| members.len() == 2)?;
        let hex = hex_of(members.get("$body")?.as_str()?)?;
        Some(Self { hex: hex.to_owned(), bytes: members.get("bytes")?.as_u64()? })
    }

    /// As it stands in a record.
    pub fn to_value(&self) -> Value {
        json!({ "$body": self.digest(), "bytes": self.bytes })
    }

    /// `sha256:HEX`.
    pub fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }
}

/// The hex of a `sha256:HEX` that is safe as a file name.
pub(crate) fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let lower = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex.len() == 64 && lower).then_some(hex)
}

/// The bodies of one run.
#[derive(Clone)]
pub struct Bodies {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Bodies {
    /// The bodies of the run in this folder.
    pub fn new(disk: Arc<dyn Disk>, run: &Path) -> Self {
        Self { disk, dir: run.join("bodies") }
    }

    /// Where the body of this hex digest lies.
    pub(crate) fn path(&self, hex: &str) -> PathBuf {
        self.dir.join(hex)
    }

    /// Stores bytes durably.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn put(&self, content: &[u8]) -> Result<BodyRef, JournalError> {
        let body = BodyRef::of(content);
        let path = self.path(&body.hex);
        // A file that is there may have been written by a process that died before its name was durable.
        self.disk.make_dir(&self.dir, 0o700).map_err(JournalError::io(&self.dir))?;
        self.disk.write_atomic(&path, content, 0o600).map_err(JournalError::io(&path))?;
        Ok(body)
    }

    /// Stores a value durably, in canonical form, and gives the reference to put in its place.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn put_value(&self, value: &Value) -> Result<Value, JournalError> {
        let mut value = value.clone();
        normalise(&mut value, MAX_DEPTH).map_err(JournalError::Record)?;
        Ok(self.put(&canonical(&value).map_err(JournalError::Record)?)?.to_value())
    }

    /// The bytes of a body, compared with its digest.
    ///
    /// # Errors
    /// It is missing or altered; `what` says what it is.
    pub fn get(&self, hex: &str, what: &str) -> Result<Vec<u8>, JournalError> {
        let path = self.path(hex);
        let altered = |why: String| JournalError::Altered { what: what.to_owned(), path: path.clone(), why };
        let content = self.disk.read(&path).map_err(|e| altered(e.to_string()))?;
        let found = BodyRef::of(&content);
        if found.hex == hex { Ok(content) } else { Err(altered(format!("its digest is {}", found.digest()))) }
    }

    /// The value itself, whether it stands in the record or is a reference to a body.
    ///
    /// # Errors
    /// The body is missing or altered.
    pub fn resolve(&self, value: &Value) -> Result<Value, JournalError> {
        match BodyRef::from_value(value) {
            None => Ok(value.clone()),
            Some(body) => serde_json::from_slice(&self.get(&body.hex, "a body of the record")?)
                .map_err(|e| JournalError::Record(RecordError::NotJson(e.to_string()))),
        }
    }

    /// Whether a value that looks like a reference is one.
    pub(crate) fn holds(&self, body: &BodyRef) -> bool {
        self.disk.exists(&self.path(&body.hex))
    }
}
