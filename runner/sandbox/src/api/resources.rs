//! The catalog: which resources there are. Built-in ones from a table, custom ones from their definitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// A group and a plural name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gr {
    /// The group; empty for core.
    pub group: String,
    /// The plural name, e.g. `secrets`.
    pub plural: String,
}

impl Gr {
    /// Of a group and a plural name.
    pub fn new(group: &str, plural: &str) -> Self {
        Self { group: group.into(), plural: plural.into() }
    }
}

/// One version of a resource.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) status: bool,
    pub(crate) scale: bool,
    /// Structural schema of a custom resource.
    pub(crate) schema: Option<Value>,
    /// `additionalPrinterColumns` of a custom resource.
    pub(crate) columns: Vec<Value>,
    /// `selectableFields` of a custom resource, without the leading dot.
    pub(crate) selectable: Vec<String>,
}

/// A resource of the API.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) gr: Gr,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) singular: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) builtin: bool,
    /// The version that objects are stored in.
    pub(crate) storage: String,
    /// Served versions, preferred first.
    pub(crate) versions: Vec<Version>,
}

impl Resource {
    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.gr.group == group && self.gr.plural == plural
    }

    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.gr.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.gr.group) }
    }

    pub(crate) fn subresources(&self, version: &Version) -> Vec<&'static str> {
        let mut subresources = Vec::new();
        if version.status {
            subresources.push("status");
        }
        if version.scale {
            subresources.push("scale");
        }
        if self.is("", "pods") {
            subresources.extend(["binding", "eviction", "exec", "log", "portforward"]);
        }
        if self.is("", "namespaces") {
            subresources.push("finalize");
        }
        if self.is("", "serviceaccounts") {
            subresources.push("token");
        }
        subresources
    }
}

const STATUS: u8 = 1;
const SCALE: u8 = 2;
const CLUSTER: u8 = 4;

/// group, version, plural, kind, short names, category, traits
type Row =
    (&'static str, &'static str, &'static str, &'static str, &'static [&'static str], &'static str, u8);

const BUILTIN: &[Row] = &[
    ("", "v1", "configmaps", "ConfigMap", &["cm"], "", 0),
    ("", "v1", "endpoints", "Endpoints", &["ep"], "", 0),
    ("", "v1", "events", "Event", &["ev"], "", 0),
    ("", "v1", "namespaces", "Namespace", &["ns"], "", STATUS | CLUSTER),
    ("", "v1", "nodes", "Node", &["no"], "", STATUS | CLUSTER),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", &["pvc"], "", STATUS),
    ("", "v1", "persistentvolumes", "PersistentVolume", &["pv"], "", STATUS | CLUSTER),
    ("", "v1", "pods", "Pod", &["po"], "all", STATUS),
    ("", "v1", "secrets", "Secret", &[], "", 0),
    ("", "v1", "serviceaccounts", "ServiceAccount", &["sa"], "", 0),
    ("", "v1", "services", "Service", &["svc"], "all", STATUS),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", &[], "", 0),
    ("apps", "v1", "daemonsets", "DaemonSet", &["ds"], "all", STATUS),
    ("apps", "v1", "deployments", "Deployment", &["deploy"], "all", STATUS | SCALE),
    ("apps", "v1", "replicasets", "ReplicaSet", &["rs"], "all", STATUS | SCALE),
    ("apps", "v1", "statefulsets", "StatefulSet", &["sts"], "all", STATUS | SCALE),
    ("coordination.k8s.io", "v1", "leases", "Lease", &[], "", 0),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", &["pdb"], "", STATUS),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", &[], "", CLUSTER),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", &[], "", CLUSTER),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", &[], "", 0),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", &[], "", 0),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &["crd", "crds"],
        "api-extensions",
        STATUS | CLUSTER,
    ),
];

/// Every resource that is served.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    resources: BTreeMap<Gr, Arc<Resource>>,
}

impl Catalog {
    pub(crate) fn builtin() -> Self {
        let mut catalog = Self::default();
        for (group, version, plural, kind, short_names, category, traits) in BUILTIN {
            catalog.insert(Resource {
                gr: Gr::new(group, plural),
                kind: (*kind).into(),
                list_kind: format!("{kind}List"),
                singular: kind.to_lowercase(),
                namespaced: traits & CLUSTER == 0,
                short_names: short_names.iter().map(ToString::to_string).collect(),
                categories: Some(*category)
                    .filter(|c| !c.is_empty())
                    .map(ToOwned::to_owned)
                    .into_iter()
                    .collect(),
                builtin: true,
                storage: (*version).into(),
                versions: vec![Version {
                    name: (*version).into(),
                    status: traits & STATUS != 0,
                    scale: traits & SCALE != 0,
                    ..Version::default()
                }],
            });
        }
        catalog
    }

    pub(crate) fn insert(&mut self, resource: Resource) {
        self.resources.insert(resource.gr.clone(), Arc::new(resource));
    }

    pub(crate) fn remove(&mut self, gr: &Gr) {
        self.resources.remove(gr);
    }

    pub(crate) fn get(&self, gr: &Gr) -> Option<Arc<Resource>> {
        self.resources.get(gr).cloned()
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.get(&Gr::new(group, plural)).filter(|resource| resource.version(version).is_some())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// Whether there is a group of this version at all.
    pub(crate) fn serves(&self, group: &str, version: &str) -> bool {
        self.resources.values().any(|resource| {
            resource.gr.group == group && resource.versions.iter().any(|known| known.name == version)
        })
    }

    /// Groups and their versions, core excluded.
    pub(crate) fn groups(&self) -> BTreeMap<String, Vec<String>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for resource in self.resources.values().filter(|resource| !resource.gr.group.is_empty()) {
            let versions = groups.entry(resource.gr.group.clone()).or_default();
            for version in &resource.versions {
                if !versions.contains(&version.name) {
                    versions.push(version.name.clone());
                }
            }
        }
        groups
    }
}
