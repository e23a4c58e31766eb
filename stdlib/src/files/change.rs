//! Files, changed one at a time through the gate.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cert::{Certificate, Key};
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, Place, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

/// A file's content and permission bits.
pub(crate) struct Content {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) mode: u32,
    /// A password or token, which records know by a keyed digest alone. Keys in PEM are known as what they are.
    pub(crate) secret: bool,
    /// Whether the mode was asked for, and so belongs to the digest.
    pub(crate) exact: bool,
}

impl Content {
    /// Bytes with the mode that was asked for, or one that fits them.
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>, secret: bool, mode: Option<u32>) -> Self {
        let plain = Self { bytes, mode: 0o644, secret, exact: mode.is_some() };
        let fitting = if secret || plain.holds_key() { 0o600 } else { 0o644 };
        Self { mode: mode.unwrap_or(fitting), ..plain }
    }
    /// A certificate file, readable by all.
    pub(crate) fn certificates(pem: &str) -> Self {
        Self::new(Zeroizing::new(pem.as_bytes().to_vec()), false, Some(0o644)).with_any_mode()
    }
    /// A key file, readable by its owner alone.
    pub(crate) fn key(pem: &[u8]) -> Self {
        Self::new(Zeroizing::new(pem.to_vec()), false, Some(0o600)).with_any_mode()
    }
    /// The same, where another mode on the disk is none of our business.
    fn with_any_mode(self) -> Self {
        Self { exact: false, ..self }
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
    pub(crate) fn holds_key(&self) -> bool {
        self.bytes.windows(11).any(|window| window == b"PRIVATE KEY")
    }

    pub(crate) fn digest(&self, world: &World) -> String {
        self.digest_as(world, self.secret, self.exact)
    }

    /// A key is known by its public half, and by its mode where others may read it; another secret, and what cannot be
    /// read as a key, by a keyed digest; anything else by its bytes. A mode that was asked for is part of it.
    fn digest_as(&self, world: &World, secret: bool, exact: bool) -> String {
        let (digest, told) = if self.holds_key() {
            let digest = match Key::from_pem(&self.bytes, "") {
                Ok(key) => key.fingerprint(),
                Err(_) => world.secrets.keyed_digest(&self.bytes),
            };
            (digest, self.mode.trailing_zeros() < 6)
        } else if secret {
            (world.secrets.keyed_digest(&self.bytes), exact)
        } else {
            (format!("sha256:{}", hex::encode(Sha256::digest(&self.bytes))), exact)
        };
        if told { format!("{digest}+mode-{:04o}", self.mode) } else { digest }
    }

    /// What a reader of the record may see.
    pub(crate) fn summary(&self, world: &World) -> Value {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !self.holds_key() && !self.secret && text.len() <= 16_384 => text.into(),
            _ => self.digest(world).into(),
        }
    }

    /// The copy for putting it back: a line with the mode, then the bytes.
    pub(crate) fn backup(&self, world: &World) -> Secret {
        let mut bytes = format!("mode {:04o}\n", self.mode).into_bytes();
        bytes.extend_from_slice(&self.bytes);
        let fingerprint = match Key::from_pem(&self.bytes, "") {
            Ok(key) => key.fingerprint(),
            Err(_) => world.secrets.keyed_digest(&self.bytes),
        };
        Secret::new(bytes, fingerprint)
    }

    pub(crate) fn from_backup(backup: &Secret) -> Result<Self, PrimError> {
        let broken = || PrimError::internal("a backup of a file has no mode");
        let bytes = backup.expose();
        let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(broken)?;
        let head = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or_else(broken)?;
        let mode = head
            .strip_prefix("mode ")
            .and_then(|mode| u32::from_str_radix(mode, 8).ok())
            .ok_or_else(broken)?;
        let bytes = Zeroizing::new(bytes.get(end + 1..).unwrap_or_default().to_vec());
        Ok(Self { bytes, mode, secret: false, exact: false })
    }
}

