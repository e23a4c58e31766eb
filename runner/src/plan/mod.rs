//! The plan: the list of phases and steps that evaluating a script yields. Pure data, serialisable and hashable.
//!
//! `describe`, `plan`, `status`, capability checks, least RBAC, the crash matrix, resume and rollback all read it;
//! nothing here runs anything.

mod expr;
mod query;
mod resolve;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use expr::{Call, Expr};
pub use resolve::{Outputs, resolve, resolve_all};
pub use validate::Flaw;
pub(crate) use validate::{belongs, does, role_takes};

/// Where in a script something was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// File name as the pinned copies have it, e.g. `main.rhai` or `lib/rotation.rhai`.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Makes something random, into the vault.
    Stage,
    /// Writes objects or files.
    Change,
    /// Makes running parties load them.
    Settle,
    /// Observes that they did.
    Prove,
    /// Runs on the way back in place of the derived undo.
    Back,
}

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "on_failure")]
pub enum OnFailure {
    /// The run stops there.
    #[default]
    Stop,
    /// Try again, this often at most, waiting twice as long each time.
    Retry {
        /// Attempts after the first.
        times: u32,
        /// First pause in milliseconds.
        pause_ms: u64,
    },
    /// Ask the operator; without a terminal, stop.
    Ask,
}

impl Role {
    /// The word in step keys and in scripts.
    pub fn word(self) -> &'static str {
        match self {
            Role::Stage => "stage",
            Role::Change => "change",
            Role::Settle => "settle",
            Role::Prove => "prove",
            Role::Back => "back",
        }
    }

    /// Place in the order of a phase: stages and changes as declared, then settles, then proofs.
    pub fn rank(self) -> u8 {
        match self {
            Role::Stage | Role::Change => 0,
            Role::Settle => 1,
            Role::Prove => 2,
            Role::Back => 3,
        }
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `phase/role/item`, unique in the plan.
    pub key: String,
    /// What it is for.
    pub role: Role,
    /// Its name within phase and role.
    pub item: String,
    /// What it does.
    pub action: Call,
    /// Seconds it may take, all attempts together.
    pub deadline_s: u64,
    /// What happens when it fails.
    #[serde(flatten)]
    pub on_failure: OnFailure,
    /// How many adjacent steps of this group may run at once; steps with the same group number belong together.
    pub parallel: Option<Parallel>,
    /// A condition, resolved and journaled before the first intent: false skips the step.
    pub when: Option<Expr>,
    /// A list, resolved and journaled before the first intent: the action runs once an item, keys `…/item[n]`.
    pub each: Option<Expr>,
    /// Where it was declared.
    pub at: At,
}

/// Adjacent steps whose intents are durable together before the first begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parallel {
    /// Number of the group within the phase and role.
    pub group: u32,
    /// How many at once.
    pub width: u32,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// What is trusted, who signs, why this phase exists.
    pub why: String,
    /// Whether nothing after its first change can be taken back.
    pub final_: bool,
    /// Whether links may fail while it runs; the manifest must say so too.
    pub outage: bool,
    /// In order of role (stages and changes as declared, settles, proofs), then of declaration.
    pub steps: Vec<Step>,
    /// Steps that replace the derived undo.
    pub back: Vec<Step>,
    /// Where it was declared.
    pub at: At,
}

/// Something read of the world while the script was evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Name of the primitive.
    pub primitive: String,
    /// Its arguments.
    pub args: Vec<Value>,
    /// What it answered: data and secret handles.
    pub answer: Value,
    /// Where it was read.
    pub at: At,
}

/// Something that the script says to the reader of the plan (`note(…)` and `print(…)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The text.
    pub text: String,
    /// Where it was written.
    pub at: At,
}

/// What a run holds a lock on: the object that carries the mark and the namespace of the Lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// For people: `TidbCluster tidb/basic`.
    pub title: String,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// `apiVersion` of the object that carries the mark.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid: a re-created object is another target.
    pub uid: String,
    /// Hosts that carry the mark in place of an object, each as `host::inventory` gives it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Value>,
}

/// Everything that a run will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `tidb/cfssl-rotate`.
    pub workflow: String,
    /// One line.
    pub title: String,
    /// Parameters as resolved, defaults included.
    pub params: BTreeMap<String, Value>,
    /// What was read, in order.
    pub facts: Vec<Fact>,
    /// What is locked; `None` for a workflow that changes nothing shared.
    pub target: Option<Target>,
    /// The reading primitive that gives the trust [`stdlib::trust::View`] before and after each phase.
    pub trust: Option<Call>,
    /// Begun with a broken target: it only goes forward, and links that do not hold are no obstacle.
    pub forward_only: bool,
    /// What is said at its end where it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<String>,
    /// What the script says to the reader.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// The phases in order.
    pub phases: Vec<Phase>,
}
