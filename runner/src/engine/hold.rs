//! Holding the lock on the target while a run works on it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::lease::{Last, Leave};
use tokio::time::Instant;

use super::core::Core;
use super::lock::HeldLock;
use super::stop::Stop;
use crate::error::Failure;
use crate::exit_code::ExitCode;

impl Core {
    /// Takes the lock, before anything on the target is read for a decision or changed.
    pub(crate) async fn take_lock(&self) -> Result<(), Stop> {
        let Some(target) = &self.plan.target else { return Ok(()) };
        if self.held.borrow().is_some() {
            return Ok(());
        }
        let held = self.options.lock.take(target, self.ledger.run_id()).await.map_err(|error| {
            Stop::Refused(Failure::of(ExitCode::before_start(&error), error).on(target.title.clone()))
        })?;
        self.held.send_replace(Some(held.clone()));
        if let Some(from) = held.taken_from() {
            self.fence(held.as_ref(), &from).await?;
        }
        Ok(())
    }

    /// The one before may be stopped and not dead: nothing that it was about to write may land on what this process does.
    async fn fence(&self, held: &dyn HeldLock, from: &str) -> Result<(), Stop> {
        let steps = self.plan.touches(self.options.registry);
        let touched: Vec<_> = steps.into_iter().flat_map(|(_, touches)| touches).collect();
        let open = held.fence(&touched).await;
        let mut text =
            format!("the lock was taken from {from}, whose Lease had ended; it can write nothing more");
        if !open.is_empty() {
            text.push_str(", except for what has no version: ");
            text.push_str(&open.join(", "));
        }
        self.ledger.note(&text)?;
        self.hub.note(text);
        Ok(())
    }

    /// Renews the lock for as long as it is held; returns only when it is lost.
    pub(crate) async fn keep_lock(&self) -> Failure {
        let mut receiver = self.held.subscribe();
        loop {
            let held: Option<Arc<dyn HeldLock>> = receiver.borrow_and_update().clone();
            let Some(held) = held else {
                if receiver.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            let mut renewed = Instant::now();
            let mut wait = held.interval();
            loop {
                self.world.clock.sleep(wait).await;
                // A Lease lasts three intervals: it is given up before anybody else can take it. A process that was
                // stopped for longer asks once more; until it knows, nothing is written.
                let slept = wait == held.interval();
                let again = if slept { Instant::now() + held.interval() / 2 } else { renewed };
                let last = again.max(renewed + held.interval() * 5 / 2);
                let error = match tokio::time::timeout_at(last, held.renew()).await {
                    Ok(Ok(())) => {
                        renewed = Instant::now();
                        wait = held.interval();
                        self.note_progress().await;
                        continue;
                    }
                    Ok(Err(error)) => error,
                    Err(_) => PrimError::new(Code::Timeout, "the lock could not be renewed in time"),
                };
                if error.code == Code::Locked || Instant::now() >= last {
                    return lost(error);
                }
                wait = Duration::from_secs(1);
            }
        }
    }

    /// Whether another process has the lock.
    pub(crate) async fn lost_lock(&self) -> Option<Failure> {
        let held = self.held.borrow().clone()?;
        held.holds().await.err().filter(|error| error.code == Code::Locked).map(lost)
    }

    /// Tells whoever finds the target locked at which step the run is, where that is another than was said last.
    async fn note_progress(&self) {
        let (at, said) = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !at.is_empty() && at != said {
            self.note_on_target(&at).await;
        }
    }

    /// Whether the target was told last that the run is here.
    pub(crate) fn is_noted(&self, step: &str) -> bool {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).1 == step
    }

    /// Writes the head of the record beside the mark. It is evidence, not a condition: a failure is told and no more.
    pub(crate) async fn note_on_target(&self, step: &str) {
        step.clone_into(&mut self.place.lock().unwrap_or_else(PoisonError::into_inner).1);
        let held = self.held.borrow().clone();
        if let Some(held) = held
            && let Err(error) = held.note(step, &self.ledger.head()).await
        {
            self.hub.note(format!("the head of the record could not be written to the target: {error}"));
        }
    }

    /// Clears what is left on the target of a run that is over: it died after its last record and before it let go.
    pub(crate) async fn forget_lock(&self) {
        let Some(target) = &self.plan.target else { return };
        let Some(ended) = self.ledger.ended() else { return };
        if let Err(error) = self.options.lock.forget(target, &self.last(ended)).await {
            self.hub
                .note(format!("whether the run has left a mark on {} is not known: {error}", target.title));
        }
    }

    /// Whatever the target would do by itself it does not, as far as it can be told.
    pub(crate) async fn disarm(&self) -> Result<(), Stop> {
        let Some(target) = &self.plan.target else { return Ok(()) };
        if let Err(error) = self.options.lock.disarm(target, self.ledger.run_id()).await {
            let text = format!("what {} does by itself could not be called off: {error}", target.title);
            self.ledger.note(&text)?;
            self.hub.note(text);
        }
        Ok(())
    }

    /// Lets go of the lock. A failure is told: the Lease ends by itself.
    pub(crate) async fn release_lock(&self, leave: Leave) {
        let held = self.held.send_replace(None);
        if let Some(held) = held
            && let Err(error) = held.release(&leave).await
        {
            self.hub
                .note(format!("the lock on the target could not be released: {error}; it ends by itself"));
        }
    }
}

impl Core {
    /// What an auditor finds on the target of a run that is over.
    pub(crate) fn last(&self, ended: journal::EndState) -> Last {
        let head = self.ledger.head();
        let head = format!("{}:{}", head.size, head.root);
        Last { run: self.ledger.run_id().to_owned(), ended: ended.to_string(), head }
    }
}

fn lost(error: PrimError) -> Failure {
    Failure::of(ExitCode::TargetLocked, error)
        .hint("the run stopped before its next change; resume it once the target answers")
}
