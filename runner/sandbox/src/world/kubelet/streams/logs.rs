//! `containerLogs`: what a container has written, as text.

use bytes::Bytes;
use http::Response;

use crate::api::answers::{Body, full, respond};
use crate::websocket::refuse;
use crate::world::ctx::Ctx;

/// What is asked for.
pub(crate) struct Asked<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
    /// The life that has ended, not the present one.
    pub previous: bool,
    /// How many lines, from the end.
    pub lines: Option<usize>,
}

/// The text, or why there is none.
pub(crate) fn text(ctx: &Ctx, asked: &Asked<'_>) -> Result<String, String> {
    let Asked { namespace, pod, container, .. } = asked;
    let inside = ctx.pods.find(namespace, pod).ok_or("pod does not exist")?;
    if !inside.containers.iter().any(|name| name == container) {
        return Err(format!("container {container} not found in pod {pod}"));
    }
    let told = inside.logs().read(asked.previous, asked.lines);
    told.ok_or_else(|| format!("previous terminated container \"{container}\" in pod \"{pod}\" not found"))
}

pub(super) fn answer(ctx: &Ctx, asked: &Asked<'_>) -> Response<Body> {
    match text(ctx, asked) {
        Ok(text) => respond(200, "text/plain", full(Bytes::from(text))),
        Err(why) => refuse(400, &why),
    }
}
