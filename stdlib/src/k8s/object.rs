//! Names of Kubernetes objects: references, places, resource paths and the rights that a call needs.

use std::fmt;

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::error::PrimError;
use crate::gate::Place;
use crate::registry::Touch;

/// One object, named as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ref {
    /// `v1`, `apps/v1`, `pingcap.com/v1alpha1`.
    pub api_version: String,
    /// `Secret`.
    pub kind: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Ref {
    /// A reference.
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// A Secret.
    pub fn secret(namespace: &str, name: &str) -> Self {
        Self::new("v1", "Secret", namespace, name)
    }

    /// Group, version and plural. The plural follows the API conventions, which every kind that we know keeps; what a
    /// server calls another one is found out by [`super::discovery::served`].
    pub fn resource(&self) -> ApiResource {
        resource(&self.api_version, &self.kind)
    }

    /// The place of the whole object.
    pub fn place(&self) -> Place {
        Place(format!("k8s:{}/{}/{}/{}", self.api_version, self.kind, self.namespace, self.name))
    }

    /// The place of one part of the object.
    pub fn part(&self, path: &str) -> Place {
        Place(format!("{}#{path}", self.place().0))
    }

    /// Reads a place back; what follows `#` is dropped.
    pub fn from_place(place: &Place) -> Result<Self, PrimError> {
        let malformed =
            || PrimError::internal(format!("`{}` is not the place of a Kubernetes object", place.0));
        let text = place.0.strip_prefix("k8s:").ok_or_else(malformed)?;
        let text = text.split_once('#').map_or(text, |(object, _)| object);
        let mut parts = text.rsplitn(4, '/');
        let (name, namespace, kind, api_version) = (parts.next(), parts.next(), parts.next(), parts.next());
        match (api_version, kind, namespace, name) {
            (Some(api_version), Some(kind), Some(namespace), Some(name)) if !name.is_empty() => {
                Ok(Self::new(api_version, kind, namespace, name))
            }
            _ => Err(malformed()),
        }
    }

    /// What a call on this object needs.
    pub fn touch(&self, verbs: &[&str]) -> Touch {
        touch(&self.api_version, &self.kind, &self.namespace, &self.name, verbs)
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Group, version and plural of a kind, by the API conventions.
pub fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// The path of a collection below the server's root.
pub fn collection(resource: &ApiResource, namespace: &str) -> String {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    if namespace.is_empty() {
        format!("{root}/{}/{}", resource.api_version, resource.plural)
    } else {
        format!("{root}/{}/namespaces/{namespace}/{}", resource.api_version, resource.plural)
    }
}

/// What a call needs; an empty name stands for all objects of the kind. Its plural is the one of the API conventions, as
/// manifests of workflows have it: nobody is asked.
pub fn touch(api_version: &str, kind: &str, namespace: &str, name: &str, verbs: &[&str]) -> Touch {
    let resource = resource(api_version, kind);
    Touch::Kube {
        group: resource.group,
        resource: resource.plural,
        namespace: namespace.into(),
        name: name.into(),
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
    }
}

/// A text below an object, by path; empty where there is none.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// A number below an object, by path; zero where there is none.
pub fn number(value: &Value, path: &[&str]) -> i64 {
    at(value, path).and_then(Value::as_i64).unwrap_or_default()
}

/// A value below an object, by path.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_the_object_it_names() {
        for object in [
            Ref::secret("tidb", "basic-pd-cluster-secret"),
            Ref::new("pingcap.com/v1alpha1", "TidbCluster", "tidb", "basic"),
            Ref::new("rbac.authorization.k8s.io/v1", "ClusterRole", "", "reader"),
        ] {
            assert_eq!(Ref::from_place(&object.place()).unwrap(), object);
            assert_eq!(Ref::from_place(&object.part("spec.pd.annotations")).unwrap(), object);
        }
        assert!(Ref::from_place(&Place("file:/etc/hosts".into())).is_err());
    }

    #[test]
    fn paths_are_those_of_the_api() {
        let path = |api_version: &str, kind: &str, ns: &str| collection(&resource(api_version, kind), ns);
        assert_eq!(path("v1", "Secret", "tidb"), "/api/v1/namespaces/tidb/secrets");
        assert_eq!(path("apps/v1", "StatefulSet", "tidb"), "/apis/apps/v1/namespaces/tidb/statefulsets");
        assert_eq!(
            path("pingcap.com/v1alpha1", "TidbCluster", "tidb"),
            "/apis/pingcap.com/v1alpha1/namespaces/tidb/tidbclusters"
        );
        assert_eq!(
            path("coordination.k8s.io/v1", "Lease", "tidb"),
            "/apis/coordination.k8s.io/v1/namespaces/tidb/leases"
        );
        assert_eq!(path("v1", "Namespace", ""), "/api/v1/namespaces");
    }
}
