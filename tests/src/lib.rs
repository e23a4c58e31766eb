//! What the tests share: the generated reference, and helpers to run worlds and programs.

#[allow(clippy::disallowed_methods, reason = "it runs real programs, whose files and time are the machine's")]
pub mod control_plane;
pub mod reference;
