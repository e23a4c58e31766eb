//! What a step waited for: said where its deadline passes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::gate::Progress;
use tokio::time::Instant;

/// How long before its deadline a step is asked why it waits; of a short deadline a fifth.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The last that a step has told, and until when it may run.
#[derive(Default)]
pub(crate) struct Waited {
    late_from: Option<Instant>,
    told: Mutex<(Option<Progress>, Option<String>)>,
}

impl Waited {
    /// Of a step that begins now.
    pub(crate) fn until(until: Instant) -> Self {
        let all = until.saturating_duration_since(Instant::now());
        let late_from = until.checked_sub(LAST_WORDS.min(all / 5));
        Self { late_from, told: Mutex::default() }
    }

    /// Whether its deadline is near.
    pub(crate) fn is_late(&self) -> bool {
        self.late_from.is_some_and(|late_from| Instant::now() >= late_from)
    }

    /// Keeps what it does now.
    pub(crate) fn keep(&self, progress: &Progress) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(progress.clone());
    }

    /// Keeps why it waits.
    pub(crate) fn explain(&self, why: &str) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(why.to_owned());
    }

    /// That its deadline has passed, with the last it has told.
    pub(crate) fn over(&self) -> PrimError {
        let (progress, why) = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Progress { text, done }) = progress else {
            return PrimError::new(Code::Timeout, "its deadline has passed")
                .hint("give the step a longer `.deadline`, or find out what it waits for");
        };
        let count = done.map(|(done, all)| format!(" ({done} of {all})")).unwrap_or_default();
        let why = why.map(|why| format!(". {why}")).unwrap_or_default();
        PrimError::new(Code::Timeout, format!("its deadline has passed while it waited: {text}{count}{why}"))
            .hint("mend what it waited for, then `rollover resume`; where it only needs longer, give the step a longer `.deadline`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_passes_says_what_was_waited_for_and_why() {
        let waited = Waited::until(Instant::now() + Duration::from_secs(60));
        assert_eq!(waited.over().message, "its deadline has passed");
        tokio::time::advance(Duration::from_secs(49)).await;
        assert!(!waited.is_late());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(waited.is_late());
        waited.keep(&Progress { text: "web-1: starts".into(), done: Some((1, 3)) });
        let over = waited.over();
        assert_eq!(over.message, "its deadline has passed while it waited: web-1: starts (1 of 3)");
        waited.explain("Pod shop/web-1: FailedMount: secret \"web\" not found");
        assert!(
            waited
                .over()
                .message
                .ends_with("web-1: starts (1 of 3). Pod shop/web-1: FailedMount: secret \"web\" not found")
        );
        let short = Waited::until(Instant::now() + Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!short.is_late(), "a fifth of a short one");
    }
}
