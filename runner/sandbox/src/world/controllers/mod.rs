//! The workload controllers: StatefulSet, Deployment (with its ReplicaSets) and DaemonSet, and that of
//! PodDisruptionBudgets. What to do is decided by
//! pure functions ([`statefulset`], [`deployment`], [`disruption`]); [`run`] reads, asks them and writes.

pub mod deployment;
pub mod disruption;
mod drive;
pub mod statefulset;
pub mod template;

pub use drive::run;
