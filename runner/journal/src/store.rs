//! Where runs lie: `<state>/runs/<run-id>/{journal.jsonl, bodies/, vault/, lock}`.
//!
//! A run folder is complete: record, pinned sources and vault work when it is moved to another machine.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use stdlib::world::Disk;
use time::OffsetDateTime;
use time::UtcOffset;

use crate::bodies::{Bodies, hex_of};
use crate::error::JournalError;
use crate::event::Header;
use crate::vault::Vault;
use crate::writer::{FILE, Loaded, load};

/// Letters and digits that are not mistaken for each other. The first of a tail is a letter, so that a tail is never
/// the prefix of an id.
const LETTERS: &[u8; 23] = b"abcdefghjkmnpqrstuvwxyz";
const SIGNS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// A run's id, e.g. `20261122-061503-k7qd`: sorts by time, and its last part is short to type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(String);

impl RunId {
    /// An id for a run that begins now.
    pub fn new(now: OffsetDateTime, random: u32) -> Self {
        let now = now.to_offset(UtcOffset::UTC);
        let mut rest = usize::try_from(random).unwrap_or(0);
        let mut tail = String::new();
        for alphabet in [LETTERS.as_slice(), SIGNS, SIGNS, SIGNS] {
            let sign = alphabet.get(rest % alphabet.len()).copied().unwrap_or(b'a');
            tail.push(char::from(sign));
            rest /= alphabet.len();
        }
        Self(format!(
            "{:04}{:02}{:02}-{:02}{:02}{:02}-{tail}",
            now.year(),
            u8::from(now.month()),
            now.day(),
            now.hour(),
            now.minute(),
            now.second()
        ))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn tail(&self) -> &str {
        self.0.rsplit('-').next().unwrap_or_default()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sign = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(sign) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a run id"))
        }
    }
}

/// All runs of a state folder.
#[derive(Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
    runs: PathBuf,
}

impl Store {
    /// The runs below a state folder. Nothing is read or made yet.
    pub fn new(disk: Arc<dyn Disk>, state_dir: &Path) -> Self {
        Self { disk, runs: state_dir.join("runs") }
    }

