//! Files of this machine: the real [`Disk`](crate::world::Disk), one that can crash for tests, and the namespace `files`.

mod primitives;
mod sim;
mod system;

pub use primitives::PRIMITIVES;
pub use sim::{Fault, SimDisk};
pub use system::SystemDisk;
