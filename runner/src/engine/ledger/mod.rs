//! The engine's one way to the journal: what is written, in the engine's words, and what the record answers.
//!
//! The first failure to write is kept, and every later call fails with it: nothing is done that is not on record.

mod answers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use journal::{Approval, Direction, Event, Journal, JournalError, Outcome, OutcomeStatus};
use journal::{StepStatus, Vault};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stdlib::gate::{Effect, EffectClass, Place};
use stdlib::secret::SecretStore;
use stdlib::world::Disk;
use stdlib::{PrimError, Secret};
use tokio::sync::watch;

use crate::engine::approve::Answer;
use crate::engine::core::Expansion;
use crate::error::Failure;
use crate::events::{Head, Question};
use crate::exit_code::ExitCode;
use crate::plan::Call;

/// The journal cannot be written, or a test demanded to stop here. Sticky.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Halt {
    /// Fault injection: as if the process had died.
    pub killed: bool,
    /// A bug of ours: the event may not be recorded.
    pub internal: bool,
    /// In the operator's words.
    pub message: String,
}

impl Halt {
    pub(crate) fn failure(self) -> Failure {
        if self.internal {
            let hint = "this is a bug: report it with the run's record";
            return Failure::new(ExitCode::Unknown, format!("internal: {}", self.message)).hint(hint);
        }
        Failure::new(ExitCode::JournalUnwritable, self.message)
            .hint("make room or repair the disk, then resume")
    }
}

impl From<Halt> for PrimError {
    fn from(halt: Halt) -> Self {
        Self::new(stdlib::error::Code::Refused, halt.message)
    }
}

/// A step, or one item of it, within the phase that is done or undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepId {
    pub phase: String,
    pub direction: Direction,
    pub key: String,
}

/// An effect on record that a way back has to know.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    pub seq: u64,
    pub phase: String,
    pub key: String,
    pub place: Place,
    pub before: String,
    pub after: String,
    pub class: EffectClass,
    pub primitive: String,
    pub backup: Option<Value>,
    pub summary: Value,
}

/// One run's record.
pub(crate) struct Ledger {
    journal: Mutex<Journal>,
    vault: Arc<Vault>,
    run: String,
    folder: String,
    halt: watch::Sender<Option<Halt>>,
    /// Arguments of the steps at work, made durable with their first effect.
    args: Mutex<BTreeMap<(String, String), Vec<Value>>>,
}

impl Ledger {
    pub(crate) fn new(journal: Journal, vault: Arc<Vault>, run: String, folder: String) -> Self {
        let halt = watch::Sender::new(None);
        Self { journal: Mutex::new(journal), vault, run, folder, halt, args: Mutex::default() }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.run
    }

    pub(crate) fn folder(&self) -> String {
        self.folder.clone()
    }

    pub(crate) fn secrets(&self) -> Arc<dyn SecretStore> {
        self.vault.clone()
    }

    /// `RUN/PHASE/f`: the same again after a resume, another on the way back.
    pub(crate) fn marker(&self, phase: &str, direction: Direction) -> String {
        let way = match direction {
            Direction::Forward => 'f',
            Direction::Back => 'b',
        };
        format!("{}/{phase}/{way}", self.run)
    }

    /// The first failure to write, if there was one.
    pub(crate) fn halt(&self) -> Option<Halt> {
        self.halt.borrow().clone()
    }

    pub(crate) fn alive(&self) -> Result<(), Halt> {
        self.halt().map_or(Ok(()), Err)
    }

