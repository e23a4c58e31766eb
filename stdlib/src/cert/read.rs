//! What DER says, read once.

use std::sync::OnceLock;

use rustls_pki_types::CertificateDer;
use time::{OffsetDateTime, UtcOffset};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate, X509Name};

use super::certificate::{BasicConstraints, Extension};
use super::san::San;
use super::usage::{ExtUsage, KeyUsage};
use super::{Template, constraints, name, verify};
use crate::error::PrimError;

/// What a certificate says.
#[derive(Debug, PartialEq)]
pub(super) struct Inner {
    pub(super) der: CertificateDer<'static>,
    pub(super) version: u32,
    pub(super) serial: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
    pub(super) spki: Vec<u8>,
    pub(super) key_bits: Vec<u8>,
    pub(super) signature_oid: String,
    pub(super) basic: Option<BasicConstraints>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) ext_usage: Option<Vec<ExtUsage>>,
    pub(super) sans: Vec<San>,
    pub(super) skid: Option<Vec<u8>>,
    pub(super) akid: Option<Vec<u8>>,
    pub(super) others: Vec<Extension>,
    pub(super) constraints: Vec<String>,
    pub(super) words: OnceLock<Words>,
}

/// What is told to people, found when it is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Words {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) common_names: Vec<String>,
    pub(super) organizations: Vec<String>,
    pub(super) key: String,
}

impl Inner {
    pub(super) fn words(&self) -> &Words {
        self.words.get_or_init(|| {
            // They were read before, as parts of the certificate.
            let name = |der| X509Name::from_der(der).map(|(_, name)| name).ok();
            let text =
                |der| name(der).map_or_else(|| format!("#{}", hex::encode(der)), |name| name::text(&name));
            let subject = name(&self.subject);
            let key = SubjectPublicKeyInfo::from_der(&self.spki).map(|(_, spki)| verify::key_name(&spki));
            Words {
                issuer: text(&self.issuer),
                subject: text(&self.subject),
                common_names: subject
                    .as_ref()
                    .map(|name| strings(name.iter_common_name()))
                    .unwrap_or_default(),
                organizations: subject
                    .as_ref()
                    .map(|name| strings(name.iter_organization()))
                    .unwrap_or_default(),
                key: key.unwrap_or_default(),
            }
        })
    }
}

/// What [`read`] would find in a certificate that was just made, without reading it: that costs as much as half of a
/// signature. Builds with checks read it all the same, and compare.
pub(super) fn made(template: Template, der: Vec<u8>, how: How) -> Result<Inner, PrimError> {
    let plain = template.extra.is_empty() && template.sans.iter().all(|san| !matches!(san, San::Other(_)));
    if !plain {
        return Ok(Inner { der: CertificateDer::from(der.clone()), ..read(&der)? });
    }
    let whole = |at: OffsetDateTime| at.to_offset(UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
    let made = Inner {
        version: 3,
        serial: how.serial,
        issuer: how.issuer,
        subject: template.subject,
        not_before: whole(template.not_before),
        not_after: whole(template.not_after),
        spki: template.spki,
        key_bits: how.key_bits,
        signature_oid: how.signature_oid.to_owned(),
        basic: template
            .basic
            .map(|basic| if basic.ca { basic } else { BasicConstraints { path_len: None, ..basic } }),
        key_usage: template.key_usage.filter(|usage| usage.0 != 0),
        ext_usage: Some(template.ext_usage).filter(|usages| !usages.is_empty()),
        sans: template.sans,
        skid: how.skid,
        akid: how.akid,
        others: Vec::new(),
        constraints: Vec::new(),
        words: OnceLock::new(),
        der: CertificateDer::from(der),
    };
    #[cfg(debug_assertions)]
    {
        let read = Inner { der: made.der.clone(), ..read(&made.der)? };
        debug_assert_eq!(made, read, "a certificate is not what was asked for");
    }
    Ok(made)
}

/// What a certificate says beside its template, whose names are in order.
pub(super) struct How {
    pub(super) serial: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    pub(super) key_bits: Vec<u8>,
    pub(super) signature_oid: &'static str,
    pub(super) skid: Option<Vec<u8>>,
    pub(super) akid: Option<Vec<u8>>,
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
        subject: tbs.subject.as_raw().to_vec(),
        not_before: tbs.validity.not_before.to_datetime(),
        not_after: tbs.validity.not_after.to_datetime(),
        spki: tbs.subject_pki.raw.to_vec(),
        key_bits: tbs.subject_pki.subject_public_key.data.to_vec(),
        signature_oid: x509.signature_algorithm.algorithm.to_id_string(),
        basic: None,
        key_usage: None,
        ext_usage: None,
        sans: Vec::new(),
        skid: None,
        akid: None,
        others: Vec::new(),
        constraints: Vec::new(),
        words: OnceLock::new(),
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
