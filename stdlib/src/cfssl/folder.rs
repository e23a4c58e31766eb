//! The PKI folder of the TiDB page: which CA is in force, and what a person has begun by hand.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use time::OffsetDateTime;

use super::{Config, Request, Rules, json};
use crate::cert::{self, Certificate, Key, date};
use crate::error::{Code, PrimError};
use crate::files::change::io_error;
use crate::files::read_at_most;
use crate::secret::Secret;
use crate::world::Disk;

/// How far a person has come with the page's first section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// `ca.pem` and `ca-key.pem` are the CA in force.
    Untouched,
    /// They were moved to `ca.old.pem` and `ca-key.old.pem`; there is no new CA yet.
    CaMoved,
    /// A new CA is there as well.
    CaMade,
    /// `ca.pem` holds both.
    Bundled,
}

impl Found {
    /// The word in the fact.
    pub fn word(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::CaMoved => "ca-moved",
            Self::CaMade => "ca-made",
            Self::Bundled => "bundled",
        }
    }
}

/// A certificate of the folder with its key, where that is there.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key; absent only where it is not needed.
    pub key: Option<Key>,
}

/// What the folder says.
#[derive(Debug)]
pub struct Folder {
    /// The CA that issued what is in use.
    pub ca: Authority,
    /// A CA that a person has made to follow it.
    pub successor: Option<Authority>,
    /// How far they have come.
    pub found: Found,
    /// `ca-csr.json`, or null.
    pub ca_csr: Value,
    /// `ca-config.json`.
    pub config: Config,
    /// The other requests by file stem.
    pub requests: BTreeMap<String, Value>,
    /// What a person should know: permissions, repaired files, leftovers.
    pub notes: Vec<String>,
}

/// How the folder is read.
#[derive(Debug, Default)]
pub struct Reading {
    /// How strictly its JSON files are read.
    pub rules: Rules,
    /// What opens keys that are encrypted.
    pub passphrase: Option<Secret>,
    /// Whether the CA in force may have expired, to be followed by a new one.
    pub expired: bool,
}

/// The certificate and key files of the page, as read.
struct Files<'a> {
    disk: &'a dyn Disk,
    folder: &'a Path,
    passphrase: Option<&'a Secret>,
    expired: bool,
    notes: Vec<String>,
    keys: Vec<(&'static str, Key)>,
}

/// Reads the folder.
///
/// # Errors
/// No folder, no `ca-config.json`, no CA, a CA that is none or has expired, no key for it or another's, malformed JSON
/// (line and column), a `ca.pem` of several certificates that no page made.
pub fn read(disk: &dyn Disk, folder: &Path, now: OffsetDateTime) -> Result<Folder, PrimError> {
    read_with(disk, folder, now, &Reading::default())
}

/// As [`read`], by the given rules and with a passphrase.
///
/// # Errors
/// As [`read`]; the passphrase does not open a key.
pub fn read_with(
    disk: &dyn Disk,
    folder: &Path,
    now: OffsetDateTime,
    reading: &Reading,
) -> Result<Folder, PrimError> {
    let names = disk.list(folder).map_err(|error| {
        let error = io_error(&error, folder);
        if error.code == Code::NotFound {
            PrimError { message: "there is no such folder".into(), ..error }
                .expected("a PKI folder", "nothing")
                .hint("name the folder that holds `ca.pem`, `ca-key.pem` and `ca-config.json`")
        } else {
            error
        }
    })?;
    let config = config(disk, folder, reading.rules)?;
    let mut notes: Vec<String> =
        config.profiles.values().flat_map(|profile| &profile.warnings).cloned().collect();
    let (ca_csr, requests) = requests(disk, folder, &names, reading.rules, &mut notes)?;
    let passphrase = reading.passphrase.as_ref();
    let mut files = Files { disk, folder, passphrase, expired: reading.expired, notes, keys: Vec::new() };
    files.read_keys()?;
    let (ca, successor, found) = decide(&mut files, now)?;
    if ca_csr.is_null() && successor.is_none() {
        files.notes.push("there is no ca-csr.json: a new CA cannot be made".into());
    }
    let Files { notes, .. } = files;
    Ok(Folder { ca, successor, found, ca_csr, config, requests, notes })
}

