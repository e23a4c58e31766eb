//! Appending to a record, and reading it back.
//!
//! What [`Journal::append`] has returned `Ok` for is durable: the line was written by one call and its bytes synced
//! (`fdatasync`), and everything that it refers to was durable before. [`Journal::write`] leaves the sync to the next
//! append: an outcome and the intent after it are one sync, and both are durable before anything is done. Whatever
//! fails on the way there poisons the journal: no later append of this process succeeds, because after a failed sync
//! nobody can say what is on disk.
//! What was folded is the record as it is read back from its line, so the live state cannot differ from a resumed one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use stdlib::gate::Past;
use stdlib::world::{AppendFile, Clock, Disk};

use crate::bodies::{Bodies, BodyRef};
use crate::chain::{Chain, Line, Lines, Misfit};
use crate::error::JournalError;
use crate::event::{Checkpoint, Event, Header};
use crate::merkle::Head;
use crate::note::CheckpointNote;
use crate::record::{FORMAT, Record, RecordError, canonical, timestamp};
use crate::sign::Signer;
use crate::state::{EffectState, IllegalTransition, State, turned};
use crate::store::RunLock;

pub(crate) const FILE: &str = "journal.jsonl";

/// Longest free text in a record, in bytes.
const MAX_TEXT: usize = 4096;

/// A moment within an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Nothing is written yet.
    BeforeWrite,
    /// The line is written and not synced.
    AfterWrite,
    /// The line is durable; the caller does not know it yet. For one that was [written](Journal::write) and not
    /// appended, that is when the sync that covers it returns.
    AfterSync,
}

/// Where tests stop a run.
pub trait Tripwire: Send + Sync {
    /// Whether to stop at this moment of appending record number `seq`. The append then fails with
    /// [`JournalError::Stopped`], and so does everything after it.
    fn stops(&self, seq: u64, event: &Event, moment: Moment) -> bool;
}

/// Never stops.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoTripwire;

impl Tripwire for NoTripwire {
    fn stops(&self, _: u64, _: &Event, _: Moment) -> bool {
        false
    }
}

/// What an append needs beside the record itself.
#[derive(Clone)]
pub struct Tools {
    /// The time of records.
    pub clock: Arc<dyn Clock>,
    /// Signs checkpoints.
    pub signer: Arc<Signer>,
    /// Where tests stop.
    pub tripwire: Arc<dyn Tripwire>,
}

impl Tools {
    /// Without a tripwire.
    pub fn new(clock: Arc<dyn Clock>, signer: Arc<Signer>) -> Self {
        Self { clock, signer, tripwire: Arc::new(NoTripwire) }
    }
}

/// The record of a run that this process has locked.
pub struct Journal {
    lock: RunLock,
    bodies: Bodies,
    file: Box<dyn AppendFile>,
    chain: Chain,
    tools: Tools,
    /// Written, and not yet known to be durable.
    unsynced: Vec<Record>,
    torn: u64,
    poisoned: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("run", self.lock.id())
            .field("head", &self.head().to_string())
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Begins the record of a run with its header, whose format, id and signer are filled in.
    ///
    /// # Errors
    /// The run has a record, or the disk says no.
    pub fn create(lock: RunLock, header: Header, tools: Tools) -> Result<Self, JournalError> {
        let path = lock.dir().join(FILE);
        let disk = lock.disk().clone();
        if disk.exists(&path) && !disk.read(&path).map_err(JournalError::io(&path))?.is_empty() {
            let text = "the run has a record already".to_owned();
            let exists = std::io::Error::new(std::io::ErrorKind::AlreadyExists, text);
            return Err(JournalError::Io { path, source: exists });
        }
        let file = disk.append(&path, 0, 0o600).map_err(JournalError::io(&path))?;
        let header = Header {
            format: FORMAT,
            run_id: lock.id().to_string(),
            signer: tools.signer.public().to_string(),
            ..header
        };
        let mut journal = Self {
            bodies: lock.bodies(),
            lock,
            file,
            chain: Chain::default(),
            tools,
            unsynced: Vec::new(),
            torn: 0,
            poisoned: false,
        };
        journal.append(Event::Run(header))?;
        Ok(journal)
    }

