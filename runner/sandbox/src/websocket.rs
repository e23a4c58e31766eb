//! The server's half of a WebSocket that an HTTP request is upgraded to (RFC 6455, 4.2).

use std::future::Future;

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::api::answers::{Body, full, respond};

/// A WebSocket over a connection of HTTP.
pub(crate) type Web = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request asks for one.
pub(crate) fn is_asked(headers: &http::HeaderMap) -> bool {
    header(headers, &UPGRADE).eq_ignore_ascii_case("websocket")
}

fn header<'a>(headers: &'a http::HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Takes the first of the client's protocols that is known here. What is to be done with the WebSocket is spawned; it
/// begins when the answer has gone out.
pub(crate) fn accept<F, Served>(request: Request<()>, known: &[&str], serve: F) -> Response<Body>
where
    F: FnOnce(Web, String) -> Served + Send + 'static,
    Served: Future<Output = ()> + Send,
{
    if !is_asked(request.headers()) {
        return refuse(400, "you must specify the WebSocket protocol with Upgrade headers");
    }
    let key = header(request.headers(), &SEC_WEBSOCKET_KEY).to_owned();
    let asked = header(request.headers(), &SEC_WEBSOCKET_PROTOCOL);
    let Some(protocol) = asked.split(',').map(str::trim).find(|one| known.contains(one)) else {
        return refuse(403, "unable to negotiate a protocol");
    };
    let protocol = protocol.to_owned();
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    for (name, text) in [
        (SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())),
        (SEC_WEBSOCKET_PROTOCOL, protocol.clone()),
    ] {
        let Ok(value) = HeaderValue::from_str(&text) else { return refuse(400, "a bad header") };
        headers.insert(name, value);
    }
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => {
                let web = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
                serve(web, protocol).await;
            }
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    response
}

/// As a kubelet says no.
pub(crate) fn refuse(code: u16, why: &str) -> Response<Body> {
    respond(code, "text/plain; charset=utf-8", full(Bytes::from(format!("{why}\n"))))
}
