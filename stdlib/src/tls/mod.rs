//! TLS: configurations that judge a peer by the rules of a component, handshakes that count as accepted only when the
//! peer has judged us too, probes of endpoints.

pub mod config;
mod handshake;
mod judge;
mod observe;

pub use handshake::{GREETING, Handshake, TlsFailure, Wait, handshake_client, handshake_server};
pub use observe::{Observed, observe};

use crate::registry::Primitive;

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[];
