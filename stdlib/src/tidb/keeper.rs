//! Which TiDB operator keeps a cluster, as scripts say it, and which object stands for the cluster then.

use serde_json::{Map, Value, json};

use crate::error::PrimError;
use crate::k8s::args;
use crate::k8s::object::Ref;

use super::{cluster, v2};

/// Where the operator's own Deployment lies unless somebody says otherwise.
const NAMESPACE: &str = "tidb-admin";

/// The operator that keeps a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// Operator v1: one `TidbCluster`, a StatefulSet a component.
    V1,
    /// Operator v2: a `Cluster`, groups of instances, no StatefulSets.
    V2 {
        /// Namespace of the operator's Deployment.
        namespace: String,
    },
}

impl Keeper {
    /// From a map with `operator` and `operator_namespace`; v1 where it says nothing.
    pub fn of(said: Option<&Map<String, Value>>) -> Result<Self, PrimError> {
        let text = |key: &str| said.and_then(|map| map.get(key)).and_then(Value::as_str);
        match text("operator") {
            None | Some("" | "v1") => Ok(Self::V1),
            Some("v2") => {
                let namespace = text("operator_namespace").filter(|ns| !ns.is_empty()).unwrap_or(NAMESPACE);
                Ok(Self::V2 { namespace: namespace.into() })
            }
            Some(other) => Err(PrimError::argument(format!("`operator` is `{other}`"))
                .expected("`v1` or `v2`", format!("`{other}`"))),
        }
    }

    /// The object that stands for a cluster.
    pub fn reference(&self, namespace: &str, name: &str) -> Ref {
        match self {
            Self::V1 => cluster::reference(namespace, name),
            Self::V2 { .. } => Ref::new(v2::API_VERSION, v2::CLUSTER, namespace, name),
        }
    }

    /// The name of the lock on a cluster.
    pub fn lease(&self, name: &str) -> String {
        match self {
            Self::V1 => format!("rollover-tidbcluster-{name}"),
            Self::V2 { .. } => format!("rollover-cluster-{name}"),
        }
    }

    /// What it adds to the words by which other primitives know a cluster.
    pub fn words(&self) -> Map<String, Value> {
        let words = match self {
            Self::V1 => json!({}),
            Self::V2 { namespace } => json!({ "operator": "v2", "operator_namespace": namespace }),
        };
        words.as_object().cloned().unwrap_or_default()
    }
}

/// A cluster that an argument names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Who keeps it.
    pub keeper: Keeper,
    /// The object that stands for it.
    pub object: Ref,
}

impl Named {
    /// Of `namespace, name, [options]`.
    pub fn of(args: &[Value]) -> Result<Self, PrimError> {
        let (namespace, name) = (args::text(args, 0, "namespace")?, args::text(args, 1, "name")?);
        let options = match args.get(2) {
            None | Some(Value::Null) => None,
            Some(_) => Some(args::map(args, 2, "options")?),
        };
        let keeper = Keeper::of(options)?;
        let object = keeper.reference(namespace, name);
        Ok(Self { keeper, object })
    }

    /// Of a first argument as `tidb::cluster` gave it in `id`.
    pub fn id(args: &[Value]) -> Result<Self, PrimError> {
        let id = args::map(args, 0, "cluster")?;
        let keeper = Keeper::of(Some(id))?;
        let object =
            keeper.reference(args::field(id, "namespace", "cluster")?, args::field(id, "name", "cluster")?);
        Ok(Self { keeper, object })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_of_operator_v1_unless_somebody_says_otherwise() {
        let (ns, name) = (json!("tidb"), json!("basic"));
        let v1 = Named::of(&[ns.clone(), name.clone()]).unwrap();
        assert_eq!(v1.object.to_string(), "TidbCluster tidb/basic");
        let options = json!({"operator": "v2", "operator_namespace": "ops"});
        let v2 = Named::of(&[ns.clone(), name.clone(), options]).unwrap();
        assert_eq!(v2.object.place().0, "k8s:core.pingcap.com/v1alpha1/Cluster/tidb/basic");
        let mut id = v2.keeper.words();
        id.extend([("namespace".to_owned(), ns.clone()), ("name".to_owned(), name.clone())]);
        assert_eq!(Named::id(&[Value::Object(id)]).unwrap(), v2, "what a fact says of it is understood");
        let refused = Named::of(&[ns, name, json!({"operator": "v3"})]).unwrap_err();
        assert!(refused.message.contains("`v3`"), "{refused}");
    }
}
