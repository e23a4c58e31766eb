//! The one way in which a certificate is made here: a template, signed by an issuer.
//!
//! The issuer's name is copied byte for byte from the issuer's certificate (cfssl builds differ in the order of its
//! parts), serials are positive with 159 random bits, and whatever is not self-signed names its issuer by key id.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use sha1::{Digest as _, Sha1};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

use super::read::How;
use super::{BasicConstraints, Certificate, ExtUsage, Extension, Key, KeyUsage, San, der};
use crate::error::PrimError;

/// What a certificate is to say. Extensions are written in cfssl's order.
#[derive(Debug, Clone)]
pub struct Template {
    /// The subject's name, DER ([`super::name::Builder`], or copied from a certificate).
    pub subject: Vec<u8>,
    /// The subject's public key, DER ([`Key::spki`], [`Certificate::spki`]).
    pub spki: Vec<u8>,
    /// The serial number, big-endian; random when `None`.
    pub serial: Option<Vec<u8>>,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// Key usages; no extension when `None`.
    pub key_usage: Option<KeyUsage>,
    /// Extended key usages; no extension when empty.
    pub ext_usage: Vec<ExtUsage>,
    /// Basic constraints; no extension when `None`.
    pub basic: Option<BasicConstraints>,
    /// Subject alternative names; no extension when empty.
    pub sans: Vec<San>,
    /// The subject key id.
    pub skid: KeyId,
    /// Whether the authority key id is written. Only tests leave it out.
    pub with_akid: bool,
    /// Further extensions: object identifier, critical, value.
    pub extra: Vec<Extension>,
    /// Whether it may end before it begins, as cfssl permits: never valid, and refused unless asked for.
    pub never_valid: bool,
}

/// Where a subject key id comes from. It is a label: tools compute it differently, so that of an authority that is
/// signed anew must be copied, or leaves would no longer point at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyId {
    /// The SHA-1 of the key's bits.
    Computed,
    /// As it stands in another certificate of the same key.
    Given(Vec<u8>),
    /// No extension. Only tests want that.
    Absent,
}

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// The issuer's certificate: its name and key id are copied.
    pub certificate: &'a Certificate,
    /// Its private key.
    pub key: &'a Key,
}

