//! Verdicts of handshakes that were really made, so that a test world need not repeat an identical one.
//!
//! A handshake is identical when both sides have the same key material loaded, verify by the same rules and meet under
//! the same name. A verdict holds until the next moment at which a certificate involved begins or ceases to be valid.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stdlib::trust::{Certs, Verifier};
use time::OffsetDateTime;

use super::volume::Digest;

/// What makes handshakes identical.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Combination {
    /// Leaf and anchors of the client.
    pub client: (Digest, Digest, Verifier),
    /// Leaf and anchors of the server.
    pub server: (Digest, Digest, Verifier),
    /// Common names that the server allows.
    pub allowed_cn: Vec<String>,
    /// The name dialled.
    pub name: String,
}

/// What came of it: accepted, or who refused and why.
pub type Verdict = Result<(), (&'static str, String)>;

#[derive(Clone)]
struct Known {
    verdict: Verdict,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

/// The verdicts. One memo may serve many worlds.
#[derive(Default)]
pub struct Memo(Mutex<HashMap<Combination, Known>>);

/// The span around `now` within which no certificate begins or ceases to be valid.
fn constant(certs: &[&Certs], now: OffsetDateTime) -> (OffsetDateTime, OffsetDateTime) {
    let (mut from, mut until) = (now - time::Duration::days(36_500), now + time::Duration::days(36_500));
    for der in certs.iter().flat_map(|c| &c.0) {
        let Ok(cert) = stdlib::cert::Certificate::from_der(der.as_ref()) else { continue };
        for moment in [cert.not_before(), cert.not_after()] {
            if moment <= now {
                from = from.max(moment);
            } else {
                until = until.min(moment);
            }
        }
    }
    (from, until)
}

impl Memo {
    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<Combination, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A memo of its own that knows what this one knows now. What another world learns meanwhile would change which
    /// handshakes are really made, and with that the order in which things happen.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Mutex::new(self.held().clone()))
    }

    /// The verdict, if an identical handshake was made and time has not changed it.
    pub fn get(&self, combination: &Combination, now: OffsetDateTime) -> Option<Verdict> {
        let held = self.held();
        let known = held.get(combination).filter(|k| k.from < now && now < k.until)?;
        Some(known.verdict.clone())
    }

    /// Keeps the verdict of a handshake made now.
    pub fn put(&self, combination: Combination, verdict: Verdict, certs: &[&Certs], now: OffsetDateTime) {
        let (from, until) = constant(certs, now);
        self.held().insert(combination, Known { verdict, from, until });
    }
}
