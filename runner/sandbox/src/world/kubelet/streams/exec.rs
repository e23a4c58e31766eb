//! A command in a container, in a WebSocket: its input, its output, its errors, and at last how it ended.

use std::sync::Arc;

use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::commands::{self, Streams};
use crate::api::answers::Body;
use crate::api::streams::Command;
use crate::websocket::{Web, accept, refuse};
use crate::world::kubelet::inside::Inside;

const STDIN: u8 = 0;
const STATUS: u8 = 3;
const END: u8 = 255;

pub(super) fn answer(
    inside: Arc<Inside>,
    command: Command,
    protocols: &[&str],
    request: Request<()>,
) -> Response<Body> {
    if !inside.containers.contains(&command.container) {
        return refuse(404, &format!("container not found (\"{}\")", command.container));
    }
    accept(request, protocols, move |web, _| async move {
        if let Err(error) = exec(&inside, &command, web).await {
            tracing::debug!(%error, command = ?command.argv.first(), "a command ended");
        }
    })
}

async fn exec(inside: &Inside, command: &Command, mut web: Web) -> Result<(), Error> {
    // Says that the connection stands.
    web.send(Message::Binary(vec![1].into())).await?;
    let (to_command, input) = mpsc::unbounded_channel();
    let mut to_command = command.stdin.then_some(to_command);
    let (output, mut from_command) = mpsc::channel(4);
    let running = commands::run(&command.argv, &inside.mounts, Streams { input, output });
    tokio::pin!(running);
    let mut ended = None;
    loop {
        tokio::select! {
            biased;
            () = inside.gone() => return web.close(None).await,
            said = from_command.recv() => match said {
                Some((channel, bytes)) => {
                    let mut message = vec![channel];
                    message.extend_from_slice(&bytes);
                    web.send(Message::Binary(message.into())).await?;
                }
                None => break,
            },
            came = web.next() => match came {
                Some(Ok(Message::Binary(bytes))) => match bytes.split_first() {
                    Some((&STDIN, more)) => {
                        if let Some(input) = &to_command {
                            let _ = input.send(more.to_vec());
                        }
                    }
                    Some((&END, [STDIN])) => to_command = None,
                    _ => {}
                },
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
            how = &mut running, if ended.is_none() => ended = Some(how),
        }
    }
    let how = match ended {
        Some(how) => how,
        None => running.await,
    };
    let mut message = vec![STATUS];
    message.extend_from_slice(status(how).to_string().as_bytes());
    web.send(Message::Binary(message.into())).await?;
    web.close(None).await
}

fn status(how: Result<u8, String>) -> Value {
    match how {
        Ok(0) => json!({ "metadata": {}, "status": "Success" }),
        Ok(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Err(why) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: error executing command in container: {why}"),
        }),
    }
}
