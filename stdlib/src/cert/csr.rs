//! Certificate signing requests (PKCS#10): read, with proof that the sender has the key, and made.

use sha2::{Digest as _, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer as _;

use super::certificate::MAX_DER;
use super::template::{basic_constraints, extension};
use super::{BasicConstraints, Key, San, der, name, pem, verify};
use crate::error::PrimError;

/// A signing request whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    /// The subject's name, DER.
    pub subject: Vec<u8>,
    /// The subject's name for people.
    pub subject_text: String,
    /// The public key, DER.
    pub spki: Vec<u8>,
    /// The kind of key, as `ecdsa 256`.
    pub key_text: String,
    /// The names that it asks for.
    pub sans: Vec<San>,
    /// Whether it asks to be an authority.
    pub ca: bool,
}

/// The extensions of all attributes that ask for some.
fn requested<'a>(csr: &'a X509CertificationRequest<'a>) -> impl Iterator<Item = &'a X509Extension<'a>> {
    csr.certification_request_info.iter_attributes().flat_map(|attribute| {
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => request.extensions.as_slice(),
            _ => &[],
        }
    })
}

impl SigningRequest {
    /// `spki:HEX`, the SHA-256 of the public key, as keys and certificates give it.
    pub fn spki_fingerprint(&self) -> String {
        format!("spki:{}", hex::encode(Sha256::digest(&self.spki)))
    }

    /// Reads the one request of a PEM text.
    ///
    /// # Errors
    /// None, several, a damaged one, or one that was not signed by its own key.
    pub fn from_pem(text: &[u8], what: &str) -> Result<Self, PrimError> {
        let blocks = pem::scan(text, what)?.blocks;
        let mut requests = blocks.iter().filter(|block| block.label.ends_with("CERTIFICATE REQUEST"));
        match (requests.next(), requests.next()) {
            (Some(only), None) => Self::from_der(&only.der).map_err(|error| PrimError {
                message: format!("line {}: {}", only.line, error.message),
                object: what.to_owned(),
                ..error
            }),
            (Some(_), Some(_)) => Err(PrimError::invalid("holds several signing requests")
                .on(what)
                .expected("one", "several")
                .hint("bring each in a file of its own")),
            (None, _) => {
                let found =
                    blocks.first().map_or("no PEM block".into(), |b| format!("a block `{}`", b.label));
                Err(PrimError::invalid("holds no signing request")
                    .on(what)
                    .expected("`-----BEGIN CERTIFICATE REQUEST-----`", found)
                    .hint("name the `.csr` file that cfssljson or openssl wrote"))
            }
        }
    }

    /// Reads DER.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_der(request: &[u8]) -> Result<Self, PrimError> {
        let broken = |why: &str| {
            PrimError::invalid("is no well-formed signing request")
                .expected("the DER of a PKCS#10 request", why)
                .hint("it was damaged or cut: copy it again from where it came")
        };
        if request.len() > MAX_DER {
            return Err(PrimError::invalid("is too large to be a signing request")
                .expected(format!("at most {MAX_DER} bytes"), format!("{} bytes", request.len()))
                .hint("ask for fewer names: no handshake carries a certificate of this size"));
        }
        let (rest, csr) = X509CertificationRequest::from_der(request).map_err(|_| broken("broken DER"))?;
        if !rest.is_empty() {
            return Err(broken("bytes behind its end"));
        }
        let info = &csr.certification_request_info;
        verify::check(
            info.subject_pki.raw,
            &csr.signature_algorithm.algorithm.to_id_string(),
            csr.signature_algorithm.parameters.as_ref().map(|p| p.data).unwrap_or_default(),
            info.raw,
            &csr.signature_value.data,
        )
        .map_err(|error| {
            error
                .expected("a signature by the key that it asks a certificate for", "another's")
                .hint("who sent it does not have the key: let it be made again")
        })?;
        let mut sans = Vec::new();
        let mut ca = false;
        for extension in requested(&csr) {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(_) => {
                    sans.extend(
                        San::from_extension(extension.value).map_err(|error| broken(&error.message))?,
                    );
                }
                ParsedExtension::BasicConstraints(basic) => ca = basic.ca,
                ParsedExtension::ParseError { .. } => return Err(broken("a broken extension")),
                _ => {}
            }
        }
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            subject_text: name::text(&info.subject),
            spki: info.subject_pki.raw.to_vec(),
            key_text: verify::key_name(&info.subject_pki),
            sans,
            ca,
        })
    }

    /// Makes a request, PEM.
    ///
    /// # Errors
    /// Something cannot be encoded.
    pub fn create(subject: &[u8], sans: &[San], key: &Key) -> Result<String, PrimError> {
        Self::create_for(subject, sans, None, key)
    }

    /// As [`Self::create`], asking for basic constraints too, where an authority wants to be certified.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_for(
        subject: &[u8],
        sans: &[San],
        basic: Option<BasicConstraints>,
        key: &Key,
    ) -> Result<String, PrimError> {
        let mut asked = Vec::new();
        if !sans.is_empty() {
            asked.push(extension("2.5.29.17", false, &San::extension(sans)?)?);
        }
        if let Some(basic) = basic {
            asked.push(basic_constraints(basic)?);
        }
        let attributes = if asked.is_empty() {
            Vec::new()
        } else {
            let extensions = der::seq(&asked.iter().map(Vec::as_slice).collect::<Vec<_>>());
            der::seq(&[&der::oid("1.2.840.113549.1.9.14")?, &der::set_of(vec![extensions])])
        };
        let info = der::seq(&[&der::unsigned(&[0]), subject, key.spki(), &der::context(0, &attributes)]);
        let signature = key.sign(&info)?;
        let request = der::seq(&[&info, &key.signature_algorithm()?, &der::bits(&signature)]);
        Ok(pem::encode("CERTIFICATE REQUEST", &request))
    }
}
