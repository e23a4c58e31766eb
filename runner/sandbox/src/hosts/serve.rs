//! A port of a process: TLS with what it shows now and trusts since it started, and HTTP behind it.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use stdlib::cert::{Certificate, San};
use stdlib::tls::TlsFailure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;

use super::machine::Fault;
use super::side::{FAREWELL, Side};
use super::world::Shared;
use crate::world::net::{Connection, Listener};

const MOST: usize = 4 << 20;
const IDLE: Duration = Duration::from_secs(10);

/// An answer by HTTP/1.1.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub kind: &'static str,
    pub body: Vec<u8>,
}

impl Answer {
    fn text(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: text.as_bytes().to_vec() }
    }

    /// As an API server answers whoever looks after it.
    pub(crate) fn healthy() -> Self {
        Self::text(200, "ok")
    }

    /// As Go's servers answer what nobody asks here.
    pub(crate) fn unknown() -> Self {
        Self::text(404, "404 page not found\n")
    }
}

/// Answers a request: method, path, body.
pub(crate) type Handler = Arc<dyn Fn(String, String, Bytes) -> BoxFuture<'static, Answer> + Send + Sync>;

/// What a port does.
#[derive(Clone)]
pub(crate) struct Port {
    pub shared: Arc<Shared>,
    pub side: Arc<Side>,
    pub handler: Handler,
    /// What it answers by gRPC to who speaks HTTP/2, which only a port that has it offers.
    pub grpc: Option<Routes>,
    /// Whether a client's certificate must be for the address that it dials from, as peers want it.
    pub addresses: bool,
}

/// Serves one port until it is dropped, and all its connections with it.
pub(crate) async fn serve(port: Port, mut listener: Box<dyn Listener>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            // Off the network nothing arrives.
            Ok(_) if port.side.machine.has(Fault::Away) => {}
            Ok(connection) => drop(connections.spawn(one(port.clone(), connection))),
            Err(error) => {
                tracing::warn!("{}: accept: {error}", port.side.label);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn one(port: Port, connection: Connection) {
    let peer = connection.peer;
    let acceptor = TlsAcceptor::from(Arc::clone(&port.side.server));
    let shaken = tokio::time::timeout(IDLE, acceptor.accept(connection.stream).into_fallible()).await;
    let mut stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, mut raw))) => {
            if let Some(why) = verdict(&error) {
                refuse(&port, peer, why);
                let mut rest = [0_u8; 1024];
                let drain = async { while raw.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
                let _ = tokio::time::timeout(FAREWELL, drain).await;
            }
            return;
        }
        Err(_) => return,
    };
    if port.addresses {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if let Some(why) = shown.and_then(|leaf| elsewhere(leaf.as_ref(), peer)) {
            refuse(&port, peer, why);
            // The handshake was whole: it closes as Go does then.
            let _ = tokio::time::timeout(FAREWELL, stream.shutdown()).await;
            return;
        }
    }
    if !port.shared.is_ours(peer.ip()) {
        port.shared.counters.outside(true);
    }
    if let Some(routes) = port.grpc.filter(|_| stream.get_ref().1.alpn_protocol() == Some(b"h2")) {
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
        drop(serving.await);
        return;
    }
    let handler = Arc::clone(&port.handler);
    let service = service_fn(move |request| answer(Arc::clone(&handler), request));
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(IDLE, serving).await;
}

/// Why a peer's certificate is none for the address that it dials from. etcd compares the addresses of the certificate,
/// then what its names resolve to; one without either is good for any.
fn elsewhere(leaf: &[u8], peer: SocketAddr) -> Option<String> {
    let leaf = Certificate::from_der(leaf).ok()?;
    let own = San::from_host(&peer.ip().to_string()).ok()?;
    let bound = leaf.sans().iter().any(|san| matches!(san, San::Ip(_) | San::Dns(_)));
    let local = |san: &San| {
        peer.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && matches!(san, San::Dns(name) if name == "localhost")
    };
    if !bound || leaf.sans().iter().any(|san| san.same(&own) || local(san)) {
        return None;
    }
    Some(format!("tls: {:?} does not match any of the addresses of `{}`", peer.ip(), leaf.subject_text()))
}

/// What our own verifier said, if it was it that ended the handshake. An alert is the client's verdict, not ours.
fn verdict(error: &io::Error) -> Option<String> {
    match TlsFailure::from(error.get_ref()?.downcast_ref::<rustls::Error>()?) {
        TlsFailure::RefusedBy(_) | TlsFailure::Io { .. } => None,
        TlsFailure::Rejected(rejection) => Some(rejection.text),
        other @ TlsFailure::Protocol(_) => Some(other.to_string()),
    }
}

/// Leaves word for the client that asks why; counts a client from outside.
fn refuse(port: &Port, peer: SocketAddr, why: String) {
    if port.shared.is_ours(peer.ip()) {
        port.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, why);
    } else {
        port.shared.counters.outside(false);
    }
}

async fn answer(handler: Handler, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body =
        Limited::new(body, MOST).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = handler(head.method.to_string(), head.uri.path().to_owned(), body).await;
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = http::HeaderValue::from_static(answer.kind);
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}
