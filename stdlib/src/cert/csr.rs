//! Certificate signing requests (PKCS#10): read, with proof that the sender has the key, and made.

use sha2::{Digest as _, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

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
            (Some(only), None) => Self::from_der(&only.der).map_err(|error| error.on(what)),
            (Some(_), Some(_)) => {
                Err(PrimError::invalid("holds several signing requests").on(what).expected("one", "several"))
            }
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
            PrimError::invalid(format!("is no well-formed signing request: {why}"))
                .hint("it was damaged or cut: copy it again from where it came")
        };
        let (rest, csr) =
            X509CertificationRequest::from_der(request).map_err(|_| broken("its DER is broken"))?;
        if !rest.is_empty() {
            return Err(broken("bytes follow its end"));
        }
        let info = &csr.certification_request_info;
        verify::check(
            info.subject_pki.raw,
            &csr.signature_algorithm.algorithm.to_id_string(),
            csr.signature_algorithm.parameters.as_ref().map(|p| p.data).unwrap_or_default(),
            info.raw,
            &csr.signature_value.data,
        )
        .map_err(|error| error.hint("who sent it does not have the key: let it be made again"))?;
        let mut sans = Vec::new();
        for extension in csr.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        sans.push(San::from_general_name(name).map_err(|error| broken(&error.message))?);
                    }
                }
                ParsedExtension::ParseError { .. } => return Err(broken("a requested extension is broken")),
                _ => {}
            }
        }
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            subject_text: name::text(&info.subject),
            spki: info.subject_pki.raw.to_vec(),
            key_text: verify::key_name(&info.subject_pki),
            sans,
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
