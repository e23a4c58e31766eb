//! What needs more than one part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod admission;
mod authors;
mod budgets;
mod by_hand;
mod certificates;
mod contract;
mod crash;
mod etcd;
mod expired;
mod frozen;
mod gaps;
mod gitops;
mod house;
mod in_cluster;
mod issued;
mod kills;
mod lab;
mod made_again;
mod neighbours;
mod operator_v2;
mod pages;
mod partitions;
mod parts;
mod pinned;
mod primitives;
mod refusals;
mod rotate;
mod secrets;
mod sql;
mod stage;
mod state;
mod streams;
mod tampered;
mod terminal;
mod touches;
mod traps;
mod two_processes;
mod unstartable;
mod ways;

use tests::program;
