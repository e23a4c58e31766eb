//! Checkpoints as C2SP has them: a `tlog-checkpoint` in a `signed-note`.
//!
//! ```text
//! rollover/run/20261122-061503-k7qd
//! 17
//! BASE64 ROOT
//! time 2026-11-22T06:15:03.123Z
//!
//! — NAME BASE64
//! ```
//!
//! The fourth line is an extension line: it binds the time of the record that carries the note, so that no byte of
//! the last record is free.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::merkle::Head;
use crate::sign::{Signer, VerifierKey};

const TIME: &str = "time ";

/// A checkpoint, read but not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointNote {
    /// Which run it is about.
    pub run_id: String,
    /// Over how many records, with which root.
    pub head: Head,
    /// When the record that carries it was written.
    pub t: String,
    /// Name and id of the key that claims to have signed it.
    pub key_name: String,
    /// The four bytes that tell keys of one name apart.
    pub key_id: [u8; 4],
    signature: Vec<u8>,
}

/// Why a note is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteError {
    /// It is not a signed note.
    #[error("the checkpoint is not a signed note")]
    NotANote,
    /// Its text is not a checkpoint of a run.
    #[error("the signed note is not a checkpoint of a run")]
    NotACheckpoint,
    /// It has no signature.
    #[error("the checkpoint has no signature")]
    Unsigned,
}

fn text(run_id: &str, head: &Head, t: &str) -> String {
    format!("rollover/run/{run_id}\n{}\n{}\n{TIME}{t}\n", head.size, STANDARD.encode(head.root))
}

impl CheckpointNote {
    /// The signed note over a head.
    pub fn sign(run_id: &str, head: &Head, t: &str, signer: &Signer) -> String {
        let text = text(run_id, head, t);
        let mut bytes = signer.public().id().to_vec();
        bytes.extend_from_slice(&signer.sign(text.as_bytes()));
        format!("{text}\n\u{2014} {} {}\n", signer.public().name(), STANDARD.encode(bytes))
    }

    /// Reads a note. Whether the signature holds, [`CheckpointNote::signed_by`] tells.
    ///
    /// # Errors
    /// It is not exactly a note that [`CheckpointNote::sign`] could have made.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let (body, signatures) = note.split_once("\n\n").ok_or(NoteError::NotANote)?;
        if signatures.is_empty() {
            return Err(NoteError::Unsigned);
        }
        let signature = signatures.strip_suffix('\n').ok_or(NoteError::NotANote)?;
        let signature = signature.strip_prefix("\u{2014} ").ok_or(NoteError::NotANote)?;
        let (key_name, encoded) = signature.split_once(' ').ok_or(NoteError::NotANote)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::NotANote)?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(NoteError::NotANote)?;

        let mut lines = body.split('\n');
        let mut line = || lines.next().ok_or(NoteError::NotACheckpoint);
        let (origin, size, root, time) = (line()?, line()?, line()?, line()?);
        let run_id = origin.strip_prefix("rollover/run/").ok_or(NoteError::NotACheckpoint)?;
        let size = size.parse().map_err(|_| NoteError::NotACheckpoint)?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| bytes.try_into().ok());
        let head = Head { size, root: root.ok_or(NoteError::NotACheckpoint)? };
        let t = time.strip_prefix(TIME).ok_or(NoteError::NotACheckpoint)?;
        // What follows is compared whole, so neither a leading zero nor a further line passes.
        if text(run_id, &head, t) != format!("{body}\n") {
            return Err(NoteError::NotACheckpoint);
        }
        Ok(Self {
            run_id: run_id.to_owned(),
            head,
            t: t.to_owned(),
            key_name: key_name.to_owned(),
            key_id: *id,
            signature: signature.to_vec(),
        })
    }

    /// Whether this key signed it.
    pub fn signed_by(&self, key: &VerifierKey) -> bool {
        self.key_name == key.name()
            && self.key_id == key.id()
            && key.verifies(text(&self.run_id, &self.head, &self.t).as_bytes(), &self.signature)
    }
}
