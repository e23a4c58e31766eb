//! What the tests share: the generated reference, and helpers to run worlds and programs.

#[allow(clippy::disallowed_methods, reason = "it runs real programs, whose files and time are the machine's")]
pub mod control_plane;
pub mod reference;

#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that two test programs tell on different servers"
)]
pub mod two_processes;

#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a talk that two test programs hold with different servers"
)]
pub mod contract;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a story that two test programs tell on different servers"
)]
pub mod admission;

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a story that two test programs tell on different servers"
)]
pub mod budgets;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a story that two test programs tell on different servers"
)]
pub mod neighbours;

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod streams;

#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it runs a real program on two servers"
)]
pub mod desk;

#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "a test that two test programs make on different servers"
)]
pub mod kills;

#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod definitions;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod operator_v2;

#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it runs the real program"
)]
pub mod program;

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod primitives;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_debug_implementations,
    reason = "what stories are told upon"
)]
pub mod clock;

#[allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "what stories are told upon")]
pub mod stage;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    missing_debug_implementations,
    reason = "what a person does in stories that two test programs tell on different servers"
)]
pub mod hands;

#[allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "stories that two test programs tell on different servers"
)]
pub mod by_hand;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod refusals;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod made_again;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod parts;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod traps;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod gaps;

#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod expired;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod gitops;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "stories that two test programs tell on different servers"
)]
pub mod issued;

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a story that two test programs tell on different servers"
)]
pub mod unstartable;

#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a story that two test programs tell on different servers"
)]
pub mod partitions;

#[allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests of two test programs compare by it")]
pub mod state;
