//! The workload controllers: StatefulSet, Deployment (with its ReplicaSets) and DaemonSet. What to do is decided by
//! pure functions ([`statefulset`], [`deployment`]); [`run`] reads, asks them and writes.

pub mod deployment;
mod drive;
pub mod statefulset;
pub mod template;

pub use drive::run;
