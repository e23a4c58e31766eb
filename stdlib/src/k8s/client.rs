//! Requests to the API server as plain JSON: typed by nobody, retried where that is safe, explained where it fails.

use std::time::Duration;

use futures::future::{Either, select};
use kube::core::Request;
use kube::core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::Gate;
use crate::world::World;

use super::discovery;
use super::errors::{Attempt, PATH, explain, retry_after, transient};
use super::kinds::Kinds;
use super::object::{Ref, collection, text};

/// Pauses between attempts: about 24 s in all, which an API server that restarts usually needs.
const PAUSES_MS: [u64; 7] = [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000];
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a log may take.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);
/// The code of an answer about versions that the server has forgotten.
pub(super) const EXPIRED: u16 = 410;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What becomes of the dependents of what is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected afterwards.
    #[default]
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// How something is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deletion {
    /// What becomes of its dependents.
    pub propagation: Propagation,
    /// A grace period of 0: the server forgets a pod while its processes may still run.
    pub force: bool,
}

/// Where objects of a kind lie on the server.
pub(super) struct Shelf {
    /// The path of the collection.
    pub path: String,
    /// What the server calls them.
    pub plural: String,
}

/// Objects as they were at one moment.
pub(super) struct Listed {
    pub items: Vec<Value>,
    /// The version of that moment.
    pub version: String,
}

/// A failure, and the code of the server's answer; 0 where it gave none that counts.
struct Refused {
    error: PrimError,
    code: u16,
}

impl From<PrimError> for Refused {
    fn from(error: PrimError) -> Self {
        Self { error, code: 0 }
    }
}

/// The API server, seen from one call of a primitive.
pub struct Objects<'a> {
    world: &'a World,
    client: kube::Client,
    manager: String,
    gate: Option<&'a dyn Gate>,
}

impl<'a> Objects<'a> {
    /// The cluster of this world.
    pub fn of(world: &'a World) -> Result<Self, PrimError> {
        Ok(Self { world, client: world.cluster()?, manager: world.manager.clone(), gate: None })
    }

    /// The cluster of this world, for a step that changes it: before each write the gate is asked whether the run still
    /// holds its target.
    pub fn behind(world: &'a World, gate: &'a dyn Gate) -> Result<Self, PrimError> {
        Ok(Self { gate: Some(gate), ..Self::of(world)? })
    }

    /// The same under another field manager, so that the server keeps its times apart from ours.
    #[must_use]
    pub fn managed_by(mut self, manager: String) -> Self {
        self.manager = manager;
        self
    }

    pub(super) fn client(&self) -> &kube::Client {
        &self.client
    }

    /// What the server has said of its kinds.
    pub(super) fn kinds(&self) -> &Kinds {
        &self.world.kinds
    }

    /// Where an object lies, after what is wrong with asking this of it.
    pub(super) async fn shelf(&self, object: &Ref, verb: &str) -> Result<Shelf, PrimError> {
        let served = discovery::served(self, object).await?;
        discovery::askable(object, &served, verb)?;
        let mut resource = object.resource();
        resource.plural = served.plural;
        Ok(Shelf { path: collection(&resource, &object.namespace), plural: resource.plural })
    }

    /// The object, or `NotFound`.
    pub async fn get(&self, object: &Ref) -> Result<Value, PrimError> {
        self.find(object)
            .await?
            .ok_or_else(|| PrimError::not_found("it does not exist").on(object.to_string()))
    }

