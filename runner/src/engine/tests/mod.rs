//! Stories of whole runs on a tiny world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod crash;
mod failures;
mod harness;
mod outside;
mod toy;
