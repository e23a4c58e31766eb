//! `etcd::snapshot`: the database of one member in a file, with the hash that etcd puts behind it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::client::connect;
use super::cluster::Cluster;
use crate::error::{Code, PrimError};
use crate::files::change::io_error;
use crate::gate::{Effect, EffectClass, Gate, Permit, Place, Progress};
use crate::world::World;

/// The hash behind a database.
const HASH: usize = 32;
/// For how long nothing may come of one.
const STALL: Duration = Duration::from_secs(30);
/// What a snapshot's length is a multiple of, without its hash.
const PAGE: u64 = 512;

/// The file of a snapshot: in a folder, which ends with `/`, each run has one of its own.
///
/// # Errors
/// There is no run that it could be called after.
pub(super) fn named(path: &str, marker: &str) -> Result<PathBuf, PrimError> {
    if !path.ends_with('/') {
        return Ok(path.into());
    }
    match marker.split('/').next() {
        Some(run) if !run.is_empty() => Ok(Path::new(path).join(format!("{run}.db"))),
        _ => Err(PrimError::argument("`path` is a folder, and there is no run to call the file after")
            .expected("the path of a file", format!("`{path}`"))),
    }
}

/// Saves one, unless a whole one is there.
pub(super) async fn save(
    world: &World,
    cluster: &Cluster,
    path: &Path,
    gate: &dyn Gate,
) -> Result<Value, PrimError> {
    let path = world.folder.join(path);
    let present = verify(world, &path)?;
    let word = |found: &Option<Result<Whole, String>>| match found {
        None => "absent",
        Some(Ok(_)) => "snapshot",
        Some(Err(_)) => "torn",
    };
    let look = cluster.look(world).await?;
    // By one endpoint: the member that has the most.
    let ahead = look
        .members
        .iter()
        .filter(|seen| seen.status.is_ok())
        .max_by_key(|seen| seen.status.as_ref().map_or(0, |s| s.applied));
    let from = ahead.and_then(|seen| cluster.members.iter().find(|member| member.host.name == seen.host));
    let from = from.ok_or_else(|| PrimError::new(Code::Unavailable, "no member answers").on("etcd"))?;
    let effect = Effect {
        place: Place(format!("file:{}", path.display())),
        before: word(&present).to_owned(),
        after: "snapshot".to_owned(),
        // It stays: going back does not need it, and whoever needs it needs it badly.
        class: EffectClass::Compensable,
        backup: None,
        summary: json!({ "before": word(&present), "after": "snapshot", "from": from.endpoint.to_string() }),
    };
    if present.as_ref().is_some_and(Result::is_ok) {
        // Its own from before a resume, or somebody else's: a snapshot is never written over.
        if gate.effect(effect).await? == Permit::AlreadyDone {
            return told(&path, present, "was there");
        }
        return Err(PrimError::new(Code::Conflict, "another snapshot lies there")
            .on(path.display().to_string())
            .hint("name another file"));
    }
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return told(&path, present, "was there");
    }
    let disk = |error: std::io::Error| io_error(&error, &path);
    if let Some(folder) = path.parent().filter(|folder| !world.disk.exists(folder)) {
        world.disk.make_dir(folder, 0o700).map_err(disk)?;
    }
    let mut file = world.disk.append(&path, 0, 0o600).map_err(disk)?;
    let connection = connect(world, &from.endpoint, &cluster.access).await?;
    let mut stream = connection.ask(connection.client().snapshot()).await?;
    let mut written: u64 = 0;
    while let Some(chunk) = connection.ask_within(STALL, stream.message()).await? {
        let left = chunk.remaining_bytes();
        let blob = Zeroizing::new(chunk.0.blob);
        file.write_all(&blob).map_err(disk)?;
        written += blob.len() as u64;
        gate.progress(Progress {
            text: format!("snapshot from {}", from.endpoint),
            done: Some((written, written + left)),
        });
    }
    file.sync().map_err(disk)?;
    drop(file);
    told(&path, verify(world, &path)?, &from.endpoint.to_string())
}

fn told(path: &Path, found: Option<Result<Whole, String>>, from: &str) -> Result<Value, PrimError> {
    match found {
        Some(Ok(whole)) => Ok(json!({
            "path": path.display().to_string(), "size": whole.size.to_string(), "hash": whole.hash, "from": from,
        })),
        Some(Err(why)) => Err(PrimError::new(Code::Unavailable, format!("the snapshot is not whole: {why}"))
            .on(path.display().to_string())
            .hint("resume: it is taken anew")),
        None => Err(PrimError::not_found("the snapshot is gone").on(path.display().to_string())),
    }
}

/// A snapshot that is whole.
struct Whole {
    size: u64,
    hash: String,
}

/// Whether what lies there is a snapshot with its hash; why not, where it is none; nothing where nothing is there.
fn verify(world: &World, path: &Path) -> Result<Option<Result<Whole, String>>, PrimError> {
    let mut file = match world.disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(&error, path)),
    };
    let mut hasher = Sha256::new();
    let mut tail: Vec<u8> = Vec::new();
    let mut buffer = Zeroizing::new(vec![0; 64 << 10]);
    let mut size: u64 = 0;
    loop {
        let count = file.read(&mut buffer).map_err(|error| io_error(&error, path))?;
        if count == 0 {
            break;
        }
        size += count as u64;
        tail.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let known = tail.len().saturating_sub(HASH);
        hasher.update(tail.get(..known).unwrap_or_default());
        tail.drain(..known);
    }
    let hash = hex::encode(hasher.finalize());
    Ok(Some(if size <= HASH as u64 || !(size - HASH as u64).is_multiple_of(PAGE) {
        Err(format!("{size} bytes are no database with its hash behind it"))
    } else if hex::encode(&tail) == hash {
        Ok(Whole { size, hash: format!("sha256:{hash}") })
    } else {
        Err("its hash is not that of its content".into())
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn in_a_folder_each_run_has_a_snapshot_of_its_own() {
        let named = |path, marker| named(path, marker).map(|path| path.display().to_string());
        assert_eq!(named("before.db", "run-1/back-up/f").unwrap(), "before.db");
        assert_eq!(named("saved/", "run-1/back-up/f").unwrap(), "saved/run-1.db");
        assert!(named("saved/", "").is_err());
    }
}
