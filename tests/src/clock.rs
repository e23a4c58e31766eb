//! A clock that a story turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use stdlib::world::Clock;

/// Another clock, turned forward.
pub struct Turned {
    base: Arc<dyn Clock>,
    seconds: AtomicI64,
}

impl Turned {
    /// As this clock, until it is turned.
    pub fn new(base: Arc<dyn Clock>) -> Self {
        Self { base, seconds: AtomicI64::new(0) }
    }

    /// Turns it forward.
    pub fn turn(&self, by: Duration) {
        self.seconds.fetch_add(i64::try_from(by.as_secs()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Turned {
    fn now(&self) -> time::OffsetDateTime {
        self.base.now() + time::Duration::seconds(self.seconds.load(Ordering::Relaxed))
    }
}
