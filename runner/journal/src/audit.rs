//! Verifying a record offline: is it as it was written, is it whole, and whose is it?
//!
//! Nothing that is read is believed before it fits; one line is held at a time, and of the fold only what the grammar
//! needs. A line is named by its number, which is its record's sequence number.

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stdlib::world::Disk;

use crate::bodies::{BodyRef, hex_of};
use crate::chain::{Chain, Line, Lines, Misfit};
use crate::error::JournalError;
use crate::event::Event;
use crate::merkle::{Head, leaf_hash};
use crate::record::Record;
use crate::sign::VerifierKey;
use crate::state::Lifecycle;
use crate::writer::FILE;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// Why, or why not, in the auditor's words.
    pub why: String,
    /// The first record that does not fit, where one is to blame.
    pub at: Option<u64>,
}

impl Verdict {
    fn holds(why: impl Into<String>) -> Self {
        Self { holds: true, why: why.into(), at: None }
    }
    fn fails(at: Option<u64>, why: impl Into<String>) -> Self {
        Self { holds: false, why: why.into(), at }
    }
}

/// What a record turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Was anything altered?
    pub integrity: Verdict,
    /// Is anything missing at the end?
    pub completeness: Verdict,
    /// Whose is it?
    pub authenticity: Verdict,
    /// How many whole lines there are.
    pub records: u64,
    /// How many of them a checkpoint with the record's own key covers, that checkpoint's record included.
    pub signed: u64,
    /// Bytes of an unfinished last line.
    pub torn: u64,
    /// The head over the records that fit.
    pub head: Head,
    /// The run's id, as the header has it.
    pub run_id: String,
    /// The keys of the checkpoints, as vkeys.
    pub signers: Vec<String>,
}

impl Audit {
    /// Whether all three verdicts hold.
    pub fn holds(&self) -> bool {
        self.integrity.holds && self.completeness.holds && self.authenticity.holds
    }

    /// Records after the last checkpoint.
    pub fn unsigned_tail(&self) -> u64 {
        self.records.saturating_sub(self.signed)
    }
}

struct Auditor<'a> {
    disk: &'a dyn Disk,
    run: &'a Path,
    keys: &'a [VerifierKey],
    expect: Option<Head>,
    chain: Chain,
    lines: u64,
    signed: u64,
    torn: u64,
    signers: Vec<String>,
    bodies: HashSet<String>,
    altered: Option<Verdict>,
    forged: Option<Verdict>,
    /// Whether the records agree with the expected head; `None` as long as there are fewer.
    anchored: Option<bool>,
}

/// Verifies the record in a run folder against public keys, and against a head that was kept outside, where there is
/// one. Needs no network and trusts nothing on this machine.
///
/// # Errors
/// There is no record, or the disk says no. Everything else is a verdict.
pub fn verify(
    disk: &dyn Disk,
    run: &Path,
    keys: &[VerifierKey],
    expect_head: Option<Head>,
) -> Result<Audit, JournalError> {
    let path = run.join(FILE);
    if !disk.exists(&path) {
        return Err(JournalError::Empty { path });
    }
    let mut auditor = Auditor {
        disk,
        run,
        keys,
        expect: expect_head,
        chain: Chain::default(),
        lines: 0,
        signed: 0,
        torn: 0,
        signers: Vec::new(),
        bodies: HashSet::new(),
        altered: None,
        forged: None,
        anchored: None,
    };
    let mut lines = Lines::new(disk.open(&path).map_err(JournalError::io(&path))?);
    auditor.read(&mut lines).map_err(JournalError::io(&path))?;
    Ok(auditor.conclude())
}

