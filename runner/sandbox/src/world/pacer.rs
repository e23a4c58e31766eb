//! Keeps the dialling of all links within a share of one processor core, however slow the machine.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For each moment spent on a dial, this many moments without one: dials take at most a third of a core.
const REST: u32 = 2;
/// A dial that takes longer has waited for somebody; that costs nothing.
const MOST: Duration = Duration::from_millis(20);

/// When the next dial that nothing asks for may begin.
#[derive(Debug, Default)]
pub struct Pacer(Mutex<Option<Instant>>);

impl Pacer {
    /// Whether dials have had their share for now.
    pub fn busy(&self) -> bool {
        let free = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.is_some_and(|free| Instant::now() < free)
    }

    /// Accounts for a dial.
    pub fn spent(&self, took: Duration) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let begin = free.map_or(now, |free| free.max(now));
        *free = Some(begin + took.min(MOST) * REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn dials_rest_twice_as_long_as_they_take() {
        let pacer = Pacer::default();
        assert!(!pacer.busy());
        pacer.spent(Duration::from_millis(2));
        pacer.spent(Duration::from_millis(2));
        assert!(pacer.busy());
        tokio::time::sleep(Duration::from_millis(7)).await;
        assert!(pacer.busy());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!pacer.busy());
    }
}
