//! Watches: a stream of events from a version on, with bookmarks, until a deadline.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use serde_json::{Value, json};
use stdlib::world::Clock;
use tokio::sync::mpsc::UnboundedReceiver;

use super::error::{ApiError, Result};
use super::object::{Object, meta_str};
use super::reading::{Selection, in_version, metadata_of};
use super::request::{Call, Form};
use super::server::Server;
use super::store::{Change, Heard, Store};
use super::table;

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// Everything that a running watch holds.
pub(crate) struct Watch {
    call: Call,
    selection: Selection,
    ready: VecDeque<Bytes>,
    rx: Option<UnboundedReceiver<Heard>>,
    bookmarks: bool,
    sent: u64,
    server: Weak<Server>,
    clock: Arc<dyn Clock>,
    left: Duration,
    aborted: bool,
    header_sent: bool,
}

/// Begins a watch under the lock, so that nothing is missed between the first events and the later ones.
pub(crate) fn start(server: &Arc<Server>, store: &mut Store, call: Call) -> Result<Watch> {
    let mut selection = Selection::of(&call)?;
    if !call.info.name.is_empty() {
        selection = Selection::named(&call.info.name);
    }
    let timeout = match call.query.number("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => seconds,
        // Without a limit from the client the real server picks one between half an hour and an hour.
        _ => 1800 + u64::from(store.below(1800)),
    };
    let given = call.query.get("resourceVersion").unwrap_or_default().to_owned();
    let from: u64 = if given.is_empty() {
        0
    } else {
        given.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "Invalid value: \"{given}\": strconv.ParseUint: parsing \"{given}\": invalid syntax"
            ))
        })?
    };
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let initial = call.query.get("sendInitialEvents").map(|text| text == "true");
    if initial.is_some() && call.query.get("resourceVersionMatch") != Some("NotOlderThan") {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(
            call.invalid("", vec![super::error::FieldError::forbidden("resourceVersionMatch", detail)])
        );
    }
    let replay = initial.unwrap_or(from == 0);
    let mut watch = Watch {
        selection,
        ready: VecDeque::new(),
        rx: None,
        bookmarks,
        sent: from,
        server: Arc::downgrade(server),
        clock: server.clock(),
        left: Duration::from_secs(timeout),
        aborted: false,
        header_sent: false,
        call,
    };
    let namespace = watch.call.namespace().map(ToOwned::to_owned);
    let gr = watch.call.gr().clone();
    if replay {
        for (_, object) in store.list(&gr, namespace.as_deref()) {
            if watch.selection.matches(object.value()) {
                let event = watch.event("ADDED", &object);
                watch.ready.push_back(event);
            }
        }
    }
    // A version from the future: the client has seen a server that we are not.
    if from > store.rv() {
        let message = format!("Too large resource version: {from}, current: {}", store.rv());
        watch.fail(&ApiError::new(504, "Timeout", message));
        return Ok(watch);
    }
    let after = if replay { store.rv() } else { from };
    let user = watch.call.info.user.clone();
    match store.watch(&gr, namespace.as_deref(), &user, after) {
        None => {
            let message = format!("too old resource version: {from} ({})", store.rv());
            watch.fail(&ApiError::expired(message));
        }
        Some((missed, rx)) => {
            for change in missed {
                watch.take(&change);
            }
            watch.rx = Some(rx);
            watch.sent = store.rv();
            if initial == Some(true) && bookmarks {
                let text = watch.bookmark(true);
                watch.ready.push_back(text);
            }
        }
    }
    Ok(watch)
}

impl Watch {
    fn fail(&mut self, error: &ApiError) {
        let text = line(&json!({"type": "ERROR", "object": error.status()}));
        self.ready.push_back(text);
        self.rx = None;
    }

