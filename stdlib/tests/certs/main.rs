//! Certificates and the PKI folder, judged by the real cfssl and openssl.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod adoption;
mod csr;
mod errors;
mod folder;
mod install;
mod interop;
mod keys;
mod properties;
mod support;
mod traps;
