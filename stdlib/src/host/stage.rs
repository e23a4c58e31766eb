//! Files that are laid beside their places first and put in place later, by a rename alone.
//!
//! What is laid there is durable before anything depends on it, and a disk that is full or cannot be written is found then.
//! It lies in the folder of what it will replace, behind links: a rename crosses no file system.

use serde_json::{Value, json};

use super::calls::{entry_of, loaded};
use super::change::{self, Seen, Wish};
use super::compare;
use super::inventory::Entry;
use super::port::{ABSENT, Host, Move};
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Permit};
use crate::trust;
use crate::world::World;

/// What the name of a file has more while it lies beside its place. Nobody takes such a file for a certificate or a manifest.
const BESIDE: &str = ".rollover-new";

/// A wish, and where the file lies that is written for it.
pub(super) struct Laid {
    /// The file that is written.
    pub path: String,
    /// The file by which the record knows it: as scripts and manifests name it, links not followed.
    pub place: String,
    pub wish: Wish,
    /// Whose what it will replace is.
    pub like: Option<String>,
}

/// Where each wish is written: at its place, or beside it, with the mode and the owner of what lies there.
pub(super) async fn laid(host: &dyn Host, wishes: Vec<Wish>) -> Result<Vec<Laid>, PrimError> {
    let mut all = Vec::new();
    for mut wish in wishes {
        let (mut path, mut place, mut like) = (wish.path.clone(), wish.path.clone(), None);
        if wish.beside {
            if let Some(there) = host.read(&wish.path, change::MOST).await? {
                if wish.keep_mode {
                    wish.content.mode = there.mode;
                }
                path = there.real;
                like = Some(there.owner);
            }
            // An earlier attempt's file has the mode of an earlier time.
            wish.keep_mode = false;
            path += BESIDE;
            place += BESIDE;
        }
        all.push(Laid { path, place, wish, like });
    }
    Ok(all)
}

/// What lies beside these files, as it is read back: where, by which digest, for which file, and certificates whole.
pub(super) async fn told(world: &World, entry: &Entry, files: &[&str]) -> Result<Vec<Value>, PrimError> {
    let host = world.hosts.host(entry)?;
    let mut paths = Vec::new();
    for file in files {
        let real =
            host.read(file, change::MOST).await?.map_or_else(|| (*file).to_owned(), |there| there.real);
        paths.push(real + BESIDE);
    }
    let mut all = compare::all(world, entry, &paths).await?;
    let seen = change::look_all(host.as_ref(), &paths).await?;
    for ((told, seen), file) in all.iter_mut().zip(seen).zip(files) {
        let Some(fields) = told.as_object_mut() else { continue };
        fields.insert("to".into(), (*file).into());
        let Some(content) = seen.content.filter(|content| !content.holds_key()) else { continue };
        if let Ok(text) = std::str::from_utf8(&content.bytes)
            && loaded(entry, file, text).is_some()
        {
            fields.insert("pem".into(), text.into());
        }
    }
    Ok(all)
}

/// Adds the files to what a step returns.
pub(super) fn tell(step: &mut Value, files: Vec<Value>) {
    if let Some(fields) = step.as_object_mut() {
        fields.insert("files".into(), files.into());
    }
}

/// A file to put in place.
struct Staged {
    path: String,
    digest: String,
    to: String,
    pem: Option<String>,
}

impl Staged {
    fn of(value: &Value) -> Result<Self, PrimError> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("path"), text("digest"), text("to")) {
            (Some(path), Some(digest), Some(to)) => Ok(Self { path, digest, to, pem: text("pem") }),
            _ => Err(PrimError::argument("`files` is no list of what lies beside its place")
                .expected("the `files` of a step that wrote with `beside: true`", "another value")),
        }
    }
}

fn files(args: &[Value]) -> Result<Vec<Staged>, PrimError> {
    let list = args.get(1).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let found = compare::flat(list).map(Staged::of).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        return Err(PrimError::argument("`files` is empty").expected("at least one file", "none"));
    }
    Ok(found)
}

/// The files that a call changes, as far as its arguments tell.
pub(super) fn places(args: &[Value]) -> Vec<String> {
    let all = files(args).unwrap_or_default();
    all.into_iter().flat_map(|file| [file.to.clone() + BESIDE, file.to]).collect()
}

/// What parties load from files that are put in place.
pub(super) fn forecast(_: &World, args: &[Value]) -> Result<Vec<trust::Write>, PrimError> {
    let entry = entry_of(args, 0)?;
    let all = files(args)?;
    Ok(all.iter().filter_map(|file| loaded(&entry, &file.to, file.pem.as_deref()?)).collect())
}

/// `host::install(host, files)`.
pub(super) async fn install(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let (entry, files) = (entry_of(args, 0)?, files(args)?);
    let host = world.hosts.host(&entry)?;
    let paths = |of: fn(&Staged) -> &String| files.iter().map(|file| of(file).clone()).collect::<Vec<_>>();
    let (from, to) = (paths(|file| &file.path), paths(|file| &file.to));
    let now = |all: Vec<Value>| all.into_iter().map(|file| file.get("digest").cloned().unwrap_or_default());
    let digests: Vec<_> = now(compare::all(world, &entry, &from).await?).collect();
    let installed: Vec<_> = now(compare::all(world, &entry, &to).await?).collect();
    let staged = change::look_all(host.as_ref(), &from).await?;
    let places = change::look_all(host.as_ref(), &to).await?;
    let mut moves = Vec::new();
    for (n, (mut staged, mut place)) in staged.into_iter().zip(places).enumerate() {
        let (Some(file), Some(lies), Some(there)) = (files.get(n), digests.get(n), installed.get(n)) else {
            continue;
        };
        if lies == ABSENT && *there == file.digest {
            continue;
        }
        if *lies != file.digest {
            return Err(PrimError::new(Code::Conflict, "what was laid there is gone, or is another")
                .on(format!("{}:{}", entry.name, file.path))
                .expected(file.digest.clone(), lies.as_str().unwrap_or_default())
                .hint(format!("it was to become {}: give this run up with `rollover abort --leave-mixed`, and begin a new one, which lays all files anew", file.to)));
        }
        for seen in [&mut staged, &mut place] {
            if let Some(content) = &mut seen.content {
                content.secret = content.holds_key();
            }
        }
        if announce(world, gate, &entry, file, (&staged, &place)).await? {
            let (path, to) = (file.path.clone(), file.to.clone());
            moves.push(Move { from: path, staged: staged.raw, to, before: place.raw });
        }
    }
    if !moves.is_empty() {
        gate.holds().await?;
        host.install(&moves, world.hosts.fence(&entry.name).as_ref()).await?;
    }
    Ok(json!({ "host": entry.name, "installed": moves.len().to_string() }))
}

/// Announces that a file takes its place, and that it lies beside it no more.
async fn announce(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    file: &Staged,
    (staged, place): (&Seen, &Seen),
) -> Result<bool, PrimError> {
    let (before, after) = (place.digest(world, None), staged.digest(world, None));
    let mut apply = false;
    if before != after {
        let name = change::place(&entry.name, &file.to);
        let wanted = (after.as_str(), staged.content.as_ref());
        let effect = change::effect(world, entry, (name, &file.to), (&before, place), wanted);
        apply |= gate.effect(effect).await? == Permit::Apply;
    }
    let name = change::place(&entry.name, &(file.to.clone() + BESIDE));
    let effect = change::effect(world, entry, (name, &file.path), (&after, staged), (ABSENT, None));
    apply |= gate.effect(effect).await? == Permit::Apply;
    Ok(apply)
}
