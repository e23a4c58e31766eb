//! How the sandbox's controllers use the Kubernetes API: as ordinary clients, with objects as plain JSON.

use futures::{AsyncBufReadExt as _, StreamExt as _};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

/// One kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// `v1`, `apps/v1`.
    pub api_version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `pods`.
    pub plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// A kind of objects.
pub const fn kind(
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Kind {
    Kind { api_version, kind, plural, namespaced }
}

/// Pods.
pub const PODS: Kind = kind("v1", "Pod", "pods", true);
/// Secrets.
pub const SECRETS: Kind = kind("v1", "Secret", "secrets", true);
/// ConfigMaps.
pub const CONFIG_MAPS: Kind = kind("v1", "ConfigMap", "configmaps", true);
/// PodDisruptionBudgets.
pub const BUDGETS: Kind = kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true);
/// Services.
pub const SERVICES: Kind = kind("v1", "Service", "services", true);
/// Namespaces.
pub const NAMESPACES: Kind = kind("v1", "Namespace", "namespaces", false);
/// Nodes.
pub const NODES: Kind = kind("v1", "Node", "nodes", false);
/// Events.
pub const EVENTS: Kind = kind("v1", "Event", "events", true);
/// StatefulSets.
pub const STATEFUL_SETS: Kind = kind("apps/v1", "StatefulSet", "statefulsets", true);
/// Deployments.
pub const DEPLOYMENTS: Kind = kind("apps/v1", "Deployment", "deployments", true);
/// ReplicaSets.
pub const REPLICA_SETS: Kind = kind("apps/v1", "ReplicaSet", "replicasets", true);
/// DaemonSets.
pub const DAEMON_SETS: Kind = kind("apps/v1", "DaemonSet", "daemonsets", true);
/// Old templates of StatefulSets and DaemonSets.
pub const CONTROLLER_REVISIONS: Kind = kind("apps/v1", "ControllerRevision", "controllerrevisions", true);
/// Definitions of kinds.
pub const CRDS: Kind =
    kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false);
/// TiDB clusters.
pub const TIDB_CLUSTERS: Kind = kind("pingcap.com/v1alpha1", "TidbCluster", "tidbclusters", true);
/// Certificates of cert-manager.
pub const CERTIFICATES: Kind = kind("cert-manager.io/v1", "Certificate", "certificates", true);
/// Its requests.
pub const CERTIFICATE_REQUESTS: Kind =
    kind("cert-manager.io/v1", "CertificateRequest", "certificaterequests", true);
/// Its issuers.
pub const ISSUERS: Kind = kind("cert-manager.io/v1", "Issuer", "issuers", true);
/// Its issuers for all namespaces.
pub const CLUSTER_ISSUERS: Kind = kind("cert-manager.io/v1", "ClusterIssuer", "clusterissuers", false);

impl Kind {
    fn path(&self, namespace: &str, rest: &str) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let scope = match namespace {
            "" => String::new(),
            ns if self.namespaced => format!("/namespaces/{ns}"),
            _ => String::new(),
        };
        format!("/{root}/{}{scope}/{}{rest}", self.api_version, self.plural)
    }
}

/// A client of one user.
#[derive(Clone)]
pub struct Kube(Client);

/// Whether the answer was this HTTP status.
pub fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

