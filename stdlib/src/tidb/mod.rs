//! TiDB clusters under TiDB Operator.

use crate::registry::Primitive;

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[];
