//! The record of a run: an append-only, signed intent log.
//!
//! A run is a folder. `journal.jsonl` holds one canonical JSON object a line, each a leaf of an RFC 6962 Merkle tree;
//! `bodies/` what is too large for a line, named by its digest; `vault/` the secrets. The same pure fold
//! ([`State::next`]) judges a record before it is written, follows the run while it lives, and rebuilds its state when
//! it is opened again.
//!
//! This crate depends on neither engine, nor script, nor command line. All IO goes through a
//! [`Disk`](stdlib::world::Disk), so that a test can lose what was not synced.

mod audit;
mod bodies;
mod chain;
mod error;
mod event;
mod leaks;
mod merkle;
mod note;
mod record;
mod sign;
mod state;
mod store;
mod vault;
mod writer;

pub use audit::{Audit, Verdict, verify};
pub use bodies::{Bodies, BodyRef};
pub use error::JournalError;
pub use event::{
    Approval, Checkpoint, Direction, Effect, End, EndState, Event, Expanded, Failure, Forecast, Header,
    Intent, Note, Outcome, OutcomeStatus, PhaseBegin, PhaseEnd, Session, Stuck, Turn, Unknown, Why,
};
pub use leaks::{Leak, leaks};
pub use merkle::{Hash, Head, Tree, leaf_hash};
pub use note::{CheckpointNote, NoteError};
pub use record::{FORMAT, MAX_LINE, Record, RecordError};
pub use sign::{Signer, VerifierKey};
pub use state::{
    EffectState, IllegalTransition, Lifecycle, PhaseRun, PhaseState, PhaseStatus, State, StepState,
    StepStatus, Undo,
};
pub use store::{RunId, RunLock, Store};
pub use vault::Vault;
pub use writer::{Journal, Loaded, Moment, NoTripwire, Tools, Tripwire, load};