    /// Opens the record of a run to go on with it. A torn last line is cut off ([`Journal::torn`] tells how much); the
    /// rest is read, checked and folded. The first event to append is a session.
    ///
    /// # Errors
    /// There is no record, it was altered, a pinned copy was altered, or its format is newer than this program's.
    pub fn open(lock: RunLock, tools: Tools) -> Result<Self, JournalError> {
        let path = lock.dir().join(FILE);
        let disk = lock.disk().clone();
        let replay = replay(&*disk, lock.dir(), &mut |_| {})?;
        if replay.chain.tree.size() == 0 {
            return Err(JournalError::Empty { path });
        }
        if let Some(header) = replay.chain.state.header() {
            lock.bodies().pinned(header)?;
        }
        let file = disk.append(&path, replay.whole, 0o600).map_err(JournalError::io(&path))?;
        let bodies = lock.bodies();
        let (chain, torn) = (replay.chain, replay.torn);
        Ok(Self { lock, bodies, file, chain, tools, unsynced: Vec::new(), torn, poisoned: false })
    }

    /// Makes an event durable and folds it. Values too large for a line are moved to bodies first.
    ///
    /// # Errors
    /// [`JournalError::Illegal`] and the like when it may not be recorded: nothing is written, and the journal stays
    /// usable. [`JournalError::Unwritable`], [`JournalError::Poisoned`] and [`JournalError::Stopped`]: the caller must
    /// do nothing more in the world.
    pub fn append(&mut self, event: Event) -> Result<&State, JournalError> {
        self.write(event)?;
        self.sync()?;
        Ok(&self.chain.state)
    }

    /// As [`Journal::append`], but durable only with the next append or [`Journal::sync`]. For what nothing in the
    /// world waits for: when it is lost, the step that it ends is in doubt, which looking at the world settles.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn write(&mut self, event: Event) -> Result<(), JournalError> {
        let t = timestamp(self.tools.clock.now());
        self.write_at(event, t)
    }

    fn write_at(&mut self, mut event: Event, t: String) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        let seq = self.chain.next_seq();
        if let Event::Session(session) = &mut event {
            let vkey = self.tools.signer.public().to_string();
            session.signer = (self.chain.state.signer() != Some(&vkey)).then_some(vkey);
        }
        for text in event.texts_mut() {
            clip(text);
        }
        self.chain.state.admits(seq, &event)?;
        for body in event.bulky().into_iter().filter_map(BodyRef::from_value) {
            if !self.bodies.holds(&body) {
                return Err(JournalError::ForgedBody);
            }
        }
        let mut record = Record { seq, t, prev: self.chain.prev.clone(), event };
        let (mut line, record) = self.seal(&mut record)?;
        self.poisoned = true;
        self.trip(&record, Moment::BeforeWrite)?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| JournalError::Unwritable { source })?;
        line.pop();
        self.trip(&record, Moment::AfterWrite)?;
        self.chain.accept(&line, &record);
        self.unsynced.push(record);
        self.poisoned = false;
        Ok(())
    }

    /// Makes durable what was [written](Journal::write).
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.poisoned = true;
        self.file.sync().map_err(|source| JournalError::Unwritable { source })?;
        for record in std::mem::take(&mut self.unsynced) {
            self.trip(&record, Moment::AfterSync)?;
        }
        self.poisoned = false;
        Ok(())
    }

    fn trip(&self, record: &Record, moment: Moment) -> Result<(), JournalError> {
        if self.tools.tripwire.stops(record.seq, &record.event, moment) {
            return Err(JournalError::Stopped { seq: record.seq });
        }
        Ok(())
    }

    /// The line of a record, its largest values moved to bodies until it fits, and the record as it will be read back:
    /// folding that, and not what was meant, keeps live and resumed state one.
    fn seal(&mut self, record: &mut Record) -> Result<(Vec<u8>, Record), JournalError> {
        loop {
            let too_long = match record.seal() {
                Ok(sealed) => return Ok(sealed),
                Err(e @ RecordError::TooLong(_)) => e,
                Err(e) => return Err(JournalError::Record(e)),
            };
            let sized = |value: &Value| canonical(value).map_or(0, |bytes| bytes.len());
            let movable = record.event.bulky_mut().into_iter().filter(|v| BodyRef::from_value(v).is_none());
            let largest = movable.max_by_key(|value| sized(value)).filter(|value| sized(value) > 256);
            let Some(value) = largest else { return Err(JournalError::Record(too_long)) };
            *value = self.bodies.put_value(value).inspect_err(|e| {
                // A disk that cannot take a body is not trusted with a line either.
                self.poisoned |= matches!(e, JournalError::Io { .. });
            })?;
        }
    }

    /// Appends a signed checkpoint over all records so far and gives the head that includes it: the text to keep
    /// outside this machine.
    ///
    /// # Errors
    /// As [`Journal::append`]; a journal that was moved here needs a session of this machine first.
    pub fn checkpoint(&mut self) -> Result<Head, JournalError> {
        let signer = self.tools.signer.clone();
        if self.chain.state.signer() != Some(&signer.public().to_string()) {
            return Err(JournalError::Illegal(IllegalTransition {
                seq: self.chain.next_seq(),
                event: format!("a checkpoint signed by `{}`", signer.public()),
                state: "no session of this key has begun".into(),
            }));
        }
        let t = timestamp(self.tools.clock.now());
        let note = CheckpointNote::sign(&self.lock.id().to_string(), &self.head(), &t, &signer);
        self.write_at(Event::Checkpoint(Checkpoint { note }), t)?;
        self.sync()?;
        Ok(self.head())
    }

    /// Signs what a process left unsigned that died before its last checkpoint. A record that another machine's key
    /// signs stays as it is, to be told by an audit.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn sign_tail(&mut self) -> Result<(), JournalError> {
        let ours = self.chain.state.signer() == Some(&self.tools.signer.public().to_string());
        // A checkpoint covers all records before itself.
        if ours && self.chain.state.seq() > self.chain.state.signed() + 1 {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// The head over all records.
    pub fn head(&self) -> Head {
        self.chain.head()
    }
    /// What the run is.
    pub fn state(&self) -> &State {
        &self.chain.state
    }
    /// How many bytes of a torn last line were cut off when it was opened.
    pub fn torn(&self) -> u64 {
        self.torn
    }
    /// The lock on the run.
    pub fn lock(&self) -> &RunLock {
        &self.lock
    }
    /// The run's bodies.
    pub fn bodies(&self) -> &Bodies {
        &self.bodies
    }
    /// The value itself where it is a reference to a body.
    ///
    /// # Errors
    /// The body is missing or altered.
    pub fn resolve(&self, value: &Value) -> Result<Value, JournalError> {
        self.bodies.resolve(value)
    }
    /// [`State::history`] with bodies resolved.
    ///
    /// # Errors
    /// A body is missing or altered.
    pub fn history(&self) -> Result<Vec<Past>, JournalError> {
        let resolved = |(effect, back): (&EffectState, bool)| {
            let mut past = effect.past();
            if let Past::Wrote { summary, .. } = &mut past {
                *summary = self.bodies.resolve(summary)?;
            }
            Ok(if back { turned(past) } else { past })
        };
        self.state().told().map(resolved).collect()
    }
}

