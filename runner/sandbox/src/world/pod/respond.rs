//! What a component answers over a link that holds.

use serde_json::{Value, json};

use crate::world::ctx::Ctx;
use crate::world::directory::Endpoint;

/// The answer to a request: PD's API on PD, a word on who it is elsewhere.
pub(crate) fn respond(
    ctx: &Ctx,
    endpoint: &Endpoint,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let pd = endpoint.program.component == "pd";
    match path {
        "/pd/api/v2/ready" if pd && endpoint.is_ready() => (200, json!({})),
        "/pd/api/v2/ready" if pd => (503, json!("not ready")),
        path if pd && path.starts_with("/pd/api/v1/") => {
            ctx.pd(&endpoint.namespace, &endpoint.cluster).answer(method, path, body)
        }
        "/status" | "/" | "/health" => (
            200,
            json!({ "component": endpoint.program.component, "pod": endpoint.pod, "ready": endpoint.is_ready() }),
        ),
        _ => (404, json!("not found")),
    }
}
