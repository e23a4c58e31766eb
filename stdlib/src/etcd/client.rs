//! Questions to one member by gRPC (the crate `etcd-client`), on a connection of our own making: over mutual TLS as Go
//! judges it, and new for each look, so that what a member says of itself is said by the process that runs now, with what
//! it has loaded.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::line::{Line, chain};
use crate::error::{Code, PrimError};
use crate::tls::config::{Identity, Trust, always, client};
use crate::trust::{Certs, Verifier};
use crate::world::{Clock, World};

/// How long one question may take, and how long dialling may.
pub(super) const WITHIN: Duration = Duration::from_secs(5);

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

/// A connection to one member.
#[derive(Clone)]
pub struct Connection {
    line: Line,
    endpoint: Endpoint,
    clock: Arc<dyn Clock>,
}

/// Dials a member.
///
/// # Errors
/// [`Code::Unavailable`] where nobody answers in time, or an end refuses the other.
pub async fn connect(world: &World, endpoint: &Endpoint, access: &Access) -> Result<Connection, PrimError> {
    let trust =
        Trust { verifier: Verifier::Go, anchors: Arc::clone(&access.anchors), allowed_cn: Vec::new() };
    let config =
        client(Some(always(access.identity.clone())), trust, Arc::clone(&world.clock), &[b"h2".as_slice()])?;
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| PrimError::argument("is no name of a server").on(endpoint.to_string()))?;
    let dialled = async {
        let stream = world
            .net
            .dial(&endpoint.host, endpoint.port)
            .await
            .map_err(|error| fail(endpoint, format!("cannot be reached: {error}")))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| fail(endpoint, format!("no TLS with it: {}", chain(&error))))?;
        let line =
            Line::over(stream, &endpoint.to_string()).await.map_err(|error| broke(endpoint, &error))?;
        Ok(Connection { line, endpoint: endpoint.clone(), clock: Arc::clone(&world.clock) })
    };
    within(&*world.clock, endpoint, WITHIN, dialled).await
}

impl Connection {
    /// What asks; its questions are for [`Self::ask`].
    pub fn client(&self) -> Client {
        self.line.client()
    }

    /// The answer to a question of [`Self::client`].
    ///
    /// # Errors
    /// [`Code::Unavailable`] where it does not answer in time, refuses our certificate, or says that it cannot.
    pub async fn ask<T>(&self, question: impl Future<Output = Result<T, Error>>) -> Result<T, PrimError> {
        self.ask_within(WITHIN, question).await
    }

    /// The same, with more or less patience.
    pub(super) async fn ask_within<T>(
        &self,
        patience: Duration,
        question: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, PrimError> {
        let answer = async {
            self.line.ask(question).await.map_err(|error| broke(&self.endpoint, &error))?.map_err(|status| {
                fail(&self.endpoint, format!("it answers {:?}: {}", status.code(), status.message()))
            })
        };
        within(&*self.clock, &self.endpoint, patience, answer).await
    }
}

/// What a line that broke says of the other end.
fn broke(endpoint: &Endpoint, error: &std::io::Error) -> PrimError {
    let why = chain(error);
    // In TLS 1.3 a server judges its client after the client is through.
    let refused = why.contains("alert") || why.contains("certificate");
    fail(
        endpoint,
        if refused { format!("it refuses our certificate: {why}") } else { format!("it hung up: {why}") },
    )
}

async fn within<T>(
    clock: &dyn Clock,
    endpoint: &Endpoint,
    patience: Duration,
    work: impl Future<Output = Result<T, PrimError>>,
) -> Result<T, PrimError> {
    tokio::select! {
        answer = work => answer,
        () = clock.sleep(patience) => Err(fail(endpoint, "it does not answer")),
    }
}

pub(super) fn fail(endpoint: &Endpoint, message: impl Into<String>) -> PrimError {
    PrimError::new(Code::Unavailable, message).on(format!("etcd {endpoint}"))
}
