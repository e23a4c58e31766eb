//! Looking at what an endpoint serves, without judging it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::TlsFailure;
use super::config::{Time, internal, provider};
use super::handshake::{server_name, version};
use super::judge::{schemes, tls12, tls13};
use crate::error::PrimError;
use crate::trust::Certs;
use crate::world::{Clock, Stream};

/// What an endpoint shows to a client that presents no certificate.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The chain served, leaf first.
    pub chain: Certs,
    /// `TLSv1.2` or `TLSv1.3`, also where the server then refuses a client without a certificate.
    pub protocol: String,
    /// Whether the server asks for a client certificate.
    pub asks_client: bool,
}

#[derive(Default)]
struct Seen {
    chain: Mutex<Option<Certs>>,
    asked: AtomicBool,
    tls12: AtomicBool,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain =
            std::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = Some(Certs(chain));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12.store(true, Ordering::Relaxed);
        tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ResolvesClientCert for Seen {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Shakes hands without a client certificate and reports what the server showed; that it may then refuse us for lack of
/// one is no failure.
///
/// # Errors
/// No certificate was shown; or TLS cannot be set up, as [`TlsFailure::Protocol`].
pub async fn observe(
    stream: Box<dyn Stream>,
    name: &str,
    within: Duration,
    clock: Arc<dyn Clock>,
) -> Result<Observed, TlsFailure> {
    let server = server_name(name)?;
    let seen = Arc::new(Seen::default());
    let config = config(&seen, Arc::clone(&clock)).map_err(|error| TlsFailure::Protocol(error.message))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(server, stream);
    let outcome = tokio::select! {
        biased;
        connected = connecting => connected,
        () = clock.sleep(within) => return Err(TlsFailure::Io {
            kind: std::io::ErrorKind::TimedOut,
            text: "timed out".into(),
        }),
    };
    let chain = seen.chain.lock().unwrap_or_else(PoisonError::into_inner).take();
    let shaken = if seen.tls12.load(Ordering::Relaxed) { "TLSv1.2" } else { "TLSv1.3" };
    let protocol = match &outcome {
        Ok(stream) => version(stream.get_ref().1.protocol_version()),
        Err(_) => shaken.to_owned(),
    };
    match (chain, outcome) {
        (Some(chain), _) => Ok(Observed { chain, protocol, asks_client: seen.asked.load(Ordering::Relaxed) }),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => Err(TlsFailure::Protocol("the server showed no certificate".into())),
    }
}

fn config(seen: &Arc<Seen>, clock: Arc<dyn Clock>) -> Result<ClientConfig, PrimError> {
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<Seen>::clone(seen);
    let resolver: Arc<dyn ResolvesClientCert> = Arc::<Seen>::clone(seen);
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_safe_default_protocol_versions()
        .map_err(internal)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    config.resumption = Resumption::disabled();
    Ok(config)
}