fn clip(text: &mut String) {
    if text.len() > MAX_TEXT {
        let cut = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let more = text.len() - cut;
        text.truncate(cut);
        text.extend(["… (", more.to_string().as_str(), " bytes more)"]);
    }
}

/// A record that was read and not locked.
#[derive(Debug)]
pub struct Loaded {
    /// Its records.
    pub records: Vec<Record>,
    /// What the run is.
    pub state: State,
    /// The head over all of them.
    pub head: Head,
    /// How many bytes of a torn last line follow.
    pub torn: u64,
}

pub(crate) struct Replay {
    pub(crate) chain: Chain,
    pub(crate) whole: u64,
    pub(crate) torn: u64,
}

/// Reads a record that another process may be writing.
///
/// # Errors
/// It cannot be read, was altered, or has a newer format.
pub fn load(disk: &dyn Disk, run: &Path) -> Result<Loaded, JournalError> {
    let mut records = Vec::new();
    let replay = replay(disk, run, &mut |record| records.push(record))?;
    Ok(Loaded { records, head: replay.chain.head(), state: replay.chain.state, torn: replay.torn })
}

pub(crate) fn replay(
    disk: &dyn Disk,
    run: &Path,
    each: &mut dyn FnMut(Record),
) -> Result<Replay, JournalError> {
    let path: PathBuf = run.join(FILE);
    if !disk.exists(&path) {
        return Err(JournalError::Empty { path });
    }
    let mut lines = Lines::new(disk.open(&path).map_err(JournalError::io(&path))?);
    let mut chain = Chain::default();
    let mut torn = 0;
    loop {
        let corrupt = |line: u64, why: String| JournalError::Corrupt { path: path.clone(), line, why };
        let line = match lines.next().map_err(JournalError::io(&path))? {
            None => break,
            Some(Line::Torn(bytes)) => {
                torn = bytes;
                break;
            }
            Some(Line::TooLong) => return Err(corrupt(chain.next_seq(), "is longer than any record".into())),
            Some(Line::Whole(line)) => line,
        };
        let record = match chain.read(&line) {
            Ok(record) => record,
            Err(Misfit::Newer(found)) => return Err(JournalError::Newer { found }),
            Err(misfit) => return Err(corrupt(chain.next_seq(), misfit.why())),
        };
        chain.signer_of(&record).map_err(|why| corrupt(record.seq, why))?;
        chain.accept(&line, &record);
        each(record);
    }
    Ok(Replay { chain, whole: lines.whole, torn })
}
