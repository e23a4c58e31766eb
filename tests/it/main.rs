//! What needs more than one part.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod crash;
mod hands;
mod house;
mod lab;
mod refusals;
mod rotate;
