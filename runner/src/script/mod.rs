//! Scripts: plain Rhai that declares phases and steps, evaluated by replay against recorded facts.
//!
//! The rules that this folder keeps are those of the script surface: a script declares and does nothing itself; a
//! promise is handed on and never looked at; the first refusal is kept whatever the script does; limits are the same in
//! every build; names of natives are theirs alone; each file is loaded once.
//!
//! Decisions beyond it. A read inside `trust(…)`, `.when(…)` or `.each(…)` is made by the run, not by the
//! declaration. An identical read in one evaluation is one fact, so a declaration sees one world. `switch` is refused
//! except on what is always known, because Rhai takes its default branch for a promise without a word. A variable may
//! be named like a namespace (`let ca = …; ca::create(…)`), which Rhai keeps apart; imports and functions may not. Closures are for
//! array functions only; `later` does not exist, for no shipped procedure needs it.

// The engine's own error type is boxed wherever it is returned.
#![allow(clippy::unnecessary_box_returns)]

mod calls;
mod check;
mod deferred;
mod engine;
mod evaluate;
mod failure;
mod finish;
mod natives;
mod options;
mod parallel;
mod promise;
mod refusals;
mod sources;
mod state;
mod surface;
mod syntax;
mod target;
#[cfg(test)]
mod tests;
mod values;

pub use check::check;
pub use evaluate::{Declared, Input, Session, declare, evaluate};
pub use sources::{MAIN, MANIFEST, SHARED, Sources, import_file};
pub use state::Need;
pub use surface::reference;