    /// The object, if there is one. That the server has no such kind is an error.
    pub async fn find(&self, object: &Ref) -> Result<Option<Value>, PrimError> {
        let shelf = self.shelf(object, "get").await?;
        let request = Request::new(shelf.path);
        let attempt = Attempt { verb: "get", object, part: "", plural: &shelf.plural };
        match self.send(&attempt, || request.get(&object.name, &GetParams::default())).await {
            Err(error) if error.code == Code::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// What the server says at a path, e.g. of discovery.
    pub async fn path(&self, path: &str) -> Result<Value, PrimError> {
        let object = Ref::new("", PATH, "", path);
        let attempt = Attempt { verb: "get", object: &object, part: "", plural: "" };
        let build = || {
            let request = http::Request::get(path).body(Vec::new());
            request.map_err(kube::core::request::Error::BuildRequest)
        };
        self.send(&attempt, build).await
    }

    /// All objects of a kind with these labels, page by page.
    pub async fn list(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>, PrimError> {
        self.list_where(api_version, kind, namespace, labels, "").await
    }

    /// The same with these fields as well.
    pub async fn list_where(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        labels: &str,
        fields: &str,
    ) -> Result<Vec<Value>, PrimError> {
        self.list_at(api_version, kind, namespace, labels, fields).await.map(|listed| listed.items)
    }

    /// The same, and the version of the whole at which they were so.
    pub(super) async fn list_at(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        labels: &str,
        fields: &str,
    ) -> Result<Listed, PrimError> {
        let all = Ref::new(api_version, kind, namespace, "");
        let shelf = self.shelf(&all, "list").await?;
        let request = Request::new(shelf.path);
        let attempt = Attempt { verb: "list", object: &all, part: "", plural: &shelf.plural };
        let mut items = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        if !labels.is_empty() {
            params = params.labels(labels);
        }
        if !fields.is_empty() {
            params = params.fields(fields);
        }
        loop {
            let mut page = match self.ask(&attempt, || request.list(&params)).await {
                Ok(page) => page,
                // What was begun is too old to be gone on with: all anew, and as one page, which cannot grow old.
                Err(refused) if refused.code == EXPIRED && params.continue_token.is_some() => {
                    items.clear();
                    (params.limit, params.continue_token) = (None, None);
                    continue;
                }
                Err(refused) => return Err(refused.error),
            };
            if let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            let next = text(&page, &["metadata", "continue"]);
            if next.is_empty() {
                return Ok(Listed {
                    items,
                    version: text(&page, &["metadata", "resourceVersion"]).to_owned(),
                });
            }
            params = params.continue_token(next);
        }
    }

    /// A JSON merge patch, valid only for the version that was read: somebody else's write in between is a `Conflict`.
    ///
    /// Sending it twice is harmless: the second finds another version.
    pub async fn merge(&self, object: &Ref, version: &str, patch: Value) -> Result<Value, PrimError> {
        self.merge_part(object, "", version, patch).await
    }

    /// The same for an object's status.
    pub async fn merge_status(&self, object: &Ref, version: &str, patch: Value) -> Result<Value, PrimError> {
        self.merge_part(object, "status", version, patch).await
    }

    async fn merge_part(
        &self,
        object: &Ref,
        part: &str,
        version: &str,
        mut patch: Value,
    ) -> Result<Value, PrimError> {
        at_version(&mut patch, version);
        let params = PatchParams { field_manager: Some(self.manager.clone()), ..PatchParams::default() };
        let shelf = self.shelf(object, "patch").await?;
        let request = Request::new(shelf.path);
        let attempt = Attempt { verb: "patch", object, part: "", plural: &shelf.plural };
        let build = || match part {
            "" => request.patch(&object.name, &params, &Patch::Merge(&patch)),
            part => request.patch_subresource(part, &object.name, &params, &Patch::Merge(&patch)),
        };
        self.send(&attempt, build).await
    }

    /// Creates an object; `Conflict` where there is one of that name.
    pub async fn create(&self, object: &Ref, body: &Value) -> Result<Value, PrimError> {
        let params = PostParams { field_manager: Some(self.manager.clone()), ..PostParams::default() };
        let shelf = self.shelf(object, "create").await?;
        let request = Request::new(shelf.path);
        let bytes = serde_json::to_vec(body).map_err(|e| PrimError::internal(e.to_string()))?;
        let attempt = Attempt { verb: "create", object, part: "", plural: &shelf.plural };
        self.send(&attempt, || request.create(&params, bytes.clone())).await
    }

    /// Deletes this very object: another uid or a newer version is a `Conflict`.
    pub async fn delete(&self, object: &Ref, uid: &str, version: &str) -> Result<(), PrimError> {
        self.delete_as(object, uid, version, Deletion::default()).await
    }

    /// The same, with what becomes of its dependents and whether it may end in its own time.
    pub async fn delete_as(
        &self,
        object: &Ref,
        uid: &str,
        version: &str,
        deletion: Deletion,
    ) -> Result<(), PrimError> {
        let mut params = match deletion.propagation {
            Propagation::Background => DeleteParams::background(),
            Propagation::Foreground => DeleteParams::foreground(),
            Propagation::Orphan => DeleteParams::orphan(),
        };
        params.grace_period_seconds = deletion.force.then_some(0);
        let params = params.preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
        });
        let shelf = self.shelf(object, "delete").await?;
        let request = Request::new(shelf.path);
        let attempt = Attempt { verb: "delete", object, part: "", plural: &shelf.plural };
        match self.send(&attempt, || request.delete(&object.name, &params)).await {
            Err(error) if error.code == Code::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Has the server delete this very pod, if the PodDisruptionBudgets let it: where they do not, that is a `Conflict`.
    pub async fn evict(&self, pod: &Ref, uid: &str) -> Result<(), PrimError> {
        let body = json!({
            "apiVersion": self.eviction().await?,
            "kind": "Eviction",
            "metadata": { "name": pod.name, "namespace": pod.namespace },
            "deleteOptions": { "preconditions": { "uid": uid } },
        });
        let path = format!("{}/{}/eviction", collection(&pod.resource(), &pod.namespace), pod.name);
        let bytes = serde_json::to_vec(&body).map_err(|e| PrimError::internal(e.to_string()))?;
        let attempt = Attempt { verb: "create", object: pod, part: "eviction", plural: "" };
        let build = || {
            let request = http::Request::post(&path).header(http::header::CONTENT_TYPE, "application/json");
            request.body(bytes.clone()).map_err(kube::core::request::Error::BuildRequest)
        };
        match self.send(&attempt, build).await {
            Err(error) if error.code == Code::NotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The version of evictions that this server takes.
    async fn eviction(&self) -> Result<String, PrimError> {
        let known = self.path("/api/v1").await?;
        let resources = known.get("resources").and_then(Value::as_array);
        let found = resources.into_iter().flatten().find(|one| text(one, &["name"]) == "pods/eviction");
        let part = |field| found.map(|one| text(one, &[field])).filter(|text| !text.is_empty());
        Ok(format!("{}/{}", part("group").unwrap_or("policy"), part("version").unwrap_or("v1")))
    }

    /// The last lines that a container has written; `before` its last restart. Asked once: nothing rests on it.
    pub async fn log(
        &self,
        pod: &Ref,
        container: &str,
        before: bool,
        lines: u32,
    ) -> Result<String, PrimError> {
        let path = format!(
            "{}/{}/log?container={container}&tailLines={lines}&previous={before}",
            collection(&pod.resource(), &pod.namespace),
            pod.name
        );
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|e| PrimError::internal(e.to_string()))?;
        let attempt = Attempt { verb: "get", object: pod, part: "log", plural: "" };
        match select(Box::pin(self.client.request_text(request)), self.world.clock.sleep(LOG_TIMEOUT)).await {
            Either::Left((answer, _)) => answer.map_err(|error| explain(&error, &attempt)),
            Either::Right(_) => {
                Err(PrimError::new(Code::Unavailable, "its log did not come").on(pod.to_string()))
            }
        }
    }

    async fn send<F>(&self, attempt: &Attempt<'_>, build: F) -> Result<Value, PrimError>
    where
        F: Fn() -> Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    {
        self.ask(attempt, build).await.map_err(|refused| refused.error)
    }

    async fn ask<F>(&self, attempt: &Attempt<'_>, build: F) -> Result<Value, Refused>
    where
        F: Fn() -> Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    {
        let mut pauses = PAUSES_MS.iter().map(|ms| Duration::from_millis(*ms));
        loop {
            // Asked at each try: what was read before the first one is what the write is conditional upon.
            if let Some(gate) = self.gate
                && !matches!(attempt.verb, "get" | "list")
            {
                gate.holds().await?;
            }
            let request =
                build().map_err(|e| PrimError::internal(e.to_string()).on(attempt.object.to_string()))?;
            let answer = Box::pin(self.client.request::<Value>(request));
            let (failure, wait) = match select(answer, self.world.clock.sleep(REQUEST_TIMEOUT)).await {
                Either::Left((Ok(value), _)) => return Ok(value),
                Either::Left((Err(error), _)) => {
                    let failure = explain(&error, attempt);
                    if !transient(&error) {
                        let code = if let kube::Error::Api(status) = &error { status.code } else { 0 };
                        return Err(Refused { error: failure, code });
                    }
                    (failure, retry_after(&error))
                }
                Either::Right(_) => (
                    PrimError::new(Code::Unavailable, "the API server did not answer within 30 s")
                        .on(attempt.object.to_string()),
                    None,
                ),
            };
            let Some(pause) = pauses.next() else { return Err(failure.into()) };
            self.world.clock.sleep(wait.unwrap_or(pause).max(pause)).await;
        }
    }
}

/// What a write would make of an object, and server-side apply.
impl Objects<'_> {
    /// What [`Objects::merge`] would make of the object. Nothing is changed.
    pub async fn try_merge(&self, object: &Ref, version: &str, mut patch: Value) -> Result<Value, PrimError> {
        at_version(&mut patch, version);
        self.patch(object, &Patch::Merge(&patch), false, true).await
    }

    /// What [`Objects::apply`] would make of the object. Nothing is changed.
    pub async fn try_apply(&self, object: &Ref, manifest: &Value, force: bool) -> Result<Value, PrimError> {
        self.patch(object, &Patch::Apply(manifest), force, true).await
    }

    /// Server-side apply under our field manager: makes the object, or its fields, as the manifest has them. With a
    /// version another one is a `Conflict`; so is a field that another manager owns, unless it is taken by force.
    pub async fn apply(
        &self,
        object: &Ref,
        manifest: &Value,
        version: Option<&str>,
        force: bool,
    ) -> Result<Value, PrimError> {
        let mut manifest = manifest.clone();
        if let Some(version) = version {
            at_version(&mut manifest, version);
        }
        self.patch(object, &Patch::Apply(&manifest), force, false).await
    }

    async fn patch(
        &self,
        object: &Ref,
        patch: &Patch<&Value>,
        force: bool,
        dry_run: bool,
    ) -> Result<Value, PrimError> {
        let params = PatchParams {
            field_manager: Some(self.manager.clone()),
            force,
            dry_run,
            ..PatchParams::default()
        };
        let shelf = self.shelf(object, "patch").await?;
        let request = Request::new(shelf.path);
        let attempt = Attempt { verb: "patch", object, part: "", plural: &shelf.plural };
        self.send(&attempt, || request.patch(&object.name, &params, patch)).await
    }
}

/// Makes a write valid for one version alone.
fn at_version(body: &mut Value, version: &str) {
    if let Some(fields) = body.as_object_mut() {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".into(), version.into());
        }
    }
}