impl Kube {
    /// Over any client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn call(&self, method: Method, path: String, body: Option<(&str, &Value)>) -> kube::Result<Value> {
        let mut request = Request::builder().method(method).uri(path);
        let bytes = match body {
            Some((content_type, value)) => {
                request = request.header(http::header::CONTENT_TYPE, content_type);
                // `Display` and `FromStr` of a value are compiled with serde_json, optimised even in a debug build.
                value.to_string().into_bytes()
            }
            None => Vec::new(),
        };
        let request = request.body(bytes).map_err(kube::Error::HttpError)?;
        let text = self.0.request_text(request).await?;
        text.parse().map_err(kube::Error::SerdeError)
    }

    /// PodDisruptionBudgets at the version that the server has: before 1.21 it is another.
    pub async fn budgets(&self) -> kube::Result<Kind> {
        match self.call(Method::GET, format!("/apis/{}", BUDGETS.api_version), None).await {
            Ok(_) => Ok(BUDGETS),
            Err(e) if is(&e, 404) => Ok(Kind { api_version: "policy/v1beta1", ..BUDGETS }),
            Err(e) => Err(e),
        }
    }

    /// One object, if it is there.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> kube::Result<Option<Value>> {
        match self.call(Method::GET, kind.path(namespace, &format!("/{name}")), None).await {
            Ok(found) => Ok(Some(found)),
            Err(e) if is(&e, 404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All objects of a kind, in one namespace or (for an empty name) in all, with the list's version.
    pub async fn list(&self, kind: Kind, namespace: &str) -> kube::Result<(Vec<Value>, String)> {
        let mut list = self.call(Method::GET, kind.path(namespace, ""), None).await?;
        let version =
            list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("0").to_owned();
        let items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        Ok((items, version))
    }

    /// The changes of all objects of a kind after a version, each as `{"type": …, "object": …}`.
    pub async fn watch(
        &self,
        kind: Kind,
        version: &str,
    ) -> kube::Result<impl futures::Stream<Item = kube::Result<Value>> + Send + use<>> {
        let query = format!("?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        let request =
            Request::get(kind.path("", "") + &query).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let lines = self.0.request_stream(request).await?.lines();
        Ok(lines.map(|line| match line {
            Ok(line) => line.parse().map_err(kube::Error::SerdeError),
            Err(e) => Err(kube::Error::ReadEvents(e)),
        }))
    }

    /// Makes an object; apiVersion and kind are filled in.
    pub async fn create(&self, kind: Kind, namespace: &str, mut object: Value) -> kube::Result<Value> {
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".into(), json!(kind.api_version));
            map.insert("kind".into(), json!(kind.kind));
        }
        self.call(Method::POST, kind.path(namespace, ""), Some(("application/json", &object))).await
    }

    /// Makes an object unless one of that name exists.
    pub async fn ensure(&self, kind: Kind, namespace: &str, object: Value) -> kube::Result<()> {
        match self.create(kind, namespace, object).await {
            Err(e) if !is(&e, 409) => Err(e),
            _ => Ok(()),
        }
    }

    /// Places a pod on a node.
    pub async fn bind(&self, (namespace, name): (&str, &str), node: &str) -> kube::Result<()> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name, "namespace": namespace },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let path = PODS.path(namespace, &format!("/{name}/binding"));
        self.call(Method::POST, path, Some(("application/json", &binding))).await.map(|_| ())
    }

    /// Replaces an object at the version that it carries.
    pub async fn replace(&self, kind: Kind, object: &Value) -> kube::Result<Value> {
        let path = kind.path(super::json::namespace(object), &format!("/{}", super::json::name(object)));
        self.call(Method::PUT, path, Some(("application/json", object))).await
    }

    /// Merges a patch into an object, or with `sub` (`/status`) into a subresource.
    pub async fn merge(&self, kind: Kind, at: (&str, &str), sub: &str, patch: &Value) -> kube::Result<Value> {
        let path = kind.path(at.0, &format!("/{}{sub}", at.1));
        self.call(Method::PATCH, path, Some(("application/merge-patch+json", patch))).await
    }

    /// Applies an object as a field manager that takes what it names from others.
    pub async fn apply(&self, kind: Kind, object: &Value, manager: &str) -> kube::Result<Value> {
        let mut object = object.clone();
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".into(), json!(kind.api_version));
            map.insert("kind".into(), json!(kind.kind));
        }
        let rest = format!("/{}?fieldManager={manager}&force=true", super::json::name(&object));
        let path = kind.path(super::json::namespace(&object), &rest);
        self.call(Method::PATCH, path, Some(("application/apply-patch+yaml", &object))).await
    }

    /// Deletes exactly the object with this uid; one that has gone already is no error. `grace` of 0 means at once.
    pub async fn delete(
        &self,
        kind: Kind,
        at: (&str, &str),
        uid: &str,
        grace: Option<u32>,
    ) -> kube::Result<()> {
        let mut options =
            json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } });
        if let (Some(seconds), Some(map)) = (grace, options.as_object_mut()) {
            map.insert("gracePeriodSeconds".into(), json!(seconds));
        }
        let path = kind.path(at.0, &format!("/{}", at.1));
        match self.call(Method::DELETE, path, Some(("application/json", &options))).await {
            Err(e) if !is(&e, 404) && !is(&e, 409) => Err(e),
            _ => Ok(()),
        }
    }
}
