//! cfssl's formats: requests, profiles, folders.

use crate::registry::Primitive;

/// The primitives of this namespace.
pub const PRIMITIVES: &[Primitive] = &[];
