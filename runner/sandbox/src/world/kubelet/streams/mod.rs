//! Streams into pods as a kubelet serves them: `portForward` and `exec`, over WebSockets. The sandbox's own API server asks
//! for them in this process, a real one over HTTPS.

mod commands;
mod exec;
mod forward;
pub(crate) mod logs;
pub(crate) mod serve;

use std::sync::Arc;

use http::{Request, Response};

use crate::api::answers::Body;
use crate::api::streams::{Door, Wanted};
use crate::websocket::refuse;
use crate::world::ctx::Ctx;

/// Serves a stream; `protocols` are those of `exec` that are spoken, the best first.
pub(crate) fn answer(
    ctx: &Arc<Ctx>,
    wanted: Wanted,
    protocols: &[&str],
    request: Request<()>,
) -> Response<Body> {
    let Some(inside) = ctx.pods.find(&wanted.namespace, &wanted.pod) else {
        return refuse(404, "pod does not exist");
    };
    match wanted.door {
        Door::Port(port) => forward::answer(ctx, inside, &wanted.pod, port, request),
        Door::Container(container) => exec::answer(inside, container, protocols, request),
    }
}
