//! Subresources that are no plain part of the object, and the reviews.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::answers::{Body, full, json_answer, respond};
use super::error::{ApiError, Result};
use super::object::{as_map, child, meta_field, meta_str, timestamp};
use super::request::{Call, Path, RequestInfo};
use super::resources::Gr;
use super::selector::Labels;
use super::server::Server;
use super::store::Store;
use super::writing::{self, How};
use super::{deleting, strategic};

/// Serves a subresource; none where it is one that reads and writes the object itself.
pub(crate) fn serve(
    server: &Server,
    store: &mut Store,
    call: &Call,
    now: time::OffsetDateTime,
) -> Result<Option<Response<Body>>> {
    let sub = call.sub();
    if !call.resource.subresources(&call.version).contains(&sub) {
        return Err(ApiError::no_such_path());
    }
    match (sub, call.info.verb.as_str()) {
        ("status" | "finalize", "get" | "update" | "patch") => Ok(None),
        ("scale", "get") => {
            let object = store.get(call.gr(), &call.key()).ok_or_else(|| call.not_found(&call.info.name))?;
            Ok(Some(json_answer(200, &scale_of(object.value()))))
        }
        ("scale", "update" | "patch") => set_scale(store, call, now).map(Some),
        ("log", "get") => log(server, store, call).map(Some),
        ("eviction", "create") => evict(store, call, now).map(Some),
        ("binding", "create") => bind(store, call, now).map(Some),
        ("token", "create") => token(server, store, call, now).map(Some),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta_field(object, key) {
            as_map(&mut metadata).insert(key.into(), value.clone());
        }
    }
    let selector: Vec<String> = object
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": object.pointer("/spec/replicas").cloned().unwrap_or(json!(0))},
        "status": {"replicas": object.pointer("/status/replicas").cloned().unwrap_or(json!(0)), "selector": selector.join(",")},
    })
}

fn set_scale(store: &mut Store, call: &Call, now: time::OffsetDateTime) -> Result<Response<Body>> {
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|error| ApiError::bad_request(format!("error decoding scale: {error}")))?;
    let written = writing::update(store, call, now, How::Update, |old| {
        let mut scale = scale_of(old);
        if call.info.verb == "update" {
            scale = body;
        } else if call.content_type.contains("json-patch") {
            let patch: json_patch::Patch = serde_json::from_value(body)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
            json_patch::patch(&mut scale, &patch.0)
                .map_err(|error| ApiError::new(422, "Invalid", error.to_string()))?;
        } else if call.content_type.contains("strategic") {
            strategic::merge(&mut scale, &body)?;
        } else {
            json_patch::merge(&mut scale, &body);
        }
        let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        let mut new = old.clone();
        child(&mut new, "spec").insert("replicas".into(), json!(replicas));
        let rv = meta_str(&scale, "resourceVersion").to_owned();
        super::object::set_meta(&mut new, "resourceVersion", (!rv.is_empty()).then_some(Value::String(rv)));
        Ok(new)
    })?;
    Ok(json_answer(200, &scale_of(written.object.value())))
}

fn log(server: &Server, store: &Store, call: &Call) -> Result<Response<Body>> {
    let pod = store.get(call.gr(), &call.key()).ok_or_else(|| call.not_found(&call.info.name))?;
    let container = call.query.get("container");
    let container = super::streams::container(pod.value(), &call.info.name, container)?;
    let text = match server.log_source() {
        Some(source) => source(&call.key().0, &call.info.name, &container, call.query.flag("previous"))
            .map_err(ApiError::bad_request)?,
        None => String::new(),
    };
    let text = match call.query.number("tailLines")? {
        Some(lines) => {
            let all: Vec<&str> = text.lines().collect();
            let from = all.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
            all.get(from..).unwrap_or_default().iter().flat_map(|line| [line, "\n"]).collect()
        }
        None => text,
    };
    Ok(respond(200, "text/plain", full(Bytes::from(text))))
}

