//! `host::verified`: the certificates of hosts as they lie in files and as ports serve them.

mod judge;
mod ports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::facts::{folder, keys_of, named_so};
use super::inventory::Entry;
use super::mixed;
use super::port::{Found, Host};
use crate::cert::Key;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress, Table};
use crate::tls::observe;
use crate::world::World;
use judge::{File, KeyFile, Port, Row};
pub(super) use ports::Ports;

/// The largest file that is read.
const MOST: usize = 1 << 20;
/// How long a look at a port may take.
const WITHIN: Duration = Duration::from_secs(5);

/// What is looked at.
pub(super) struct Scope {
    pub(super) folders: Folders,
    pub(super) ports: Ports,
    pub(super) soon: Duration,
}

/// Where certificates lie.
pub(super) enum Folders {
    /// In the same folders on every host.
    Everywhere(Vec<String>),
    /// In folders of its own on each host.
    ByHost(BTreeMap<String, Vec<String>>),
}

impl Folders {
    /// Those of a host.
    pub(super) fn of(&self, host: &str) -> &[String] {
        match self {
            Self::Everywhere(folders) => folders,
            Self::ByHost(hosts) => hosts.get(host).map_or(&[], Vec::as_slice),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Everywhere(folders) => folders.join(", "),
            Self::ByHost(hosts) => hosts
                .iter()
                .map(|(host, folders)| format!("{host}: {}", folders.join(", ")))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }
}

/// Looks at everything, shows it, and fails where something is wrong.
pub(super) async fn verified(
    world: &World,
    entries: &[Entry],
    scope: &Scope,
    gate: &dyn Gate,
) -> Result<Value, PrimError> {
    gate.progress(Progress { text: format!("looking at {} hosts", entries.len()), done: None });
    let all = join_all(entries.iter().map(|entry| one(world, entry, scope))).await;
    let rows: Vec<Row> = all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    if rows.is_empty() {
        return Err(PrimError::not_found("no certificate was found").on(scope.folders.words()).hint(
            "name the folders that hold certificates (`.pem`, `.crt`, `.cer`), or ports that serve them",
        ));
    }
    gate.table(&table(&rows));
    if let Some(note) = ports::not_looked_at(entries.iter().map(|entry| entry.name.as_str()), &rows) {
        gate.note(&note)?;
    }
    let findings: Vec<(&Row, &String)> =
        rows.iter().flat_map(|row| row.findings.iter().map(move |finding| (row, finding))).collect();
    let Some((first, _)) = findings.first() else {
        return Ok(json!({ "certificates": rows }));
    };
    let told: Vec<String> =
        findings.iter().map(|(row, finding)| format!("{}:{}: {finding}", row.host, row.place)).collect();
    let count = if told.len() == 1 { "1 finding".to_owned() } else { format!("{} findings", told.len()) };
    Err(PrimError::new(Code::Unproved, format!("{count}: {}", told.join("; ")))
        .on(format!("{}:{}", first.host, first.place))
        .hint("mend what is named, then `rollover resume` looks again; nothing was changed"))
}

fn table(rows: &[Row]) -> Table {
    let heading = ["host", "where", "what", "name", "until", "days", "finding"];
    let row = |row: &Row| {
        let until = row.not_after.get(..10).unwrap_or_default().to_owned();
        let days = row.days_left.map(|days| days.to_string()).unwrap_or_default();
        let (host, place) = (row.host.clone(), row.place.clone());
        vec![host, place, row.what.clone(), row.name.clone(), until, days, row.findings.join("; ")]
    };
    Table { heading: heading.map(str::to_owned).into(), rows: rows.iter().map(row).collect() }
}

async fn one(world: &World, entry: &Entry, scope: &Scope) -> Result<Vec<Row>, PrimError> {
    let host = world.hosts.host(entry)?;
    let mut paths = Vec::new();
    for path in scope.folders.of(&entry.name) {
        match folder(host.as_ref(), path).await? {
            Some(names) => {
                let names = names.iter().filter(|name| named_so(name));
                paths.extend(names.map(|name| format!("{}/{name}", path.trim_end_matches('/'))));
            }
            None => paths.push(path.clone()),
        }
    }
    let files = join_all(paths.iter().map(|path| file(host.as_ref(), path))).await;
    let files: Vec<File> = files.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let ports = scope.ports.of(&files);
    let mut ports = join_all(ports.into_iter().map(|port| look(world, entry, port))).await;
    ports.retain(|port| scope.ports.asked() || port.served.is_ok());
    Ok(judge::judge(&entry.name, &files, &ports, world.clock.now(), scope.soon))
}

/// A file, and the key beside it; nothing where it is a key, or anything else that is no certificate by its content.
async fn file(host: &dyn Host, path: &str) -> Result<Option<File>, PrimError> {
    let found = match host.read(path, MOST).await {
        Ok(found) => found,
        Err(error) if matches!(error.code, Code::Forbidden | Code::Invalid) => {
            return Ok(Some(File { path: path.to_owned(), held: Err(error.message), key: None }));
        }
        Err(error) => return Err(error),
    };
    let held = match found {
        None => Err("there is no such file, or a link leads nowhere".to_owned()),
        Some(found) if found.size > MOST as u64 => Err(format!("is too large: {} bytes", found.size)),
        Some(found) if mixed::holds_key(&found.bytes) => return Ok(both(path, &found)),
        Some(found) => Ok(found.bytes.to_vec()),
    };
    Ok(Some(File { path: path.to_owned(), held, key: key(host, path).await? }))
}

/// A file of a certificate and its key, as a kubelet keeps its own; nothing where it is a key alone.
fn both(path: &str, found: &Found) -> Option<File> {
    let (held, key) = match mixed::of(&found.bytes, path) {
        Ok(mixed) => {
            let mixed = mixed?;
            let key = mixed.key.map_err(|error| error.message);
            (
                Ok(mixed.certificates.into_bytes()),
                Some(KeyFile { path: path.to_owned(), mode: found.mode, key }),
            )
        }
        Err(_) if !found.bytes.windows(16).any(|part| part == b"BEGIN CERTIFICAT") => return None,
        Err(error) => (Err(error.message), None),
    };
    Some(File { path: path.to_owned(), held, key })
}

/// The key that lies beside a certificate, by the names that cfssl and kubeadm give.
async fn key(host: &dyn Host, path: &str) -> Result<Option<KeyFile>, PrimError> {
    for beside in keys_of(path) {
        let found = match host.read(&beside, MOST).await {
            Ok(found) => found,
            Err(error) if matches!(error.code, Code::Forbidden | Code::Invalid) => {
                return Ok(Some(KeyFile { path: beside, mode: 0, key: Err(error.message) }));
            }
            Err(error) => return Err(error),
        };
        if let Some(found) = found {
            let key = Key::from_pem(&found.bytes, &beside).map_err(|error| error.message);
            return Ok(Some(KeyFile { path: beside, mode: found.mode, key }));
        }
    }
    Ok(None)
}

async fn look(world: &World, entry: &Entry, port: u16) -> Port {
    let dialled = async {
        let stream = world.net.dial(&entry.address, port).await.map_err(|error| error.to_string())?;
        let seen = observe(stream, &entry.address, WITHIN, Arc::clone(&world.clock)).await;
        seen.map(|seen| seen.chain).map_err(|error| error.to_string())
    };
    let served = tokio::select! {
        served = dialled => served,
        () = world.clock.sleep(WITHIN) => Err("does not answer".to_owned()),
    };
    let served = served.map_err(|why| format!("cannot be looked at from here: {why}"));
    Port { port, served }
}
