//! Reading a record line by line: framing, sequence, hash chain, tree, fold. Shared by resume, status and audit.

use std::io::{self, BufRead as _, BufReader, Read};

use crate::event::{Event, Unknown};
use crate::merkle::{Head, Tree, leaf_hash};
use crate::note::{CheckpointNote, NoteError};
use crate::record::{FORMAT, MAX_LINE, Record};
use crate::sign::VerifierKey;
use crate::state::State;

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// With its newline, which is taken off.
    Whole(Vec<u8>),
    /// The file ends without a newline: a write that did not finish.
    Torn(u64),
    /// Longer than any record.
    TooLong,
}

/// Splits a stream into lines, holding one of them.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    /// Bytes of all whole lines so far.
    pub(crate) whole: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(128 * 1024, reader), whole: 0 }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        Ok(match line.pop() {
            None => None,
            Some(b'\n') => {
                self.whole += read;
                Some(Line::Whole(line))
            }
            // A line without an end may be a torn one, but only the last can be.
            Some(_) if read == limit && !self.reader.fill_buf()?.is_empty() => Some(Line::TooLong),
            Some(_) => Some(Line::Torn(read)),
        })
    }
}

/// Why a line does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The line itself is wrong.
    Here(String),
    /// It names other bytes for the line before: one of the two was altered.
    Prev,
    /// Its checkpoint is about other records than those that lie here.
    Root,
    /// The record has a newer format.
    Newer(u32),
}

impl Misfit {
    pub(crate) fn why(&self) -> String {
        match self {
            Self::Here(why) => why.clone(),
            Self::Prev => "does not follow the line before it: one of the two was altered".into(),
            Self::Root => "is a checkpoint over other records than those before it".into(),
            Self::Newer(format) => format!("has format {format}, newer than this program's {FORMAT}"),
        }
    }
}

/// What has been read so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub(crate) tree: Tree,
    /// Leaf hash of the last line, in hex; empty before the first.
    pub(crate) prev: String,
    pub(crate) state: State,
}

impl Chain {
    pub(crate) fn head(&self) -> Head {
        self.tree.head()
    }

    /// The number of the next record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.tree.size() + 1
    }

    /// Reads a line that should be the next record, without taking it in.
    pub(crate) fn read(&self, line: &[u8]) -> Result<Record, Misfit> {
        let record = Record::decode(line).map_err(|e| Misfit::Here(format!("is {e}")))?;
        self.check(&record)?;
        Ok(record)
    }

    /// Whether a record may be the next one.
    fn check(&self, record: &Record) -> Result<(), Misfit> {
        if record.seq != self.next_seq() {
            let (expected, found) = (self.next_seq(), record.seq);
            return Err(Misfit::Here(format!(
                "should be record {expected} and says that it is record {found}"
            )));
        }
        if record.prev != self.prev {
            return Err(Misfit::Prev);
        }
        if let Some(format) = newer_header(&record.event) {
            return Err(Misfit::Newer(format));
        }
        self.state
            .admits(record.seq, &record.event)
            .map_err(|e| Misfit::Here(format!("does not fit: {e}")))?;
        if let Event::Checkpoint(checkpoint) = &record.event {
            self.check_note(record, &checkpoint.note)?;
        }
        Ok(())
    }

    fn check_note(&self, record: &Record, text: &str) -> Result<(), Misfit> {
        let note = match CheckpointNote::parse(text) {
            // Who signed is another question than what lies here.
            Err(NoteError::Unsigned) => return Ok(()),
            other => other.map_err(|e| Misfit::Here(format!("does not fit: {e}")))?,
        };
        let run_id = self.state.header().map(|header| header.run_id.as_str());
        if note.head != self.head() {
            return Err(Misfit::Root);
        }
        if note.t != record.t || Some(note.run_id.as_str()) != run_id {
            return Err(Misfit::Here("is a checkpoint of another record".into()));
        }
        Ok(())
    }

    /// The key that signed a record's checkpoint, when it is the one that the record declares; `Ok(None)` for a record
    /// that is none.
    pub(crate) fn signer_of(&self, record: &Record) -> Result<Option<VerifierKey>, String> {
        let Event::Checkpoint(checkpoint) = &record.event else { return Ok(None) };
        let declared = self.state.signer().unwrap_or_default();
        let key: VerifierKey = declared
            .parse()
            .map_err(|_| "is a checkpoint, but the record declares no usable key".to_owned())?;
        match CheckpointNote::parse(&checkpoint.note) {
            Ok(note) if note.signed_by(&key) => Ok(Some(key)),
            Ok(_) => Err(format!("is a checkpoint that the record's key `{}` has not signed", key.name())),
            Err(e) => Err(format!("does not fit: {e}")),
        }
    }

    /// Takes in a line that [`Chain::read`] has read.
    pub(crate) fn accept(&mut self, line: &[u8], record: &Record) {
        self.state.fold(record);
        let leaf = leaf_hash(line);
        self.tree.push_leaf(leaf);
        self.prev = hex::encode(leaf);
    }
}

/// The format of a header that this program cannot read, or can but must not append to.
fn newer_header(event: &Event) -> Option<u32> {
    match event {
        Event::Run(header) if header.format > FORMAT => Some(header.format),
        Event::Unknown(Unknown { name, event, .. }) if name == "run" => {
            let format = event.get("format")?.as_u64()?;
            u32::try_from(format).ok().filter(|format| *format > FORMAT)
        }
        _ => None,
    }
}
