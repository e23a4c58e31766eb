//! Faults that a test or a person puts into the world.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// The pod of this name never becomes ready after its next start.
    NeverReady {
        /// Name of the pod.
        pod: String,
    },
    /// Mounted Secrets of this pod no longer follow the API.
    PropagationStuck {
        /// Name of the pod.
        pod: String,
    },
    /// No pod restarts by itself any more.
    NoRestarts,
    /// The certificate issuer's controller is stopped: it sees nothing and issues nothing, and goes on once it is lifted.
    IssuerAway,
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct Faults(Mutex<BTreeSet<Fault>>);

impl Faults {
    fn held(&self) -> std::sync::MutexGuard<'_, BTreeSet<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a fault in force.
    pub fn set(&self, fault: Fault) {
        self.held().insert(fault);
    }

    /// Lifts a fault.
    pub fn lift(&self, fault: &Fault) {
        self.held().remove(fault);
    }

    /// Whether it is in force.
    pub fn has(&self, fault: &Fault) -> bool {
        self.held().contains(fault)
    }
}
