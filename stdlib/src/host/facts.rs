//! What is read of hosts: texts, certificates with their dates, identities, and whether they are ready to be changed.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::inventory::Entry;
use super::mixed;
use super::port::{Command, Found, Host};
use crate::cert::{self, Key, date};
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::secret::Secret;
use crate::world::World;

/// The largest file that is read.
pub(super) const MOST: usize = 1 << 20;
/// How far a host's clock may be from ours: certificates are valid from five minutes before they are made.
const SKEW: Duration = Duration::from_secs(60);
/// What must be free where files are written.
const FREE: u64 = 16 << 20;

async fn file(world: &World, entry: &Entry, path: &str) -> Result<Found, PrimError> {
    whole(world.hosts.host(entry)?.read(path, MOST).await?, entry, path)
}

/// A file that must be there, of which all was read.
pub(super) fn whole<F: std::borrow::Borrow<Found>>(
    found: Option<F>,
    entry: &Entry,
    path: &str,
) -> Result<F, PrimError> {
    let on = || format!("{}:{path}", entry.name);
    let found = found.ok_or_else(|| PrimError::not_found("there is no such file").on(on()))?;
    let size = found.borrow().size;
    if size > MOST as u64 {
        return Err(PrimError::invalid("is too large to be read")
            .on(on())
            .expected("at most 1 MiB", format!("{size} bytes")));
    }
    Ok(found)
}

/// What may become part of the record.
pub(super) fn text<'f>(found: &'f Found, entry: &Entry, path: &str) -> Result<&'f str, PrimError> {
    let invalid = |message: &str| PrimError::invalid(message).on(format!("{}:{path}", entry.name));
    let text = std::str::from_utf8(&found.bytes).map_err(|_| invalid("is not UTF-8 text"))?;
    if text.contains("PRIVATE KEY-----") {
        return Err(invalid("holds a private key, which must not become part of the record")
            .hint("read it with `host::identity`, which gives a handle"));
    }
    Ok(text)
}

/// `host::read(host, path)`.
pub(super) async fn read(world: &World, entry: &Entry, path: &str) -> Result<Value, PrimError> {
    let found = file(world, entry, path).await?;
    Ok(text(&found, entry, path)?.into())
}

/// `host::identity(host, cert, key)`.
pub(super) async fn identity(
    world: &World,
    entry: &Entry,
    cert: &str,
    key: &str,
) -> Result<Value, PrimError> {
    let chain = file(world, entry, cert).await?;
    let chain = cert::parse_many(&chain.bytes, &format!("{}:{cert}", entry.name))?;
    let what = format!("{}:{key}", entry.name);
    let bytes = file(world, entry, key).await?.bytes;
    let key = Key::from_pem(&bytes, &what)?;
    let leaf = chain
        .first()
        .ok_or_else(|| PrimError::invalid("holds no certificate").on(format!("{}:{cert}", entry.name)))?;
    key.check_matches(leaf, &what)?;
    let handle = world.secrets.put(&Secret::new(bytes.to_vec(), key.fingerprint()))?;
    let pem: String = chain.iter().map(cert::Certificate::pem).collect();
    Ok(json!({
        "cert": pem,
        "key": handle,
        "fingerprint": leaf.fingerprint(),
        "subject": leaf.subject_text(),
        "not_after": date(leaf.not_after()),
    }))
}

/// Whether a file's name is that of certificates.
pub(super) fn named_so(name: &str) -> bool {
    let end = name.rsplit('.').next().unwrap_or_default();
    matches!(end, "pem" | "crt" | "cer")
        && !name.trim_end_matches(end).trim_end_matches('.').ends_with("-key")
}

/// Where the key of a certificate's file would lie beside it: as cfssl and as kubeadm name it.
pub(super) fn keys_of(path: &str) -> Vec<String> {
    let Some((stem, ending)) = path.rsplit_once('.') else { return Vec::new() };
    vec![format!("{stem}-key.{ending}"), format!("{stem}.key")]
}

/// The path of the key beside a certificate, by the names that its folder has; empty where none is there.
fn beside(path: &str, names: &[String]) -> String {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    keys_of(path).into_iter().find(|key| names.contains(&name(key))).unwrap_or_default()
}

