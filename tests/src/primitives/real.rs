//! A real server as a place of stories. Nobody controls anything there: a story plays the controllers itself, as it does in
//! the sandbox. Faults strike on the way to the server.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use http::{Method, Request, Response};
use kube::client::Body;
use kube::{Client, Config};
use sandbox::api::{Effect, Fault, FaultId, Faults, RequestInfo, Rule};
use serde_json::{Value, json};
use stdlib::k8s::client::Objects;
use stdlib::k8s::object::{Ref, text};
use stdlib::world::{Clock, SystemClock, TokioClock, World};
use tower::{BoxError, Service};

use super::cut::{Answer, Watches};
use super::place::Place;
use super::scene::definition;

/// How often it is looked whether what was made works yet.
const LOOKS: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

/// A real server. All its stories may be told at once.
#[allow(missing_debug_implementations, reason = "a server has nothing to show")]
pub struct Real {
    config: Config,
    clock: TokioClock,
    way: Arc<Way>,
    names: AtomicUsize,
}

/// What happens on the way to the server.
#[derive(Default)]
struct Way {
    faults: Faults,
    down: Mutex<Vec<String>>,
    watches: Watches,
    counted: Mutex<BTreeMap<(String, String, String), u64>>,
}

impl Real {
    /// A server that this administrator's kubeconfig leads to; it defines what the stories need.
    pub async fn new(config: Config) -> Self {
        let clock = TokioClock::starting_at(SystemClock.now());
        let real = Self { config, clock, way: Arc::default(), names: AtomicUsize::new(0) };
        let world = World::system(Some(real.client("somebody")), "/".into());
        make(&world, &definition()).await;
        let clusters = http::Request::get("/apis/pingcap.com/v1alpha1/tidbclusters");
        let clusters = clusters.body(Vec::new()).unwrap();
        until(async || real.client("somebody").request::<Value>(clusters.clone()).await.is_ok()).await;
        real
    }

    fn acting_as(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.into());
        config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
        let inner = Client::try_from(config).unwrap();
        Client::new(Struck { inner, user: user.into(), way: Arc::clone(&self.way) }, "default")
    }
}

async fn make(world: &World, body: &Value) {
    let field = |path: &[&str]| text(body, path).to_owned();
    let object = Ref::new(
        &field(&["apiVersion"]),
        &field(&["kind"]),
        &field(&["metadata", "namespace"]),
        &field(&["metadata", "name"]),
    );
    Objects::of(world).unwrap().create(&object, body).await.unwrap();
}

async fn until(works: impl AsyncFn() -> bool) {
    for _ in 0..LOOKS {
        if works().await {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("what was made does not work");
}

impl Place for Real {
    fn client(&self, user: &str) -> Client {
        self.acting_as(user, &["system:masters"])
    }

    fn limited<'a>(&'a self, ns: &'a str, rule: Rule) -> LocalBoxFuture<'a, Client> {
        Box::pin(async move {
            let user = format!("limited-{}", self.names.fetch_add(1, Ordering::Relaxed));
            let world = World::system(Some(self.client("somebody")), "/".into());
            let rbac = "rbac.authorization.k8s.io";
            let named = json!({"name": user, "namespace": ns});
            let rules = json!([{"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources,
                                "resourceNames": rule.names}]);
            make(&world, &json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": named, "rules": rules}))
                .await;
            make(
                &world,
                &json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": named,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": user},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}]}),
            )
            .await;
            // Rules work as soon as the server has seen them itself.
            let asked = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": user,
                "resourceAttributes": {"namespace": ns, "verb": rule.verbs[0], "group": rule.groups[0],
                                       "resource": rule.resources[0], "name": rule.names.first()}}});
            until(async || {
                let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
                    .header("content-type", "application/json")
                    .body(asked.to_string().into_bytes())
                    .unwrap();
                let answer: Value = self.client("somebody").request(request).await.unwrap();
                answer["status"]["allowed"] == true
            })
            .await;
            self.acting_as(&user, &[])
        })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock)
    }

    fn turns_clocks(&self) -> bool {
        false
    }

    fn namespace(&self, story: &str) -> String {
        let n = self.names.fetch_add(1, Ordering::Relaxed);
        let story: String = story.replace('_', "-").chars().take(50).collect();
        format!("{}-{n}", story.trim_end_matches('-'))
    }

    fn inject(&self, fault: Fault) -> FaultId {
        self.way.faults.add(fault)
    }

    fn hits(&self, fault: FaultId) -> u64 {
        self.way.faults.hits(fault)
    }

    fn heal(&self, fault: FaultId) {
        self.way.faults.remove(fault);
    }

    fn counted(&self, ns: &str, verb: &str, resource: &str) -> u64 {
        let counted = self.way.counted.lock().unwrap();
        counted.get(&(ns.into(), verb.into(), resource.into())).copied().unwrap_or_default()
    }

    fn set_down(&self, ns: &str, down: bool) {
        let mut all = self.way.down.lock().unwrap();
        all.retain(|other| other != ns);
        if down {
            all.push(ns.into());
            self.way.watches.drop_all(ns, true);
        }
    }

    fn drop_watches(&self, ns: &str, abort: bool) -> usize {
        self.way.watches.drop_all(ns, abort)
    }
}