    /// Makes the folder of a new run, locked. `random` chooses the last part of its id.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn create(&self, now: OffsetDateTime, random: u32) -> Result<RunLock, JournalError> {
        let mut random = random;
        loop {
            let id = RunId::new(now, random);
            random = random.wrapping_add(1);
            let dir = self.dir(&id);
            if self.disk.exists(&dir) {
                continue;
            }
            self.disk.make_dir(&dir, 0o700).map_err(JournalError::io(&dir))?;
            match self.lock(&id) {
                Err(JournalError::Held { .. }) => {}
                // Another process may have made the same folder and let it go again.
                Ok(lock) if self.disk.exists(&dir.join(FILE)) => drop(lock),
                locked => return locked,
            }
        }
    }

    /// All runs, oldest first.
    ///
    /// # Errors
    /// The folder is there and cannot be read.
    pub fn list(&self) -> Result<Vec<RunId>, JournalError> {
        match self.disk.list(&self.runs) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(JournalError::io(&self.runs)(e)),
            Ok(names) => {
                let mut ids: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
                ids.sort();
                Ok(ids)
            }
        }
    }

    /// The one run whose id, or whose id's last part, begins with this text.
    ///
    /// # Errors
    /// None does, or several do; these are listed.
    pub fn find(&self, prefix: &str) -> Result<RunId, JournalError> {
        let prefix = prefix.trim().to_ascii_lowercase();
        let mut found = self.list()?;
        if let Some(exact) = found.iter().find(|id| id.as_str() == prefix || id.tail() == prefix) {
            let twins = found.iter().filter(|id| id.tail() == prefix).count();
            if twins <= 1 {
                return Ok(exact.clone());
            }
        }
        found.retain(|id| {
            !prefix.is_empty() && (id.as_str().starts_with(&prefix) || id.tail().starts_with(&prefix))
        });
        match found.as_slice() {
            [] => Err(JournalError::NoRun(prefix)),
            [one] => Ok(one.clone()),
            many => {
                let candidates = many.iter().map(ToString::to_string).collect();
                Err(JournalError::Ambiguous { prefix, candidates })
            }
        }
    }

    /// The shortest text, of two signs or more, by which [`Store::find`] finds this run now.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn short(&self, id: &RunId) -> Result<String, JournalError> {
        let all = self.list()?;
        let tail = id.tail();
        let unique = |text: &str| all.iter().filter(|other| other.tail().starts_with(text)).count() <= 1;
        let short = (2..=tail.len()).filter_map(|len| tail.get(..len)).find(|text| unique(text));
        Ok(short.unwrap_or(id.as_str()).to_owned())
    }

    /// The folder of a run.
    pub fn dir(&self, id: &RunId) -> PathBuf {
        self.runs.join(id.as_str())
    }

    /// Reads a run's record without locking it.
    ///
    /// # Errors
    /// It cannot be read, was altered, or has a newer format.
    pub fn load(&self, id: &RunId) -> Result<Loaded, JournalError> {
        load(&*self.disk, &self.dir(id))
    }

    /// A run's bodies, for reading.
    pub fn bodies(&self, id: &RunId) -> Bodies {
        Bodies::new(self.disk.clone(), &self.dir(id))
    }

    /// Locks a run, so that only this process appends to it.
    ///
    /// # Errors
    /// Another process holds it, named as far as the record tells; or there is no such run.
    pub fn lock(&self, id: &RunId) -> Result<RunLock, JournalError> {
        let dir = self.dir(id);
        if !self.disk.exists(&dir) {
            return Err(JournalError::NoRun(id.to_string()));
        }
        let path = dir.join("lock");
        match self.disk.lock(&path) {
            Ok(guard) => Ok(RunLock { disk: self.disk.clone(), dir, id: id.clone(), _guard: guard }),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                let holder = self.load(id).ok().and_then(|run| run.state.sessions().last().cloned());
                Err(JournalError::Held { run: id.to_string(), holder: holder.map(Box::new) })
            }
            Err(e) => Err(JournalError::io(&path)(e)),
        }
    }
}

/// A run that this process has locked; the lock is released when this is dropped or the process dies.
pub struct RunLock {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: RunId,
    _guard: Box<dyn Send + Sync>,
}

impl fmt::Debug for RunLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunLock({})", self.id)
    }
}

impl RunLock {
    /// Which run.
    pub fn id(&self) -> &RunId {
        &self.id
    }
    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }
    /// Its bodies.
    pub fn bodies(&self) -> Bodies {
        Bodies::new(self.disk.clone(), &self.dir)
    }
    /// Its vault, made where it is not there.
    ///
    /// # Errors
    /// The folder cannot be written, or others can read it.
    pub fn vault(&self) -> Result<Vault, JournalError> {
        Vault::open(self.disk.clone(), &self.dir)
    }
}

impl Bodies {
    /// Stores copies of the sources and gives their digests, for [`Header::sources`].
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn pin(&self, sources: &BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, String>, JournalError> {
        let pin = |(name, text): (&String, &Vec<u8>)| Ok((name.clone(), self.put(text)?.digest()));
        sources.iter().map(pin).collect()
    }

    /// The pinned sources, compared with their digests.
    ///
    /// # Errors
    /// A copy is missing or was altered; the error names the file.
    pub fn pinned(&self, header: &Header) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        let copy = |(name, digest): (&String, &String)| {
            let what = format!("the pinned copy of {name}");
            match hex_of(digest) {
                Some(hex) => Ok((name.clone(), self.get(hex, &what)?)),
                None => Err(JournalError::Altered {
                    path: self.path(""),
                    what,
                    why: format!("`{digest}` is not a digest"),
                }),
            }
        };
        header.sources.iter().map(copy).collect()
    }
}
