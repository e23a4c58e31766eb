//! Dialling pods through the API server (`pods/portforward`), for who cannot reach their addresses.
//!
//! An address is looked up in the API, forwarded by the pod's name, and looked up again once the connection stands: a pod
//! that was replaced in between is not taken for the one that was meant. Addresses and names that are no pod's are dialled
//! as ever.

mod host;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams};
use serde_json::Value;

use super::errors::{Attempt, explain};
use super::object::{Ref, at, collection, text};
use super::pod;
use crate::error::{Code, PrimError};
use crate::registry::Touch;
use crate::world::{Net, Stream};

use host::{Host, declares, has, port_behind};
use stream::Forwarded;

/// What a connection that is forwarded needs beside the right to list pods. Servers before 1.35 ask a WebSocket for `get`,
/// later ones for `create` too.
pub const VERBS: [&str; 2] = ["create", "get"];

/// The machine's network, with pods behind the API server.
pub struct Forward {
    client: kube::Client,
    /// Where addresses are looked up.
    namespaces: Vec<String>,
    direct: Arc<dyn Net>,
    /// Pods by the addresses and ports under which they were dialled; nothing for one that has gone.
    known: Mutex<Known>,
}

type Known = BTreeMap<(IpAddr, u16), Option<Pod>>;

type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// One pod, this very one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    namespace: String,
    name: String,
    uid: String,
}

impl Pod {
    fn of(value: &Value) -> Self {
        let of = |field| text(value, &["metadata", field]).to_owned();
        Self { namespace: of("namespace"), name: of("name"), uid: of("uid") }
    }

    fn object(&self) -> Ref {
        Ref::new("v1", "Pod", &self.namespace, &self.name)
    }
}

impl Forward {
    /// Pods of these namespaces are dialled through the API server; all else as `direct` does it.
    pub fn new(client: kube::Client, namespaces: Vec<String>, direct: Arc<dyn Net>) -> Self {
        Self { client, namespaces, direct, known: Mutex::default() }
    }

