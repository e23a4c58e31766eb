//! Certificates and the PKI folder, judged by the real cfssl and openssl.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod adoption;
mod csr;
mod dates;
mod differences;
mod errors;
mod folder;
mod fuzz;
mod inputs;
mod install;
mod interop;
#[path = "../verifiers/judges.rs"]
mod judges;
mod keys;
mod lax;
mod limits;
mod matrix;
mod odd_inputs;
mod peers;
mod properties;
mod refusals;
mod roundtrips;
mod sealed;
mod stores;
mod support;
#[path = "../../../tests/fuzz/targets.rs"]
mod targets;
mod theirs;
mod traps;
