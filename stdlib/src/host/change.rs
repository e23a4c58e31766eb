//! Files of hosts, changed through the gate.

use serde_json::{Map, Value, json};

use super::inventory::Entry;
use super::owner;
use super::port::{ABSENT, Found, Host, Put, digest};
use super::stage::{self, Laid};
use crate::error::{Code, PrimError};
use crate::files::change::{Content, found};
use crate::gate::{Effect, EffectClass, Gate, Permit, Place, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

/// The largest file that is changed; what is larger is no certificate and no configuration.
pub(super) const MOST: usize = 4 << 20;

/// A file that shall hold something.
pub(super) struct Wish {
    pub path: String,
    pub content: Content,
    /// Whether a file that is there shall keep its mode.
    pub keep_mode: bool,
    pub owner: Option<String>,
    /// Whether it is laid beside its place, and its place left as it is.
    pub beside: bool,
}

/// What lies there: what we know of it by its bytes, whose it is, and the digest by which the host compares.
pub(super) struct Seen {
    pub(super) content: Option<Content>,
    pub(super) file: Option<Found>,
    pub(super) raw: String,
}

impl Seen {
    /// Its digest, with its owner where one is asked for.
    pub(super) fn digest(&self, world: &World, wanted: Option<&str>) -> String {
        match (&self.content, &self.file) {
            (Some(content), Some(file)) => owner::of(&content.digest(world), file, wanted),
            _ => ABSENT.to_owned(),
        }
    }

    /// Its digest, of the kind that a record has.
    fn as_recorded(&self, world: &World, recorded: &str) -> String {
        let (digest, wanted) = owner::apart(recorded);
        let now = found(world, self.content.as_ref(), digest);
        self.file.as_ref().map_or_else(|| now.clone(), |file| owner::of(&now, file, wanted))
    }

    /// Whose it is, `uid:gid`.
    fn owner(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.owner.as_str())
    }
}

async fn look(host: &dyn Host, path: &str) -> Result<Seen, PrimError> {
    seen(host, path, host.read(path, MOST).await?)
}

/// Several files, in one exchange.
pub(super) async fn look_all(host: &dyn Host, paths: &[String]) -> Result<Vec<Seen>, PrimError> {
    let files = host.read_all(paths, MOST).await?;
    paths.iter().zip(files).map(|(path, file)| seen(host, path, file)).collect()
}

fn seen(host: &dyn Host, path: &str, file: Option<Found>) -> Result<Seen, PrimError> {
    let Some(mut file) = file else {
        return Ok(Seen { content: None, file: None, raw: ABSENT.to_owned() });
    };
    if file.size > MOST as u64 {
        return Err(PrimError::invalid("is too large to be kept and put back")
            .on(format!("{}:{path}", host.name()))
            .expected("at most 4 MiB", format!("{} bytes", file.size)));
    }
    let raw = digest(&file.bytes);
    let bytes = std::mem::take(&mut file.bytes);
    let content = Content { bytes, mode: file.mode, secret: false, exact: false };
    Ok(Seen { content: Some(content), file: Some(file), raw })
}

/// The place of a file on a host.
pub(super) fn place(host: &str, path: &str) -> Place {
    Place(format!("host:{host}:{path}"))
}

/// Makes files of one host hold this, all in one exchange: each is announced first. Says which had to change.
pub(super) async fn put(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    wishes: Vec<Wish>,
) -> Result<Vec<bool>, PrimError> {
    let host = world.hosts.host(entry)?;
    let mut puts = Vec::new();
    let mut changed = Vec::new();
    let laid = stage::laid(host.as_ref(), wishes).await?;
    let paths: Vec<String> = laid.iter().map(|laid| laid.path.clone()).collect();
    let seen = look_all(host.as_ref(), &paths).await?;
    for (Laid { path, place, wish, like }, mut seen) in laid.into_iter().zip(seen) {
        let mut wanted = wish.content;
        if let Some(present) = &mut seen.content {
            (present.secret, present.exact) = (wanted.secret, wanted.exact);
            if wish.keep_mode {
                wanted.mode = present.mode;
            }
        }
        let now = seen.digest(world, wish.owner.as_deref());
        let after = owner::with(&wanted.digest(world), wish.owner.as_deref());
        if now == after {
            changed.push(false);
            continue;
        }
        let place = self::place(&entry.name, &place);
        let effect = effect(world, entry, (place, &path), (&now, &seen), (&after, Some(&wanted)));
        let apply = gate.effect(effect).await? == Permit::Apply;
        changed.push(apply);
        if apply {
            puts.push(Put {
                path,
                before: seen.raw,
                mode: Some(wanted.mode),
                bytes: Some(wanted.bytes),
                owner: wish.owner.or(like),
            });
        }
    }
    if !puts.is_empty() {
        gate.holds().await?;
        host.replace(&puts, world.hosts.fence(&entry.name).as_ref()).await?;
    }
    Ok(changed)
}

