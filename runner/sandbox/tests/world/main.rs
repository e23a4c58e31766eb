//! The world of the sandbox, as a person with `kubectl` would meet it: rotations by hand, right and wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods
)]

mod faults;
mod issuer;
mod operator;
mod rotation;
mod support;
