//! The primitives of `k8s` and `tidb`, and the lock, against the Kubernetes API of the sandbox.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod lock;
mod objects;
mod restart;
mod rotation;
mod secrets;
mod support;
mod tidb;
mod waits;
