//! Certificates byte by byte, so that they can be wrong in every way that a verifier may meet.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// Tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..128 => out.push(u8::try_from(short).unwrap()),
        long => {
            let bytes: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(bytes.len()).unwrap());
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut bytes = Vec::new();
    for arc in std::iter::once(arcs[0] * 40 + arcs[1]).chain(arcs[2..].iter().copied()) {
        let mut septets = vec![u8::try_from(arc & 0x7f).unwrap()];
        let mut rest = arc >> 7;
        while rest > 0 {
            septets.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
            rest >>= 7;
        }
        bytes.extend(septets.into_iter().rev());
    }
    tlv(6, &bytes)
}

fn bits(content: &[u8], unused: u8) -> Vec<u8> {
    tlv(3, &[&[unused], content].concat())
}

/// A name with one attribute an RDN: object identifier, string tag, text.
pub(crate) fn name(attributes: &[(&str, u8, &str)]) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(kind, tag, text)| tlv(0x31, &sequence(&[oid(kind), tlv(*tag, text.as_bytes())])))
        .collect();
    sequence(&rdns)
}

fn moment(at: OffsetDateTime) -> Vec<u8> {
    let (date, time) = (at.date(), at.time());
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    if date.year() < 2050 {
        tlv(0x17, format!("{:02}{rest}", date.year() % 100).as_bytes())
    } else {
        tlv(0x18, format!("{:04}{rest}", date.year()).as_bytes())
    }
}

/// A key pair of one of the kinds that components use.
pub(crate) enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa { pair: aws_lc_rs::signature::RsaKeyPair, sha512: bool },
}

impl Key {
    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub(crate) fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap())
    }

    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn rsa(sha512: bool) -> Self {
        let pair = aws_lc_rs::signature::RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        Self::Rsa { pair, sha512 }
    }

    fn public(&self) -> &[u8] {
        match self {
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::Rsa { pair, .. } => pair.public_key().as_ref(),
        }
    }

    fn spki(&self) -> Vec<u8> {
        let ec = |curve: &str| sequence(&[oid("1.2.840.10045.2.1"), oid(curve)]);
        let algorithm = match self {
            Self::P256(_) => ec("1.2.840.10045.3.1.7"),
            Self::P384(_) => ec("1.3.132.0.34"),
            Self::Ed25519(_) => sequence(&[oid("1.3.101.112")]),
            Self::Rsa { .. } => sequence(&[oid("1.2.840.113549.1.1.1"), tlv(5, &[])]),
        };
        sequence(&[algorithm, bits(self.public(), 0)])
    }

    /// A key identifier: any 20 bytes that differ from key to key do.
    pub(crate) fn id(&self) -> Vec<u8> {
        use sha2::Digest as _;
        sha2::Sha256::digest(self.public())[..20].to_vec()
    }

    fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::P256(_) => sequence(&[oid("1.2.840.10045.4.3.2")]),
            Self::P384(_) => sequence(&[oid("1.2.840.10045.4.3.3")]),
            Self::Ed25519(_) => sequence(&[oid("1.3.101.112")]),
            Self::Rsa { sha512: false, .. } => sequence(&[oid("1.2.840.113549.1.1.11"), tlv(5, &[])]),
            Self::Rsa { sha512: true, .. } => sequence(&[oid("1.2.840.113549.1.1.13"), tlv(5, &[])]),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa { pair, sha512 } => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding = if *sha512 { &RSA_PKCS1_SHA512 } else { &RSA_PKCS1_SHA256 };
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// A name in a SAN extension or a name constraint.
#[derive(Debug, Clone)]
pub(crate) enum General {
    Dns(String),
    Ip(Vec<u8>),
    Email(String),
    Uri(String),
    Directory(Vec<u8>),
}

impl General {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => tlv(0x81, text.as_bytes()),
            Self::Dns(text) => tlv(0x82, text.as_bytes()),
            Self::Directory(name) => tlv(0xa4, name),
            Self::Uri(text) => tlv(0x86, text.as_bytes()),
            Self::Ip(bytes) => tlv(0x87, bytes),
        }
    }
}

/// How a certificate names its issuer's key.
#[derive(Debug, Clone)]
pub(crate) enum Authority {
    KeyId(Vec<u8>),
    IssuerAndSerial(Vec<u8>, u64),
}

