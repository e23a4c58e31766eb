//! `pods/exec` and `pods/portforward`: what is asked for is checked here; whoever runs the pods serves it.

use std::sync::Arc;

use http::{Request, Response};
use serde_json::Value;

use super::answers::Body;
use super::error::{ApiError, Result};
use super::request::{Query, RequestInfo};
use super::resources::Gr;
use super::server::Server;

/// A stream into a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub namespace: String,
    pub pod: String,
    pub door: Door,
}

/// What of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Door {
    /// A port.
    Port(u16),
    /// A command in a container.
    Container(Command),
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub container: String,
    pub argv: Vec<String>,
    pub stdin: bool,
}

/// Serves streams into pods.
pub(crate) type PodStreams = Arc<dyn Fn(Wanted, Request<()>) -> Response<Body> + Send + Sync>;

impl Command {
    pub(crate) fn of(container: &str, query: &str) -> Self {
        let query = Query::parse(query);
        let argv = query.all("command").map(str::to_owned).collect();
        // An API server says `input` to a kubelet.
        let stdin = query.flag("stdin") || query.flag("input");
        Self { container: container.to_owned(), argv, stdin }
    }
}

/// The one port of a query.
pub(crate) fn port_of(query: &str) -> Option<u16> {
    let query = Query::parse(query);
    let ports = query.get("ports").or_else(|| query.get("port"))?;
    ports.parse().ok().filter(|port| *port > 0)
}

/// Whether a request is one for a stream.
pub(crate) fn is_one(info: &RequestInfo) -> bool {
    info.group.is_empty()
        && info.resource == "pods"
        && matches!(info.subresource.as_str(), "exec" | "portforward")
}

/// Hands the request to whoever runs the pod.
pub(crate) fn serve(server: &Server, info: &RequestInfo, request: Request<()>) -> Result<Response<Body>> {
    if !matches!(info.verb.as_str(), "get" | "create") {
        return Err(ApiError::method_not_allowed());
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let gr = Gr::new("", "pods");
    let key = (info.namespace.clone(), info.name.clone());
    let pod = server
        .with_store(|store| store.get(&gr, &key).map(|object| object.value().clone()))
        .ok_or_else(|| ApiError::not_found("", "pods", &info.name))?;
    let door = if info.subresource == "exec" {
        let asked = Query::parse(&query);
        let container = container(&pod, &info.name, asked.get("container"))?;
        Door::Container(Command::of(&container, &query))
    } else {
        let port = port_of(&query);
        Door::Port(port.ok_or_else(|| ApiError::bad_request("query parameter \"ports\" names no port"))?)
    };
    if pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    if !crate::websocket::is_asked(request.headers()) {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let streams = server
        .pod_streams()
        .ok_or_else(|| ApiError::new(503, "ServiceUnavailable", "no kubelet serves this pod"))?;
    let wanted = Wanted { namespace: info.namespace.clone(), pod: info.name.clone(), door };
    Ok(streams(wanted, request))
}

/// The container that is meant: the one named, or the only one.
pub(super) fn container(pod: &Value, name: &str, asked: Option<&str>) -> Result<String> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = containers.filter_map(|one| one.get("name")?.as_str()).collect();
    match (asked, names.as_slice()) {
        (Some(asked), names) if names.contains(&asked) => Ok(asked.to_owned()),
        (Some(asked), _) => {
            Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, names) => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            names.join(" ")
        ))),
    }
}