/// What lies at a path.
pub(crate) fn look(world: &World, path: &Path) -> Result<Option<Content>, PrimError> {
    match world.disk.read(path) {
        Ok(bytes) => {
            let mode = world.disk.mode(path).map_err(|error| io_error(&error, path))?;
            Ok(Some(Content { bytes: Zeroizing::new(bytes), mode, secret: false, exact: false }))
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
    let mut present = look(world, path)?;
    if let (Some(present), Some(wanted)) = (&mut present, wanted) {
        (present.secret, present.exact) = (wanted.secret, wanted.exact);
    }
    let digest = |content: Option<&Content>| content.map_or_else(|| "absent".to_owned(), |c| c.digest(world));
    let (before, after) = (digest(present.as_ref()), digest(wanted));
    if before == after {
        return Ok(false);
    }
    let present = (before.as_str(), present.as_ref());
    exchange(world, gate, path, present, (&after, wanted)).await
}

/// Announces that one content, known by its digest, gives place to another, and writes that.
async fn exchange(
    world: &World,
    gate: &dyn Gate,
    path: &Path,
    (before, present): (&str, Option<&Content>),
    (after, wanted): (&str, Option<&Content>),
) -> Result<bool, PrimError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let summary = |content: Option<&Content>| json!({ &name: content.map(|content| content.summary(world)) });
    let effect = Effect {
        place: Place(format!("file:{}", path.display())),
        before: before.to_owned(),
        after: after.to_owned(),
        class: EffectClass::Restorable,
        backup: present.map(|content| content.backup(world)),
        summary: json!({ "before": summary(present), "after": summary(wanted) }),
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(false);
    }
    let now = look(world, path)?;
    if !is(world, now.as_ref(), before) {
        return Err(PrimError::new(Code::Conflict, "somebody else has changed the file just now")
            .on(path.display().to_string())
            .expected(before, found(world, now.as_ref(), before)));
    }
    write(world, path, wanted)?;
    Ok(true)
}

/// Whether what lies there is what a record knows by this digest, each kind of digest judged by its own rules.
fn is(world: &World, content: Option<&Content>, recorded: &str) -> bool {
    found(world, content, recorded) == recorded
}

/// The digest of what lies there, of the kind that a record has.
pub(crate) fn found(world: &World, content: Option<&Content>, recorded: &str) -> String {
    content.map_or_else(
        || "absent".to_owned(),
        |content| content.digest_as(world, recorded.starts_with("hmac:"), recorded.contains("+mode-")),
    )
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
    let mut present = look(world, &path)?;
    if is(world, present.as_ref(), &effect.before) {
        return Ok(());
    }
    if !is(world, present.as_ref(), &effect.after) {
        return Err(PrimError::new(Code::Conflict, "somebody else has changed the file since")
            .on(path.display().to_string())
            .expected(effect.after.clone(), found(world, present.as_ref(), &effect.after))
            .hint(
                "look at the file; put back what the run left there, or clear it away, and roll back again",
            ));
    }
    let mut backup = effect.backup.as_ref().map(Content::from_backup).transpose()?;
    for (content, digest) in [(&mut present, &effect.after), (&mut backup, &effect.before)] {
        if let Some(content) = content {
            content.secret = digest.starts_with("hmac:");
        }
    }
    let present = (effect.after.as_str(), present.as_ref());
    exchange(world, gate, &path, present, (&effect.before, backup.as_ref())).await.map(|_| ())
}

/// A failure of the disk, in the operator's words.
pub(crate) fn io_error(error: &std::io::Error, path: &Path) -> PrimError {
    let (code, message) = match error.kind() {
        std::io::ErrorKind::NotFound => (Code::NotFound, "there is no such file".to_owned()),
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            (Code::Forbidden, "may not be opened".to_owned())
        }
        std::io::ErrorKind::NotADirectory => (Code::NotFound, "is not a folder".to_owned()),
        _ => (Code::Unavailable, error.to_string()),
    };
    let error = PrimError::new(code, message).on(path.display().to_string());
    if code == Code::Forbidden { error.hint("run as a user who may read and write it") } else { error }
}
