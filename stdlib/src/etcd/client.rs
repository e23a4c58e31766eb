//! One question to one member over mutual TLS, on a connection of its own: what a member says of itself is said by the
//! process that runs now, with what it has loaded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::error::{Code, PrimError};
use crate::tls::config::{Identity, Trust, always, client};
use crate::trust::{Certs, Verifier};
use crate::world::World;

/// How long one question may take, dialling included.
pub(super) const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer, a snapshot's chunks apart.
const MOST: usize = 4 << 20;

/// As whom members are asked, and whom we trust.
#[derive(Clone)]
pub struct Access {
    /// The certificate and key to show.
    pub identity: Identity,
    /// The anchors that members' certificates must verify against.
    pub anchors: Arc<Certs>,
}

/// Where a member listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port`, with `https://` before it or not.
    ///
    /// # Errors
    /// It is neither.
    pub fn of(text: &str) -> Result<Self, PrimError> {
        let wrong = || {
            PrimError::argument("an endpoint is no `host:port`")
                .expected("e.g. `10.0.0.1:2379`", format!("`{text}`"))
        };
        if text.starts_with("http://") {
            return Err(wrong().hint("a member that speaks plain HTTP has no certificates to rotate"));
        }
        let text = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() { Err(wrong()) } else { Ok(Self { host, port }) }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Everything that an error says, causes included, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// Asks the gateway: `POST` with a body, `GET` without.
///
/// # Errors
/// [`Code::Unavailable`] where nobody answers in time, an end refuses the other, or the member says that it cannot;
/// [`Code::NotFound`] where it has no such path.
pub async fn ask(
    world: &World,
    endpoint: &Endpoint,
    access: &Access,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, PrimError> {
    let work = async {
        let (status, answer) = open(world, endpoint, access, path, body).await?;
        let bytes = http_body_util::Limited::new(answer, MOST)
            .collect()
            .await
            .map_err(|error| fail(endpoint, format!("its answer broke off: {error}")))?
            .to_bytes();
        read(endpoint, status, &bytes)
    };
    tokio::select! {
        answer = work => answer,
        () = world.clock.sleep(WITHIN) => Err(fail(endpoint, "it does not answer")),
    }
}

pub(super) fn fail(endpoint: &Endpoint, message: impl Into<String>) -> PrimError {
    PrimError::new(Code::Unavailable, message).on(format!("etcd {endpoint}"))
}

fn read(endpoint: &Endpoint, status: u16, bytes: &[u8]) -> Result<Value, PrimError> {
    let value: Value = serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).chars().take(200).collect()));
    if status == 200 {
        return Ok(value);
    }
    let said = value.get("error").or_else(|| value.get("message")).and_then(Value::as_str);
    let said = said.map_or_else(|| value.to_string(), str::to_owned);
    let error = fail(endpoint, format!("it answers {status}: {said}"));
    Err(if status == 404 { PrimError { code: Code::NotFound, ..error } } else { error })
}

/// Sends a question; the answer's body is still to be read.
pub(super) async fn open(
    world: &World,
    endpoint: &Endpoint,
    access: &Access,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Incoming), PrimError> {
    let trust =
        Trust { verifier: Verifier::Go, anchors: Arc::clone(&access.anchors), allowed_cn: Vec::new() };
    let config = client(
        Some(always(access.identity.clone())),
        trust,
        Arc::clone(&world.clock),
        &[b"http/1.1".as_slice()],
    )?;
    let stream = world
        .net
        .dial(&endpoint.host, endpoint.port)
        .await
        .map_err(|error| fail(endpoint, format!("cannot be reached: {error}")))?;
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| PrimError::argument("is no name of a server").on(endpoint.to_string()))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| fail(endpoint, format!("no TLS with it: {}", chain(&error))))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| fail(endpoint, format!("no HTTP with it: {}", chain(&error))))?;
    // It ends with the answer, or when the answer is dropped.
    tokio::spawn(connection);
    let bytes = body.map(ToString::to_string).unwrap_or_default();
    let request = http::Request::builder()
        .method(if body.is_some() { "POST" } else { "GET" })
        .uri(path)
        .header("host", endpoint.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(bytes)))
        .map_err(|error| PrimError::internal(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| {
        // In TLS 1.3 a server judges its client after the client is through.
        let why = chain(&error);
        let refused = why.contains("alert") || why.contains("certificate");
        fail(
            endpoint,
            if refused { format!("it refuses our certificate: {why}") } else { format!("it hung up: {why}") },
        )
    })?;
    Ok((answer.status().as_u16(), answer.into_body()))
}
