//! What servers call kinds: the plural of a kind, whether its objects lie in a namespace, what can be asked of it.
//!
//! The kinds of Kubernetes itself and of the systems that we rotate are known and cost no request. Any other one is asked
//! for: a definition may give its kind whatever plural it likes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::object::{resource, text};

/// Group; kinds that lie in a namespace; kinds that lie in none.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Kinds whose plural follows the API conventions.
const KNOWN: &[Row] = &[
    (
        "",
        &[
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
        &["Namespace", "Node", "PersistentVolume"],
    ),
    (
        "admissionregistration.k8s.io",
        &[],
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
    ),
    ("apiextensions.k8s.io", &[], &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &[], &["APIService"]),
    ("apps", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"], &[]),
    ("argoproj.io", &["Application"], &[]),
    ("autoscaling", &["HorizontalPodAutoscaler"], &[]),
    ("batch", &["CronJob", "Job"], &[]),
    ("cert-manager.io", &["Certificate", "CertificateRequest", "Issuer"], &["ClusterIssuer"]),
    ("certificates.k8s.io", &[], &["CertificateSigningRequest"]),
    ("coordination.k8s.io", &["Lease"], &[]),
    (
        "core.pingcap.com",
        &["Cluster", "PDGroup", "TiCDCGroup", "TiDBGroup", "TiFlashGroup", "TiKVGroup", "TiProxyGroup"],
        &[],
    ),
    ("discovery.k8s.io", &["EndpointSlice"], &[]),
    ("helm.toolkit.fluxcd.io", &["HelmRelease"], &[]),
    ("kustomize.toolkit.fluxcd.io", &["Kustomization"], &[]),
    ("networking.k8s.io", &["Ingress", "NetworkPolicy"], &["IngressClass"]),
    ("pingcap.com", &["TidbCluster"], &[]),
    ("policy", &["PodDisruptionBudget"], &[]),
    ("rbac.authorization.k8s.io", &["Role", "RoleBinding"], &["ClusterRole", "ClusterRoleBinding"]),
    ("scheduling.k8s.io", &[], &["PriorityClass"]),
    ("storage.k8s.io", &[], &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"]),
];

/// How a kind is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// `Person`.
    pub kind: String,
    /// `people`.
    pub plural: String,
    /// Whether its objects lie in a namespace.
    pub namespaced: bool,
    /// What the server takes for it; empty where it was not asked.
    pub verbs: Vec<String>,
}

/// How a kind is served that we know.
pub fn known(api_version: &str, kind: &str) -> Option<Served> {
    let found = resource(api_version, kind);
    let (_, namespaced, cluster) = KNOWN.iter().find(|(group, ..)| *group == found.group)?;
    let inside = namespaced.contains(&kind);
    (inside || cluster.contains(&kind)).then(|| Served {
        kind: kind.to_owned(),
        plural: found.plural,
        namespaced: inside,
        verbs: Vec::new(),
    })
}

/// Whether a plural was made of a kind that we know, so that it is no guess.
pub fn knows_plural(group: &str, plural: &str) -> bool {
    let rows = KNOWN.iter().filter(|(of, ..)| *of == group);
    let mut kinds = rows.flat_map(|(_, namespaced, cluster)| namespaced.iter().chain(*cluster));
    kinds.any(|kind| conventional(kind) == plural)
}

/// The plural that the API conventions make of a kind.
pub fn conventional(kind: &str) -> String {
    resource("v1", kind).plural
}

/// The kinds that a server lists for a group and version.
pub fn listed(answer: &Value) -> Vec<Served> {
    let entries = answer.get("resources").and_then(Value::as_array);
    let own = entries.into_iter().flatten().filter(|entry| !text(entry, &["name"]).contains('/'));
    own.map(|entry| {
        let verbs = entry.get("verbs").and_then(Value::as_array).into_iter().flatten();
        Served {
            kind: text(entry, &["kind"]).to_owned(),
            plural: text(entry, &["name"]).to_owned(),
            namespaced: entry.get("namespaced") == Some(&Value::Bool(true)),
            verbs: verbs.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    })
    .collect()
}

/// What one server has said so far, by group and version.
#[derive(Debug, Default)]
pub struct Kinds {
    asked: Mutex<BTreeMap<String, Vec<Served>>>,
}

impl Kinds {
    /// How it serves a kind, as far as it was asked.
    pub fn of(&self, api_version: &str, kind: &str) -> Option<Served> {
        self.asked().get(api_version)?.iter().find(|served| served.kind == kind).cloned()
    }

    /// Keeps what it has listed for a group and version.
    pub fn keep(&self, api_version: &str, listed: Vec<Served>) {
        self.asked().insert(api_version.to_owned(), listed);
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Served>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_kinds_have_their_plural_and_their_scope_and_others_are_asked_for() {
        let of = |api_version: &str, kind: &str| {
            known(api_version, kind).map(|served| (served.plural, served.namespaced))
        };
        assert_eq!(of("v1", "Endpoints"), Some(("endpoints".into(), true)));
        assert_eq!(of("networking.k8s.io/v1", "Ingress"), Some(("ingresses".into(), true)));
        assert_eq!(of("networking.k8s.io/v1", "NetworkPolicy"), Some(("networkpolicies".into(), true)));
        assert_eq!(of("rbac.authorization.k8s.io/v1", "ClusterRole"), Some(("clusterroles".into(), false)));
        assert_eq!(of("pingcap.com/v1alpha1", "TidbCluster"), Some(("tidbclusters".into(), true)));
        assert_eq!(of("example.com/v1", "Secret"), None, "of another group");
        assert_eq!(of("v1", "Person"), None);
        assert!(knows_plural("apps", "statefulsets") && !knows_plural("example.com", "persons"));
    }

    #[test]
    fn what_a_server_lists_is_kept_without_parts_of_objects() {
        let answer = json!({"resources": [
            {"name": "people", "kind": "Person", "namespaced": true, "verbs": ["get", "list"]},
            {"name": "people/status", "kind": "Person", "namespaced": true, "verbs": ["patch"]},
            {"name": "realms", "kind": "Realm", "namespaced": false, "verbs": ["get"]},
        ]});
        let kinds = Kinds::default();
        kinds.keep("example.com/v1", listed(&answer));
        let person = kinds.of("example.com/v1", "Person").unwrap();
        assert_eq!((person.plural.as_str(), person.namespaced), ("people", true));
        assert_eq!(person.verbs, ["get", "list"]);
        assert!(!kinds.of("example.com/v1", "Realm").unwrap().namespaced);
        assert_eq!(kinds.of("example.com/v1beta1", "Person"), None);
        assert_eq!(conventional("Person"), "persons");
    }
}
