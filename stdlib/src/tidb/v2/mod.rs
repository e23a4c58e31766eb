//! What operator v2 alone does: a `Cluster`, groups of instances without StatefulSets, restarts by an annotation of the
//! group's template, and an operator that keeps the TLS client with which it asks PD until it is restarted itself.

pub mod pods;
pub mod read;
pub(super) mod restart;
pub mod rollout;
pub mod state;

/// `apiVersion` of its objects.
pub const API_VERSION: &str = "core.pingcap.com/v1alpha1";
/// The object that stands for a cluster.
pub const CLUSTER: &str = "Cluster";

/// The kinds of groups by component, in the order to restart them in.
pub const GROUPS: [(&str, &str); 6] = [
    ("pd", "PDGroup"),
    ("tiproxy", "TiProxyGroup"),
    ("tiflash", "TiFlashGroup"),
    ("tikv", "TiKVGroup"),
    ("tidb", "TiDBGroup"),
    ("ticdc", "TiCDCGroup"),
];

/// The kind of the groups of a component.
pub fn group_kind(component: &str) -> Option<&'static str> {
    GROUPS.iter().find(|(name, _)| *name == component).map(|(_, kind)| *kind)
}
