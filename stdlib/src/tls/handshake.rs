//! One handshake, to the end: a client counts as accepted only when its server has judged it.
//!
//! In TLS 1.3 a client finishes before the server has looked at its certificate, so a finished handshake proves nothing.
//! A server of ours therefore writes [`GREETING`] when it has accepted, and then waits for the client to close; from a
//! server that is not ours, silence without an alert for a while counts as acceptance, unless it can be asked something.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::judge::Rejected;
use super::question::question;
use crate::error::{Code, PrimError};
use crate::trust::{Certs, Rejection};
use crate::world::{Clock, Stream};

/// What a server of ours writes when it has accepted its client.
pub const GREETING: u8 = b'+';

/// How a client learns that its server accepted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A byte must come within this time.
    Data(Duration),
    /// Data, or this long without an alert.
    DataOrSilence(Duration),
    /// As [`Wait::DataOrSilence`], or an orderly end of the connection: for a server that judges certificates in the
    /// handshake, by alerts, and closes afterwards for reasons of its own.
    DataSilenceOrClose(Duration),
}

/// An accepted connection, already closed.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// What the peer presented, leaf first; empty where a server asked for nothing.
    pub peer: Certs,
    /// `TLSv1.2` or `TLSv1.3`.
    pub protocol: String,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFailure {
    /// No TLS was spoken to an end: refused, reset, closed, timed out.
    Io {
        /// What the operating system says.
        kind: io::ErrorKind,
        /// In words.
        text: String,
    },
    /// We refuse the peer's certificate.
    Rejected(Rejection),
    /// The peer refuses us with this alert, e.g. `unknown_ca`.
    RefusedBy(String),
    /// The two do not speak the same protocol.
    Protocol(String),
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { text, .. } => write!(f, "no connection: {text}"),
            Self::Rejected(rejection) => write!(f, "its certificate is refused: {}", rejection.text),
            Self::RefusedBy(alert) => write!(f, "it refuses our certificate: alert `{alert}`"),
            Self::Protocol(text) => write!(f, "no common TLS: {text}"),
        }
    }
}

impl std::error::Error for TlsFailure {}

impl TlsFailure {
    /// Whether certificates were refused, by either end; other failures say nothing about trust.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::RefusedBy(_))
    }

    /// That dialling is not allowed, however often it is tried.
    pub fn forbidden(&self, object: &str) -> Option<PrimError> {
        match self {
            Self::Io { kind: io::ErrorKind::PermissionDenied, text } => {
                Some(PrimError::new(Code::Forbidden, text.clone()).on(object))
            }
            _ => None,
        }
    }

    /// Whether the server speaks none of the protocols that were offered (RFC 7301, 3.2).
    pub(crate) fn is_about_the_protocol(&self) -> bool {
        matches!(self, Self::RefusedBy(alert) if alert == "no_application_protocol")
    }

    /// Whether the line broke, as it does under a question when a server closes before it has read it: its alert is lost
    /// then, and only a connection without a question shows it.
    pub(crate) fn may_hide_an_alert(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(
            self,
            Self::Io { kind: BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof, .. }
        )
    }
}

impl From<io::Error> for TlsFailure {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => inner.into(),
            None => Self::Io { kind: error.kind(), text: error.to_string() },
        }
    }
}

impl From<&rustls::Error> for TlsFailure {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::RefusedBy(alert_name(*alert)),
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<Rejected>() {
                    Some(rejected) => Self::Rejected(rejected.0.clone()),
                    None => Self::Protocol(error.to_string()),
                }
            }
            rustls::Error::InvalidCertificate(_) => {
                Self::Rejected(Rejection { code: "bad-signature".into(), text: error.to_string() })
            }
            rustls::Error::NoCertificatesPresented => Self::Rejected(Rejection {
                code: "empty-chain".into(),
                text: "the peer presents no certificate".into(),
            }),
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// `UnknownCA` as `unknown_ca`, the way RFC 8446 and other tools spell it.
fn alert_name(alert: rustls::AlertDescription) -> String {
    let Some(name) = alert.as_str() else { return format!("alert {}", u8::from(alert)) };
    let mut text = String::new();
    let mut previous_lower = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && previous_lower {
            text.push('_');
        }
        previous_lower = letter.is_ascii_lowercase();
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn timed_out() -> TlsFailure {
    TlsFailure::Io { kind: io::ErrorKind::TimedOut, text: "timed out".into() }
}

/// A name as TLS takes it; an IPv6 address may stand in brackets.
pub(crate) fn server_name(name: &str) -> Result<ServerName<'static>, TlsFailure> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| TlsFailure::Protocol(format!("`{name}` is neither a DNS name nor an IP address")))
}

