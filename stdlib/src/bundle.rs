//! Bundles: ordered sets of anchors, parsed and re-encoded.

use crate::registry::Primitive;

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[];