/// A client of one user on a way where faults strike.
#[derive(Clone)]
struct Struck {
    inner: Client,
    user: String,
    way: Arc<Way>,
}

impl Service<Request<Body>> for Struck {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (this, info) = (self.clone(), info(&self.user, &request));
        Box::pin(async move {
            if info.user == "rollover" {
                let key = (info.namespace.clone(), info.verb.clone(), info.resource.clone());
                *this.way.counted.lock().unwrap().entry(key).or_default() += 1;
                if this.way.down.lock().unwrap().contains(&info.namespace) {
                    return Err(broken());
                }
            }
            let mut loses = false;
            for effect in this.way.faults.strike(&info) {
                match effect {
                    Effect::Status(code, message) => return Ok(refused(code, &message).map(Into::into)),
                    Effect::Error(_) => unreachable!("no story asks for it"),
                    Effect::Delay(by) => tokio::time::sleep(by).await,
                    Effect::Abort => return Err(broken()),
                    Effect::Hang => std::future::pending().await,
                    Effect::LoseAnswer => loses = true,
                }
            }
            let answer = this.inner.send(request).await?;
            match (loses, info.user == "rollover" && info.verb == "watch") {
                (true, _) => Err(broken()),
                (_, true) => Ok(this.way.watches.held(&info.namespace, answer)),
                (_, false) => Ok(answer.map(Into::into)),
            }
        })
    }
}

pub(super) fn broken() -> BoxError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

fn refused(code: u16, message: &str) -> Response<Body> {
    let body =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code});
    let mut answer = Response::builder().status(code).header("content-type", "application/json");
    if matches!(code, 429 | 503) {
        answer = answer.header("retry-after", "1");
    }
    answer.body(Body::from(body.to_string().into_bytes())).unwrap()
}

/// Who asks for what.
fn info(user: &str, request: &Request<Body>) -> RequestInfo {
    let path = request.uri().path();
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let skipped = if parts.first() == Some(&"apis") { 3 } else { 2 };
    parts.drain(..skipped.min(parts.len()));
    let namespace = match parts.as_slice() {
        ["namespaces", ns, _, ..] => (*ns).to_owned(),
        _ => String::new(),
    };
    if !namespace.is_empty() {
        parts.drain(..2);
    }
    let part = |n: usize| parts.get(n).copied().unwrap_or_default().to_owned();
    let watches = request.uri().query().is_some_and(|query| query.split('&').any(|one| one == "watch=true"));
    let verb = match (request.method(), part(1).is_empty()) {
        (&Method::GET, true) if watches => "watch",
        (&Method::GET, true) => "list",
        (&Method::GET, false) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (_, true) => "deletecollection",
        (_, false) => "delete",
    };
    RequestInfo {
        user: user.into(),
        verb: verb.into(),
        resource: part(0),
        name: part(1),
        subresource: part(2),
        namespace,
        path: path.into(),
        ..RequestInfo::default()
    }
}
