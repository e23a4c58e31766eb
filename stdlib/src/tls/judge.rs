//! Certificate verifiers of rustls that ask [`crate::trust::verify`].

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::config::{Trust, provider};
use crate::trust::{self, Ask, Rejection, Usage};
use crate::world::Clock;

/// A rejection on its way through rustls to [`super::TlsFailure`].
#[derive(Debug, Clone)]
pub(super) struct Rejected(pub(super) Rejection);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl std::error::Error for Rejected {}

/// Our own reason goes to the caller; the peer learns no more than `certificate_unknown`.
fn refuse(rejection: Rejection) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Rejected(rejection)))))
}

struct Judge {
    trust: Trust,
    clock: Arc<dyn Clock>,
}

impl Judge {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: Usage,
        name: Option<&str>,
    ) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf)
            .chain(intermediates)
            .map(|der| CertificateDer::from(der.as_ref()))
            .collect();
        let ask = Ask { usage, name, allowed_cn: &self.trust.allowed_cn, at: self.clock.now() };
        trust::verify(self.trust.verifier, &chain, &self.trust.anchors.0, &ask).map(|_| ()).map_err(refuse)
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Judge({:?}, {} anchors)", self.trust.verifier, self.trust.anchors.0.len())
    }
}

/// A client's judgement of its server.
#[derive(Debug)]
pub(super) struct ServerJudge(Judge);

impl ServerJudge {
    pub(super) fn new(trust: Trust, clock: Arc<dyn Clock>) -> Self {
        Self(Judge { trust, clock })
    }
}

/// A server's judgement of its client, which must show a certificate or may.
#[derive(Debug)]
pub(super) struct ClientJudge(Judge, bool);

impl ClientJudge {
    pub(super) fn new(trust: Trust, clock: Arc<dyn Clock>) -> Self {
        Self(Judge { trust, clock }, true)
    }

    pub(super) fn if_given(trust: Trust, clock: Arc<dyn Clock>) -> Self {
        Self(Judge { trust, clock }, false)
    }
}

pub(super) fn tls12(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

pub(super) fn tls13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

pub(super) fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

/// What every verifier does alike: the peer must have the key of what it shows.
macro_rules! proven_keys {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
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
    };
}

impl ServerCertVerifier for ServerJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.judge(end_entity, intermediates, Usage::Server, Some(&server_name.to_str()))?;
        Ok(ServerCertVerified::assertion())
    }

    proven_keys!();
}

impl ClientCertVerifier for ClientJudge {
    fn client_auth_mandatory(&self) -> bool {
        self.1
    }

    /// No hints: a client that has a certificate shows it, and is refused with a reason instead of showing none.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.judge(end_entity, intermediates, Usage::Client, None)?;
        Ok(ClientCertVerified::assertion())
    }

    proven_keys!();
}

/// Takes whatever a server shows, if it proves that it has the key; what it shows is judged afterwards.
#[derive(Debug)]
pub(super) struct Unjudged;

impl ServerCertVerifier for Unjudged {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    proven_keys!();
}