    /// Waits for the first failure to write.
    pub(crate) async fn halted(&self) -> Halt {
        let mut receiver = self.halt.subscribe();
        loop {
            if let Some(halt) = receiver.borrow_and_update().clone() {
                return halt;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn halts(&self, error: &JournalError) -> Halt {
        use JournalError as E;
        let internal = matches!(error, E::Illegal(_) | E::Record(_) | E::ForgedBody);
        let killed = matches!(error, E::Stopped { .. });
        let halt = Halt { killed, internal, message: error.to_string() };
        self.halt.send_modify(|first| {
            first.get_or_insert_with(|| halt.clone());
        });
        self.halt().unwrap_or(halt)
    }

    fn append(&self, event: Event) -> Result<(), Halt> {
        self.alive()?;
        self.journal().append(event).map(|_| ()).map_err(|error| self.halts(&error))
    }

    /// Durable with the next append or [`Ledger::sync`].
    fn write(&self, event: Event) -> Result<(), Halt> {
        self.alive()?;
        self.journal().write(event).map_err(|error| self.halts(&error))
    }

    /// Makes durable what was written. To be called before anything is done.
    pub(crate) fn sync(&self) -> Result<(), Halt> {
        self.alive()?;
        self.journal().sync().map_err(|error| self.halts(&error))
    }

    pub(crate) fn phase_begin(&self, phase: &str, direction: Direction) -> Result<(), Halt> {
        self.alive()?;
        if self.phase_begun(phase, direction) {
            return Ok(());
        }
        self.append(Event::PhaseBegin(journal::PhaseBegin { phase: phase.to_owned(), direction }))
    }

    pub(crate) fn phase_end(
        &self,
        phase: &str,
        direction: Direction,
        matrix: Option<Value>,
    ) -> Result<(), Halt> {
        self.append(Event::PhaseEnd(journal::PhaseEnd { phase: phase.to_owned(), direction, matrix }))
    }

    pub(crate) fn expanded(&self, id: &StepId, found: &Expansion) -> Result<(), Halt> {
        let count = found.items.as_ref().map(|items| u64::try_from(items.len()).unwrap_or(u64::MAX));
        self.append(Event::Expanded(journal::Expanded {
            step: id.key.clone(),
            direction: id.direction,
            when: found.when,
            items: found.items.clone().map(Value::Array),
            count,
        }))
    }

    pub(crate) fn forecast(&self, phase: &str, direction: Direction, summary: Value) -> Result<(), Halt> {
        self.append(Event::Forecast(journal::Forecast { phase: phase.to_owned(), direction, summary }))
    }

    pub(crate) fn intent(&self, id: &StepId, action: &Call, inputs: &[Value]) -> Result<(), Halt> {
        self.intent_beside(id, action, inputs)?;
        self.sync()
    }

    /// One of several intents: all are durable after [`Ledger::sync`].
    pub(crate) fn intent_beside(&self, id: &StepId, action: &Call, inputs: &[Value]) -> Result<(), Halt> {
        let attempt = self.attempts(id) + 1;
        let key = (format!("{} {}", id.phase, id.direction), id.key.clone());
        self.args.lock().unwrap_or_else(PoisonError::into_inner).insert(key, inputs.to_vec());
        self.write(Event::Intent(journal::Intent {
            step: id.key.clone(),
            direction: id.direction,
            attempt,
            action: digest(action),
            inputs: digest(&inputs),
        }))
    }

    /// Seals the copy of what is there, then records the effect. When this returns, both are durable.
    pub(crate) fn effect(
        &self,
        id: &StepId,
        primitive: &str,
        effect: &Effect,
        restores: Option<u64>,
    ) -> Result<(), Halt> {
        self.alive()?;
        let seal = |secret: &Secret| self.vault.put(secret);
        let backup = effect.backup.as_ref().map(seal).transpose().map_err(|error| {
            let message = format!("the copy of {} cannot be kept: {error}", effect.place.0);
            self.halt_with(message)
        })?;
        let n = {
            let journal = self.journal();
            journal.state().effects_of(&id.phase, id.direction, &id.key).len()
        };
        if n == 0 {
            self.keep_args(id)?;
        }
        self.append(Event::Effect(journal::Effect {
            step: id.key.clone(),
            direction: id.direction,
            n: u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1),
            place: effect.place.clone(),
            before: effect.before.clone(),
            after: effect.after.clone(),
            class: effect.class,
            primitive: primitive.to_owned(),
            backup,
            restores,
            summary: effect.summary.clone(),
        }))
    }

    fn keep_args(&self, id: &StepId) -> Result<(), Halt> {
        let key = (format!("{} {}", id.phase, id.direction), id.key.clone());
        let args = self.args.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let Some(args) = args else { return Ok(()) };
        let kept = self.journal().bodies().put_value(&Value::Array(args));
        kept.map(|_| ()).map_err(|error| self.halts(&error))
    }

    fn halt_with(&self, message: String) -> Halt {
        let halt = Halt { killed: false, internal: false, message };
        self.halt.send_modify(|first| {
            first.get_or_insert_with(|| halt.clone());
        });
        halt
    }

    /// Durable before the next step begins: with its intent, or after [`Ledger::sync`].
    pub(crate) fn done(&self, id: &StepId, output: &Value) -> Result<(), Halt> {
        self.outcome(id, OutcomeStatus::Done, output.clone(), None)
    }

    pub(crate) fn skipped(&self, id: &StepId) -> Result<(), Halt> {
        self.outcome(id, OutcomeStatus::Skipped, Value::Null, None)
    }

    pub(crate) fn failed(&self, id: &StepId, error: &PrimError) -> Result<(), Halt> {
        self.outcome(id, OutcomeStatus::Failed, Value::Null, Some(error.into()))?;
        self.sync()
    }

    /// A failure before the intent. What an earlier process left in doubt stays so.
    pub(crate) fn could_not_begin(&self, id: &StepId, error: &PrimError) -> Result<(), Halt> {
        self.alive()?;
        let status = {
            let journal = self.journal();
            let step = journal.state().step(&id.phase, id.direction, &id.key);
            step.map_or(StepStatus::NotBegun, |step| step.status)
        };
        match status {
            StepStatus::NotBegun | StepStatus::Failed => self.failed(id, error),
            _ => self.note(&format!("step `{}` could not begin again: {error}", id.key)),
        }
    }

    fn outcome(
        &self,
        id: &StepId,
        status: OutcomeStatus,
        output: Value,
        error: Option<journal::Failure>,
    ) -> Result<(), Halt> {
        let (step, direction) = (id.key.clone(), id.direction);
        self.write(Event::Outcome(Outcome { step, direction, status, output, error }))
    }

    pub(crate) fn approval(
        &self,
        phase: Option<&str>,
        direction: Direction,
        question: &Question,
        answer: &Answer,
    ) -> Result<(), Halt> {
        let what = what(question.kind(), phase.unwrap_or("plan"), direction);
        if !answer.yes {
            return self.note(&format!("not approved: {what} (asked {})", answer.who));
        }
        self.append(Event::Approval(Approval { what, by: answer.who.clone(), how: answer.how.clone() }))
    }

    pub(crate) fn turn(&self, why: &str) -> Result<(), Halt> {
        self.alive()?;
        if self.turned() {
            return Ok(());
        }
        self.append(Event::Turn(journal::Turn { direction: Direction::Back, why: why.to_owned() }))
    }

    pub(crate) fn note(&self, text: &str) -> Result<(), Halt> {
        self.append(Event::Note(journal::Note { text: text.to_owned() }))
    }

    /// What follows these words in a note.
    pub(crate) fn noted(&self, words: &str) -> Option<String> {
        let journal = self.journal();
        journal.state().notes().iter().find_map(|note| note.strip_prefix(words).map(str::to_owned))
    }

    pub(crate) fn stuck(&self, failure: &Failure) -> Result<(), Halt> {
        let repair =
            failure.hint.as_ref().map_or_else(|| failure.to_string(), |hint| format!("{failure}; {hint}"));
        let step = failure.step.clone().unwrap_or_default();
        self.append(Event::Stuck(journal::Stuck { step, repair }))
    }

    /// Another process, or another try of this one, begins to work on the run.
    pub(crate) fn session(&self, event: Event) -> Result<(), Halt> {
        self.append(event)
    }

    pub(crate) fn end(&self, state: journal::EndState, why: &str) -> Result<(), Halt> {
        self.append(Event::End(journal::End { state, why: why.to_owned() }))
    }

    /// Signs everything so far.
    pub(crate) fn checkpoint(&self) -> Result<Head, Halt> {
        self.alive()?;
        let signed = self.journal().checkpoint();
        signed.map_err(|error| self.halts(&error))?;
        Ok(self.head())
    }

    /// Signs what a process left unsigned that died between the run's end and its last checkpoint.
    pub(crate) fn sign_tail(&self) -> Result<(), Halt> {
        self.alive()?;
        let signed = self.journal().sign_tail();
        signed.map_err(|error| self.halts(&error))
    }

    /// Every secret that the run handled and that lies in its record outside the vault, in words.
    pub(crate) fn leaks(&self, disk: &dyn Disk) -> Result<Vec<String>, Halt> {
        self.alive()?;
        let found = self.vault.secrets().and_then(|secrets| {
            let journal = self.journal();
            journal::leaks(disk, journal.lock().dir(), &secrets)
        });
        let told = |leak: &journal::Leak| {
            format!("the secret {} lies in {} ({})", leak.fingerprint, leak.file.display(), leak.form)
        };
        Ok(found.map_err(|error| self.halts(&error))?.iter().map(told).collect())
    }

    pub(crate) fn staged(&self, id: &StepId) -> Result<Option<Value>, PrimError> {
        self.vault.staged(&id.key).map_err(Into::into)
    }

    pub(crate) fn stage(&self, id: &StepId, output: &Value) -> Result<Value, PrimError> {
        self.vault.stage(&id.key, output).map_err(Into::into)
    }
}

fn what(kind: &str, subject: &str, direction: Direction) -> String {
    match direction {
        Direction::Forward => format!("{kind} {subject}"),
        Direction::Back => format!("{kind} {subject} back"),
    }
}

/// `sha256:` and the digest of the canonical JSON.
pub(crate) fn digest(value: &impl serde::Serialize) -> String {
    let bytes = serde_json_canonicalizer::to_vec(value).unwrap_or_default();
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