fn evict(store: &mut Store, call: &Call, now: time::OffsetDateTime) -> Result<Response<Body>> {
    let pod = store.get(call.gr(), &call.key()).ok_or_else(|| call.not_found(&call.info.name))?;
    let namespace = call.key().0;
    let budgets = Gr::new("policy", "poddisruptionbudgets");
    let matching: Vec<_> = store
        .list(&budgets, Some(&namespace))
        .into_iter()
        .filter(|(_, budget)| {
            let selector = budget.value().pointer("/spec/selector").unwrap_or(&Value::Null);
            selector.is_object() && Labels::of_object(selector).matches(pod.value())
        })
        .collect();
    if matching.len() > 1 {
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(ApiError::new(500, "InternalError", message));
    }
    let phase = pod.value().pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    let counts = !matches!(phase, "Pending" | "Succeeded" | "Failed")
        && meta_field(pod.value(), "deletionTimestamp").is_none();
    if let (true, Some((key, budget))) = (counts, matching.first()) {
        let number = |path: &str| budget.value().pointer(path).and_then(Value::as_i64).unwrap_or(0);
        if number("/status/disruptionsAllowed") <= 0 {
            let why = format!(
                "The disruption budget {} needs {} healthy pods and has {} currently",
                key.1,
                number("/status/desiredHealthy"),
                number("/status/currentHealthy")
            );
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            let mut error = ApiError::new(429, "TooManyRequests", message).cause("DisruptionBudget", "", why);
            error.retry_after =
                (number("/status/observedGeneration") < number("/metadata/generation")).then_some(10);
            return Err(error);
        }
        if !call.dry_run() {
            let mut new = budget.value().clone();
            let status = child(&mut new, "status");
            status.insert("disruptionsAllowed".into(), json!(number("/status/disruptionsAllowed") - 1));
            let disrupted = as_map(status.entry("disruptedPods").or_insert(Value::Null));
            disrupted.insert(call.info.name.clone(), Value::String(timestamp(now)));
            store.put(&budgets, key, new);
        }
    }
    let body: Value = serde_json::from_slice(&call.body).unwrap_or(Value::Null);
    deleting::evict(store, call, body.get("deleteOptions").unwrap_or(&Value::Null), now)?;
    Ok(json_answer(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

fn bind(store: &mut Store, call: &Call, now: time::OffsetDateTime) -> Result<Response<Body>> {
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|error| ApiError::bad_request(format!("error decoding binding: {error}")))?;
    let node = body.pointer("/target/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let key = call.key();
    let pod = store.get(call.gr(), &key).ok_or_else(|| call.not_found(&key.1))?;
    let bound = pod.value().pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if !bound.is_empty() {
        let why = format!("pod {} is already assigned to node \"{bound}\"", key.1);
        return Err(ApiError::conflict("", "pods/binding", &key.1, &why));
    }
    let mut new = pod.value().clone();
    child(&mut new, "spec").insert("nodeName".into(), json!(node));
    let status = child(&mut new, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|one| one.get("type") != Some(&json!("PodScheduled")));
        list.push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": timestamp(now)}));
    }
    store.put(call.gr(), &key, new);
    Ok(json_answer(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

fn token(
    server: &Server,
    store: &mut Store,
    call: &Call,
    now: time::OffsetDateTime,
) -> Result<Response<Body>> {
    let key = call.key();
    store.get(call.gr(), &key).ok_or_else(|| call.not_found(&key.1))?;
    let mut body: Value = serde_json::from_slice(&call.body).unwrap_or_else(|_| json!({}));
    let seconds = body.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
    let token = format!("{}{}", store.uuid(), store.uuid()).replace('-', "");
    server.add_token(&token, &format!("system:serviceaccount:{}:{}", key.0, key.1));
    let map = as_map(&mut body);
    map.insert("kind".into(), json!("TokenRequest"));
    map.insert("apiVersion".into(), json!("authentication.k8s.io/v1"));
    map.insert("metadata".into(), json!({"name": key.1, "namespace": key.0}));
    let expires = timestamp(now + time::Duration::seconds(seconds));
    map.insert("status".into(), json!({"token": token, "expirationTimestamp": expires}));
    Ok(json_answer(201, &body))
}

/// Answers a review; none where the path is another.
pub(crate) fn review(
    server: &Arc<Server>,
    path: &Path,
    info: &RequestInfo,
    body: &[u8],
) -> Result<Option<Value>> {
    if !matches!(path.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io") {
        return Ok(None);
    }
    if info.verb != "create" {
        return Err(ApiError::method_not_allowed());
    }
    let mut review: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("error decoding review: {error}")))?;
    let status = match path.plural.as_str() {
        "selfsubjectreviews" => {
            json!({"userInfo": {"username": info.user, "groups": ["system:authenticated"]}})
        }
        "selfsubjectaccessreviews" | "subjectaccessreviews" => {
            let own = path.plural.starts_with("self");
            let user = if own { info.user.clone() } else { text(&review, "/spec/user") };
            let asked = RequestInfo {
                user,
                verb: text(&review, "/spec/resourceAttributes/verb"),
                group: text(&review, "/spec/resourceAttributes/group"),
                resource: text(&review, "/spec/resourceAttributes/resource"),
                subresource: text(&review, "/spec/resourceAttributes/subresource"),
                namespace: text(&review, "/spec/resourceAttributes/namespace"),
                name: text(&review, "/spec/resourceAttributes/name"),
                ..RequestInfo::default()
            };
            json!({"allowed": server.access().allowed(&asked)})
        }
        "selfsubjectrulesreviews" => {
            let rules = server.access().rules(&info.user, &text(&review, "/spec/namespace"));
            json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false})
        }
        "tokenreviews" => match server.user_of(&text(&review, "/spec/token")) {
            Some(user) => json!({"authenticated": true, "user": {"username": user}}),
            None => json!({"authenticated": false, "error": "invalid bearer token"}),
        },
        _ => return Err(ApiError::no_such_path()),
    };
    let map = as_map(&mut review);
    map.insert("status".into(), status);
    map.entry("metadata").or_insert_with(|| json!({"creationTimestamp": null}));
    Ok(Some(review))
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}