/// A change of a file, which lies at `path` and is known to the record by `place`.
pub(super) fn effect(
    world: &World,
    entry: &Entry,
    (place, path): (Place, &str),
    (before, seen): (&str, &Seen),
    (after, wanted): (&str, Option<&Content>),
) -> Effect {
    let told = |digest: &str, content: Option<&Content>| {
        let mut fields = summary(world, path, content);
        if let (Some(fields), (_, Some(owner))) = (fields.as_object_mut(), owner::apart(digest)) {
            fields.insert("owner".into(), owner.into());
        }
        fields
    };
    Effect {
        place,
        before: before.to_owned(),
        after: after.to_owned(),
        class: EffectClass::Restorable,
        backup: Some(seal(world, entry, path, seen)),
        summary: json!({ "before": told(before, seen.content.as_ref()), "after": told(after, wanted) }),
    }
}

/// What a reader of the record may see, under the names that the trust model knows: `ca.crt` for anchors, `tls.crt` for a
/// chain.
fn summary(world: &World, path: &str, content: Option<&Content>) -> Value {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some(content) = content else { return json!({ name: null }) };
    let role = if content.holds_key() { None } else { role(&content.bytes) };
    let mut fields = Map::new();
    fields.insert(role.unwrap_or(name).to_owned(), content.summary(world));
    Value::Object(fields)
}

/// What certificates are for, by the first of them.
fn role(bytes: &[u8]) -> Option<&'static str> {
    if !bytes.starts_with(b"-----BEGIN") && !bytes.windows(16).any(|part| part == b"BEGIN CERTIFICAT") {
        return None;
    }
    let first = crate::cert::parse_many(bytes, "").ok()?.into_iter().next()?;
    Some(if first.is_ca() { "ca.crt" } else { "tls.crt" })
}

/// The copy for putting a file back: how its host is reached, whether it was there, whose it was, and what it held.
fn seal(world: &World, entry: &Entry, path: &str, seen: &Seen) -> Secret {
    let present = seen.content.as_ref();
    let head = json!({ "host": entry, "path": path, "present": present.is_some(), "owner": seen.owner() });
    let mut bytes = head.to_string().into_bytes();
    bytes.push(b'\n');
    let inner = present.map(|content| content.backup(world));
    if let Some(inner) = &inner {
        bytes.extend_from_slice(inner.expose());
    }
    let fingerprint = match &inner {
        Some(inner) => inner.fingerprint().to_owned(),
        None => world.secrets.keyed_digest(&bytes),
    };
    Secret::new(bytes, fingerprint)
}

/// What lay at a place before.
struct Before {
    content: Option<Content>,
    owner: Option<String>,
}

impl Before {
    /// What puts it back, where `seen` is what lies there now: its owner too, where the change was of that.
    fn put(self, path: String, seen: Seen, recorded: &RecordedEffect) -> Put {
        let changed = owner::apart(&recorded.before).1.is_some();
        Put {
            path,
            before: seen.raw,
            mode: self.content.as_ref().map(|content| content.mode),
            owner: self.owner.filter(|_| changed && self.content.is_some()),
            bytes: self.content.map(|content| content.bytes),
        }
    }
}

/// What [`seal`] wrote.
fn unseal(backup: &Secret) -> Result<(Entry, String, Before), PrimError> {
    let broken = || PrimError::internal("a backup of a host's file has no head");
    let bytes = backup.expose();
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
    let head: Value = serde_json::from_slice(bytes.get(..end).unwrap_or_default()).map_err(|_| broken())?;
    let entry =
        head.get("host").cloned().and_then(|host| serde_json::from_value(host).ok()).ok_or_else(broken)?;
    let path = head.get("path").and_then(Value::as_str).ok_or_else(broken)?.to_owned();
    let inner = Secret::new(bytes.get(end + 1..).unwrap_or_default().to_vec(), backup.fingerprint());
    let present = head.get("present").and_then(Value::as_bool).ok_or_else(broken)?;
    let content = if present { Some(Content::from_backup(&inner)?) } else { None };
    let owner = head.get("owner").and_then(Value::as_str).map(str::to_owned);
    Ok((entry, path, Before { content, owner }))
}

