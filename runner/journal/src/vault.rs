//! A run's vault: keys, backups and staged outputs, in a folder of mode 0700 with files of mode 0600.
//!
//! ```text
//! vault/key          makes ids and digests that only the owner of the vault can recompute
//! vault/secret/ID    one secret
//! vault/staged/ID    what a step has made before its intent: data and handles
//! ```
//!
//! What a call has returned is durable. Nothing is ever replaced or removed.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use serde_json::{Value, json};
use stdlib::Secret;
use stdlib::error::{Code, PrimError};
use stdlib::secret::{SecretStore, handle, handle_id};
use stdlib::world::Disk;
use zeroize::Zeroizing;

use crate::error::JournalError;

/// First line of a secret's file; encryption to a recipient would be another.
const PLAIN: &str = "rollover-secret 1";

/// The secrets of one run.
pub struct Vault {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    key: hmac::Key,
    /// What this process has made durable. A file of an earlier process may be seen and not be durable yet.
    durable: Mutex<HashSet<PathBuf>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.dir.display())
    }
}

impl Vault {
    /// The vault of a run folder, made where it is not there.
    ///
    /// # Errors
    /// The folder cannot be written, or others can read it.
    pub(crate) fn open(disk: Arc<dyn Disk>, run: &Path) -> Result<Self, JournalError> {
        let dir = run.join("vault");
        for folder in [dir.clone(), dir.join("secret"), dir.join("staged")] {
            disk.make_dir(&folder, 0o700).map_err(JournalError::io(&folder))?;
            private(&*disk, &folder)?;
        }
        let path = dir.join("key");
        if !disk.exists(&path) {
            let mut fresh = Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(fresh.as_mut()).map_err(|_| JournalError::Randomness)?;
            disk.write_atomic(&path, fresh.as_ref(), 0o600).map_err(JournalError::io(&path))?;
        }
        private(&*disk, &path)?;
        let key = Zeroizing::new(disk.read(&path).map_err(JournalError::io(&path))?);
        if key.len() != 32 {
            return Err(JournalError::BadKey { path });
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Ok(Self { disk, dir, key, durable: Mutex::default() })
    }

    fn tag(&self, purpose: &str, bytes: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(bytes);
        hex::encode(context.sign())
    }

    /// An id: unguessable without the vault's key, the same for the same bytes.
    fn id(&self, purpose: &str, bytes: &[u8]) -> String {
        self.tag(purpose, bytes).chars().take(32).collect()
    }

    fn write(&self, path: PathBuf, bytes: &[u8]) -> Result<(), JournalError> {
        if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&path) {
            return Ok(());
        }
        self.disk.write_atomic(&path, bytes, 0o600).map_err(JournalError::io(&path))?;
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
        Ok(())
    }

    fn secret_path(&self, id: &str) -> PathBuf {
        self.dir.join("secret").join(id)
    }

    fn staged_path(&self, step: &str) -> PathBuf {
        self.dir.join("staged").join(self.id("staged", step.as_bytes()))
    }

    fn open_secret(&self, id: &str) -> Result<Secret, JournalError> {
        let path = self.secret_path(id);
        let altered = |why: &str| JournalError::Altered {
            what: "a secret of the vault".to_owned(),
            path: path.clone(),
            why: why.to_owned(),
        };
        private(&*self.disk, &path)?;
        let sealed = Zeroizing::new(self.disk.read(&path).map_err(JournalError::io(&path))?);
        let mut parts = sealed.splitn(3, |byte| *byte == b'\n');
        let (Some(kind), Some(fingerprint), Some(bytes)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(altered("it is cut off"));
        };
        if kind != PLAIN.as_bytes() {
            return Err(altered("it is sealed in a way that this program does not know"));
        }
        if self.id("secret", bytes) != id {
            return Err(altered("its content does not belong to its name"));
        }
        Ok(Secret::new(bytes, String::from_utf8_lossy(fingerprint)))
    }

    /// Stores what a step has made, durably, and gives what is staged: when the step was staged before, that.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn stage(&self, step: &str, value: &Value) -> Result<Value, JournalError> {
        let value = self.staged(step)?.unwrap_or_else(|| value.clone());
        let text = json!({ "step": step, "value": value }).to_string();
        self.write(self.staged_path(step), text.as_bytes())?;
        Ok(value)
    }

    /// What a step has staged.
    ///
    /// # Errors
    /// It cannot be read, or belongs to another step.
    pub fn staged(&self, step: &str) -> Result<Option<Value>, JournalError> {
        let path = self.staged_path(step);
        if !self.disk.exists(&path) {
            return Ok(None);
        }
        let text = self.disk.read(&path).map_err(JournalError::io(&path))?;
        let mut parsed: Value = serde_json::from_slice(&text).unwrap_or_default();
        if parsed.get("step").and_then(Value::as_str) != Some(step) {
            let what = format!("what step `{step}` staged");
            return Err(JournalError::Altered { what, path, why: "it does not name its step".into() });
        }
        Ok(parsed.get_mut("value").map(Value::take))
    }

    /// All secrets that it holds, for the scan at the end of a run.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn secrets(&self) -> Result<Vec<Secret>, JournalError> {
        let dir = self.dir.join("secret");
        let names = self.disk.list(&dir).map_err(JournalError::io(&dir))?;
        names.iter().filter(|name| is_id(name)).map(|name| self.open_secret(name)).collect()
    }
}

/// What an id looks like; keeps handles of foreign origin from naming other files.
fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Refuses what others can read.
fn private(disk: &dyn Disk, path: &Path) -> Result<(), JournalError> {
    let mode = disk.mode(path).map_err(JournalError::io(path))?;
    if mode.trailing_zeros() >= 6 {
        Ok(())
    } else {
        Err(JournalError::Exposed { path: path.to_owned(), mode })
    }
}

impl SecretStore for Vault {
    fn put(&self, secret: &Secret) -> Result<Value, PrimError> {
        let id = self.id("secret", secret.expose());
        if secret.fingerprint().contains('\n') {
            return Err(PrimError::internal("a fingerprint is one line"));
        }
        let mut sealed = Zeroizing::new(format!("{PLAIN}\n{}\n", secret.fingerprint()).into_bytes());
        sealed.extend_from_slice(secret.expose());
        self.write(self.secret_path(&id), &sealed)?;
        Ok(handle(&id, secret.fingerprint()))
    }

    fn get(&self, value: &Value) -> Result<Secret, PrimError> {
        let id = handle_id(value).ok_or_else(|| PrimError::argument("expected a secret handle"))?;
        if !is_id(id) || !self.disk.exists(&self.secret_path(id)) {
            return Err(PrimError::new(Code::NotFound, format!("this run's vault holds no secret `{id}`")));
        }
        Ok(self.open_secret(id)?)
    }

    fn keyed_digest(&self, bytes: &[u8]) -> String {
        format!("hmac:{}", self.tag("digest", bytes))
    }
}