/// Everything that goes into a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) version: u8,
    pub(crate) serial: u64,
    pub(crate) subject: Vec<u8>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// CA flag and path length.
    pub(crate) basic: Option<(bool, Option<u8>)>,
    pub(crate) key_usage: Option<u16>,
    pub(crate) extended: Option<Vec<&'static str>>,
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) authority: Option<Authority>,
    pub(crate) names: Vec<General>,
    /// Permitted and excluded.
    pub(crate) constraints: Option<(Vec<General>, Vec<General>)>,
    /// A critical extension that nobody knows, or one that only some know.
    pub(crate) critical: Option<&'static str>,
}

fn extension(id: &str, critical: bool, content: Vec<u8>) -> Vec<u8> {
    let mut parts = vec![oid(id)];
    if critical {
        parts.push(tlv(1, &[0xff]));
    }
    parts.push(tlv(4, &content));
    sequence(&parts)
}

fn subtrees(tag: u8, names: &[General]) -> Vec<u8> {
    if names.is_empty() {
        return Vec::new();
    }
    tlv(tag, &names.iter().map(|name| sequence(&[name.encode()])).collect::<Vec<_>>().concat())
}

impl Spec {
    fn extensions(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        if let Some(usage) = self.key_usage {
            // Named bit 0 is the highest bit of the first byte.
            let flipped = usage.reverse_bits().to_be_bytes();
            let used = if flipped[1] == 0 { &flipped[..1] } else { &flipped[..] };
            let unused = used.last().map_or(0, |byte| byte.trailing_zeros().min(7));
            all.push(extension("2.5.29.15", true, bits(used, u8::try_from(unused).unwrap())));
        }
        if let Some((ca, length)) = self.basic {
            let mut parts = Vec::new();
            if ca {
                parts.push(tlv(1, &[0xff]));
            }
            parts.extend(length.map(|length| tlv(2, &[length])));
            all.push(extension("2.5.29.19", true, sequence(&parts)));
        }
        if let Some(purposes) = &self.extended {
            let purposes: Vec<Vec<u8>> = purposes.iter().map(|purpose| oid(purpose)).collect();
            all.push(extension("2.5.29.37", false, sequence(&purposes)));
        }
        if let Some(id) = &self.key_id {
            all.push(extension("2.5.29.14", false, tlv(4, id)));
        }
        match &self.authority {
            Some(Authority::KeyId(id)) => all.push(extension("2.5.29.35", false, sequence(&[tlv(0x80, id)]))),
            Some(Authority::IssuerAndSerial(issuer, serial)) => {
                let names = tlv(0xa1, &General::Directory(issuer.clone()).encode());
                all.push(extension("2.5.29.35", false, sequence(&[names, tlv(0x82, &integer(*serial))])));
            }
            None => {}
        }
        if !self.names.is_empty() {
            let names: Vec<Vec<u8>> = self.names.iter().map(General::encode).collect();
            all.push(extension("2.5.29.17", false, sequence(&names)));
        }
        if let Some((permitted, excluded)) = &self.constraints {
            let content = sequence(&[subtrees(0xa0, permitted), subtrees(0xa1, excluded)]);
            all.push(extension("2.5.29.30", true, content));
        }
        if let Some(id) = self.critical {
            let content = match id {
                // inhibitAnyPolicy with 0: OpenSSL processes it, the others do not.
                "2.5.29.54" => tlv(2, &[0]),
                _ => tlv(5, &[]),
            };
            all.push(extension(id, true, content));
        }
        all
    }

    /// Encodes the certificate with the holder's key, signed in the issuer's name.
    pub(crate) fn sign(&self, holder: &Key, issuer: &[u8], signer: &Key) -> CertificateDer<'static> {
        let mut parts = Vec::new();
        if self.version > 1 {
            parts.push(tlv(0xa0, &tlv(2, &[self.version - 1])));
        }
        parts.push(tlv(2, &integer(self.serial)));
        parts.push(signer.algorithm());
        parts.push(issuer.to_vec());
        parts.push(sequence(&[moment(self.not_before), moment(self.not_after)]));
        parts.push(self.subject.clone());
        parts.push(holder.spki());
        let extensions = self.extensions();
        if self.version == 3 && !extensions.is_empty() {
            parts.push(tlv(0xa3, &sequence(&extensions)));
        }
        let tbs = sequence(&parts);
        let signature = signer.sign(&tbs);
        CertificateDer::from(sequence(&[tbs, signer.algorithm(), bits(&signature, 0)]))
    }
}

fn integer(value: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    if bytes.first().is_none_or(|byte| byte & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    bytes
}
