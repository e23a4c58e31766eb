//! A certificate, read once, cheap to pass on.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::key_kind::KeyKind;
use super::read::{How, Inner, made, read};
use super::san::San;
use super::usage::{ANY, ExtUsage, KeyUsage};
use super::{Template, pem, verify};
use crate::error::{Code, PrimError};

/// More than any real certificate: TLS itself stops at 16 MiB for a whole chain.
pub(super) const MAX_DER: usize = 1 << 20;

/// The basic constraints extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicConstraints {
    /// Whether the owner is a certificate authority.
    pub ca: bool,
    /// How many authorities may stand below it.
    pub path_len: Option<u32>,
}

/// An X.509 certificate. Two are equal when their bytes are.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

/// An extension as it stands: object identifier, whether it is critical, value.
pub type Extension = (String, bool, Vec<u8>);

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// Not exactly one well-formed certificate.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Result<Self, PrimError> {
        let der: Vec<u8> = der.into();
        check_size(&der)?;
        let inner = read(&der)?;
        Ok(Self(Arc::new(Inner { der: CertificateDer::from(der), ..inner })))
    }

    /// What was just made from a template.
    pub(super) fn made(template: Template, der: Vec<u8>, how: How) -> Result<Self, PrimError> {
        check_size(&der)?;
        Ok(Self(Arc::new(made(template, der, how)?)))
    }

    /// Reads a PEM text that holds exactly one certificate.
    ///
    /// # Errors
    /// None, or several, or what [`Self::from_der`] refuses.
    pub fn from_pem(text: &[u8], what: &str) -> Result<Self, PrimError> {
        let mut all = super::parse_many(text, what)?;
        match (all.pop(), all.len()) {
            (Some(only), 0) => Ok(only),
            (_, others) => Err(PrimError::invalid("holds several certificates where one belongs")
                .on(what)
                .expected("one certificate", format!("{}", others + 1))
                .hint("split the file; a bundle has a place of its own")),
        }
    }

    /// The bytes.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.0.der
    }
    /// PEM, ending in a newline.
    pub fn pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.0.der)
    }
    /// `sha256:HEX` of the bytes.
    pub fn fingerprint(&self) -> String {
        format!("sha256:{}", hex::encode(Sha256::digest(&self.0.der)))
    }
    /// `sha1:HEX` of the bytes, as older tools show it. For finding a certificate, not for trusting one.
    pub fn sha1_fingerprint(&self) -> String {
        format!("sha1:{}", hex::encode(Sha1::digest(&self.0.der)))
    }
    /// `sha256//BASE64` of the public key: the pin that `curl --pinnedpubkey` takes.
    pub fn pin(&self) -> String {
        format!("sha256//{}", STANDARD.encode(Sha256::digest(&self.0.spki)))
    }
    /// `spki:HEX`, the SHA-256 of the public key: the same for certificate and private key.
    pub fn spki_fingerprint(&self) -> String {
        format!("spki:{}", hex::encode(Sha256::digest(&self.0.spki)))
    }
    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }
    /// The public key's bits, without algorithm.
    pub fn key_bits(&self) -> &[u8] {
        &self.0.key_bits
    }
    /// The kind of key, as `rsa 2048` or `ecdsa 256`.
    pub fn key_text(&self) -> &str {
        &self.0.words().key
    }
    /// The kind of key, where it is one that we can make.
    pub fn key_kind(&self) -> Option<KeyKind> {
        match self.0.words().key.as_str() {
            "ecdsa 256" => Some(KeyKind::P256),
            "ecdsa 384" => Some(KeyKind::P384),
            "ecdsa 521" => Some(KeyKind::P521),
            "ed25519" => Some(KeyKind::Ed25519),
            other => other.strip_prefix("rsa ")?.parse().ok().map(KeyKind::Rsa),
        }
    }
    /// X.509 version, 1 to 3.
    pub fn version(&self) -> u32 {
        self.0.version
    }
    /// The subject's name, DER.
    pub fn subject(&self) -> &[u8] {
        &self.0.subject
    }
    /// The subject's name for people.
    pub fn subject_text(&self) -> &str {
        &self.0.words().subject
    }
    /// The issuer's name, DER.
    pub fn issuer(&self) -> &[u8] {
        &self.0.issuer
    }
    /// The issuer's name for people.
    pub fn issuer_text(&self) -> &str {
        &self.0.words().issuer
    }
    /// All common names of the subject.
    pub fn common_names(&self) -> &[String] {
        &self.0.words().common_names
    }
    /// The first common name, or nothing.
    pub fn common_name(&self) -> &str {
        self.0.words().common_names.first().map_or("", String::as_str)
    }
    /// All organizations of the subject: Kubernetes reads its groups from them.
    pub fn organizations(&self) -> &[String] {
        &self.0.words().organizations
    }
    /// The serial number, big-endian as encoded.
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }
    /// The serial number in hex.
    pub fn serial_hex(&self) -> String {
        hex::encode(&self.0.serial)
    }
    /// Start of validity.
    pub fn not_before(&self) -> OffsetDateTime {
        self.0.not_before
    }
    /// End of validity.
    pub fn not_after(&self) -> OffsetDateTime {
        self.0.not_after
    }
    /// Whether `at` lies within its validity, both ends included.
    pub fn valid_at(&self, at: OffsetDateTime) -> bool {
        self.0.not_before <= at && at <= self.0.not_after
    }
    /// The basic constraints, where the extension is there.
    pub fn basic_constraints(&self) -> Option<BasicConstraints> {
        self.0.basic
    }
    /// Whether basic constraints make it an authority.
    pub fn is_ca(&self) -> bool {
        self.0.basic.is_some_and(|basic| basic.ca)
    }
    /// Whether its owner may sign certificates: an authority whose key usage, where there is one, says so.
    pub fn may_sign(&self) -> bool {
        self.is_ca() && self.0.key_usage.is_none_or(|usage| usage.contains(KeyUsage::CERT_SIGN))
    }
    /// The key usage, where the extension is there.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.key_usage
    }
    /// The extended key usages, where the extension is there.
    pub fn ext_usage(&self) -> Option<&[ExtUsage]> {
        self.0.ext_usage.as_deref()
    }
    /// Whether it may be used so: the extension names it, or any usage, or is absent.
    pub fn allows(&self, usage: &ExtUsage) -> bool {
        self.ext_usage().is_none_or(|usages| usages.iter().any(|u| u == usage || u.oid() == ANY))
    }
    /// The subject alternative names.
    pub fn sans(&self) -> &[San] {
        &self.0.sans
    }
    /// The subject key identifier.
    pub fn skid(&self) -> Option<&[u8]> {
        self.0.skid.as_deref()
    }
    /// The authority key identifier (its key id form).
    pub fn akid(&self) -> Option<&[u8]> {
        self.0.akid.as_deref()
    }
    /// Extensions that have no accessor of their own here, as they stand.
    pub fn other_extensions(&self) -> &[Extension] {
        &self.0.others
    }
    /// Name constraints, as `permitted DNS:.example`.
    pub fn name_constraints(&self) -> &[String] {
        &self.0.constraints
    }
    /// The signature algorithm, by its usual name or object identifier.
    pub fn signature_algorithm(&self) -> &str {
        verify::signature_name(&self.0.signature_oid)
    }
    /// Whether subject and issuer are the same bytes.
    pub fn self_issued(&self) -> bool {
        self.0.subject == self.0.issuer
    }

    /// Checks that `issuer` signed this: same name bytes, matching key ids where both have one, a good signature.
    ///
    /// Says nothing of validity, usages or constraints: that is the verifiers' part.
    ///
    /// # Errors
    /// Which of the three does not hold.
    pub fn check_signed_by(&self, issuer: &Certificate) -> Result<(), PrimError> {
        let hint = "bring the certificate of the CA that issued it";
        let fail = |message: &str, expected: String, found: String| {
            Err(PrimError::invalid(message.to_owned())
                .on(self.to_string())
                .expected(expected, found)
                .hint(hint))
        };
        if self.0.issuer != issuer.0.subject {
            return fail(
                "was issued under another name",
                format!("`{}`", self.issuer_text()),
                format!("`{}`", issuer.subject_text()),
            );
        }
        if let (Some(akid), Some(skid)) = (self.akid(), issuer.skid())
            && akid != skid
        {
            return fail("was issued by another key of the same name", hex::encode(akid), hex::encode(skid));
        }
        verify::signature(&self.0.der, &issuer.0.spki).map_err(|error| error.on(self.to_string()).hint(hint))
    }

    /// Checks that it is valid at `at`.
    ///
    /// # Errors
    /// [`Code::Expired`], with the dates.
    pub fn check_valid_at(&self, at: OffsetDateTime) -> Result<(), PrimError> {
        if at < self.not_before() {
            return Err(PrimError::new(
                Code::Expired,
                format!("is not valid before {}", super::date(self.not_before())),
            )
            .on(self.to_string())
            .expected(format!("a time from {} on", super::date(self.not_before())), super::date(at))
            .hint("check the clock of this machine"));
        }
        if at > self.not_after() {
            return Err(PrimError::new(
                Code::Expired,
                format!("expired on {}", super::date(self.not_after())),
            )
            .on(self.to_string())
            .expected(format!("a time until {}", super::date(self.not_after())), super::date(at)));
        }
        Ok(())
    }
}

fn check_size(der: &[u8]) -> Result<(), PrimError> {
    if der.len() <= MAX_DER {
        return Ok(());
    }
    Err(PrimError::invalid("is too large to be a certificate")
        .expected(format!("at most {MAX_DER} bytes"), format!("{} bytes", der.len()))
        .hint("no handshake carries a certificate of this size: issue it for fewer names"))
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}
impl Eq for Certificate {}

impl std::hash::Hash for Certificate {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.der.hash(state);
    }
}

impl fmt::Display for Certificate {
    /// `certificate `CN=TiDB` (sha256:1f2e…)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.fingerprint();
        write!(f, "certificate `{}` ({}…)", self.subject_text(), fingerprint.get(..15).unwrap_or_default())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
