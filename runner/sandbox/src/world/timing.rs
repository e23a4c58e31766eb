//! How long things take in the sandbox, and the dice that decide: everything random comes from one seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A duration that is drawn anew each time, between two bounds in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// At least, in milliseconds.
    pub least: u64,
    /// At most, in milliseconds.
    pub most: u64,
}

impl Span {
    /// Between two numbers of milliseconds.
    pub const fn ms(least: u64, most: u64) -> Self {
        Self { least, most }
    }
}

/// How long things take. [`Timing::lifelike`] is for virtual time, [`Timing::brisk`] for a sandbox that people wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From a pod's creation to its process running.
    pub start: Span,
    /// From running until the readiness probe may pass.
    pub ready: Span,
    /// From a pod's deletion until its process has gone.
    pub stop: Span,
    /// From a Secret's change until the kubelet has it in the mounted folder.
    pub propagation: Span,
    /// By how much the operator's view of the cluster lags behind its spec: the window of the stale `Ready`.
    pub status_lag: Span,
    /// How long it takes TiKV's leaders to move away.
    pub evict: Span,
    /// How long it takes them to come back.
    pub leaders_return: Span,
    /// How often the operator looks again while it waits for something outside the API.
    pub requeue: Span,
    /// How often controllers look without any event.
    pub resync: Span,
    /// How often a pod's container restarts by itself, on average, in milliseconds; 0 for never.
    pub restart_mean: u64,
    /// How often each link is dialled when nothing changed.
    pub dial: Span,
    /// How long the certificate issuer takes for one of its steps.
    pub issue: Span,
    /// By how many seconds the certificate issuer's clock goes slow. Where everything takes fractions of a second, what
    /// was issued has still been in force for as long as it would have been by then in a real cluster.
    pub issued_ago: u32,
}

impl Timing {
    /// The durations of a real cluster, for virtual time.
    pub const fn lifelike() -> Self {
        Self {
            start: Span::ms(800, 4_000),
            ready: Span::ms(2_000, 12_000),
            stop: Span::ms(500, 5_000),
            propagation: Span::ms(500, 90_000),
            status_lag: Span::ms(100, 8_000),
            evict: Span::ms(4_000, 60_000),
            leaders_return: Span::ms(2_000, 30_000),
            requeue: Span::ms(4_000, 8_000),
            resync: Span::ms(30_000, 40_000),
            restart_mean: 400_000,
            dial: Span::ms(40_000, 60_000),
            issue: Span::ms(100, 800),
            issued_ago: 0,
        }
    }

    /// Everything in fractions of a second, for a sandbox that people wait for.
    pub const fn brisk() -> Self {
        Self {
            start: Span::ms(30, 100),
            ready: Span::ms(200, 450),
            stop: Span::ms(20, 80),
            propagation: Span::ms(300, 1_000),
            status_lag: Span::ms(50, 300),
            evict: Span::ms(150, 500),
            leaders_return: Span::ms(100, 300),
            requeue: Span::ms(80, 150),
            resync: Span::ms(3_000, 5_000),
            restart_mean: 90_000,
            dial: Span::ms(200, 300),
            issue: Span::ms(10, 60),
            issued_ago: 600,
        }
    }
}

/// Seeded dice. Every actor has its own, so that one actor's draws do not move another's.
#[derive(Debug)]
pub struct Dice(Mutex<StdRng>);

impl Dice {
    /// The dice of one actor.
    pub fn new(seed: u64, actor: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(actor.as_bytes());
        Self(Mutex::new(StdRng::from_seed(hash.finalize().into())))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// A duration within the bounds.
    pub fn span(&self, span: Span) -> Duration {
        let most = span.most.max(span.least);
        Duration::from_millis(self.with(|rng| rng.random_range(span.least..=most)))
    }

    /// When something that happens every `mean` milliseconds on average happens next; `None` for never.
    pub fn next_of(&self, mean: u64) -> Option<Duration> {
        let mean = u32::try_from(mean).ok().filter(|m| *m > 0)?;
        let uniform: f64 = self.with(|rng| rng.random_range(f64::EPSILON..1.0));
        Some(Duration::from_millis(u64::from(mean)).mul_f64(-uniform.ln()))
    }

    /// A number below `bound` (0 when the bound is 0).
    pub fn below(&self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.with(|rng| rng.random_range(0..bound)) }
    }

    /// Random bytes in hex, for names.
    pub fn hex(&self, bytes: usize) -> String {
        hex::encode((0..bytes).map(|_| self.with(rand::Rng::random::<u8>)).collect::<Vec<u8>>())
    }
}

/// Whether the world has come up. Until then nothing takes any time, so that a start state is there at once.
#[derive(Debug, Default)]
pub struct Pace(AtomicBool);

impl Pace {
    /// From here on things take their time.
    pub fn settle(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the start state was reached.
    pub fn settled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_for_a_seed_and_differ_between_actors() {
        let draws = |seed, who| {
            let dice = Dice::new(seed, who);
            (0..8).map(|_| dice.span(Span::ms(0, 1_000_000)).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(draws(1, "a"), draws(1, "a"));
        assert_ne!(draws(1, "a"), draws(1, "b"));
        assert_ne!(draws(1, "a"), draws(2, "a"));
    }

    #[test]
    fn something_that_never_happens_has_no_next_time() {
        let dice = Dice::new(1, "x");
        assert_eq!(dice.next_of(0), None);
        let total: Duration = (0..2_000).filter_map(|_| dice.next_of(1_000)).sum();
        assert!(
            (1_800..2_200).contains(&total.as_secs()),
            "the mean is off: {total:?} for 2000 draws of 1 s"
        );
    }
}