/// Which CA is in force and which follows, from what lies there. All prefixes of the page's first section are known,
/// also those in the middle of one of its `mv … && mv …`.
fn decide(
    files: &mut Files<'_>,
    now: OffsetDateTime,
) -> Result<(Authority, Option<Authority>, Found), PrimError> {
    let current = files.certificates("ca.pem")?;
    let old = files.single("ca.old.pem")?;
    let new = files.single("ca.new.pem")?;
    let follows = match (&new, &old) {
        (Some(new), _) => Some((new.clone(), "ca.new.pem")),
        (None, Some(old)) => match current.as_slice() {
            [] => None,
            [only] => (only != old).then(|| (only.clone(), "ca.pem")),
            several => other_of_two(several, old).map(|other| (other, "ca.pem")),
        },
        (None, None) => None,
    };
    let in_force = match (&old, &follows) {
        (Some(old), _) => (old.clone(), "ca.old.pem"),
        (None, Some((new, _))) => match (current.as_slice(), other_of_two(&current, new)) {
            (_, Some(other)) => (other, "ca.pem"),
            ([only], None) => (only.clone(), "ca.pem"),
            _ => return Err(files.missing_old()),
        },
        (None, None) => match current.as_slice() {
            [only] => (only.clone(), "ca.pem"),
            [] => return Err(files.no_ca()),
            _ => return Err(files.several(&current)),
        },
    };
    let bundled = current.len() > 1;
    if bundled && follows.is_none() {
        return Err(files.several(&current));
    }
    match follows.filter(|(new, _)| *new != in_force.0) {
        // What expired is a leftover of a rotation that is over, where its successor is valid.
        Some(follows) if in_force.0.not_after() < now && follows.0.valid_at(now) => {
            files.notes.push(format!(
                "{} expired on {} and is taken for a leftover: {} is in force",
                in_force.1,
                date(in_force.0.not_after()),
                follows.1
            ));
            Ok((files.authority(follows, now, true)?, None, Found::Untouched))
        }
        Some(follows) => {
            let found = if bundled { Found::Bundled } else { Found::CaMade };
            let ca = files.authority(in_force, now, false)?;
            Ok((ca, Some(files.authority(follows, now, true)?), found))
        }
        None => {
            let found = if current.is_empty() { Found::CaMoved } else { Found::Untouched };
            Ok((files.authority(in_force, now, true)?, None, found))
        }
    }
}

/// The one certificate of a bundle of two that is not `known`.
fn other_of_two(bundle: &[Certificate], known: &Certificate) -> Option<Certificate> {
    match bundle {
        [one, two] if one == known && two != known => Some(two.clone()),
        [one, two] if two == known && one != known => Some(one.clone()),
        _ => None,
    }
}

