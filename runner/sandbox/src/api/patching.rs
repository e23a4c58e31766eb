//! Patches: JSON merge, JSON patch, strategic merge, and server-side apply.

use serde_json::Value;

use super::error::{ApiError, FieldError, Result};
use super::request::Call;
use super::store::Store;
use super::writing::{How, Written, create, decode, update};
use super::{apply, strategic};

/// Carries out a patch.
pub(crate) fn patch(store: &mut Store, call: &Call, now: time::OffsetDateTime) -> Result<Written> {
    let kind = call.content_type.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            let strategic = kind.contains("strategic");
            if strategic && !call.resource.builtin {
                return Err(unsupported(call));
            }
            let patch: Value = serde_json::from_slice(&call.body).map_err(|error| unreadable(&error))?;
            if !patch.is_object() {
                return Err(ApiError::bad_request("the patch is not a JSON object"));
            }
            update(store, call, now, How::Update, |old| {
                let mut new = old.clone();
                if strategic {
                    strategic::merge(&mut new, &patch)?;
                } else {
                    json_patch::merge(&mut new, &patch);
                }
                Ok(new)
            })
        }
        "application/json-patch+json" => {
            let patch: json_patch::Patch =
                serde_json::from_slice(&call.body).map_err(|error| unreadable(&error))?;
            if patch.0.len() > 10_000 {
                return Err(ApiError::new(
                    413,
                    "RequestEntityTooLarge",
                    "The allowed maximum operations in a JSON patch is 10000",
                ));
            }
            update(store, call, now, How::Update, |old| {
                let mut new = old.clone();
                json_patch::patch(&mut new, &patch.0).map_err(|error| {
                    ApiError::new(
                        422,
                        "Invalid",
                        format!("the server rejected our request due to an error in our request: {error}"),
                    )
                })?;
                Ok(new)
            })
        }
        "application/apply-patch+yaml" => server_side_apply(store, call, now),
        _ => Err(unsupported(call)),
    }
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("error decoding patch: {error}"))
}

fn unsupported(call: &Call) -> ApiError {
    let strategic = if call.resource.builtin { ", application/strategic-merge-patch+json" } else { "" };
    ApiError::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json{strategic}, application/apply-patch+yaml"
        ),
    )
}

fn server_side_apply(store: &mut Store, call: &Call, now: time::OffsetDateTime) -> Result<Written> {
    if call.query.get("fieldManager").is_none() {
        let detail = "is required for apply patch";
        return Err(ApiError::invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            vec![FieldError::required("fieldManager", detail)],
        ));
    }
    let applied = decode(call, &call.body)?;
    if applied.get("apiVersion").is_none() || applied.get("kind").is_none() {
        return Err(ApiError::bad_request("Object 'Kind' is missing in the applied configuration"));
    }
    if applied.get("metadata").and_then(|metadata| metadata.get("managedFields")).is_some() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if store.get(call.gr(), &call.key()).is_some() {
        return update(store, call, now, How::Apply, |old| apply::onto(call, old, &applied, now));
    }
    if !call.sub().is_empty() {
        return Err(call.not_found(&call.info.name));
    }
    let new = apply::fresh(call, &applied, now);
    create(store, call, new, now, How::Apply)
}
