//! A process that listens: a real TLS server that reads its key pair for each connection and its CA when it starts.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::Value;
use stdlib::tls::TlsFailure;
use stdlib::world::Stream;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::respond;
use crate::world::ctx::Ctx;
use crate::world::directory::Endpoint;
use crate::world::net::{Connection, Listener};

const MOST: usize = 64 * 1024;
/// How long a refused peer has to read its alert before the connection is torn down under it.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a connection may idle.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// Serves one port until it is dropped, and all its connections with it.
pub(crate) async fn serve(ctx: Arc<Ctx>, endpoint: Arc<Endpoint>, mut listener: Box<dyn Listener>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok(connection) => {
                connections.spawn(one(Arc::clone(&ctx), Arc::clone(&endpoint), connection));
            }
            Err(e) => {
                tracing::warn!("{}: accept: {e}", endpoint.party.label);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn one(ctx: Arc<Ctx>, endpoint: Arc<Endpoint>, connection: Connection) {
    let peer = connection.peer;
    let config =
        endpoint.party.leaf().and_then(|leaf| ctx.configs.server(&endpoint.party, &leaf, &ctx.clock));
    let Some(stream) = accept(&ctx, peer, config, connection.stream).await else { return };
    if !ours(&ctx, peer) {
        ctx.counters.outside(true);
    }
    let service = service_fn(move |request| answer(Arc::clone(&ctx), Arc::clone(&endpoint), request));
    let serving = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(IDLE, serving).await;
}

/// Shakes hands; leaves word where the client is refused.
pub(super) async fn accept(
    ctx: &Ctx,
    peer: SocketAddr,
    config: Result<Arc<ServerConfig>, String>,
    stream: Box<dyn Stream>,
) -> Option<TlsStream<Box<dyn Stream>>> {
    let acceptor = match config {
        Ok(config) => TlsAcceptor::from(config),
        Err(why) => {
            refuse(ctx, peer, why);
            return None;
        }
    };
    match tokio::time::timeout(IDLE, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, mut raw))) => {
            if let Some(why) = verdict(&error) {
                refuse(ctx, peer, why);
                let mut rest = [0u8; 1024];
                let drain = async { while raw.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
                let _ = tokio::time::timeout(FAREWELL, drain).await;
            }
            None
        }
        Err(_) => None,
    }
}

/// What our own verifier said, if it was it that ended the handshake. An alert is the client's verdict, not ours.
fn verdict(error: &io::Error) -> Option<String> {
    match TlsFailure::from(error.get_ref()?.downcast_ref::<rustls::Error>()?) {
        TlsFailure::RefusedBy(_) | TlsFailure::Io { .. } => None,
        TlsFailure::Rejected(rejection) => Some(rejection.text),
        other @ TlsFailure::Protocol(_) => Some(other.to_string()),
    }
}

pub(super) fn ours(ctx: &Ctx, peer: SocketAddr) -> bool {
    ctx.directory.at(peer.ip()).is_some() || ctx.operator_ip() == Some(peer.ip())
}

/// Leaves word for the client that asks why; counts a client from outside.
fn refuse(ctx: &Ctx, peer: SocketAddr, why: String) {
    if ours(ctx, peer) {
        ctx.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, why);
    } else {
        ctx.counters.outside(false);
    }
}

async fn answer(
    ctx: Arc<Ctx>,
    endpoint: Arc<Endpoint>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body =
        Limited::new(body, MOST).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (code, value) = respond::respond(&ctx, &endpoint, head.method.as_str(), head.uri.path(), &body);
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
