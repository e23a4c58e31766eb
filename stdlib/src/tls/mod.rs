//! TLS: configurations by the rules of a component, probes of endpoints.

use crate::registry::Primitive;

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[];
