//! etcd: its members as they are, what may be stopped now, snapshots, and restarts that never cost the quorum.
//!
//! It is spoken to through its JSON gateway, which listens beside gRPC on the client port of every member.

mod client;
mod cluster;
mod leader;
mod primitives;
pub mod quorum;
mod restart;
mod snapshot;

pub use client::{Access, Endpoint, ask};
pub use cluster::{Cluster, Look, Member, Seen, Stranger};
pub use primitives::PRIMITIVES;
