//! What works in the sandbox works on a real API server, with real controllers.
//!
//! `tests/control-plane` makes the programs; without them these tests say so and pass nothing off as tested: they are
//! ignored unless `tests/run` found the programs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod admission;
mod bench;
mod budgets;
mod by_hand;
mod cfssl;
mod contract;
mod desk;
mod envtest;
mod expired;
mod found;
mod gaps;
mod gitops;
mod issued;
mod kills;
mod kubeconfigs;
mod large;
mod made_again;
mod neighbours;
mod operator_v2;
mod parts;
mod primitives;
mod refusals;
mod restarts;
mod rights;
mod rotate;
mod shell;
mod sql;
mod stage;
mod streams;
mod traps;
mod two_processes;
mod unstartable;
mod waits;