/// The chain that the peer showed.
fn shown(chain: Option<&[CertificateDer<'static>]>) -> Certs {
    Certs(chain.unwrap_or_default().to_vec())
}

/// Shakes hands as client, waits for the server's judgement, and closes. `within` bounds everything but the wait.
///
/// # Errors
/// Why there is no accepted connection.
pub async fn handshake_client(
    stream: Box<dyn Stream>,
    config: Arc<ClientConfig>,
    name: &str,
    wait: Wait,
    within: Duration,
    clock: &dyn Clock,
) -> Result<Handshake, TlsFailure> {
    shake(stream, config, name, wait, false, within, clock).await
}

/// As [`handshake_client`]; where `asks`, a server that has agreed on a protocol is asked something that each server of it
/// answers, so that who accepts says so at once.
pub(super) async fn shake(
    stream: Box<dyn Stream>,
    config: Arc<ClientConfig>,
    name: &str,
    wait: Wait,
    asks: bool,
    within: Duration,
    clock: &dyn Clock,
) -> Result<Handshake, TlsFailure> {
    let server = server_name(name)?;
    let begun = Instant::now();
    let connecting = TlsConnector::from(config).connect(server, stream);
    let mut stream = tokio::select! {
        biased;
        connected = connecting => connected?,
        () = clock.sleep(within) => return Err(timed_out()),
    };
    let peer = shown(stream.get_ref().1.peer_certificates());
    let protocol = version(stream.get_ref().1.protocol_version());
    let (patience, silence) = match wait {
        Wait::Data(patience) => (patience, false),
        // A server that is far or slow also takes long to refuse.
        Wait::DataOrSilence(patience) | Wait::DataSilenceOrClose(patience) => {
            (patience.max(begun.elapsed() * 4), true)
        }
    };
    let asked = question(stream.get_ref().1.alpn_protocol()).filter(|_| asks);
    let answer = async {
        if let Some(asked) = asked {
            // Where this fails the alert that says why may still be there to be read.
            let _ = stream.write_all(asked).await;
            let _ = stream.flush().await;
        }
        let mut byte = [0_u8; 1];
        stream.read(&mut byte).await
    };
    let read = tokio::select! {
        biased;
        read = answer => Some(read),
        () = clock.sleep(patience) => None,
    };
    match read {
        // It said goodbye in TLS, after it had judged us.
        Some(Ok(0)) if matches!(wait, Wait::DataSilenceOrClose(_)) => {}
        Some(Ok(0)) => {
            return Err(TlsFailure::Io {
                kind: io::ErrorKind::UnexpectedEof,
                text: "closed by the server after the handshake".into(),
            });
        }
        Some(Ok(_)) => {}
        Some(Err(error)) => return Err(error.into()),
        None if silence => {}
        None => return Err(timed_out()),
    }
    // Whether the goodbye arrives changes nothing.
    let goodbye = stream.shutdown();
    tokio::select! {
        biased;
        _ = goodbye => {}
        () = clock.sleep(within) => {}
    }
    Ok(Handshake { peer, protocol })
}

/// Shakes hands as server: judges the client, greets it, waits until it closes. `within` bounds the handshake and the
/// wait each.
///
/// # Errors
/// Why there is no accepted connection.
pub async fn handshake_server(
    stream: Box<dyn Stream>,
    config: Arc<ServerConfig>,
    within: Duration,
    clock: &dyn Clock,
) -> Result<Handshake, TlsFailure> {
    let mut stream = tokio::select! {
        biased;
        accepted = TlsAcceptor::from(config).accept(stream) => accepted?,
        () = clock.sleep(within) => return Err(timed_out()),
    };
    let peer = shown(stream.get_ref().1.peer_certificates());
    let protocol = version(stream.get_ref().1.protocol_version());
    let greeted = async {
        stream.write_all(&[GREETING]).await?;
        stream.flush().await?;
        let mut byte = [0_u8; 64];
        while stream.read(&mut byte).await? > 0 {}
        stream.shutdown().await
    };
    let done = tokio::select! {
        biased;
        done = greeted => done,
        () = clock.sleep(within) => Ok(()),
    };
    // In TLS 1.3 the client's alert about our certificate can arrive only now; how else it leaves does not matter.
    if let Some(failure) = done.err().map(TlsFailure::from).filter(TlsFailure::is_refusal) {
        return Err(failure);
    }
    Ok(Handshake { peer, protocol })
}

pub(super) fn version(version: Option<rustls::ProtocolVersion>) -> String {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".into(),
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".into(),
        Some(other) => format!("{other:?}"),
        None => "unknown".into(),
    }
}
