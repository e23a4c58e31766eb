//! What DER says, read once.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::{BasicConstraints, Extension};
use super::san::San;
use super::usage::{ExtUsage, KeyUsage};
use super::{constraints, name, verify};
use crate::error::PrimError;

/// What a certificate says.
pub(super) struct Inner {
    pub(super) der: CertificateDer<'static>,
    pub(super) version: u32,
    pub(super) serial: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) issuer_text: String,
    pub(super) subject: Vec<u8>,
    pub(super) subject_text: String,
    pub(super) common_names: Vec<String>,
    pub(super) organizations: Vec<String>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
    pub(super) spki: Vec<u8>,
    pub(super) key_bits: Vec<u8>,
    pub(super) key_text: String,
    pub(super) signature_oid: String,
    pub(super) basic: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) ext_usage: Option<Vec<ExtUsage>>,
    pub(super) sans: Vec<San>,
    pub(super) skid: Option<Vec<u8>>,
    pub(super) akid: Option<Vec<u8>>,
    pub(super) others: Vec<Extension>,
    pub(super) constraints: Vec<String>,
}

/// Reads DER; the bytes themselves are the caller's to add.
pub(super) fn read(der: &[u8]) -> Result<Inner, PrimError> {
    let malformed = |why: String| {
        PrimError::invalid("is no well-formed certificate")
            .expected("the DER of an X.509 certificate", why)
            .hint("it was damaged or cut: copy it again from where it came")
    };
    let (rest, x509) = X509Certificate::from_der(der).map_err(|_| malformed("broken DER".into()))?;
    if !rest.is_empty() {
        return Err(malformed(format!("{} bytes behind its end", rest.len())));
    }
    let tbs = &x509.tbs_certificate;
    let mut inner = Inner {
        der: CertificateDer::from(Vec::new()),
        version: tbs.version.0 + 1,
        serial: tbs.raw_serial().to_vec(),
        issuer: tbs.issuer.as_raw().to_vec(),
        issuer_text: name::text(&tbs.issuer),
        subject: tbs.subject.as_raw().to_vec(),
        subject_text: name::text(&tbs.subject),
        common_names: strings(tbs.subject.iter_common_name()),
        organizations: strings(tbs.subject.iter_organization()),
        not_before: tbs.validity.not_before.to_datetime(),
        not_after: tbs.validity.not_after.to_datetime(),
        spki: tbs.subject_pki.raw.to_vec(),
        key_bits: tbs.subject_pki.subject_public_key.data.to_vec(),
        key_text: verify::key_name(&tbs.subject_pki),
        signature_oid: x509.signature_algorithm.algorithm.to_id_string(),
        basic: None,
        key_usage: None,
        ext_usage: None,
        sans: Vec::new(),
        skid: None,
        akid: None,
        others: Vec::new(),
        constraints: Vec::new(),
    };
    for extension in tbs.extensions() {
        let own = match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => {
                inner.basic = Some(BasicConstraints { ca: basic.ca, path_len: basic.path_len_constraint });
                true
            }
            ParsedExtension::KeyUsage(usage) => {
                inner.key_usage = Some(KeyUsage(usage.flags));
                true
            }
            ParsedExtension::ExtendedKeyUsage(_) => {
                let usages = ExtUsage::from_extension(extension.value);
                inner.ext_usage = Some(usages.ok_or_else(|| malformed("broken extended key usages".into()))?);
                true
            }
            ParsedExtension::SubjectAlternativeName(_) => {
                inner.sans = San::from_extension(extension.value)
                    .map_err(|e| malformed(format!("subject alternative names with {}", e.message)))?;
                true
            }
            ParsedExtension::SubjectKeyIdentifier(id) => {
                inner.skid = Some(id.0.to_vec());
                true
            }
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                inner.akid = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                true
            }
            ParsedExtension::NameConstraints(constraints) => {
                inner.constraints = constraints::texts(constraints);
                false
            }
            ParsedExtension::ParseError { .. } => {
                return Err(malformed(format!("a broken extension {}", extension.oid.to_id_string())));
            }
            _ => false,
        };
        if !own {
            inner.others.push((extension.oid.to_id_string(), extension.critical, extension.value.to_vec()));
        }
    }
    Ok(inner)
}

fn strings<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes.map(|a| a.as_str().map_or_else(|_| hex::encode(a.as_slice()), str::to_owned)).collect()
}
