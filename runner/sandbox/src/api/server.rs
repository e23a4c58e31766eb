//! The server: one request in, one answer out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::json;
use stdlib::world::Clock;

use super::access::Access;
use super::answers::{
    Body, bytes_answer, failure, full, json_answer, respond, returns_deleted, success, version,
    written_answer,
};
use super::control::{Counters, LogSource, RequestHook};
use super::error::{ApiError, Result};
use super::faults::{Effect, Faults, injected};
use super::request::{Call, Path, Query, RequestInfo, verb};
use super::resources::Gr;
use super::store::Store;
use super::streams::{self, PodStreams};
use super::writing::How;
use super::{deleting, discovery, patching, reading, subresources, watching, writing};

/// Locks, whatever happened to another holder.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer where there is not even an API.
fn no_page() -> Response<Body> {
    respond(404, "text/plain; charset=utf-8", full(Bytes::from_static(b"404 page not found\n")))
}

/// How a server is set up.
#[derive(Clone)]
pub struct Options {
    /// Time for stamps, watches and faults.
    pub clock: Arc<dyn Clock>,
    /// The seed of uids and generated names.
    pub seed: u64,
    /// How many changes each resource's history holds; a watch from before them gets 410.
    pub history: usize,
    /// How long after a deletion its dependents follow.
    pub collector_delay: Duration,
    /// What `/version` says.
    pub version: String,
}

impl Options {
    /// A server with this clock and the usual rest.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            seed: 0,
            history: 1000,
            collector_delay: Duration::from_millis(50),
            version: "v1.33.4".into(),
        }
    }

    /// The same with another seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// A Kubernetes API server in memory.
