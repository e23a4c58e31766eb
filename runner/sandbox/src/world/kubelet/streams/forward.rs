//! One port of a pod in a WebSocket: channel 0 carries the data, channel 1 what goes wrong; each first names its port.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use stdlib::world::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::api::answers::Body;
use crate::websocket::{Web, accept};
use crate::world::ctx::Ctx;
use crate::world::kubelet::inside::Inside;

const PROTOCOL: &str = "v4.channel.k8s.io";
const DATA: u8 = 0;
const ERROR: u8 = 1;
const BUFFER: usize = 16 * 1024;

pub(super) fn answer(
    ctx: &Arc<Ctx>,
    inside: Arc<Inside>,
    pod: &str,
    port: u16,
    request: Request<()>,
) -> Response<Body> {
    let (ctx, pod) = (Arc::clone(ctx), pod.to_owned());
    accept(request, &[PROTOCOL], move |web, _| async move {
        if let Err(error) = forward(&ctx, &inside, &pod, port, web).await {
            tracing::debug!(%error, pod, port, "a port-forward ended");
        }
    })
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(channel);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

async fn forward(ctx: &Ctx, inside: &Inside, pod: &str, port: u16, mut web: Web) -> Result<(), Error> {
    for channel in [DATA, ERROR] {
        web.send(message(channel, &port.to_le_bytes())).await?;
    }
    match ctx.net.connect(None, SocketAddr::new(inside.ip, port)).await {
        Ok(connection) => {
            let copied = copy(connection.stream, &mut web);
            tokio::select! {
                biased;
                copied = copied => copied?,
                () = inside.gone() => {}
            }
        }
        Err(error) => {
            let why = format!(
                "error forwarding port {port} to pod {pod}, uid {}: failed to connect to localhost:{port} inside its network: {error}",
                inside.uid
            );
            web.send(message(ERROR, why.as_bytes())).await?;
        }
    }
    web.close(None).await
}

/// Until either end is through.
async fn copy(mut stream: Box<dyn Stream>, web: &mut Web) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let bytes = match read {
                    Ok(read) if read > 0 => buffer.get(..read).unwrap_or_default(),
                    _ => return Ok(()),
                };
                web.send(message(DATA, bytes)).await?;
            }
            came = web.next() => match came {
                Some(Ok(Message::Binary(bytes))) => {
                    if let Some((&DATA, bytes)) = bytes.split_first()
                        && stream.write_all(bytes).await.is_err()
                    {
                        return Ok(());
                    }
                }
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
        }
    }
}
