//! What the tests share: the generated reference, and helpers to run worlds and programs.

pub mod control_plane;
pub mod reference;