impl Files<'_> {
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, PrimError> {
        let path = self.folder.join(name);
        match read_at_most(self.disk, &path, cert::pem::MAX_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&error, &path)),
        }
    }

    fn certificates(&mut self, name: &str) -> Result<Vec<Certificate>, PrimError> {
        let Some(bytes) = self.bytes(name)? else { return Ok(Vec::new()) };
        let parsed = cert::parse(&bytes, &self.path(name))?;
        self.notes.extend(parsed.notes.into_iter().map(|note| format!("{name}: {note}")));
        Ok(crate::bundle::merge([parsed.certificates.as_slice()]))
    }

    fn single(&mut self, name: &str) -> Result<Option<Certificate>, PrimError> {
        let all = self.certificates(name)?;
        match all.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            several => Err(PrimError::invalid("holds several certificates where one CA belongs")
                .on(self.path(name))
                .expected("one certificate", several.len().to_string())
                .hint("keep the one that the file's name means; bundles are made by the run")),
        }
    }

    fn read_keys(&mut self) -> Result<(), PrimError> {
        for name in ["ca-key.new.pem", "ca-key.pem", "ca-key.old.pem"] {
            let Some(bytes) = self.bytes(name)?.map(zeroize::Zeroizing::new) else { continue };
            if let Ok(mode) = self.disk.mode(&self.folder.join(name))
                && mode & 0o077 != 0
            {
                self.notes.push(format!(
                    "{name} may be read by others (mode {mode:04o}): `chmod 600 {}`",
                    self.path(name)
                ));
            }
            if Key::needs_passphrase(&bytes) {
                self.notes.push(format!(
                    "{name} is encrypted; the key of a new CA is written without a passphrase, with mode 0600"
                ));
            }
            self.keys.push((name, Key::from_bytes(&bytes, &self.path(name), self.passphrase)?));
        }
        Ok(())
    }

    fn authority(
        &self,
        (certificate, name): (Certificate, &str),
        now: OffsetDateTime,
        key_needed: bool,
    ) -> Result<Authority, PrimError> {
        let on = |error: PrimError| PrimError { object: self.path(name), ..error };
        if !certificate.may_sign() {
            let found = if certificate.is_ca() { "a CA that may not sign certificates" } else { "no CA" };
            return Err(PrimError::invalid(format!(
                "`{}` is not the certificate of a CA",
                certificate.subject_text()
            ))
            .on(self.path(name))
            .expected("CA:TRUE and the usage `cert sign`", found)
            .hint("put the CA's own certificate there, not that of a component"));
        }
        let expired = certificate.not_after() < now && self.expired;
        let valid = if expired { Ok(()) } else { certificate.check_valid_at(now) };
        valid.map_err(|error| {
            let hint = error.hint.clone().unwrap_or_else(|| {
                "with an expired CA no handshake succeeds, so nothing can be replaced without an outage: \
                 make new certificates for all components and restart them together"
                    .into()
            });
            on(error).hint(hint)
        })?;
        let key = self.keys.iter().find(|(_, key)| key.matches(&certificate)).map(|(_, key)| key.clone());
        // What has expired signs nothing more.
        if key.is_none() && key_needed && !expired {
            let usual = name.replace("ca.", "ca-key.");
            return Err(match self.keys.iter().find(|(name, _)| *name == usual) {
                Some((_, key)) => PrimError::new(Code::KeyMismatch, "the CA's private key does not belong to its certificate")
                    .on(self.path(&usual))
                    .expected(format!("the key of {name}, {}", certificate.spki_fingerprint()), key.fingerprint())
                    .hint(format!("put the key that belongs to {name} there, or the certificate that belongs to the key")),
                None => PrimError::new(Code::NoKey, "the CA's private key is not in the folder")
                    .on(self.path(&usual))
                    .expected(format!("the key of {name}, {}", certificate.spki_fingerprint()), "no such file")
                    .hint("bring the key from where it is kept, with mode 0600; without it nothing can be issued"),
            });
        }
        Ok(Authority { certificate, key })
    }

    fn no_ca(&self) -> PrimError {
        PrimError::not_found("there is no CA in the folder")
            .on(self.path("ca.pem"))
            .expected("`ca.pem`, or `ca.old.pem` where a rotation was begun by hand", "neither")
            .hint("name the folder in which `cfssl gencert -initca` wrote the CA")
    }

    fn missing_old(&self) -> PrimError {
        PrimError::not_found("there is a new CA, and the old one is missing")
            .on(self.path("ca.old.pem"))
            .expected("the CA in force as `ca.old.pem`", "no such file")
            .hint("bring back the old CA's certificate; `kubectl get secret` shows it as `ca.crt`")
    }

    fn several(&self, found: &[Certificate]) -> PrimError {
        let names = found.iter().map(|c| format!("`{}`", c.subject_text())).collect::<Vec<_>>().join(", ");
        PrimError::invalid("holds several certificates, and it cannot be told which CA is in force")
            .on(self.path("ca.pem"))
            .expected("one CA", format!("{}: {names}", found.len()))
            .hint("put the CA that issued the certificates in use into `ca.pem` alone, its key into `ca-key.pem`")
    }
}

fn config(disk: &dyn Disk, folder: &Path, rules: Rules) -> Result<Config, PrimError> {
    let path = folder.join("ca-config.json");
    let bytes = read_at_most(disk, &path, json::MAX_BYTES).map_err(|error| {
        let error = io_error(&error, &path);
        if error.code == Code::NotFound {
            error
                .expected("a cfssl configuration", "nothing")
                .hint("bring the file that `cfssl gencert -config` takes: it holds the profiles")
        } else {
            error
        }
    })?;
    Config::read_json(&bytes, &path.display().to_string(), rules)
}

fn requests(
    disk: &dyn Disk,
    folder: &Path,
    names: &[String],
    rules: Rules,
    notes: &mut Vec<String>,
) -> Result<(Value, BTreeMap<String, Value>), PrimError> {
    let mut ca_csr = Value::Null;
    let mut requests = BTreeMap::new();
    for name in names {
        let Some(stem) =
            name.strip_suffix(".json").filter(|stem| *stem != "ca-config" && !stem.starts_with('.'))
        else {
            continue;
        };
        let path = folder.join(name);
        let what = path.display().to_string();
        let text = read_at_most(disk, &path, json::MAX_BYTES).map_err(|error| io_error(&error, &path))?;
        let value = json::parse(&text, &what)?;
        if stem == "ca-csr" {
            notes.extend(Request::read(&value, &what, rules)?.warnings);
            ca_csr = value;
        } else if Request::looks_like(&value) {
            notes.extend(Request::read(&value, &what, rules)?.warnings);
            requests.insert(stem.to_owned(), value);
        }
    }
    Ok((ca_csr, requests))
}
