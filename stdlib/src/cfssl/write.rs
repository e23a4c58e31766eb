//! Files of the PKI folder, changed one at a time through the gate.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::folder::io_error;
use crate::cert::{Certificate, Key};
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, Place, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

/// A file's content and permission bits.
pub(crate) struct Content {
    bytes: Zeroizing<Vec<u8>>,
    mode: u32,
}

impl Content {
    /// A certificate file, readable by all.
    pub(crate) fn certificates(pem: &str) -> Self {
        Self { bytes: Zeroizing::new(pem.as_bytes().to_vec()), mode: 0o644 }
    }
    /// A key file, readable by its owner alone.
    pub(crate) fn key(pem: &[u8]) -> Self {
        Self { bytes: Zeroizing::new(pem.to_vec()), mode: 0o600 }
    }
    /// What lies there, with at most the permissions that its kind allows.
    pub(crate) fn moved(self) -> Self {
        let mode = if self.holds_key() { 0o600 } else { 0o644 };
        Self { mode, ..self }
    }
    /// Whether it holds just one of these certificates, or just the key of one of them.
    pub(crate) fn is_of(&self, certificates: &[&Certificate]) -> bool {
        if self.holds_key() {
            return Key::from_pem(&self.bytes, "")
                .is_ok_and(|key| certificates.iter().any(|c| key.matches(c)));
        }
        Certificate::from_pem(&self.bytes, "").is_ok_and(|one| certificates.contains(&&one))
    }
    fn holds_key(&self) -> bool {
        self.bytes.windows(11).any(|window| window == b"PRIVATE KEY")
    }

    /// A key is known by its public half, and by its mode where others may read it; what cannot be read as a key by a
    /// keyed digest; anything else by its bytes.
    fn digest(&self, world: &World) -> String {
        if !self.holds_key() {
            return format!("sha256:{}", hex::encode(Sha256::digest(&self.bytes)));
        }
        let digest = match Key::from_pem(&self.bytes, "") {
            Ok(key) => key.fingerprint(),
            Err(_) => world.secrets.keyed_digest(&self.bytes),
        };
        if self.mode.trailing_zeros() >= 6 { digest } else { format!("{digest}+mode-{:04o}", self.mode) }
    }

    /// What a reader of the record may see.
    fn summary(&self, world: &World) -> Value {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !self.holds_key() && text.len() <= 16_384 => text.into(),
            _ => self.digest(world).into(),
        }
    }

    /// The copy for putting it back: a line with the mode, then the bytes.
    fn backup(&self, world: &World) -> Secret {
        let mut bytes = format!("mode {:04o}\n", self.mode).into_bytes();
        bytes.extend_from_slice(&self.bytes);
        let fingerprint = match Key::from_pem(&self.bytes, "") {
            Ok(key) => key.fingerprint(),
            Err(_) => world.secrets.keyed_digest(&self.bytes),
        };
        Secret::new(bytes, fingerprint)
    }

    fn from_backup(backup: &Secret) -> Result<Self, PrimError> {
        let broken = || PrimError::internal("a backup of a file has no mode");
        let bytes = backup.expose();
        let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(broken)?;
        let head = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or_else(broken)?;
        let mode = head
            .strip_prefix("mode ")
            .and_then(|mode| u32::from_str_radix(mode, 8).ok())
            .ok_or_else(broken)?;
        Ok(Self { bytes: Zeroizing::new(bytes.get(end + 1..).unwrap_or_default().to_vec()), mode })
    }
}

/// What lies at a path.
pub(crate) fn look(world: &World, path: &Path) -> Result<Option<Content>, PrimError> {
    match world.disk.read(path) {
        Ok(bytes) => {
            let mode = world.disk.mode(path).map_err(|error| io_error(&error, path))?;
            Ok(Some(Content { bytes: Zeroizing::new(bytes), mode }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&error, path)),
    }
}

/// Makes a file hold this, or be absent: announced first, written as one act. Returns whether it had to change.
pub(crate) async fn put(
    world: &World,
    gate: &dyn Gate,
    path: &Path,
    wanted: Option<&Content>,
) -> Result<bool, PrimError> {
    let present = look(world, path)?;
    let digest = |content: Option<&Content>| content.map_or_else(|| "absent".to_owned(), |c| c.digest(world));
    let (before, after) = (digest(present.as_ref()), digest(wanted));
    if before == after {
        return Ok(false);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let summary = |content: Option<&Content>| json!({ &name: content.map(|content| content.summary(world)) });
    let effect = Effect {
        place: Place(format!("file:{}", path.display())),
        before,
        after,
        class: EffectClass::Restorable,
        backup: present.as_ref().map(|content| content.backup(world)),
        summary: json!({ "before": summary(present.as_ref()), "after": summary(wanted) }),
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(false);
    }
    write(world, path, wanted)?;
    Ok(true)
}

fn write(world: &World, path: &Path, wanted: Option<&Content>) -> Result<(), PrimError> {
    match wanted {
        None => world.disk.remove(path),
        Some(content) => path
            .parent()
            .filter(|folder| !world.disk.exists(folder))
            .map_or(Ok(()), |folder| world.disk.make_dir(folder, 0o700))
            .and_then(|()| world.disk.write_atomic(path, &content.bytes, content.mode)),
    }
    .map_err(|error| io_error(&error, path))
}

/// Puts one file back, where it still is what the run left there.
pub(crate) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let path = effect
        .place
        .0
        .strip_prefix("file:")
        .map(PathBuf::from)
        .ok_or_else(|| PrimError::internal(format!("`{}` is no file", effect.place.0)))?;
    let digest = look(world, &path)?.map_or_else(|| "absent".to_owned(), |content| content.digest(world));
    if digest == effect.before {
        return Ok(());
    }
    if digest != effect.after {
        return Err(PrimError::new(Code::Conflict, "somebody else has changed the file since")
            .on(path.display().to_string())
            .expected(effect.after.clone(), digest)
            .hint(
                "look at the file; put back what the run left there, or clear it away, and roll back again",
            ));
    }
    let backup = effect.backup.as_ref().map(Content::from_backup).transpose()?;
    put(world, gate, &path, backup.as_ref()).await.map(|_| ())
}
