//! A bell that wakes all who listen, in the order in which they began to: tokio's `watch` wakes them in a random one,
//! and no two worlds of one seed would be alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Tower {
    rung: AtomicU64,
    notify: Notify,
}

/// Rings when something that an actor watches has changed.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Tower>);

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        self.0.rung.fetch_add(1, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }

    /// One who listens; has heard everything up to now.
    pub fn listen(&self) -> Listener {
        let mut listener = Listener { tower: Arc::clone(&self.0), heard: 0 };
        listener.mark_heard();
        listener
    }
}

/// One who listens to a [`Bell`].
#[derive(Debug)]
pub struct Listener {
    tower: Arc<Tower>,
    heard: u64,
}

impl Listener {
    /// Has heard everything up to now.
    pub fn mark_heard(&mut self) {
        self.heard = self.tower.rung.load(Ordering::SeqCst);
    }

    /// Waits until it has rung since it was heard last.
    pub async fn rings(&mut self) {
        loop {
            // Made before the look, so that it hears what rings between the two.
            let notified = self.tower.notify.notified();
            let rung = self.tower.rung.load(Ordering::SeqCst);
            if rung != self.heard {
                self.heard = rung;
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_listen_wake_in_the_order_in_which_they_began() {
        for _ in 0..20 {
            let bell = Bell::default();
            let woken: Arc<Mutex<Vec<usize>>> = Arc::default();
            let mut tasks = tokio::task::JoinSet::new();
            for n in 0..16 {
                let (mut listener, woken) = (bell.listen(), Arc::clone(&woken));
                tasks.spawn(async move {
                    listener.rings().await;
                    woken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(n);
                });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            bell.ring();
            while tasks.join_next().await.is_some() {}
            let woken = woken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            assert_eq!(woken, (0..16).collect::<Vec<_>>());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_rang_between_two_waits_is_heard_once() {
        let bell = Bell::default();
        let mut listener = bell.listen();
        bell.ring();
        bell.ring();
        listener.rings().await;
        let silence = tokio::time::timeout(Duration::from_secs(1), listener.rings()).await;
        assert!(silence.is_err(), "both were heard together");
        bell.ring();
        listener.mark_heard();
        let silence = tokio::time::timeout(Duration::from_secs(1), listener.rings()).await;
        assert!(silence.is_err(), "what was marked is not heard again");
    }
}
