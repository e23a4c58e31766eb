//! What a rotation leaves in the PKI folder.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cert::{Certificate, Key};
use crate::error::{Code, PrimError};
use crate::files::change::{Content, look, put};
use crate::gate::Gate;
use crate::secret::Secret;
use crate::world::World;

/// What the page leaves lying about.
const LEFTOVERS: [&str; 4] = ["ca.new.pem", "ca-key.new.pem", "ca.old.pem", "ca-key.old.pem"];

/// The folder of a fact, and the CA that it says is in force (its key may be absent).
struct Place {
    folder: PathBuf,
    old: Certificate,
    old_key: Option<Key>,
    /// What opens the folder's keys, where they are encrypted.
    passphrase: Option<Secret>,
}

impl Place {
    fn of(world: &World, folder: &Value) -> Result<Self, PrimError> {
        let missing = |field: &str| {
            PrimError::argument(format!("folder has no `{field}`"))
                .expected("the fact of a PKI folder", "something else")
                .hint("pass the fact that `cfssl::folder` gave")
        };
        let ca = folder.get("ca").ok_or_else(|| missing("ca"))?;
        let text = ca.get("cert").and_then(Value::as_str).ok_or_else(|| missing("ca.cert"))?;
        let old = Certificate::from_pem(text.as_bytes(), "folder.ca.cert")?;
        let old_key = match ca.get("key").filter(|key| !key.is_null()) {
            Some(handle) => Some(Key::from_secret(&world.secrets.get(handle)?)?),
            None => None,
        };
        let passphrase = crate::cert::passphrase_of_options(world, Some(folder))?;
        Ok(Self { folder: path_of(world, folder)?, old, old_key, passphrase })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Fails where `ca.pem` or `ca-key.pem` are neither the old CA's nor the new one's: somebody else is at work.
    fn check_ours(&self, world: &World, new: &Certificate, new_key: &Key) -> Result<(), PrimError> {
        let foreign = |name: &str, found: String| {
            PrimError::new(Code::Conflict, "holds neither the CA in force nor its successor")
                .on(self.path(name).display().to_string())
                .expected(format!("{} or {}", self.old.fingerprint(), new.fingerprint()), found)
                .hint("somebody has changed the PKI folder since the plan was made: look at it, then start anew")
        };
        if let Ok(bytes) = world.disk.read(&self.path("ca.pem")) {
            let found = crate::cert::parse_many(&bytes, &self.path("ca.pem").display().to_string())?;
            if let Some(other) = found.iter().find(|c| **c != self.old && *c != new) {
                return Err(foreign("ca.pem", other.fingerprint()));
            }
        }
        if let Ok(bytes) = world.disk.read(&self.path("ca-key.pem")) {
            let bytes = zeroize::Zeroizing::new(bytes);
            let path = self.path("ca-key.pem").display().to_string();
            let found = Key::from_bytes(&bytes, &path, self.passphrase.as_ref())?;
            if !found.matches(&self.old) && found.fingerprint() != new_key.fingerprint() {
                return Err(foreign("ca-key.pem", found.fingerprint()));
            }
        }
        Ok(())
    }

    /// The old CA's key for keeping: encrypted, where it lies so.
    fn old_key(&self, world: &World) -> Result<Option<Content>, PrimError> {
        let Some(key) = &self.old_key else { return Ok(None) };
        for name in ["ca-key.pem", "ca-key.old.pem"] {
            let Ok(bytes) = world.disk.read(&self.path(name)).map(zeroize::Zeroizing::new) else { continue };
            let same = |found: Key| found.fingerprint() == key.fingerprint();
            if Key::needs_passphrase(&bytes)
                && Key::from_bytes(&bytes, name, self.passphrase.as_ref()).is_ok_and(same)
            {
                return Ok(Some(Content::key(&bytes)));
            }
        }
        Ok(Some(Content::key(key.to_pem()?.as_bytes())))
    }
}

pub(crate) fn path_of(world: &World, folder: &Value) -> Result<PathBuf, PrimError> {
    let text = folder.as_str().or_else(|| folder.get("path").and_then(Value::as_str)).ok_or_else(|| {
        PrimError::argument("folder is neither a path nor what `cfssl::folder` gave")
            .expected("a path or a fact", "something else")
            .hint("pass the fact that `cfssl::folder` gave")
    })?;
    Ok(world.folder.join(text))
}

/// Leaves the folder as a finished rotation: the new CA as `ca.pem` and `ca-key.pem`, the old one as `ca.pem` and
/// `ca-key.pem` of `retired/ID`; of the page's other files only what holds neither of the two moves there too. Every prefix of its effects is a folder that [`super::folder::read`] understands.
pub(crate) async fn install(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let place = Place::of(world, args.first().unwrap_or(&Value::Null))?;
    let (new, new_key) = crate::ca::from_value(world, args.get(1).unwrap_or(&Value::Null), "ca")?;
    place.check_ours(world, &new, &new_key)?;
    let mut changed = Vec::new();
    let fingerprint = place.old.fingerprint();
    let id = fingerprint.trim_start_matches("sha256:").get(..16).unwrap_or_default().to_owned();
    let retired = place.path("retired").join(id);
    let new_pem = Content::certificates(&new.pem());
    let new_key_pem = Content::key(new_key.to_pem()?.as_bytes());
    if place.old != new {
        keep(world, gate, &retired.join("ca.pem"), &Content::certificates(&place.old.pem()), &mut changed)
            .await?;
        if let Some(key) = place.old_key(world)? {
            keep(world, gate, &retired.join("ca-key.pem"), &key, &mut changed).await?;
        }
    }
    for name in LEFTOVERS {
        if let Some(content) = look(world, &place.path(name))?
            && !content.is_of(&[&place.old, &new])
        {
            keep(world, gate, &retired.join(name), &content.moved(), &mut changed).await?;
        }
    }
    // Between the two writes `ca.pem` and `ca-key.pem` do not fit: the staged pair says what is going on.
    if look(world, &place.path("ca.pem"))?.is_none_or(|content| !content.is_of(&[&new])) {
        keep(world, gate, &place.path("ca-key.new.pem"), &new_key_pem, &mut changed).await?;
        keep(world, gate, &place.path("ca.new.pem"), &new_pem, &mut changed).await?;
    }
    keep(world, gate, &place.path("ca-key.pem"), &new_key_pem, &mut changed).await?;
    keep(world, gate, &place.path("ca.pem"), &new_pem, &mut changed).await?;
    for name in LEFTOVERS {
        let path = place.path(name);
        if put(world, gate, &path, None).await? {
            changed.push(path.display().to_string());
        }
    }
    Ok(
        json!({ "changed": changed, "retired": retired.display().to_string(), "fingerprint": new.fingerprint() }),
    )
}

/// Leaves the folder as the page does after its first section, so that a person can go on by hand.
pub(crate) async fn stage_files(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let place = Place::of(world, args.first().unwrap_or(&Value::Null))?;
    let (new, new_key) = crate::ca::from_value(world, args.get(1).unwrap_or(&Value::Null), "ca")?;
    let bundle = crate::bundle::certificates(args.get(2).unwrap_or(&Value::Null), "bundle")?;
    place.check_ours(world, &new, &new_key)?;
    let mut changed = Vec::new();
    keep(world, gate, &place.path("ca.old.pem"), &Content::certificates(&place.old.pem()), &mut changed)
        .await?;
    if let Some(key) = place.old_key(world)? {
        keep(world, gate, &place.path("ca-key.old.pem"), &key, &mut changed).await?;
    }
    let new_key_pem = Content::key(new_key.to_pem()?.as_bytes());
    keep(world, gate, &place.path("ca-key.new.pem"), &new_key_pem, &mut changed).await?;
    keep(world, gate, &place.path("ca.new.pem"), &Content::certificates(&new.pem()), &mut changed).await?;
    let bundle = Content::certificates(&crate::bundle::encode(&bundle)?);
    keep(world, gate, &place.path("ca.pem"), &bundle, &mut changed).await?;
    let moved = place.path("ca-key.pem");
    if put(world, gate, &moved, None).await? {
        changed.push(moved.display().to_string());
    }
    Ok(json!({ "changed": changed }))
}

/// Writes a leaf as `cfssljson -bare STEM` names it.
pub(crate) async fn write_leaf(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let folder = path_of(world, args.first().unwrap_or(&Value::Null))?;
    let stem = args.get(1).and_then(Value::as_str).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if stem.is_empty()
        || stem.starts_with('.')
        || !stem.chars().all(plain)
        || matches!(stem.split('.').next(), Some("ca" | "ca-key"))
    {
        return Err(PrimError::argument(format!(
            "`{}` is no name for a certificate's files",
            stem.escape_debug()
        ))
        .expected(
            "letters, digits, `-`, `_` and `.`, and not the CA's own name",
            format!("`{}`", stem.escape_debug()),
        )
        .hint("pass the request's name, as `pd-server`"));
    }
    let (chain, key) = crate::ca::chain_of(world, args.get(2).unwrap_or(&Value::Null), "leaf")?;
    let mut changed = Vec::new();
    let key = Content::key(key.to_pem()?.as_bytes());
    keep(world, gate, &folder.join(format!("{stem}-key.pem")), &key, &mut changed).await?;
    let pem = Content::certificates(&crate::bundle::encode(&chain)?);
    keep(world, gate, &folder.join(format!("{stem}.pem")), &pem, &mut changed).await?;
    Ok(json!({ "changed": changed }))
}

async fn keep(
    world: &World,
    gate: &dyn Gate,
    path: &Path,
    content: &Content,
    changed: &mut Vec<String>,
) -> Result<(), PrimError> {
    if put(world, gate, path, Some(content)).await? {
        changed.push(path.display().to_string());
    }
    Ok(())
}
