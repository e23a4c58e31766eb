//! Answers: status, content type, body.

use bytes::Bytes;
use http::Response;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::error::ApiError;
use super::reading;
use super::request::Call;
use super::writing::Written;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) fn version(text: &str) -> Value {
    let mut numbers = text.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next().unwrap_or("1"),
        "minor": numbers.next().unwrap_or("0"),
        "gitVersion": text,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    })
}

/// Resources whose deletion answers with the object.
pub(crate) fn returns_deleted(call: &Call) -> bool {
    call.gr().group.is_empty()
        && matches!(
            call.gr().plural.as_str(),
            "pods" | "services" | "serviceaccounts" | "persistentvolumeclaims"
        )
}

pub(crate) fn success(call: &Call, object: &super::object::Object) -> Value {
    let mut details = json!({
        "name": super::object::meta_str(object.value(), "name"),
        "kind": call.gr().plural,
        "uid": super::object::meta_str(object.value(), "uid"),
    });
    if !call.gr().group.is_empty()
        && let Some(map) = details.as_object_mut()
    {
        map.insert("group".into(), json!(call.gr().group));
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

pub(crate) fn written_answer(call: &Call, written: &Written, now: time::OffsetDateTime) -> Response<Body> {
    let code = if written.created { 201 } else { 200 };
    bytes_answer(code, reading::render(call, &written.object, now))
}

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn respond(code: u16, kind: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(kind) = http::HeaderValue::from_str(kind) {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    }
    response
}

pub(crate) fn bytes_answer(code: u16, bytes: Bytes) -> Response<Body> {
    respond(code, "application/json", full(bytes))
}

pub(crate) fn json_answer(code: u16, body: &Value) -> Response<Body> {
    bytes_answer(code, Bytes::from(serde_json::to_vec(body).unwrap_or_default()))
}

pub(crate) fn failure(error: &ApiError) -> Response<Body> {
    let mut response = json_answer(error.code, &error.status());
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from(seconds));
    }
    response
}