/// The names in the folder of a file; none where the folder may not be looked into.
async fn siblings(host: &dyn Host, path: &str) -> Result<Vec<String>, PrimError> {
    let parent =
        path.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
    match host.list(parent).await {
        Ok(names) => Ok(names.unwrap_or_default()),
        Err(error) if error.code == Code::Forbidden => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// `host::certificates(host, paths)`: files, and the certificate files of folders.
pub(super) async fn certificates(world: &World, entry: &Entry, paths: &[String]) -> Result<Value, PrimError> {
    let host = world.hosts.host(entry)?;
    let mut files: Vec<(String, String)> = Vec::new();
    for path in paths {
        if let Some(names) = folder(host.as_ref(), path).await? {
            let paths = names.iter().filter(|name| named_so(name));
            let paths = paths.map(|name| format!("{}/{name}", path.trim_end_matches('/')));
            files.extend(paths.map(|path| (beside(&path, &names), path)));
        } else {
            let names = siblings(host.as_ref(), path).await?;
            files.push((beside(path, &names), path.clone()));
        }
    }
    let mut rows = Vec::new();
    for (key, path) in files {
        let found = file(world, entry, &path).await?;
        let on = format!("{}:{path}", entry.name);
        // A key in a file named as a certificate is none of this table's business.
        if !found.bytes.windows(16).any(|part| part == b"BEGIN CERTIFICAT") {
            continue;
        }
        let beside = if mixed::holds_key(&found.bytes) { mixed::of(&found.bytes, &on)? } else { None };
        let certificates =
            beside.as_ref().map_or(found.bytes.as_slice(), |mixed| mixed.certificates.as_bytes());
        for certificate in cert::parse_many(certificates, &on)? {
            rows.push(json!({
                "host": entry.name,
                "path": path,
                "real": found.real,
                "key": key,
                "subject": certificate.subject_text(),
                "issuer": certificate.issuer_text(),
                "is_ca": certificate.is_ca(),
                "not_before": date(certificate.not_before()),
                "not_after": date(certificate.not_after()),
                "fingerprint": certificate.fingerprint(),
                "pem": certificate.pem(),
            }));
        }
    }
    Ok(Value::Array(rows))
}

/// The entries of a folder; `None` where the path is a file.
pub(super) async fn folder(host: &dyn Host, path: &str) -> Result<Option<Vec<String>>, PrimError> {
    let probe = host.run(Command::new(["test", "-d", path])).await?;
    if probe.code == 0 { host.list(path).await } else { Ok(None) }
}

/// What a host must have to be changed.
pub(super) struct Needs {
    pub paths: Vec<String>,
    pub skew: Duration,
    pub free: u64,
}

impl Default for Needs {
    fn default() -> Self {
        Self { paths: Vec::new(), skew: SKEW, free: FREE }
    }
}

/// `host::ready(hosts, options)`: all are asked, and what each lacks is said at once.
pub(super) async fn ready(
    world: &World,
    entries: &[Entry],
    needs: &Needs,
    gate: &dyn Gate,
) -> Result<Value, PrimError> {
    gate.progress(Progress { text: format!("asking {} hosts", entries.len()), done: None });
    let asked = join_all(entries.iter().map(|entry| one_ready(world, entry, needs))).await;
    let mut rows = Vec::new();
    let mut failed: Vec<PrimError> = Vec::new();
    for row in asked {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => failed.push(error),
        }
    }
    let mut failed = failed.into_iter();
    let Some(first) = failed.next() else { return Ok(json!({ "hosts": rows })) };
    let others: Vec<String> = failed.map(|error| error.to_string()).collect();
    if others.is_empty() {
        return Err(first);
    }
    let message = format!("{}; and {}", first.message, others.join("; and "));
    Err(PrimError { message, ..first })
}

/// What is free where a folder lies, or where it would be made.
async fn room(host: &dyn Host, path: &str) -> Result<u64, PrimError> {
    let mut place = path.trim_end_matches('/');
    loop {
        let error = match host.free(if place.is_empty() { "/" } else { place }).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let absent = !place.is_empty() && matches!(host.list(place).await, Ok(None));
        match place.rsplit_once('/') {
            Some((parent, _)) if absent => place = parent,
            _ => return Err(error),
        }
    }
}

async fn one_ready(world: &World, entry: &Entry, needs: &Needs) -> Result<Value, PrimError> {
    let host = world.hosts.host(entry)?;
    let offset = host.clock(world.clock.as_ref()).await?;
    let most = i64::try_from(needs.skew.as_millis()).unwrap_or(i64::MAX);
    let sure = offset.millis.abs().saturating_sub(i64::try_from(offset.give_or_take).unwrap_or(0));
    if sure > most {
        let way = if offset.millis > 0 { "ahead of" } else { "behind" };
        return Err(PrimError::new(Code::Unproved, format!("its clock is {}s {way} ours", offset.millis.abs() / 1000))
            .on(entry.title())
            .expected(format!("at most {}s", needs.skew.as_secs()), format!("{}s", offset.millis.abs() / 1000))
            .hint("set one of the two clocks right: a certificate that is not valid yet is refused as one that has expired"));
    }
    let mut free = serde_json::Map::new();
    for path in &needs.paths {
        let found = room(host.as_ref(), path).await?;
        if found < needs.free {
            return Err(PrimError::new(Code::Unproved, "too little is free on its disk")
                .on(format!("{}:{path}", entry.name))
                .expected(format!("{} KiB", needs.free / 1024), format!("{} KiB", found / 1024))
                .hint("make room there before anything is changed"));
        }
        free.insert(path.clone(), found.into());
    }
    Ok(
        json!({ "host": entry.name, "clock_ms": offset.millis, "give_or_take_ms": offset.give_or_take, "free": free }),
    )
}
