//! What one evaluation of a script has declared so far, and what stopped it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use rhai::{Dynamic, EvalAltResult, Module, NativeCallContext, Position};
use serde_json::Value;
use stdlib::world::World;

use super::deferred::Deferred;
use super::sources::Sources;
use crate::diagnostic::Diagnostic;
use crate::manifest::Manifest;
use crate::plan::{At, Call, Expr, Fact, Note, OnFailure, Role, Target};

/// Bytes that all arguments, facts and notes of one workflow may hold together.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// What every native needs; one a session.
pub(super) struct Shared {
    pub(super) sources: Sources,
    pub(super) manifest: Manifest,
    pub(super) params: std::collections::BTreeMap<String, Value>,
    pub(super) world: World,
    /// Places of reads that the run makes, not the declaration.
    pub(super) deferred: Deferred,
    state: Mutex<State>,
}

/// A read whose answer is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Name of the primitive.
    pub primitive: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// Where it is read.
    pub at: At,
}

/// What stopped an evaluation.
pub(super) enum Stop {
    /// A refusal; without a place it takes that of the error that surfaced.
    Refused(Box<Diagnostic>),
    /// A read to be answered.
    Needs(Need),
}

/// The error value of a refusal; a script cannot make one.
#[derive(Debug, Clone)]
pub(super) struct Refused;

#[derive(Default)]
pub(super) struct State {
    pub(super) facts: Vec<Fact>,
    /// Facts used so far, in order.
    pub(super) used: usize,
    /// Answers by call, so that one evaluation sees one world.
    pub(super) answers: HashMap<String, usize>,
    pub(super) stop: Option<Stop>,
    pub(super) phases: Vec<PhaseDraft>,
    pub(super) steps: Vec<StepDraft>,
    /// Steps by key.
    pub(super) keys: HashMap<String, usize>,
    /// Every action made: what, where, and whether a step carries it.
    pub(super) actions: Vec<(String, At, bool)>,
    pub(super) notes: Vec<Note>,
    pub(super) target: Option<(Target, At)>,
    pub(super) trust: Option<(Call, At)>,
    pub(super) forward_only: Option<At>,
    /// When the promise that was looked at last is known, for errors that name only its type.
    pub(super) last_promise: Option<String>,
    /// Modules evaluated so far; `None` while one is being evaluated.
    pub(super) modules: HashMap<String, Option<Arc<Module>>>,
    pub(super) bytes: usize,
}

pub(super) struct PhaseDraft {
    pub(super) name: String,
    pub(super) why: String,
    pub(super) final_: Option<At>,
    pub(super) outage: Option<At>,
    pub(super) at: At,
}

pub(super) struct StepDraft {
    pub(super) phase: usize,
    pub(super) role: Role,
    pub(super) item: String,
    pub(super) key: String,
    pub(super) action: Call,
    pub(super) deadline_s: Option<u64>,
    pub(super) on_failure: OnFailure,
    pub(super) width: Option<u32>,
    pub(super) when: Option<Expr>,
    pub(super) each: Option<Expr>,
    pub(super) at: At,
}

impl Shared {
    pub(super) fn new(
        sources: Sources,
        manifest: Manifest,
        params: std::collections::BTreeMap<String, Value>,
        world: World,
        deferred: Deferred,
    ) -> Arc<Self> {
        Arc::new(Self { sources, manifest, params, world, deferred, state: Mutex::default() })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Begins a new evaluation with these facts.
    pub(super) fn reset(&self, facts: &[Fact]) {
        *self.state() = State { facts: facts.to_vec(), ..State::default() };
    }

    /// The place of a call.
    pub(super) fn at(&self, context: &NativeCallContext) -> At {
        self.place(context.call_source(), context.call_position())
    }

    /// A position in a file; the main one where none is named.
    pub(super) fn place(&self, file: Option<&str>, position: Position) -> At {
        At {
            file: file.filter(|file| !file.is_empty()).unwrap_or(&self.sources.main).to_owned(),
            line: position.line().unwrap_or(1),
            column: position.position().unwrap_or(1),
        }
    }

    /// Adds a place to a diagnostic.
    pub(super) fn spot(&self, diagnostic: Diagnostic, at: &At, label: &str) -> Diagnostic {
        diagnostic.spot(at.clone(), self.sources.text(&at.file), label)
    }

    /// Keeps the first refusal, which ends the evaluation whatever the script does.
    pub(super) fn refuse(&self, diagnostic: Diagnostic, context: &NativeCallContext) -> Box<EvalAltResult> {
        let at = self.at(context);
        let known = !context.call_position().is_none();
        let diagnostic = if known { self.spot(diagnostic, &at, "") } else { diagnostic };
        self.stop(Stop::Refused(Box::new(diagnostic)), context.call_position())
    }

    /// The same where the place is not known; the surfacing error gives it.
    pub(super) fn refuse_somewhere(&self, diagnostic: Diagnostic) -> Box<EvalAltResult> {
        self.stop(Stop::Refused(Box::new(diagnostic)), Position::NONE)
    }

    /// Keeps what stopped the evaluation, unless something did before. A refusal travels as an ordinary error, for only
    /// those collect the calls that they pass; a script that catches it finds that nothing works any more.
    pub(super) fn stop(&self, stop: Stop, position: Position) -> Box<EvalAltResult> {
        let refused = matches!(stop, Stop::Refused(_));
        self.state().stop.get_or_insert(stop);
        if refused {
            EvalAltResult::ErrorRuntime(Dynamic::from(Refused), position).into()
        } else {
            EvalAltResult::ErrorTerminated(Dynamic::UNIT, position).into()
        }
    }

    /// After a stop nothing is declared, whatever swallowed the error.
    pub(super) fn check_running(&self, context: &NativeCallContext) -> Result<(), Box<EvalAltResult>> {
        if self.state().stop.is_some() {
            return Err(EvalAltResult::ErrorTerminated(Dynamic::UNIT, context.call_position()).into());
        }
        Ok(())
    }

    /// Counts bytes that the declaration holds.
    pub(super) fn count(&self, bytes: usize, context: &NativeCallContext) -> Result<(), Box<EvalAltResult>> {
        let total = {
            let mut state = self.state();
            state.bytes = state.bytes.saturating_add(bytes);
            state.bytes
        };
        if total > MAX_BYTES {
            let text = format!("the workflow holds more than {} MiB of data", MAX_BYTES >> 20);
            return Err(self.refuse(Diagnostic::error("script::limit", text), context));
        }
        Ok(())
    }
}

/// The refusal of rule 3.
pub(super) fn unknown_yet(when_known: &str) -> Diagnostic {
    Diagnostic::error("script::unknown-yet", format!("this value is {when_known}")).hint(
        "it can be projected (`x.field`) and handed to primitives, `.when(…)` and `.each(…)`; it cannot be printed, \
         compared or branched on",
    )
}
