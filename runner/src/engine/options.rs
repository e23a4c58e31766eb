//! What a run is given beside its plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stdlib::registry::Registry;
use stdlib::world::Clock;

use super::approve::{Approver, Nobody};
use super::cancel::Cancel;
use super::gate::MayTouch;
use super::lock::{NoLock, TargetLock};
use super::trust::TrustModel;
use super::x509::X509;
use crate::events::{Event, Reporter, Silent};

/// Who watches, who answers, and what is permitted.
#[derive(Clone)]
pub struct Options {
    /// Shows what happens.
    pub reporter: Arc<dyn Reporter>,
    /// Answers questions.
    pub approver: Arc<dyn Approver>,
    /// Locks the target.
    pub lock: Arc<dyn TargetLock>,
    /// Stops the run from outside.
    pub cancel: Cancel,
    /// The primitives.
    pub registry: &'static Registry,
    /// What the run may change; `None` takes it from the pinned manifest, and permits everything where none is pinned.
    pub may_touch: Option<MayTouch>,
    /// `--on-failure rollback`: go back by itself when a step fails. Otherwise a failed run stops where it is.
    pub rollback_on_failure: bool,
    /// How wrong clocks may be; added to the end of the window of a forecast.
    pub skew: Duration,
    /// Who trusts whom.
    pub trust: Arc<dyn TrustModel>,
    /// Whether phases that would break a link are refused. Off only in tests that show what it prevents.
    pub forecast: bool,
    /// The workflow's sources as they are now, to say whether they differ from the pinned copies.
    pub current_sources: Option<BTreeMap<String, Vec<u8>>>,
    /// How the program is called in the commands that an ending proposes.
    pub program: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reporter: Arc::new(Silent),
            approver: Arc::new(Nobody),
            lock: Arc::new(NoLock),
            cancel: Cancel::default(),
            registry: stdlib::registry(),
            trust: Arc::new(X509),
            may_touch: None,
            rollback_on_failure: false,
            skew: Duration::from_secs(300),
            forecast: true,
            current_sources: None,
            program: "rollover".into(),
        }
    }
}

/// Reports events with the run's clock.
#[derive(Clone)]
pub(crate) struct Hub {
    pub reporter: Arc<dyn Reporter>,
    pub clock: Arc<dyn Clock>,
}

impl Hub {
    pub(crate) fn tell(&self, event: &Event) {
        self.reporter.event(self.clock.now(), event);
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.tell(&Event::Note { text: text.into() });
    }
}
