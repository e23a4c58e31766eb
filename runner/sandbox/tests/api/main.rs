//! The API through `kube`, as the program and the controllers of the sandbox use it.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod applying;
mod basics;
mod customs;
mod deleting;
mod faults;
mod https;
mod lasting;
mod rules;
mod support;
mod watching;