/// Whether a file holds what the record knows by this digest.
pub(super) async fn stands(
    world: &World,
    host: &dyn Host,
    path: &str,
    known: &str,
) -> Result<bool, PrimError> {
    let seen = look(host, path).await?;
    Ok(seen.as_recorded(world, known) == known)
}

/// What would put one file back; nothing where it holds already what it held before.
pub(super) async fn way_back(
    world: &World,
    host: &dyn Host,
    recorded: &RecordedEffect,
) -> Result<Option<Put>, PrimError> {
    let backup = recorded.backup.as_ref().ok_or_else(|| no_copy(recorded))?;
    let (_, path, before) = unseal(backup)?;
    let seen = look(host, &path).await?;
    if seen.as_recorded(world, &recorded.before) == recorded.before {
        return Ok(None);
    }
    let now = seen.as_recorded(world, &recorded.after);
    if now != recorded.after {
        return Err(changed_since(host.name(), &path, recorded, now));
    }
    Ok(Some(before.put(path, seen, recorded)))
}

fn no_copy(recorded: &RecordedEffect) -> PrimError {
    PrimError::internal("the record has no copy of it").on(recorded.place.0.clone())
}

fn changed_since(host: &str, path: &str, recorded: &RecordedEffect, now: String) -> PrimError {
    PrimError::new(Code::Conflict, "somebody else has changed the file since")
        .on(format!("{host}:{path}"))
        .expected(recorded.after.clone(), now)
        .hint("look at the file; put back what the run left there, or clear it away, and roll back again")
}

/// Puts files back, where they still are what the run left there: those that a step wrote on one host all in one
/// exchange, so that nobody reads a certificate beside another's key.
pub(super) async fn restore(
    world: &World,
    recorded: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let (entry, ..) = unseal(recorded.backup.as_ref().ok_or_else(|| no_copy(recorded))?)?;
    let host = world.hosts.host(&entry)?;
    let mut all = gate.put_back_together()?;
    if !all.iter().any(|one| one.place == recorded.place) {
        all.push(recorded.clone());
    }
    let mut here = Vec::new();
    for one in &all {
        let (other, path, before) = unseal(one.backup.as_ref().ok_or_else(|| no_copy(one))?)?;
        if other.name == entry.name {
            here.push((one, path, before));
        }
    }
    let paths: Vec<String> = here.iter().map(|(_, path, _)| path.clone()).collect();
    let seen = look_all(host.as_ref(), &paths).await?;
    let mut puts = Vec::new();
    for (one, seen) in here.into_iter().zip(seen) {
        puts.extend(put_back(world, &entry, one, seen, gate).await?);
    }
    if puts.is_empty() {
        return Ok(());
    }
    gate.holds().await?;
    host.replace(&puts, world.hosts.fence(&entry.name).as_ref()).await
}

/// Announces that one file is put back; nothing where that is so already.
async fn put_back(
    world: &World,
    entry: &Entry,
    (recorded, path, mut before): (&RecordedEffect, String, Before),
    mut seen: Seen,
    gate: &dyn Gate,
) -> Result<Option<Put>, PrimError> {
    if seen.as_recorded(world, &recorded.before) == recorded.before {
        return Ok(None);
    }
    let now = seen.as_recorded(world, &recorded.after);
    if now != recorded.after {
        return Err(changed_since(&entry.name, &path, recorded, now));
    }
    for (content, known) in [(&mut seen.content, &recorded.after), (&mut before.content, &recorded.before)] {
        if let Some(content) = content {
            content.secret = known.starts_with("hmac:");
        }
    }
    let wanted = (recorded.before.as_str(), before.content.as_ref());
    let effect = effect(world, entry, (recorded.place.clone(), &path), (&recorded.after, &seen), wanted);
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(None);
    }
    Ok(Some(before.put(path, seen, recorded)))
}
