//! etcd: its members as they are, what may be stopped now, snapshots, and restarts that never cost the quorum.
//!
//! It is spoken to by the crate `etcd-client`, over TLS of our own.

mod client;
mod cluster;
mod leader;
mod line;
mod look;
mod primitives;
pub mod quorum;
mod restart;
mod snapshot;

pub use client::{Access, Connection, Endpoint, connect};
pub use cluster::{Cluster, Member};
pub use line::Line;
pub use look::{Look, Seen, Stranger};
pub use primitives::PRIMITIVES;
