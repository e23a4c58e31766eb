//! What needs more than one part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod crash;
mod house;
mod lab;
mod rotate;
