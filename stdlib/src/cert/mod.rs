//! Certificates: reading, making, verifying. No IO but in `calls`, which reads the files that scripts name.

mod calls;
mod certificate;
mod constraints;
mod csr;
pub(crate) mod der;
mod describe;
mod key;
mod key_kind;
pub mod name;
mod opinion;
pub mod pem;
mod primitives;
mod read;
mod san;
mod sealed;
mod template;
pub mod usage;
mod verify;

pub use calls::opinions_value;
pub(crate) use calls::passphrase_of_options;
pub use certificate::{BasicConstraints, Certificate, Extension};
pub use csr::SigningRequest;
pub use describe::{describe, describe_request};
pub use key::Key;
pub(crate) use key_kind::check_rsa_size;
pub use key_kind::{KeyKind, RSA_SIZES};
pub use opinion::{Opinion, Question, differences, names_of, opinions, who};
pub(crate) use primitives::moment;
pub use primitives::{PRIMITIVES, time_of};
pub use san::San;
pub use sealed::passphrase;
pub use template::{Issuer, KeyId, Template};
use time::OffsetDateTime;
pub use usage::{ExtUsage, KeyUsage};

use crate::error::PrimError;

/// Certificates read from one text, with what was repaired in reading.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// In order.
    pub certificates: Vec<Certificate>,
    /// What other readers would trip over, with line numbers; e.g. a newline that is missing between two blocks.
    pub notes: Vec<String>,
}

/// Reads every certificate of a PEM text; `what` names the text in errors.
///
/// # Errors
/// No certificate, a malformed one (the error names its position), or a private key among them.
pub fn parse_many(text: &[u8], what: &str) -> Result<Vec<Certificate>, PrimError> {
    parse(text, what).map(|parsed| parsed.certificates)
}

/// As [`parse_many`], with what was repaired in reading.
///
/// # Errors
/// As [`parse_many`].
pub fn parse(text: &[u8], what: &str) -> Result<Parsed, PrimError> {
    let pem::Scan { blocks, mut notes } = pem::scan(text, what)?;
    let mut certificates = Vec::with_capacity(blocks.len());
    for block in blocks {
        let line = block.line;
        match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                let number = certificates.len() + 1;
                let certificate = Certificate::from_der(block.der.to_vec()).map_err(|error| PrimError {
                    message: format!("certificate {number} (line {line}) {}", error.message),
                    object: what.to_owned(),
                    ..error
                })?;
                certificates.push(certificate);
            }
            label if label.ends_with("PRIVATE KEY") => {
                return Err(PrimError::invalid(format!(
                    "line {line}: a private key stands among the certificates"
                ))
                .on(what)
                .expected("certificates alone", format!("`{label}`"))
                .hint("take it out: a file of certificates may be read by anybody"));
            }
            "TRUSTED CERTIFICATE" => {
                return Err(PrimError::invalid(format!(
                    "line {line}: a certificate in OpenSSL's own trusted format"
                ))
                .on(what)
                .expected("`CERTIFICATE`", "`TRUSTED CERTIFICATE`")
                .hint("convert it: `openssl x509 -in OLD -out NEW`"));
            }
            label => {
                notes.push(format!("line {line}: a block `{label}`, which is no certificate, was left out"));
            }
        }
    }
    if certificates.is_empty() {
        let found = if text.is_empty() {
            "an empty text"
        } else if text.contains(&0) {
            "binary data"
        } else {
            "none"
        };
        return Err(PrimError::invalid("holds no certificate")
            .on(what)
            .expected("PEM, `-----BEGIN CERTIFICATE-----`", found)
            .hint(if found == "binary data" {
                "convert it: `openssl x509 -inform der -in OLD -out NEW`"
            } else {
                "name a PEM file of certificates"
            }));
    }
    Ok(Parsed { certificates, notes })
}

/// Reads certificates from a file's bytes, PEM or DER.
///
/// # Errors
/// As [`parse`].
pub fn parse_any(bytes: &[u8], what: &str) -> Result<Parsed, PrimError> {
    // A DER certificate is a SEQUENCE whose length takes more than one octet; no text begins so.
    if matches!(bytes, [0x30, 0x80..=0xff, ..]) {
        let only = Certificate::from_der(bytes).map_err(|error| error.on(what))?;
        return Ok(Parsed { certificates: vec![only], notes: Vec::new() });
    }
    parse(bytes, what)
}

/// `2036-11-19T06:18:00Z`.
pub fn date(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(at);
    at.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| at.unix_timestamp().to_string())
}