impl Auditor<'_> {
    fn read<R: io::Read>(&mut self, lines: &mut Lines<R>) -> io::Result<()> {
        self.compare_with_expected();
        while let Some(line) = lines.next()? {
            let line = match line {
                Line::Torn(bytes) => {
                    self.torn = bytes;
                    return Ok(());
                }
                Line::TooLong => {
                    self.blame(self.chain.next_seq(), "is longer than any record");
                    return Ok(());
                }
                Line::Whole(line) => line,
            };
            self.lines += 1;
            match self.chain.read(&line) {
                Ok(record) => self.take(&line, record),
                Err(misfit) => {
                    self.misfit(&line, &misfit, lines)?;
                    return self.count_rest(lines);
                }
            }
        }
        Ok(())
    }

    /// Takes in a record that fits.
    fn take(&mut self, line: &[u8], mut record: Record) {
        let seq = record.seq;
        match self.chain.signer_of(&record) {
            Ok(None) => {}
            Ok(Some(key)) => {
                self.signed = seq;
                if !self.signers.contains(&key.to_string()) {
                    self.signers.push(key.to_string());
                }
                if !self.keys.contains(&key) {
                    let why = if self.keys.is_empty() {
                        format!("no public key was given; the record says that it is signed by {key}")
                    } else {
                        format!("line {seq} is a checkpoint signed by {key}, which is none of the given keys")
                    };
                    self.forged.get_or_insert(Verdict::fails(Some(seq), why));
                }
            }
            Err(why) => {
                self.forged.get_or_insert(Verdict::fails(Some(seq), format!("line {seq} {why}")));
            }
        }
        self.check_bodies(&record);
        // The grammar needs no contents.
        for value in record.event.bulky_mut() {
            *value = Value::Null;
        }
        self.chain.accept(line, &record);
        self.compare_with_expected();
    }

    fn compare_with_expected(&mut self) {
        if let Some(expect) = self.expect.filter(|expect| expect.size == self.chain.tree.size()) {
            self.anchored = Some(expect == self.chain.head());
        }
    }

    fn check_bodies(&mut self, record: &Record) {
        for body in record.event.bulky().into_iter().filter_map(BodyRef::from_value) {
            let what = format!("the body {}", body.digest());
            self.check_body(record.seq, &body.hex, Some(body.bytes), &what);
        }
        if let Event::Intent(intent) = &record.event
            && let Some(hex) = hex_of(&intent.inputs)
            && self.disk.exists(&self.run.join("bodies").join(hex))
        {
            self.check_body(record.seq, hex, None, "its arguments");
        }
        let Event::Run(header) = &record.event else { return };
        for (file, digest) in &header.sources {
            let what = format!("the pinned copy of {file}");
            match hex_of(digest) {
                Some(hex) => self.check_body(record.seq, hex, None, &what),
                None => self.blame(record.seq, &format!("names {what} by `{digest}`, which is no digest")),
            }
        }
    }

    fn check_body(&mut self, seq: u64, hex: &str, bytes: Option<u64>, what: &str) {
        if !self.bodies.insert(hex.to_owned()) {
            return;
        }
        let path = self.run.join("bodies").join(hex);
        let why = match self.disk.open(&path).and_then(digest_of) {
            Err(e) => format!("names {what}, which cannot be read: {e}"),
            Ok((found, _)) if found != hex => format!("names {what}, which was altered"),
            Ok((_, len)) if bytes.is_some_and(|bytes| bytes != len) => {
                format!("names {what} with a length of {}, which is {len}", bytes.unwrap_or_default())
            }
            Ok(_) => return,
        };
        self.blame(seq, &why);
    }

    fn blame(&mut self, seq: u64, why: &str) {
        self.altered.get_or_insert(Verdict::fails(Some(seq), format!("line {seq} {why}")));
    }

    /// Says which line a misfit is about. Where two lines disagree, the next one tells which of them was altered.
    fn misfit<R: io::Read>(&mut self, line: &[u8], misfit: &Misfit, lines: &mut Lines<R>) -> io::Result<()> {
        let seq = self.chain.next_seq();
        match misfit {
            Misfit::Prev if seq == 1 => self.blame(1, "is the first and names a line before it"),
            Misfit::Prev => {
                let next = match lines.next()? {
                    Some(Line::Whole(next)) => {
                        self.lines += 1;
                        Record::decode(&next).ok()
                    }
                    Some(Line::Torn(bytes)) => {
                        self.torn = bytes;
                        None
                    }
                    _ => None,
                };
                let follows = next.map(|next| next.prev == hex::encode(leaf_hash(line)));
                let signed_over = Record::decode(line).is_ok_and(|record| self.signs_over(&record));
                let (altered, why) = match follows {
                    Some(false) => (seq, "was altered: both lines beside it name other bytes".to_owned()),
                    None if signed_over => {
                        (seq, "was altered: it does not name the line before it".to_owned())
                    }
                    _ => (seq - 1, format!("was altered: line {seq} names other bytes for it")),
                };
                self.blame(altered, &why);
            }
            Misfit::Root => {
                let from = self.signed + 1;
                let record = Record::decode(line);
                let genuine = record.is_ok_and(|record| matches!(self.chain.signer_of(&record), Ok(Some(_))));
                if genuine {
                    let why = format!(
                        "or a later one before line {seq} was altered: the checkpoint there is genuine"
                    );
                    self.blame(from, &why);
                } else {
                    self.blame(seq, "is a checkpoint over other records than those before it");
                }
            }
            misfit => self.blame(seq, &misfit.why()),
        }
        Ok(())
    }

    /// Whether the record is a checkpoint over exactly the lines so far.
    fn signs_over(&self, record: &Record) -> bool {
        let Event::Checkpoint(checkpoint) = &record.event else { return false };
        crate::note::CheckpointNote::parse(&checkpoint.note).is_ok_and(|note| note.head == self.chain.head())
    }

    fn count_rest<R: io::Read>(&mut self, lines: &mut Lines<R>) -> io::Result<()> {
        loop {
            match lines.next()? {
                Some(Line::Whole(_)) => self.lines += 1,
                Some(Line::Torn(bytes)) => {
                    self.torn = bytes;
                    return Ok(());
                }
                // What does not even have lines is not worth counting.
                Some(Line::TooLong) | None => return Ok(()),
            }
        }
    }

    fn conclude(self) -> Audit {
        let completeness = self.completeness();
        let authenticity = self.authenticity();
        let beyond = self.anchored == Some(false);
        let integrity = match self.altered {
            Some(verdict) => verdict,
            None if beyond => Verdict::fails(
                None,
                format!(
                    "the first {} records are not those that the expected head names",
                    self.chain_size_expected()
                ),
            ),
            None if self.lines == 0 => Verdict::fails(None, "there is no record"),
            None => {
                Verdict::holds(format!("{} records, each as it was written, with their bodies", self.lines))
            }
        };
        let run_id = self.chain.state.header().map(|header| header.run_id.clone()).unwrap_or_default();
        Audit {
            integrity,
            completeness,
            authenticity,
            records: self.lines,
            signed: self.signed,
            torn: self.torn,
            head: self.chain.head(),
            run_id,
            signers: self.signers,
        }
    }

    fn chain_size_expected(&self) -> u64 {
        self.expect.map_or(0, |expect| expect.size)
    }

    fn completeness(&self) -> Verdict {
        let expected = self.chain_size_expected();
        let tail = self.lines.saturating_sub(self.signed);
        if let Some(altered) = self.altered.as_ref().filter(|_| self.chain.tree.size() < self.lines) {
            let at = altered.at;
            return Verdict::fails(at, "cannot be judged: what follows the altered line proves nothing");
        }
        if self.expect.is_some() && self.anchored.is_none() {
            let why = format!("cut off: the expected head names {expected} records, here are {}", self.lines);
            return Verdict::fails(Some(self.lines + 1), why);
        }
        if self.torn > 0 {
            let why =
                format!("the last line is unfinished ({} bytes), {tail} records are unsigned", self.torn);
            return Verdict::fails(Some(self.lines + 1), why);
        }
        match self.chain.state.lifecycle() {
            Lifecycle::Ended(end) if tail == 0 => {
                Verdict::holds(format!("closed ({}), and the last checkpoint covers all records", end.state))
            }
            Lifecycle::Ended(end) => Verdict::fails(
                Some(self.signed + 1),
                format!("closed ({}), but {tail} records after the last checkpoint are unsigned", end.state),
            ),
            open => Verdict::fails(
                Some(self.lines + 1),
                format!("not closed: {open}; {tail} records after the last checkpoint are unsigned"),
            ),
        }
    }

    fn authenticity(&self) -> Verdict {
        if let Some(forged) = &self.forged {
            return forged.clone();
        }
        if self.signed == 0 {
            return Verdict::fails(None, "nothing is signed: there is no checkpoint that fits");
        }
        let names: Vec<&str> = self.signers.iter().map(String::as_str).collect();
        let signed = format!("records 1 to {} are signed by {}", self.signed, names.join(" and "));
        match (self.anchored, self.expect) {
            (Some(true), Some(expect)) => Verdict::holds(format!(
                "{signed}; a head kept outside confirms the first {}, whoever holds the key",
                expect.size
            )),
            (Some(false), _) => {
                Verdict::fails(None, "these are other records than those whose head was kept outside")
            }
            _ => Verdict::holds(format!(
                "{signed}; without a head kept outside, whoever held that key could have written another record"
            )),
        }
    }
}

fn digest_of(mut file: Box<dyn io::Read + Send>) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hex::encode(hasher.finalize()), total)),
            Ok(n) => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                total += u64::try_from(n).unwrap_or(0);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