    fn event(&mut self, kind: &str, object: &Arc<Object>) -> Bytes {
        let object = in_version(&self.call, object);
        match self.call.form {
            Form::Object => {
                let text = object.json();
                let mut out = Vec::with_capacity(text.len() + 32);
                out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
                out.extend_from_slice(&text);
                out.extend_from_slice(b"}\n");
                Bytes::from(out)
            }
            Form::Metadata => line(&json!({"type": kind, "object": metadata_of(object.value())})),
            Form::Table => {
                let rv = meta_str(object.value(), "resourceVersion").to_owned();
                let columns = !self.header_sent;
                self.header_sent = true;
                let metadata = json!({"resourceVersion": rv});
                let table = table::table(&self.call, &[object], self.clock.now(), &metadata, columns);
                line(&json!({"type": kind, "object": table}))
            }
        }
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.sent.to_string(), "creationTimestamp": null});
        if initial_end && let Some(map) = metadata.as_object_mut() {
            map.insert("annotations".into(), json!({"k8s.io/initial-events-end": "true"}));
        }
        let (kind, api_version) = match self.call.form {
            Form::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.call.resource.kind.clone(), self.call.api_version()),
        };
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if self.call.resource.builtin && self.call.form == Form::Object {
            // Typed clients expect the parts that a Go struct always prints.
            for (part, value) in empty_parts(&self.call.resource.gr.plural) {
                if let Some(map) = object.as_object_mut() {
                    map.insert((*part).into(), value.clone());
                }
            }
        }
        line(&json!({"type": "BOOKMARK", "object": object}))
    }

    /// Turns a change into the event that this watch's selection makes of it.
    fn take(&mut self, change: &Change) {
        self.sent = self.sent.max(change.rv);
        let is = self.selection.matches(change.object.value());
        let was = change.before.as_ref().is_some_and(|before| self.selection.matches(before.value()));
        let text = match (change.deleted, was, is) {
            (true, true, _) => self.event("DELETED", &change.object),
            (true, false, _) | (false, false, false) => return,
            (false, false, true) => self.event("ADDED", &change.object),
            (false, true, true) => self.event("MODIFIED", &change.object),
            (false, true, false) => {
                // The object left the selection: its last state in it, with the version of the change.
                let Some(before) = &change.before else { return };
                let mut value = before.value().clone();
                super::object::set_meta(
                    &mut value,
                    "resourceVersion",
                    Some(Value::String(change.rv.to_string())),
                );
                self.event("DELETED", &Arc::new(Object::new(value)))
            }
        };
        self.ready.push_back(text);
    }

    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return Some(Ok(text));
            }
            if self.aborted {
                return Some(Err(std::io::ErrorKind::ConnectionReset.into()));
            }
            if self.left.is_zero() {
                return None;
            }
            let rx = self.rx.as_mut()?;
            let wait = if self.bookmarks { self.left.min(BOOKMARK_EVERY) } else { self.left };
            let began = self.clock.now();
            tokio::select! {
                biased;
                heard = rx.recv() => {
                    let spent = self.clock.now() - began;
                    self.left = self.left.saturating_sub(spent.try_into().unwrap_or_default());
                    match heard {
                        Some(Heard::Change(change)) => self.take(&change),
                        Some(Heard::Abort) => self.aborted = true,
                        Some(Heard::End) | None => return None,
                    }
                }
                () = self.clock.sleep(wait) => {
                    self.left = self.left.saturating_sub(wait);
                    if self.bookmarks && self.catch_up() {
                        let text = self.bookmark(false);
                        self.ready.push_back(text);
                    }
                }
            }
        }
    }

    /// Whether everything up to the present version has been heard; then it is ours too.
    fn catch_up(&mut self) -> bool {
        let (Some(server), Some(rx)) = (self.server.upgrade(), self.rx.as_ref()) else { return false };
        let now = server.with_store(|store| rx.is_empty().then(|| store.rv()));
        if let Some(rv) = now {
            self.sent = rv;
        }
        now.is_some()
    }

    /// The body of the response.
    pub(crate) fn into_stream(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
        stream::unfold(Some(self), |state| async move {
            let mut watch = state?;
            let item = watch.next().await?;
            let failed = item.is_err();
            Some((item, (!failed).then_some(watch)))
        })
    }
}

fn empty_parts(plural: &str) -> Vec<(&'static str, Value)> {
    match plural {
        "pods" => vec![("spec", json!({"containers": null})), ("status", json!({}))],
        "namespaces" | "nodes" | "services" | "persistentvolumeclaims" => {
            vec![("spec", json!({})), ("status", json!({}))]
        }
        "controllerrevisions" => vec![("revision", json!(0))],
        "events" => vec![
            ("involvedObject", json!({})),
            ("source", json!({})),
            ("firstTimestamp", Value::Null),
            ("lastTimestamp", Value::Null),
        ],
        "statefulsets" => vec![
            (
                "spec",
                json!({"selector": null, "template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": null}}, "serviceName": "", "updateStrategy": {}}),
            ),
            ("status", json!({"replicas": 0, "availableReplicas": 0})),
        ],
        "deployments" => vec![
            (
                "spec",
                json!({"selector": null, "template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": null}}, "strategy": {}}),
            ),
            ("status", json!({})),
        ],
        "roles" | "clusterroles" => vec![("rules", Value::Null)],
        "rolebindings" | "clusterrolebindings" => {
            vec![("roleRef", json!({"apiGroup": "", "kind": "", "name": ""}))]
        }
        "leases" => vec![("spec", json!({}))],
        _ => Vec::new(),
    }
}

fn line(value: &Value) -> Bytes {
    let mut out = serde_json::to_vec(value).unwrap_or_default();
    out.push(b'\n');
    Bytes::from(out)
}