pub struct Server {
    options: Options,
    store: Mutex<Store>,
    pub(super) faults: Faults,
    pub(super) access: Mutex<Access>,
    pub(crate) tokens: Mutex<HashMap<String, String>>,
    pub(super) hooks: Mutex<Vec<RequestHook>>,
    pub(super) logs: Mutex<Option<LogSource>>,
    pub(super) streams: Mutex<Option<PodStreams>>,
    pub(super) counters: Mutex<Counters>,
    pub(super) down: AtomicBool,
    collecting: AtomicBool,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("rv", &locked(&self.store).rv()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server with the namespaces that every cluster has.
    pub fn new(options: Options) -> Arc<Self> {
        let mut store = Store::new(options.seed, options.history);
        let now = super::object::timestamp(options.clock.now());
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let namespace = json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": name,
                    "uid": store.uuid(),
                    "creationTimestamp": now,
                    "labels": {"kubernetes.io/metadata.name": name},
                },
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            });
            store.put(&Gr::new("", "namespaces"), &(String::new(), name.into()), namespace);
        }
        Arc::new(Self {
            store: Mutex::new(store),
            faults: Faults::default(),
            access: Mutex::default(),
            tokens: Mutex::default(),
            hooks: Mutex::default(),
            logs: Mutex::default(),
            streams: Mutex::default(),
            counters: Mutex::default(),
            down: AtomicBool::new(false),
            collecting: AtomicBool::new(false),
            options,
        })
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.options.clock.clone()
    }

    pub(crate) fn with_store<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut locked(&self.store))
    }

    /// Takes a request of a user. An error breaks the connection.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        user: &str,
        request: Request<Bytes>,
    ) -> std::io::Result<Response<Body>> {
        if self.down.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (parts, body) = request.into_parts();
        let asked = parts.headers.get("impersonate-user").and_then(|value| value.to_str().ok());
        if let Some(asked) = asked {
            let info = RequestInfo {
                user: user.into(),
                verb: "impersonate".into(),
                resource: "users".into(),
                name: asked.into(),
                ..RequestInfo::default()
            };
            if let Err(error) = locked(&self.access).check(&info) {
                return Ok(failure(&error));
            }
        }
        let user = asked.unwrap_or(user);
        let Some(body) = as_json(&parts.headers, body) else {
            let why = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml";
            return Ok(failure(&ApiError::new(415, "UnsupportedMediaType", why)));
        };
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let path = Path::parse(parts.uri.path());
        let info = describe(user, &parts.method, parts.uri.path(), path.as_ref(), &query, &parts.headers);
        for hook in locked(&self.hooks).clone() {
            hook(&info);
        }
        let counted = (info.user.clone(), info.verb.clone(), info.resource.clone());
        *locked(&self.counters).entry(counted).or_default() += 1;

        let mut lose = false;
        for effect in self.faults.strike(&info) {
            match effect {
                Effect::Delay(duration) => self.options.clock.sleep(duration).await,
                Effect::Status(code, message) => return Ok(failure(&injected(code, &message))),
                Effect::Error(error) => return Ok(failure(&error)),
                Effect::Abort => return Err(std::io::ErrorKind::ConnectionReset.into()),
                Effect::LoseAnswer => lose = true,
                Effect::Hang => std::future::pending::<()>().await,
            }
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let allowed = locked(&self.access).check(&info);
        let answer = match (allowed, path) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(_)) if streams::is_one(&info) => {
                streams::serve(self, &info, Request::from_parts(parts, ()))
            }
            (Ok(()), None) => Ok(self.other(parts.uri.path(), &parts.headers)),
            (Ok(()), Some(path)) => self.resource(&path, info, query, &parts.headers, body),
        };
        self.collect_later();
        if lose {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Ok(answer.unwrap_or_else(|error| failure(&error)))
    }

    fn resource(
        self: &Arc<Self>,
        path: &Path,
        info: RequestInfo,
        query: Query,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>> {
        if let Some(answer) = subresources::review(self, path, &info, &body)? {
            return Ok(json_answer(201, &answer));
        }
        if info.verb.is_empty() {
            return Err(ApiError::method_not_allowed());
        }
        let now = self.options.clock.now();
        let mut store = locked(&self.store);
        if !store.catalog.serves(&path.group, &path.version) {
            return Ok(no_page());
        }
        let call = Call::new(&store.catalog, path, info, query, headers, body)?;
        if !call.sub().is_empty()
            && let Some(answer) = subresources::serve(self, &mut store, &call, now)?
        {
            return Ok(answer);
        }
        match call.info.verb.as_str() {
            "get" => {
                let object = reading::get(&store, &call)?;
                Ok(bytes_answer(200, reading::render(&call, &object, now)))
            }
            "list" => {
                let page = reading::list(&store, &call)?;
                Ok(bytes_answer(200, reading::render_list(&call, &page, now)))
            }
            "watch" => {
                let watch = watching::start(self, &mut store, call)?;
                let frames =
                    futures::StreamExt::map(watch.into_stream(), |item| item.map(http_body::Frame::data));
                Ok(respond(200, "application/json", StreamBody::new(frames).boxed_unsync()))
            }
            "create" => {
                let value = writing::decode(&call, &call.body)?;
                let written = writing::create(&mut store, &call, value, now, How::Update)?;
                Ok(written_answer(&call, &written, now))
            }
            "update" => {
                let value = writing::decode(&call, &call.body)?;
                let written = writing::update(&mut store, &call, now, How::Update, |_| Ok(value))?;
                Ok(written_answer(&call, &written, now))
            }
            "patch" => {
                let written = patching::patch(&mut store, &call, now)?;
                Ok(written_answer(&call, &written, now))
            }
            "delete" => {
                let deleted = deleting::delete(&mut store, &call, now)?;
                if deleted.gone && !returns_deleted(&call) {
                    return Ok(json_answer(200, &success(&call, &deleted.object)));
                }
                Ok(bytes_answer(200, reading::render(&call, &deleted.object, now)))
            }
            "deletecollection" => {
                let page = deleting::delete_collection(&mut store, &call, now)?;
                Ok(bytes_answer(200, reading::render_list(&call, &page, now)))
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    /// Discovery, health and version.
    fn other(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let accept =
            headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match path.trim_end_matches('/') {
            "/healthz" | "/livez" | "/readyz" => {
                return respond(200, "text/plain; charset=utf-8", full(Bytes::from_static(b"ok")));
            }
            "/version" => return json_answer(200, &version(&self.options.version)),
            "" => {
                let paths =
                    ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/readyz", "/version"];
                return json_answer(200, &json!({"paths": paths}));
            }
            _ => {}
        }
        if let Some((kind, body)) = super::openapi::answer(path, accept) {
            return respond(200, kind, full(body));
        }
        let aggregated = accept
            .split(',')
            .next()
            .is_some_and(|first| first.contains("g=apidiscovery.k8s.io") && first.contains("v=v2;"))
            || accept.contains("v=v2;as=APIGroupDiscoveryList")
            || accept.contains("g=apidiscovery.k8s.io;v=v2;");
        let found = self.with_store(|store| discovery::answer(&store.catalog, path, aggregated));
        match found {
            Some(body) if aggregated && body.get("kind") == Some(&json!("APIGroupDiscoveryList")) => {
                let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                respond(200, kind, full(Bytes::from(serde_json::to_vec(&body).unwrap_or_default())))
            }
            Some(body) => json_answer(200, &body),
            None if path.starts_with("/api") => no_page(),
            None => failure(&ApiError::no_such_path()),
        }
    }

    /// Starts the collector where there is work for it and it does not run yet.
    fn collect_later(self: &Arc<Self>) {
        if !self.with_store(|store| store.has_pending()) || self.collecting.swap(true, Ordering::SeqCst) {
            return;
        }
        let server = Arc::downgrade(self);
        let (clock, delay) = (self.clock(), self.options.collector_delay);
        tokio::spawn(async move {
            loop {
                clock.sleep(delay).await;
                let Some(server) = server.upgrade() else { return };
                let done = server.with_store(|store| {
                    deleting::collect(store, server.options.clock.now());
                    let done = !store.has_pending();
                    if done {
                        server.collecting.store(false, Ordering::SeqCst);
                    }
                    done
                });
                if done {
                    return;
                }
            }
        });
    }
}

/// A body in JSON (or YAML); none where it is in a form that we cannot read.
fn as_json(headers: &HeaderMap, body: Bytes) -> Option<Bytes> {
    let kind =
        headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if body.is_empty() || !kind.starts_with("application/vnd.kubernetes.protobuf") {
        return Some(body);
    }
    let value = super::protobuf::to_json(&body)?;
    serde_json::to_vec(&value).ok().map(Bytes::from)
}

fn describe(
    user: &str,
    method: &http::Method,
    path: &str,
    at: Option<&Path>,
    query: &Query,
    headers: &HeaderMap,
) -> RequestInfo {
    let agent =
        headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut info =
        RequestInfo { user: user.into(), path: path.into(), agent: agent.into(), ..RequestInfo::default() };
    match at {
        None => info.verb = method.as_str().to_lowercase(),
        Some(at) => {
            info.verb = verb(method, at, query).unwrap_or_default().into();
            info.group.clone_from(&at.group);
            info.version.clone_from(&at.version);
            info.resource.clone_from(&at.plural);
            info.subresource = at.sub.clone().unwrap_or_default();
            info.namespace = at.namespace.clone().unwrap_or_default();
            info.name = at.name.clone().unwrap_or_default();
        }
    }
    info
}
