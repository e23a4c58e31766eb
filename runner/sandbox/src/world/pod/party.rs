//! One identity with one trust store of one process, as loaded: what a pod presents and by what it judges others.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stdlib::trust::{Certs, Verifier};
use tokio::time::Instant;

use super::program::Leaf as LeafRule;
use crate::world::counters::State;
use crate::world::volume::{Digest, Files, Volume, digest};

/// A key pair as it was read.
pub struct Leaf {
    /// The chain, leaf first.
    pub chain: Certs,
    /// The key, as PEM bytes that stay in memory.
    pub key: stdlib::Secret,
    /// Tells states apart; of the chain alone.
    pub digest: Digest,
    /// Tells pairs of chain and key apart. Never leaves the process.
    pub pair: Digest,
}

/// A trust store as it was read.
#[derive(Debug)]
pub struct Anchors {
    /// The certificates.
    pub certs: Certs,
    /// Tells states apart.
    pub digest: Digest,
}

fn digest_of(certs: &Certs) -> Digest {
    digest(certs.0.iter().map(AsRef::as_ref))
}

fn certs(files: &Files, name: &str) -> Result<Certs, String> {
    let bytes = files.get(name).ok_or_else(|| format!("open {name}: no such file"))?;
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{name}: not PEM"))?;
    let certs = Certs::from_pem(text).map_err(|e| format!("{name}: {e}"))?;
    if certs.0.is_empty() { Err(format!("{name}: no certificate found")) } else { Ok(certs) }
}

/// Reads `ca.crt`, as every component does when it starts.
///
/// # Errors
/// It is missing or holds no certificate: the process does not start.
pub fn read_anchors(files: &Files) -> Result<Anchors, String> {
    let certs = certs(files, "ca.crt")?;
    let digest = digest_of(&certs);
    Ok(Anchors { certs, digest })
}

/// Reads `tls.crt` and `tls.key`.
///
/// # Errors
/// One is missing or malformed.
pub fn read_leaf(files: &Files) -> Result<Leaf, String> {
    let chain = certs(files, "tls.crt")?;
    let digest = digest_of(&chain);
    let key = files.get("tls.key").ok_or("open tls.key: no such file")?;
    let pair = crate::world::volume::digest([digest.as_slice(), key.as_slice()]);
    Ok(Leaf { chain, key: stdlib::Secret::new(key.clone(), "tls.key"), digest, pair })
}

struct Read {
    from: Arc<Files>,
    leaf: Result<Arc<Leaf>, String>,
    at: Instant,
}

/// The TLS side of one process.
pub struct Party {
    /// `pod/basic-pd-0`, `operator`.
    pub label: String,
    /// `pd`, `operator`.
    pub component: String,
    /// Where it dials from.
    pub ip: Option<IpAddr>,
    /// Whose rules it verifies by.
    pub verifier: Verifier,
    /// Common names that it allows of clients; empty allows all.
    pub allowed_cn: Vec<String>,
    /// What it loaded when it started.
    pub anchors: Arc<Anchors>,
    rule: LeafRule,
    volume: Volume,
    read: Mutex<Option<Read>>,
}

const HOUR: Duration = Duration::from_secs(3_600);

impl Party {
    /// A process that starts now: it reads its trust store, and may never do so again.
    ///
    /// # Errors
    /// Its trust store or its key pair is missing or malformed: the process does not start.
    pub fn start(
        (label, component): (String, &str),
        ip: Option<IpAddr>,
        verifier: Verifier,
        rule: LeafRule,
        volume: Volume,
        allowed_cn: Vec<String>,
    ) -> Result<Self, String> {
        let files = volume.files();
        let anchors = Arc::new(read_anchors(&files)?);
        let party = Self {
            label,
            component: component.to_owned(),
            ip,
            verifier,
            allowed_cn,
            anchors,
            rule,
            volume,
            read: Mutex::new(None),
        };
        party.leaf()?;
        Ok(party)
    }

    /// The MySQL side of a TiDB process, as it loads its files now.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn sql(label: String, volume: Volume) -> Result<Self, String> {
        Self::start((label, "tidb-sql"), None, Verifier::Go, LeafRule::AtStart, volume, Vec::new())
    }

    /// The key pair for a connection that begins now.
    ///
    /// # Errors
    /// The files are missing or malformed.
    pub fn leaf(&self) -> Result<Arc<Leaf>, String> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.volume.files();
        let fresh = read.as_ref().is_some_and(|r| {
            Arc::ptr_eq(&r.from, &files)
                || (self.rule == LeafRule::Hourly && r.at.elapsed() < HOUR)
                || self.rule == LeafRule::AtStart
        });
        if !fresh {
            let leaf = read_leaf(&files).map(Arc::new);
            *read = Some(Read { from: files, leaf, at: Instant::now() });
        }
        match read.as_ref() {
            Some(r) => r.leaf.clone(),
            None => Err("nothing was read".to_owned()),
        }
    }

    /// What it has loaded, as the counters name it.
    pub fn state(&self) -> Option<State> {
        let leaf = self.leaf().ok()?;
        Some(State { leaf: hex::encode(leaf.digest), anchors: hex::encode(self.anchors.digest) })
    }
}
