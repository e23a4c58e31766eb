use std::sync::Arc;

use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use sandbox::api::{Options, Server};
use serde_json::Value;
use stdlib::world::TokioClock;

/// A server on tokio's (paused) time.
pub(crate) fn server() -> Arc<Server> {
    let clock = TokioClock::starting_at(time::macros::datetime!(2026-11-22 06:00:00 UTC));
    Server::new(Options::new(Arc::new(clock)).seed(7))
}

pub(crate) fn namespace() -> Value {
    serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tidb"}})
}

/// A dynamic handle: `group/version` or `version`, kind, plural.
pub(crate) fn dynamic(client: &Client, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}

pub(crate) fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The `Status` of a refused request.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> kube::core::Status {
    match answer.unwrap_err() {
        kube::Error::Api(status) => *status,
        other => panic!("no answer of the API: {other:?}"),
    }
}

/// A StatefulSet of two replicas.
pub(crate) fn statefulset(name: &str) -> Value {
    serde_json::json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "img:1"}]},
            },
        },
    })
}
