//! What the server calls things: the preferred version of a group, and the kind behind a plural name.

use serde_json::Value;

use super::client::Objects;
use super::object::text;
use crate::error::{Code, PrimError};

/// The `apiVersion` and the kind of a plural name; none where the server has no such thing.
///
/// # Errors
/// The server does not answer, or does not let us ask.
pub async fn kind_of(
    objects: &Objects<'_>,
    group: &str,
    plural: &str,
) -> Result<Option<(String, String)>, PrimError> {
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        match found(objects.path(&format!("/apis/{group}")).await)? {
            Some(known) => text(&known, &["preferredVersion", "groupVersion"]).to_owned(),
            None => return Ok(None),
        }
    };
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let Some(list) = found(objects.path(&format!("{root}/{version}")).await)? else { return Ok(None) };
    let kind = list
        .get("resources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|resource| text(resource, &["name"]) == plural)
        .map(|resource| text(resource, &["kind"]).to_owned());
    Ok(kind.map(|kind| (version, kind)))
}

fn found(answer: Result<Value, PrimError>) -> Result<Option<Value>, PrimError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
