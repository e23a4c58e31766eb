//! Key usages and extended key usages, by every name that cfssl knows.

use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{FromDer as _, Oid};

use super::der::{Writer, Written};
use crate::error::PrimError;

/// The key usage extension: a set of named bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct KeyUsage(pub u16);

impl KeyUsage {
    /// digitalSignature.
    pub const DIGITAL_SIGNATURE: Self = Self(1);
    /// contentCommitment, once nonRepudiation.
    pub const CONTENT_COMMITMENT: Self = Self(1 << 1);
    /// keyEncipherment.
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// dataEncipherment.
    pub const DATA_ENCIPHERMENT: Self = Self(1 << 3);
    /// keyAgreement.
    pub const KEY_AGREEMENT: Self = Self(1 << 4);
    /// keyCertSign.
    pub const CERT_SIGN: Self = Self(1 << 5);
    /// cRLSign.
    pub const CRL_SIGN: Self = Self(1 << 6);
    /// encipherOnly.
    pub const ENCIPHER_ONLY: Self = Self(1 << 7);
    /// decipherOnly.
    pub const DECIPHER_ONLY: Self = Self(1 << 8);

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Whether all of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// The names as cfssl writes them.
    pub fn names(self) -> Vec<&'static str> {
        KEY_USAGES
            .iter()
            .filter(|(name, bit)| !["signing", "content committment"].contains(name) && self.contains(*bit))
            .map(|(name, _)| *name)
            .collect()
    }
}

const KEY_USAGES: &[(&str, KeyUsage)] = &[
    ("signing", KeyUsage::DIGITAL_SIGNATURE),
    ("digital signature", KeyUsage::DIGITAL_SIGNATURE),
    ("content commitment", KeyUsage::CONTENT_COMMITMENT),
    // As cfssl 1.2 spells it, and no other way.
    ("content committment", KeyUsage::CONTENT_COMMITMENT),
    ("key encipherment", KeyUsage::KEY_ENCIPHERMENT),
    ("key agreement", KeyUsage::KEY_AGREEMENT),
    ("data encipherment", KeyUsage::DATA_ENCIPHERMENT),
    ("cert sign", KeyUsage::CERT_SIGN),
    ("crl sign", KeyUsage::CRL_SIGN),
    ("encipher only", KeyUsage::ENCIPHER_ONLY),
    ("decipher only", KeyUsage::DECIPHER_ONLY),
];

/// An extended key usage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExtUsage(String);

/// TLS server.
pub const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// TLS client.
pub const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
/// Any purpose.
pub const ANY: &str = "2.5.29.37.0";

const EXT_USAGES: &[(&str, &str)] = &[
    ("any", ANY),
    ("server auth", SERVER_AUTH),
    ("client auth", CLIENT_AUTH),
    ("code signing", "1.3.6.1.5.5.7.3.3"),
    ("email protection", "1.3.6.1.5.5.7.3.4"),
    ("s/mime", "1.3.6.1.5.5.7.3.4"),
    ("ipsec end system", "1.3.6.1.5.5.7.3.5"),
    ("ipsec tunnel", "1.3.6.1.5.5.7.3.6"),
    ("ipsec user", "1.3.6.1.5.5.7.3.7"),
    ("timestamping", "1.3.6.1.5.5.7.3.8"),
    ("ocsp signing", "1.3.6.1.5.5.7.3.9"),
    ("microsoft sgc", "1.3.6.1.4.1.311.10.3.3"),
    ("netscape sgc", "2.16.840.1.113730.4.1"),
];

impl ExtUsage {
    /// A usage by its object identifier.
    pub fn from_oid(dotted: impl Into<String>) -> Self {
        Self(dotted.into())
    }
    /// TLS server.
    pub fn server_auth() -> Self {
        Self(SERVER_AUTH.into())
    }
    /// TLS client.
    pub fn client_auth() -> Self {
        Self(CLIENT_AUTH.into())
    }
    /// The object identifier.
    pub fn oid(&self) -> &str {
        &self.0
    }
    /// The name as cfssl writes it, or the object identifier.
    pub fn name(&self) -> &str {
        EXT_USAGES.iter().find(|(_, oid)| *oid == self.0).map_or(self.0.as_str(), |(name, _)| name)
    }

    /// Reads the value of the extension, in its order.
    pub(crate) fn from_extension(value: &[u8]) -> Option<Vec<Self>> {
        let (_, oids) = Vec::<Oid<'_>>::from_der(value).ok()?;
        Some(oids.iter().map(|oid| Self(oid.to_id_string())).collect())
    }

    /// The extension's value.
    pub(crate) fn write_extension(usages: &[ExtUsage], writer: &mut Writer) -> Written {
        writer.sequence(|writer| usages.iter().try_for_each(|usage| writer.oid(&usage.0)))
    }
}

/// What one name of a profile's `usages` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A key usage.
    Key(KeyUsage),
    /// An extended key usage.
    Ext(ExtUsage),
}

/// Looks a usage up by any of its cfssl names.
///
/// # Errors
/// An unknown name; the nearest and all valid ones are named. (cfssl ignores it when a valid one stands beside.)
pub fn by_name(name: &str) -> Result<Named, PrimError> {
    if let Some((_, usage)) = KEY_USAGES.iter().find(|(known, _)| *known == name) {
        return Ok(Named::Key(*usage));
    }
    if let Some((_, oid)) = EXT_USAGES.iter().find(|(known, _)| *known == name) {
        return Ok(Named::Ext(ExtUsage((*oid).into())));
    }
    let all = || KEY_USAGES.iter().map(|(known, _)| *known).chain(EXT_USAGES.iter().map(|(known, _)| *known));
    let known = || all().filter(|known| *known != "content committment");
    let nearest = known()
        .map(|known| (strsim::damerau_levenshtein(known, &name.to_lowercase()), known))
        .min()
        .filter(|(distance, _)| *distance <= 4);
    let valid = known().collect::<Vec<_>>().join(", ");
    Err(PrimError::invalid(format!("`{}` is no usage", name.escape_debug()))
        .expected("one of cfssl's names", format!("`{}`", name.escape_debug()))
        .hint(match nearest {
            Some((_, nearest)) => format!("did you mean `{nearest}`? valid are: {valid}"),
            None => format!("valid are: {valid}"),
        }))
}
