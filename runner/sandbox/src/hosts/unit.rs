//! Services of a host, as systemd's words have them.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stdlib::world::Clock;
use tokio::task::JoinSet;

use crate::world::timing::{Dice, Timing};

/// What a service runs.
pub trait Program: Send + Sync {
    /// Starts it: what it loads now it keeps. It lives as long as these tasks.
    ///
    /// # Errors
    /// Why it ends at once.
    fn start(self: Arc<Self>) -> Result<JoinSet<()>, String>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Inactive,
    Failed,
}

struct Shown {
    state: State,
    starts: u64,
}

/// A service.
pub struct Unit {
    name: String,
    program: Arc<dyn Program>,
    clock: Arc<dyn Clock>,
    timing: Timing,
    dice: Dice,
    shown: Mutex<Shown>,
    running: tokio::sync::Mutex<Option<JoinSet<()>>>,
}

/// How often a port that is still being closed is tried again.
const ATTEMPTS: usize = 50;

impl Unit {
    /// A service that does not run yet.
    pub fn new(
        name: &str,
        program: Arc<dyn Program>,
        (clock, timing, dice): (Arc<dyn Clock>, Timing, Dice),
    ) -> Arc<Self> {
        let shown = Mutex::new(Shown { state: State::Inactive, starts: 0 });
        Arc::new(Self {
            name: name.to_owned(),
            program,
            clock,
            timing,
            dice,
            shown,
            running: tokio::sync::Mutex::default(),
        })
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        self.shown().state == State::Active
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.shown().starts
    }

    /// `systemctl show`.
    pub(super) fn show(&self) -> String {
        let shown = self.shown();
        let (active, sub) = match shown.state {
            State::Active => ("active", "running"),
            State::Inactive => ("inactive", "dead"),
            State::Failed => ("failed", "failed"),
        };
        let pid = if shown.state == State::Active { 1000 + shown.starts } else { 0 };
        let mut text = String::new();
        let _ = write!(
            text,
            "LoadState=loaded\nActiveState={active}\nSubState={sub}\nMainPID={pid}\nInvocationID={:032x}\n",
            shown.starts
        );
        text
    }

    /// Stops it.
    pub async fn stop(&self) {
        let mut running = self.running.lock().await;
        self.end(&mut running).await;
    }

    async fn end(&self, running: &mut Option<JoinSet<()>>) {
        if let Some(mut tasks) = running.take() {
            self.shown().state = State::Inactive;
            tasks.shutdown().await;
            self.clock.sleep(self.dice.span(self.timing.stop)).await;
        }
    }

    /// Starts it where it does not run.
    ///
    /// # Errors
    /// Why it ended at once.
    pub async fn start(&self) -> Result<(), String> {
        let mut running = self.running.lock().await;
        if running.is_some() { Ok(()) } else { self.begin(&mut running).await }
    }

    /// Starts it anew where it does not run, which takes its time.
    ///
    /// # Errors
    /// Why it ended at once.
    pub async fn revive(&self) -> Result<(), String> {
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        self.clock.sleep(self.dice.span(self.timing.start)).await;
        self.begin(&mut running).await
    }

    async fn begin(&self, running: &mut Option<JoinSet<()>>) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match Arc::clone(&self.program).start() {
                Ok(tasks) => {
                    *running = Some(tasks);
                    let mut shown = self.shown();
                    shown.starts += 1;
                    shown.state = State::Active;
                    return Ok(());
                }
                Err(why) if why.contains("address in use") => {
                    last = why;
                    self.clock.sleep(Duration::from_millis(20)).await;
                }
                Err(why) => {
                    last = why;
                    break;
                }
            }
        }
        self.shown().state = State::Failed;
        Err(last)
    }

    /// Stops it and starts it anew. It goes on to its end whoever waits for it.
    ///
    /// # Errors
    /// Why it ended at once.
    pub async fn restart(self: Arc<Self>) -> Result<(), String> {
        let done = tokio::spawn(async move {
            let mut running = self.running.lock().await;
            self.end(&mut running).await;
            self.clock.sleep(self.dice.span(self.timing.start)).await;
            self.begin(&mut running).await
        });
        done.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
