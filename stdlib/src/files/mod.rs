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
