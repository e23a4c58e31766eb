//! The gate: how a primitive announces a change before it makes it.
//!
//! The order is law 2 of the design. A primitive reads the world, decides what it would write, and calls
//! [`Gate::effect`] with the digests before and after and a sealed copy of what is there. Only when that returns
//! [`Permit::Apply`] does it write, conditional on the version that it read. So a primitive is idempotent by
//! construction: it compares, then acts.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::PrimError;
use crate::secret::Secret;

/// A place in the world that one effect changes, as a URI-like text:
/// `k8s:v1/Secret/NAMESPACE/NAME`, `k8s:pingcap.com/v1alpha1/TidbCluster/NS/NAME#spec.pd.annotations`, `file:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(pub String);

/// How an effect can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectClass {
    /// The copy made before is put back.
    Restorable,
    /// Another action of the same kind undoes it (a fresh restart marker).
    Compensable,
    /// A point of no return.
    Final,
}

/// One change of one object or file, announced before it is made.
#[derive(Debug, Clone)]
pub struct Effect {
    /// What is changed.
    pub place: Place,
    /// Digest of what is there now (`sha256:HEX`, or `absent`).
    pub before: String,
    /// Digest of what will be there.
    pub after: String,
    /// How it can be taken back.
    pub class: EffectClass,
    /// What is there now, for putting it back. Sealed by the gate; `None` for what was absent or is compensable.
    pub backup: Option<Secret>,
    /// Public content for a reader of the record and for [`Gate::history`]: `{"before": {…}, "after": {…}}`, PEM
    /// certificates whole, keys as fingerprints.
    pub summary: serde_json::Value,
}

/// What the gate answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// The effect is durable in the record: make the change now.
    Apply,
    /// The record says that this very change was made before: leave the world as it is.
    AlreadyDone,
}

/// What is shown while a primitive works.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What is happening, e.g. `basic-tikv-2: waiting for leaders to move away`.
    pub text: String,
    /// How far, where it can be counted: done of total.
    pub done: Option<(u64, u64)>,
}

/// A table to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// One word a column.
    pub heading: Vec<String>,
    /// Cells, as many a row as the heading has words.
    pub rows: Vec<Vec<String>>,
}

/// The runner's side of a change. One gate belongs to one attempt of one step in one direction.
pub trait Gate: Send + Sync {
    /// Announces an effect and waits until it is durable.
    ///
    /// # Errors
    /// [`crate::error::Code::Refused`] when the record cannot be written, the run was cancelled, or the workflow may
    /// not touch the place; [`crate::error::Code::Conflict`] when the world has a third digest.
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>>;

    /// That the run still holds its target: asked right before a write and after the read that it is conditional upon.
    ///
    /// # Errors
    /// [`crate::error::Code::Locked`] when another process has taken it; [`crate::error::Code::Unavailable`] when that
    /// cannot be found out.
    fn holds(&self) -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(async { Ok(()) })
    }

    /// Shows progress; may be lost.
    fn progress(&self, progress: Progress);

    /// Whether the step's deadline is near: what waits then says once why, by [`Gate::explain`].
    fn is_late(&self) -> bool {
        false
    }

    /// Says why the step still waits: it is told where the deadline passes. May be lost.
    fn explain(&self, _why: &str) {}

    /// A text unique to this run, phase and direction, and the same again when the step is resumed: restart markers.
    fn marker(&self) -> String;

    /// Says something that the operator and a reader of the record must know, whatever becomes of the step.
    ///
    /// # Errors
    /// [`crate::error::Code::Refused`] when the record cannot be written.
    fn note(&self, text: &str) -> Result<(), PrimError> {
        self.progress(Progress { text: text.to_owned(), done: None });
        Ok(())
    }

    /// Shows a table, whatever becomes of the step. It is no part of the record; what a step returns is.
    fn table(&self, _table: &Table) {}

    /// What this phase, in this direction, wrote at a place last, with the copy of what lay there before; nothing where it
    /// wrote nothing there.
    ///
    /// # Errors
    /// The copy cannot be opened.
    fn replaced(&self, _place: &Place) -> Result<Option<RecordedEffect>, PrimError> {
        Ok(None)
    }

    /// While an effect is put back: all effects of its step that are, the last first. What was written as one unit is put
    /// back as one.
    ///
    /// # Errors
    /// A copy cannot be opened.
    fn put_back_together(&self) -> Result<Vec<RecordedEffect>, PrimError> {
        Ok(Vec::new())
    }

    /// What this run has written and restarted so far, in order: from it a measurement tells what a process that
    /// started in between may have loaded. Needs no clock, so a wrong one cannot mislead it.
    fn history(&self) -> Vec<Past>;
}

/// One entry of a run's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "past", rename_all = "kebab-case")]
pub enum Past {
    /// A place was written: public content before and after, as the effect's `summary` gave it
    /// (`{"before": {"ca.crt": PEM, "tls.crt": PEM}, "after": {…}}`).
    Wrote {
        /// Which place.
        place: Place,
        /// The effect's summary.
        summary: serde_json::Value,
    },
    /// Processes were told to restart with this marker.
    Restarted {
        /// The marker, as [`Gate::marker`] gave it.
        marker: String,
        /// The place of the restart effect.
        place: Place,
    },
}

/// A gate for calls outside any run (`rollover cert …`, facts of a plan): reads pass, every change is refused.
#[derive(Debug, Default, Clone, Copy)]
pub struct ReadOnly;

impl Gate for ReadOnly {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        let place = effect.place.0;
        Box::pin(async move {
            Err(PrimError::new(crate::error::Code::Refused, "only a step of a run may change this").on(place))
        })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        String::new()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

/// An effect as the record holds it, for taking it back.
#[derive(Debug, Clone)]
pub struct RecordedEffect {
    /// What was changed.
    pub place: Place,
    /// Digest of what was there before.
    pub before: String,
    /// Digest of what the step left there.
    pub after: String,
    /// The sealed copy, opened; `None` when the place was absent before.
    pub backup: Option<Secret>,
}
