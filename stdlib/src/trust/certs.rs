//! Public certificates as they cross JSON: one PEM text, in order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Certificates in the order served or stored. Public; as JSON one PEM text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Certs(pub Vec<CertificateDer<'static>>);

impl Certs {
    /// The PEM text, each block ending in a newline.
    pub fn pem(&self) -> String {
        let mut text = String::new();
        for der in &self.0 {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let body = STANDARD.encode(der);
            let mut rest = body.as_str();
            while !rest.is_empty() {
                let (line, tail) = rest.split_at(rest.len().min(64));
                text.push_str(line);
                text.push('\n');
                rest = tail;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }

    /// Reads every certificate of a PEM text.
    ///
    /// # Errors
    /// A block is malformed.
    pub fn from_pem(text: &str) -> Result<Self, rustls_pki_types::pem::Error> {
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map(Self)
    }
}

impl Serialize for Certs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.pem())
    }
}

impl<'de> Deserialize<'de> for Certs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_pem(&text).map_err(serde::de::Error::custom)
    }
}