    async fn open(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, io::Error> {
        match Host::parse(host) {
            Host::Other => self.direct.dial(host, port).await,
            Host::Address(address) => match self.at(address, port).await.map_err(told)? {
                Some(pod) => self.to(&pod, address, port).await.map_err(told),
                None => self.direct.dial(host, port).await,
            },
            Host::Named { pod: Some(name), namespace, .. } => {
                let pod = Pod { namespace, name, uid: String::new() };
                self.through(&pod, port).await.map_err(told)
            }
            Host::Named { pod: None, service, namespace } => {
                let (pod, port) = self.behind(&namespace, &service, port).await.map_err(told)?;
                self.through(&pod, port).await.map_err(told)
            }
        }
    }

    /// The pod with this address; nothing where no pod ever had it as far as we know.
    async fn at(&self, address: IpAddr, port: u16) -> Result<Option<Pod>, PrimError> {
        let known = self.locked().get(&(address, port)).cloned();
        if let Some(Some(pod)) = known {
            return Ok(Some(pod));
        }
        let mut unseen = None;
        for namespace in &self.namespaces {
            let pods = match self.pods(namespace, "", &format!("status.podIP={address}")).await {
                Ok(pods) => pods,
                Err(error) if error.code == Code::Forbidden => {
                    unseen.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let there: Vec<&Value> = pods.iter().filter(|pod| has(pod, address)).collect();
            // Pods in the network of their node share its address.
            let found = there.iter().find(|pod| declares(pod, port)).or(there.first());
            if let Some(pod) = found.map(|pod| Pod::of(pod)) {
                self.locked().insert((address, port), Some(pod.clone()));
                return Ok(Some(pod));
            }
        }
        match unseen {
            // Whether it is a pod's address cannot be told.
            Some(error) => Err(error),
            // Whoever answers there now is not whom we mean.
            None if known.is_some() => Err(gone(address)),
            None => Ok(None),
        }
    }

    async fn to(&self, pod: &Pod, address: IpAddr, port: u16) -> Result<Box<dyn Stream>, PrimError> {
        let opened = match self.through(pod, port).await {
            Ok(stream) => self.still(pod, address).await.map(|()| stream),
            Err(error) if error.code == Code::NotFound => Err(gone(address).on(pod.object().to_string())),
            Err(error) => return Err(error),
        };
        if opened.is_err() {
            self.locked().insert((address, port), None);
        }
        opened
    }

    /// That the pod which was meant was still there when the connection stood.
    async fn still(&self, pod: &Pod, address: IpAddr) -> Result<(), PrimError> {
        let found = self.pods(&pod.namespace, "", &format!("metadata.name={}", pod.name)).await?;
        if found.iter().any(|found| Pod::of(found) == *pod && has(found, address)) {
            return Ok(());
        }
        Err(gone(address).on(pod.object().to_string()))
    }

    /// A pod behind a Service, and its port there.
    async fn behind(&self, namespace: &str, service: &str, port: u16) -> Result<(Pod, u16), PrimError> {
        let object = Ref::new("v1", "Service", namespace, service);
        let request = Request::new(collection(&object.resource(), namespace));
        let request = request.get(service, &GetParams::default());
        let found =
            self.ask(request, &Attempt { verb: "get", object: &object, part: "", plural: "" }).await?;
        let selector = at(&found, &["spec", "selector"]).and_then(Value::as_object);
        let labels: Vec<String> = selector
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
            .collect();
        if labels.is_empty() {
            return Err(PrimError::new(Code::Unavailable, "it selects no pods").on(object.to_string()));
        }
        let pods = self.pods(namespace, &labels.join(","), "").await?;
        let ready = |pod: &&Value| {
            let pod = pod::pod(pod);
            pod.ready && !pod.terminating
        };
        let pod = pods.iter().find(ready).ok_or_else(|| {
            PrimError::new(Code::Unavailable, "no pod behind it is ready").on(object.to_string())
        })?;
        let port = port_behind(&found, pod, port).ok_or_else(|| {
            PrimError::new(Code::Unavailable, format!("it has no port {port}")).on(object.to_string())
        })?;
        Ok((Pod::of(pod), port))
    }

    async fn pods(&self, namespace: &str, labels: &str, fields: &str) -> Result<Vec<Value>, PrimError> {
        let all = Ref::new("v1", "Pod", namespace, "");
        let params = ListParams::default().labels(labels).fields(fields);
        let request = Request::new(collection(&all.resource(), namespace)).list(&params);
        let mut list =
            self.ask(request, &Attempt { verb: "list", object: &all, part: "", plural: "" }).await?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(pods)) => Ok(pods),
            _ => Ok(Vec::new()),
        }
    }

    async fn ask(&self, request: Built, attempt: &Attempt<'_>) -> Result<Value, PrimError> {
        let request = request.map_err(|error| PrimError::internal(error.to_string()))?;
        self.client.request(request).await.map_err(|error| explain(&error, attempt))
    }

    async fn through(&self, pod: &Pod, port: u16) -> Result<Box<dyn Stream>, PrimError> {
        let object = pod.object();
        let request = Request::new(collection(&object.resource(), &pod.namespace));
        let attempt = Attempt { verb: VERBS[1], object: &object, part: "portforward", plural: "" };
        let web =
            super::channels::open(&self.client, request.portforward(&pod.name, &[port]), &attempt).await?;
        let title = format!("{}/{}:{port}", pod.namespace, pod.name);
        Ok(Box::new(Forwarded::new(web.into_stream(), port, title)))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Net for Forward {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let host = host.to_owned();
        Box::pin(async move { self.open(&host, port).await })
    }

    fn unreached(&self) -> &'static str {
        "pods are dialled through the API server (`--pods forward`); `kubectl port-forward` shows whether it leads there"
    }
}

fn gone(address: IpAddr) -> PrimError {
    PrimError::new(Code::Unavailable, format!("the pod that had the address {address} is gone"))
}

/// A failure as whoever dials takes it. What is forbidden stays so however often it is tried.
fn told(error: PrimError) -> io::Error {
    let kind = match error.code {
        Code::Forbidden => io::ErrorKind::PermissionDenied,
        Code::NotFound => io::ErrorKind::HostUnreachable,
        _ => io::ErrorKind::Other,
    };
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    io::Error::new(kind, format!("no port-forward: {error}{hint}"))
}

/// Whether a host is called by a name of the cluster.
pub fn is_of_cluster(host: &str) -> bool {
    matches!(Host::parse(host), Host::Named { .. })
}

/// What forwarding needs of the cluster beside what a run touches by itself: in each namespace whose pods it lists and
/// dials, and for each Service that it dials by name.
pub fn touches(touched: &[Touch]) -> Vec<Touch> {
    let dialled: Vec<&str> = touched
        .iter()
        .filter_map(|touch| match touch {
            Touch::Net { host, .. } => Some(host.as_str()),
            Touch::Kube { .. } | Touch::File { .. } | Touch::Host { .. } => None,
        })
        .collect();
    if dialled.is_empty() {
        return Vec::new();
    }
    let forwarded = |namespace: &str| Touch::Kube {
        group: String::new(),
        resource: "pods/portforward".into(),
        namespace: namespace.into(),
        name: String::new(),
        verbs: VERBS.map(str::to_owned).to_vec(),
    };
    let mut needed: Vec<Touch> = listed(touched).iter().map(|namespace| forwarded(namespace)).collect();
    for host in dialled {
        let Host::Named { pod, service, namespace } = Host::parse(host) else { continue };
        needed.push(forwarded(&namespace));
        if pod.is_none() {
            needed.push(Ref::new("v1", "Service", &namespace, &service).touch(&["get"]));
            needed.push(Ref::new("v1", "Pod", &namespace, "").touch(&["list"]));
        }
    }
    needed
}

/// The namespaces whose pods a run lists, where addresses of pods are looked up.
pub fn listed(touched: &[Touch]) -> Vec<String> {
    let mut namespaces: Vec<String> = touched
        .iter()
        .filter_map(|touch| match touch {
            Touch::Kube { group, resource, namespace, verbs, .. }
                if group.is_empty() && resource == "pods" && verbs.iter().any(|verb| verb == "list") =>
            {
                Some(namespace.clone())
            }
            _ => None,
        })
        .collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::object::touch;

    fn net(host: &str) -> Touch {
        Touch::Net { host: host.into(), port: 2379 }
    }

    fn forwarded(namespace: &str) -> Touch {
        Touch::Kube {
            group: String::new(),
            resource: "pods/portforward".into(),
            namespace: namespace.into(),
            name: String::new(),
            verbs: vec!["create".into(), "get".into()],
        }
    }

    #[test]
    fn pods_are_forwarded_to_where_they_are_listed_and_dialled() {
        let pods = |namespace: &str| touch("v1", "Pod", namespace, "", &["list"]);
        let secret = touch("v1", "Secret", "vault", "", &["list"]);
        assert_eq!(touches(&[pods("tidb"), secret.clone()]), [], "nothing is dialled");
        let touched = [pods("tidb"), pods("tidb"), secret, net("*")];
        assert_eq!(touches(&touched), [forwarded("tidb")]);
    }

    #[test]
    fn a_service_is_read_to_find_a_pod_behind_it() {
        let service = touch("v1", "Service", "tidb", "basic-pd", &["get"]);
        let pods = touch("v1", "Pod", "tidb", "", &["list"]);
        assert_eq!(touches(&[net("basic-pd.tidb.svc")]), [forwarded("tidb"), service, pods]);
        assert_eq!(touches(&[net("basic-pd-0.basic-pd-peer.tidb.svc")]), [forwarded("tidb")]);
        assert_eq!(touches(&[net("example.com")]), []);
    }
}
