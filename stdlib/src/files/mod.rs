//! Files of this machine: the real [`Disk`](crate::world::Disk), one that can crash for tests, and the namespace `files`.

pub(crate) mod change;
mod primitives;
mod sim;
mod system;
#[cfg(test)]
mod tests;

pub use primitives::PRIMITIVES;
pub use sim::{Fault, SimDisk};
pub use system::SystemDisk;

/// Reads a file of which no more is wanted than `most` bytes: what is longer is returned with one byte more, so that its
/// reader refuses it and its length costs nothing.
///
/// # Errors
/// As [`Disk::open`](crate::world::Disk::open).
pub fn read_at_most(
    disk: &dyn crate::world::Disk,
    path: &std::path::Path,
    most: usize,
) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    disk.open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
