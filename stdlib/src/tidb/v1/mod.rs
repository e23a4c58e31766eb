//! What operator v1 alone does: one `TidbCluster`, a StatefulSet a component, restarts by an annotation of the component.

pub mod eviction;
pub mod read;
pub(super) mod restart;
pub mod rollout;
