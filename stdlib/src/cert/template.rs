//! The one way in which a certificate is made here: a template, signed by an issuer.
//!
//! The issuer's name is copied byte for byte from the issuer's certificate (cfssl builds differ in the order of its
//! parts), serials are positive with 159 random bits, and whatever is not self-signed names its issuer by key id.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use sha1::{Digest as _, Sha1};
use time::OffsetDateTime;

use super::der::{Writer, Written};
use super::read::How;
use super::{BasicConstraints, Certificate, ExtUsage, Extension, Key, KeyUsage, San, der, verify};
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
    pub fn sign(self, issuer: Issuer<'_>) -> Result<Certificate, PrimError> {
        // The name takes reading: only where it is told.
        if !issuer.key.matches(issuer.certificate) {
            issuer.key.check_matches(issuer.certificate, issuer.certificate.subject_text())?;
        }
        let akid = match issuer.certificate.skid() {
            Some(skid) => skid.to_vec(),
            None => key_id(&key_bits(issuer.certificate.spki())?),
        };
        let akid = self.with_akid.then_some(akid);
        self.encode(Some(issuer.certificate.subject()), akid, issuer.key)
    }

    /// Signs it with its own key: a root. As with cfssl it carries no authority key id.
    ///
    /// # Errors
    /// Something cannot be encoded.
    pub fn self_sign(self, key: &Key) -> Result<Certificate, PrimError> {
        Self { spki: key.spki().to_vec(), ..self }.encode(None, None, key)
    }

    /// Encodes and signs; without an issuer's name, under its own.
    fn encode(
        mut self,
        issuer: Option<&[u8]>,
        akid: Option<Vec<u8>>,
        key: &Key,
    ) -> Result<Certificate, PrimError> {
        if self.not_after <= self.not_before && !self.never_valid {
            return Err(PrimError::argument("a certificate would end before it begins")
                .expected(
                    format!("an end after {}", super::date(self.not_before)),
                    super::date(self.not_after),
                )
                .hint("check the lifetime that was asked for, and the CA's end"));
        }
        self.sans = San::in_order(std::mem::take(&mut self.sans));
        let issuer = issuer.unwrap_or(&self.subject).to_vec();
        let serial = der::unsigned_content(&match self.serial.take() {
            Some(serial) => serial,
            None => random_serial()?,
        });
        let signature_oid = key.signature_oid();
        let algorithm = key.signature_algorithm()?;
        let key_bits = key_bits(&self.spki)?;
        let skid = match &self.skid {
            KeyId::Computed => Some(key_id(&key_bits)),
            KeyId::Given(id) => Some(id.clone()),
            KeyId::Absent => None,
        };
        let mut tbs = Writer::with_room(1024);
        tbs.sequence(|tbs| {
            tbs.within(der::CONSTRUCTED, |version| {
                version.unsigned(&[2]);
                Ok(())
            })?;
            tbs.value(der::INTEGER, &serial);
            tbs.raw(&algorithm);
            tbs.raw(&issuer);
            tbs.sequence(|validity| {
                validity.time(self.not_before)?;
                validity.time(self.not_after)
            })?;
            tbs.raw(&self.subject);
            tbs.raw(&self.spki);
            tbs.within(der::CONSTRUCTED | 3, |outer| {
                outer.sequence(|extensions| self.extensions(extensions, skid.as_deref(), akid.as_deref()))
            })
        })?;
        let tbs = tbs.finish();
        let signature = key.sign(&tbs)?;
        let mut whole = Writer::with_room(tbs.len() + algorithm.len() + signature.len() + 16);
        whole.sequence(|whole| {
            whole.raw(&tbs);
            whole.raw(&algorithm);
            whole.bits(&signature);
            Ok(())
        })?;
        Certificate::made(self, whole.finish(), How { serial, issuer, key_bits, signature_oid, skid, akid })
    }

    fn extensions(&self, out: &mut Writer, skid: Option<&[u8]>, akid: Option<&[u8]>) -> Written {
        if let Some(usage) = self.key_usage.filter(|usage| usage.0 != 0) {
            write_extension(out, "2.5.29.15", true, |value| {
                value.raw(&der::named_bits(usage.0));
                Ok(())
            })?;
        }
        if !self.ext_usage.is_empty() {
            write_extension(out, "2.5.29.37", false, |value| {
                ExtUsage::write_extension(&self.ext_usage, value)
            })?;
        }
        if let Some(basic) = self.basic {
            write_basic_constraints(out, basic)?;
        }
        if let Some(skid) = skid {
            write_extension(out, "2.5.29.14", false, |value| {
                value.value(der::OCTET_STRING, skid);
                Ok(())
            })?;
        }
        if let Some(akid) = akid {
            write_extension(out, "2.5.29.35", false, |value| {
                value.sequence(|value| {
                    value.value(der::CONTEXT, akid);
                    Ok(())
                })
            })?;
        }
        if !self.sans.is_empty() {
            // RFC 5280: critical where the subject is empty.
            let subject_is_empty = self.subject == [der::SEQUENCE, 0];
            write_extension(out, "2.5.29.17", subject_is_empty, |value| {
                San::write_extension(&self.sans, value)
            })?;
        }
        for (oid, critical, content) in &self.extra {
            write_extension(out, oid, *critical, |value| {
                value.raw(content);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// An extension whose value is written within.
fn write_extension(
    out: &mut Writer,
    oid: &str,
    critical: bool,
    value: impl FnOnce(&mut Writer) -> Written,
) -> Written {
    out.sequence(|out| {
        out.oid(oid)?;
        if critical {
            out.value(der::BOOLEAN, &[0xff]);
        }
        out.within(der::OCTET_STRING, value)
    })
}

fn write_basic_constraints(out: &mut Writer, basic: BasicConstraints) -> Written {
    write_extension(out, "2.5.29.19", true, |value| {
        value.sequence(|value| {
            if basic.ca {
                value.value(der::BOOLEAN, &[0xff]);
                if let Some(length) = basic.path_len {
                    value.unsigned(&length.to_be_bytes());
                }
            }
            Ok(())
        })
    })
}

pub(crate) fn extension(oid: &str, critical: bool, value: &[u8]) -> Result<Vec<u8>, PrimError> {
    let mut out = Writer::with_room(value.len() + 16);
    write_extension(&mut out, oid, critical, |out| {
        out.raw(value);
        Ok(())
    })?;
    Ok(out.finish())
}

pub(crate) fn basic_constraints(basic: BasicConstraints) -> Result<Vec<u8>, PrimError> {
    let mut out = Writer::with_room(32);
    write_basic_constraints(&mut out, basic)?;
    Ok(out.finish())
}

/// The bits of a public key.
fn key_bits(spki: &[u8]) -> Result<Vec<u8>, PrimError> {
    Ok(verify::read_spki(spki)?.subject_public_key.data.to_vec())
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
