//! `host::digest` and `host::compare`: files of a host by the digests that the record has for them, and whether they are as
//! they were.

use serde_json::{Value, json};

use super::calls::{entry_of, texts};
use super::change::MOST;
use super::inventory::Entry;
use super::port::{ABSENT, Found};
use crate::error::{Code, PrimError};
use crate::files::change::Content;
use crate::gate::{Gate, Progress};
use crate::world::World;

/// A file as it is told.
fn told(world: &World, entry: &Entry, path: &str, found: Option<Found>) -> Result<Value, PrimError> {
    let Some(found) = found else { return Ok(json!({ "path": path, "digest": ABSENT })) };
    if found.size > MOST as u64 {
        return Err(PrimError::invalid("is too large to be compared")
            .on(format!("{}:{path}", entry.name))
            .expected("at most 4 MiB", format!("{} bytes", found.size)));
    }
    let (mode, owner, size) = (format!("{:04o}", found.mode), found.owner_names, found.size.to_string());
    let content = Content { bytes: found.bytes, mode: found.mode, secret: false, exact: false };
    let digest = content.digest(world);
    // The mode stands for itself.
    let digest = digest.split_once("+mode-").map_or(digest.as_str(), |(digest, _)| digest);
    Ok(json!({ "path": path, "digest": digest, "mode": mode, "owner": owner, "size": size }))
}

pub(super) async fn all(world: &World, entry: &Entry, paths: &[String]) -> Result<Vec<Value>, PrimError> {
    let found = world.hosts.host(entry)?.read_all(paths, MOST).await?;
    paths.iter().zip(found).map(|(path, found)| told(world, entry, path, found)).collect()
}

/// `host::digest(host, paths)`.
pub(super) async fn digest(world: &World, args: &[Value]) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    all(world, &entry, &texts(args.get(1), "paths")?).await.map(Value::Array)
}

/// `host::compare(host, files)`.
pub(super) async fn compare(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let wanted = files(args)?;
    gate.progress(Progress { text: format!("{}: comparing {} files", entry.name, wanted.len()), done: None });
    let paths: Vec<String> = wanted.iter().map(|(path, _)| path.clone()).collect();
    let now = all(world, &entry, &paths).await?;
    let mut others = Vec::new();
    for ((path, wanted), now) in wanted.iter().zip(&now) {
        others.extend(difference(wanted, now).map(|(field, wanted, found)| (path, field, wanted, found)));
    }
    let Some((path, field, wanted, found)) = others.first() else {
        return Ok(json!({ "host": entry.name, "files": now }));
    };
    let more = match others.len() {
        1 => String::new(),
        _ => {
            let paths: Vec<&str> = others.iter().skip(1).map(|(path, ..)| path.as_str()).collect();
            format!("; neither are {}", paths.join(", "))
        }
    };
    Err(PrimError::new(Code::Unproved, format!("is not as it was, by its {field}{more}"))
        .on(format!("{}:{path}", entry.name))
        .expected(wanted.clone(), found.clone()))
}

/// The paths, and what each is to be.
fn files(args: &[Value]) -> Result<Vec<(String, Value)>, PrimError> {
    let wrong = || {
        PrimError::argument("`files` is no list of files").expected(
            "maps with `path` and `digest`, as `host::digest` gives them",
            args.get(1).map_or_else(|| "nothing".to_owned(), |_| "another value".to_owned()),
        )
    };
    let list = args.get(1).and_then(Value::as_array).ok_or_else(wrong)?;
    flat(list)
        .map(|file| {
            let path = file.get("path").and_then(Value::as_str).filter(|path| path.starts_with('/'));
            file.get("digest").and_then(Value::as_str).ok_or_else(wrong)?;
            Ok((path.ok_or_else(wrong)?.to_owned(), file.clone()))
        })
        .collect()
}

/// The items of a list, and of the lists in it.
pub(super) fn flat(list: &[Value]) -> impl Iterator<Item = &Value> {
    list.iter().flat_map(|item| item.as_array().map_or(std::slice::from_ref(item), Vec::as_slice))
}

/// The first field in which a file is another; fields that were not told are not compared.
fn difference(wanted: &Value, now: &Value) -> Option<(&'static str, String, String)> {
    ["digest", "mode", "owner"].into_iter().find_map(|field| {
        let wanted = wanted.get(field)?.as_str()?;
        let now = now.get(field).and_then(Value::as_str).unwrap_or(ABSENT);
        (wanted != now).then(|| (field, wanted.to_owned(), now.to_owned()))
    })
}

/// The paths that a call's arguments name.
pub(super) fn paths(args: &[Value]) -> Vec<&str> {
    let list = args.get(1).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    flat(list).filter_map(|item| item.as_str().or_else(|| item.get("path")?.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_told_of_a_file_is_compared() {
        let now = json!({ "path": "/x", "digest": "sha256:a", "mode": "0600", "owner": "etcd:etcd" });
        assert_eq!(difference(&json!({ "digest": "sha256:a" }), &now), None);
        assert_eq!(difference(&now, &now), None);
        let told = |wanted: Value| difference(&wanted, &now).map(|(field, ..)| field);
        assert_eq!(told(json!({ "digest": "sha256:b", "mode": "0644" })), Some("digest"));
        assert_eq!(told(json!({ "digest": "sha256:a", "mode": "0644" })), Some("mode"));
        assert_eq!(
            told(json!({ "digest": "sha256:a", "mode": "0600", "owner": "root:root" })),
            Some("owner")
        );
        assert_eq!(told(json!({ "digest": ABSENT })), Some("digest"));
        let gone = json!({ "path": "/x", "digest": ABSENT });
        assert_eq!(difference(&now, &gone), Some(("digest", "sha256:a".into(), ABSENT.into())));
        assert_eq!(difference(&gone, &gone), None);
    }
}
