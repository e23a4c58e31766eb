//! Configurations of rustls for the two ends of a link.
//!
//! The cryptography is aws-lc-rs, given explicitly; nothing depends on a process-wide default. No session is ever
//! resumed, so every connection is judged anew. The identity is asked for once a connection: what reloads what is the
//! caller's affair.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::judge::{ClientJudge, ServerJudge, Unjudged};
use crate::cert::Key;
use crate::error::PrimError;
use crate::secret::Secret;
use crate::trust::{Certs, Verifier, describe};
use crate::world::Clock;

/// A chain with its private key, ready for handshakes. Cheap to clone.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<CertifiedKey>);

impl Identity {
    /// Joins a chain, leaf first, and its private key (PEM: PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// The chain is empty or malformed, the key cannot be read, or it is not the key of the leaf.
    pub fn new(chain: &Certs, key: &Secret) -> Result<Self, PrimError> {
        let key = Key::from_secret(key)?;
        let der = PrivateKeyDer::try_from(key.to_pkcs8()?.as_slice().to_vec())
            .map_err(|error| PrimError::internal(format!("a key was encoded wrongly: {error}")))?;
        if chain.0.is_empty() {
            return Err(PrimError::invalid("an identity needs at least one certificate"));
        }
        CertifiedKey::from_der(chain.0.clone(), der, &provider()).map(|key| Self(Arc::new(key))).map_err(
            |error| {
                let subject = chain.0.first().map(|leaf| describe(leaf).subject).unwrap_or_default();
                PrimError::invalid(format!(
                    "the private key does not fit the certificate `{subject}`: {error}"
                ))
            },
        )
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.cert.first() {
            Some(leaf) => write!(f, "Identity({})", describe(leaf).fingerprint),
            None => write!(f, "Identity(empty)"),
        }
    }
}

/// Gives the identity for one connection; `None` when there is none to show (a server then fails the handshake).
pub type Identities = Arc<dyn Fn() -> Option<Identity> + Send + Sync>;

/// The same identity for every connection.
pub fn always(identity: Identity) -> Identities {
    Arc::new(move || Some(identity.clone()))
}

/// Whom one end of a link accepts.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Whose rules it judges by.
    pub verifier: Verifier,
    /// What it has loaded.
    pub anchors: Arc<Certs>,
    /// Common names that the peer's leaf may have; empty allows all.
    pub allowed_cn: Vec<String>,
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// A server. With `trust` it demands a client certificate and judges it; without, it asks for none.
///
/// # Errors
/// The provider offers no protocol version: a bug of ours.
pub fn server(
    identities: Identities,
    trust: Option<Trust>,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, PrimError> {
    let judge = trust.map(|trust| ClientJudge::new(trust, Arc::clone(&clock)));
    server_with(judge, identities, clock, alpn)
}

/// A server that judges a client's certificate where it shows one, as Go's `VerifyClientCertIfGiven` does.
///
/// # Errors
/// As [`server`].
pub fn server_if_given(
    identities: Identities,
    trust: Trust,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, PrimError> {
    let judge = ClientJudge::if_given(trust, Arc::clone(&clock));
    server_with(Some(judge), identities, clock, &[])
}

fn server_with(
    judge: Option<ClientJudge>,
    identities: Identities,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, PrimError> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_safe_default_protocol_versions()
        .map_err(internal)?;
    let builder = match judge {
        Some(judge) => builder.with_client_cert_verifier(Arc::new(judge)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver(identities)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// A client. Without identities it presents no certificate.
///
/// # Errors
/// The provider offers no protocol version: a bug of ours.
pub fn client(
    identities: Option<Identities>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, PrimError> {
    let judge = Arc::new(ServerJudge::new(trust, Arc::clone(&clock)));
    client_with(judge, identities, clock, alpn)
}

/// A client that takes whatever a server shows, for those who look first and judge then.
///
/// # Errors
/// As [`client`].
pub fn unjudging_client(
    identities: Option<Identities>,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, PrimError> {
    client_with(Arc::new(Unjudged), identities, clock, alpn)
}

fn client_with(
    judge: Arc<dyn ServerCertVerifier>,
    identities: Option<Identities>,
    clock: Arc<dyn Clock>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, PrimError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(judge);
    let mut config = match identities {
        Some(identities) => builder.with_client_cert_resolver(Arc::new(Resolver(identities))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

pub(super) fn internal(error: rustls::Error) -> PrimError {
    PrimError::internal(format!("TLS cannot be set up: {error}"))
}

/// rustls' view of our clock.
pub(super) struct Time(pub(super) Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix_timestamp()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

struct Resolver(Identities);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (self.0)().map(|identity| identity.0)
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        (self.0)().map(|identity| identity.0)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
