//! Reading a cluster of operator v1: its TidbCluster, and the components that it names.

use serde_json::Value;

use crate::error::{Code, PrimError};
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, text};
use crate::tidb::cluster::{API_VERSION, KIND, Part, Runs, label};
use crate::tidb::components::{self, COMPONENTS};
use crate::tidb::config;

/// The labels of a component's pods.
pub fn labels(cluster: &str, component: &str) -> String {
    format!(
        "app.kubernetes.io/managed-by=tidb-operator,app.kubernetes.io/instance={cluster},app.kubernetes.io/component={component}"
    )
}

/// The TidbCluster, or an error that names those that exist.
pub async fn find(objects: &Objects<'_>, object: &Ref) -> Result<Value, PrimError> {
    if let Some(value) = objects.find(object).await? {
        return Ok(value);
    }
    let missing = |message: &str| PrimError::new(Code::NoTarget, message).on(object.to_string());
    let here = match objects.list(API_VERSION, KIND, &object.namespace, "").await {
        Ok(here) => here,
        Err(error) if error.code == Code::NotFound => {
            return Err(missing(
                "this cluster has no TidbCluster objects: TiDB operator v1 is not installed",
            )
            .hint("`--set operator=v2` where operator v2 keeps the cluster"));
        }
        Err(_) => Vec::new(),
    };
    let mut known = here;
    if known.is_empty() {
        // Whoever may not list all namespaces gets the shorter answer.
        known = objects.list(API_VERSION, KIND, "", "").await.unwrap_or_default();
    }
    let names: Vec<String> = known
        .iter()
        .map(|v| format!("`{}/{}`", text(v, &["metadata", "namespace"]), text(v, &["metadata", "name"])))
        .collect();
    let error = missing("there is no such TiDB cluster");
    Err(if names.is_empty() {
        error.hint(format!("no TidbCluster is visible in namespace `{}`", object.namespace))
    } else {
        error
            .hint(format!("there are: {}; choose with `--set namespace=… --set cluster=…`", names.join(", ")))
    })
}

/// The components of a TidbCluster.
pub fn parts(object: &Ref, cluster: &Value, pods: &[Value]) -> Vec<Part> {
    COMPONENTS
        .iter()
        .filter(|component| at(cluster, &["spec", component.name]).is_some_and(Value::is_object))
        .map(|component| {
            let wanted =
                at(cluster, &["spec", component.name, "replicas"]).and_then(Value::as_i64).unwrap_or(0);
            Part {
                component: component.name.to_owned(),
                role: component.name.to_owned(),
                runs: Runs::Operator,
                namespace: object.namespace.clone(),
                group: None,
                allowed_cn: config::allowed_cn(cluster, component.name),
                name: format!("{}-{}", object.name, component.name),
                replicas: wanted,
                partition: 0,
                secret: components::secret_name(&object.name, component.name),
                verifier: component.verifier,
                port: Some(component.port),
                selector: labels(&object.name, component.name),
                pods: pods
                    .iter()
                    .filter(|pod| {
                        label(pod, "app.kubernetes.io/instance") == object.name
                            && label(pod, "app.kubernetes.io/component") == component.name
                    })
                    .cloned()
                    .collect(),
            }
        })
        .collect()
}