impl Template {
    /// A leaf's template with nothing but subject, key and validity.
    pub fn leaf(
        subject: Vec<u8>,
        spki: &[u8],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Self {
        Self {
            subject,
            spki: spki.to_vec(),
            serial: None,
            not_before,
            not_after,
            key_usage: None,
            ext_usage: Vec::new(),
            basic: Some(BasicConstraints { ca: false, path_len: None }),
            sans: Vec::new(),
            skid: KeyId::Computed,
            with_akid: true,
            extra: Vec::new(),
            never_valid: false,
        }
    }

    /// An authority's template, as cfssl makes them.
    pub fn authority(
        subject: Vec<u8>,
        spki: &[u8],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Self {
        Self {
            basic: Some(BasicConstraints { ca: true, path_len: None }),
            key_usage: Some(KeyUsage::CERT_SIGN.with(KeyUsage::CRL_SIGN)),
            ..Self::leaf(subject, spki, not_before, not_after)
        }
    }

    /// Signs it with an issuer. Nothing is checked but that key and certificate of the issuer belong together: what
    /// may be issued is decided by the callers.
    ///
    /// # Errors
    /// The issuer's key is not its certificate's, or something cannot be encoded.
    pub fn sign(&self, issuer: Issuer<'_>) -> Result<Certificate, PrimError> {
        issuer.key.check_matches(issuer.certificate, issuer.certificate.subject_text())?;
        let akid = match issuer.certificate.skid() {
            Some(skid) => skid.to_vec(),
            None => key_id(&key_bits(issuer.certificate.spki())?),
        };
        self.encode(issuer.certificate.subject(), self.with_akid.then_some(akid.as_slice()), issuer.key)
    }

    /// Signs it with its own key: a root. As with cfssl it carries no authority key id.
    ///
    /// # Errors
    /// Something cannot be encoded.
    pub fn self_sign(&self, key: &Key) -> Result<Certificate, PrimError> {
        let own = Self { spki: key.spki().to_vec(), ..self.clone() };
        own.encode(&self.subject, None, key)
    }

    fn encode(&self, issuer_name: &[u8], akid: Option<&[u8]>, key: &Key) -> Result<Certificate, PrimError> {
        if self.not_after <= self.not_before && !self.never_valid {
            return Err(PrimError::argument("a certificate would end before it begins")
                .expected(
                    format!("an end after {}", super::date(self.not_before)),
                    super::date(self.not_after),
                )
                .hint("check the lifetime that was asked for, and the CA's end"));
        }
        let serial = match &self.serial {
            Some(serial) => serial.clone(),
            None => random_serial()?,
        };
        let signature_oid = key.signature_oid();
        let algorithm = key.signature_algorithm()?;
        let key_bits = key_bits(&self.spki)?;
        let skid = match &self.skid {
            KeyId::Computed => Some(key_id(&key_bits)),
            KeyId::Given(id) => Some(id.clone()),
            KeyId::Absent => None,
        };
        let validity = der::seq(&[&der::time(self.not_before)?, &der::time(self.not_after)?]);
        let extensions = self.extensions(skid.as_deref(), akid)?;
        let tbs = der::seq(&[
            &der::context(0, &der::unsigned(&[2])),
            &der::unsigned(&serial),
            &algorithm,
            issuer_name,
            &validity,
            &self.subject,
            &self.spki,
            &der::context(3, &der::seq(&extensions.iter().map(Vec::as_slice).collect::<Vec<_>>())),
        ]);
        let signature = key.sign(&tbs)?;
        let der = der::seq(&[&tbs, &algorithm, &der::bits(&signature)]);
        let serial = &der::unsigned_content(&serial);
        let (key_bits, skid) = (key_bits.as_slice(), skid.as_deref());
        Certificate::made(
            self,
            der,
            &How { serial, issuer: issuer_name, key_bits, signature_oid, skid, akid },
        )
    }

    fn extensions(&self, skid: Option<&[u8]>, akid: Option<&[u8]>) -> Result<Vec<Vec<u8>>, PrimError> {
        let mut out = Vec::new();
        if let Some(usage) = self.key_usage.filter(|usage| usage.0 != 0) {
            out.push(extension("2.5.29.15", true, &der::named_bits(usage.0))?);
        }
        if !self.ext_usage.is_empty() {
            out.push(extension("2.5.29.37", false, &ExtUsage::extension(&self.ext_usage)?)?);
        }
        if let Some(basic) = self.basic {
            out.push(basic_constraints(basic)?);
        }
        if let Some(skid) = skid {
            out.push(extension("2.5.29.14", false, &der::octets(skid))?);
        }
        if let Some(akid) = akid {
            out.push(extension("2.5.29.35", false, &der::seq(&[&der::context_primitive(0, akid)]))?);
        }
        if !self.sans.is_empty() {
            // RFC 5280: critical where the subject is empty.
            let subject_is_empty = self.subject == der::seq(&[]);
            out.push(extension("2.5.29.17", subject_is_empty, &San::extension(&self.sans)?)?);
        }
        for (oid, critical, value) in &self.extra {
            out.push(extension(oid, *critical, value)?);
        }
        Ok(out)
    }
}

pub(crate) fn extension(oid: &str, critical: bool, value: &[u8]) -> Result<Vec<u8>, PrimError> {
    let flag = if critical { der::boolean(true) } else { Vec::new() };
    Ok(der::seq(&[&der::oid(oid)?, &flag, &der::octets(value)]))
}

pub(crate) fn basic_constraints(basic: BasicConstraints) -> Result<Vec<u8>, PrimError> {
    let mut value = Vec::new();
    if basic.ca {
        value.extend(der::boolean(true));
        if let Some(length) = basic.path_len {
            value.extend(der::unsigned(&length.to_be_bytes()));
        }
    }
    extension("2.5.29.19", true, &der::seq(&[&value]))
}

/// The bits of a public key.
fn key_bits(spki: &[u8]) -> Result<Vec<u8>, PrimError> {
    let (_, spki) =
        SubjectPublicKeyInfo::from_der(spki).map_err(|_| PrimError::invalid("malformed public key"))?;
    Ok(spki.subject_public_key.data.to_vec())
}

/// The SHA-1 of the key's bits: a label, as cfssl and OpenSSL compute it.
fn key_id(key_bits: &[u8]) -> Vec<u8> {
    Sha1::digest(key_bits).to_vec()
}

/// 20 octets with the top bit clear and never zero.
fn random_serial() -> Result<Vec<u8>, PrimError> {
    let mut serial = [0u8; 20];
    loop {
        SystemRandom::new()
            .fill(&mut serial)
            .map_err(|_| PrimError::internal("the system gave no randomness for a serial number"))?;
        if let Some(top) = serial.first_mut() {
            *top &= 0x7f;
        }
        if serial.iter().any(|b| *b != 0) {
            return Ok(serial.to_vec());
        }
    }
}
