//! Private keys: made, read in every usual form, written as cfssl writes them.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
};
use pkcs8::der::Decode as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::der::Writer;
use super::key_kind::{KeyKind, check_rsa_size};
use super::{Certificate, pem, sealed};
use crate::error::{Code, PrimError};
use crate::secret::Secret;

#[derive(Clone)]
enum Pair {
    Rsa(Arc<RsaPair>),
    Ec(Arc<EcdsaKeyPair>, KeyKind),
    Ed(Arc<Ed25519KeyPair>),
}

/// A private key. It shows only its public fingerprint.
#[derive(Clone)]
pub struct Key {
    pair: Pair,
    spki: Arc<[u8]>,
}

impl Key {
    /// Makes a key.
    ///
    /// # Errors
    /// An RSA size that the library cannot make.
    pub fn generate(kind: KeyKind) -> Result<Self, PrimError> {
        let failed = |_| PrimError::internal("the system gave no randomness for a key");
        let pair = match kind {
            KeyKind::Rsa(bits) => {
                check_rsa_size(bits)?;
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    _ => KeySize::Rsa8192,
                };
                Pair::Rsa(Arc::new(RsaPair::generate(size).map_err(failed)?))
            }
            KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => {
                Pair::Ec(Arc::new(EcdsaKeyPair::generate(curve(kind)).map_err(failed)?), kind)
            }
            KeyKind::Ed25519 => Pair::Ed(Arc::new(Ed25519KeyPair::generate().map_err(failed)?)),
        };
        Self::of(pair)
    }

    fn of(pair: Pair) -> Result<Self, PrimError> {
        let failed = |_| PrimError::internal("a public key cannot be encoded");
        let spki = match &pair {
            Pair::Rsa(pair) => pair.public_key().as_der().map_err(failed)?.as_ref().into(),
            // As the library would, faster.
            Pair::Ec(pair, kind) => ec_spki(*kind, pair.public_key().as_ref())?.into(),
            Pair::Ed(pair) => pair.public_key().as_der().map_err(failed)?.as_ref().into(),
        };
        Ok(Self { pair, spki })
    }

    /// Reads the one private key of a PEM text: PKCS#8, PKCS#1 or SEC1, an `EC PARAMETERS` block or certificates
    /// beside it overlooked.
    ///
    /// # Errors
    /// No key, several keys, an encrypted one, an algorithm or size that is not supported.
    pub fn from_pem(text: &[u8], what: &str) -> Result<Self, PrimError> {
        Self::read(text, what, None)
    }

    /// As [`Self::from_pem`], opening an encrypted PKCS#8 key with its passphrase.
    ///
    /// # Errors
    /// The passphrase is wrong, or as [`Self::from_pem`].
    pub fn from_encrypted_pem(text: &[u8], what: &str, passphrase: &Secret) -> Result<Self, PrimError> {
        Self::read(text, what, Some(passphrase))
    }

    /// Reads a key file's bytes: PEM or DER, encrypted or not.
    ///
    /// # Errors
    /// As [`Self::from_encrypted_pem`]; an encrypted key and no passphrase.
    pub fn from_bytes(bytes: &[u8], what: &str, passphrase: Option<&Secret>) -> Result<Self, PrimError> {
        if is_pem(bytes) {
            return Self::read(bytes, what, passphrase);
        }
        let key =
            if sealed::is_sealed(bytes) { open(bytes, passphrase, "the key") } else { Self::from_der(bytes) };
        key.map_err(|error| error.on(what))
    }

    /// Whether a key file can only be read with a passphrase.
    pub fn needs_passphrase(bytes: &[u8]) -> bool {
        if is_pem(bytes) {
            return pem::scan(bytes, "")
                .is_ok_and(|scan| scan.blocks.iter().any(|block| block.label == "ENCRYPTED PRIVATE KEY"));
        }
        sealed::is_sealed(bytes)
    }

    fn read(text: &[u8], what: &str, passphrase: Option<&Secret>) -> Result<Self, PrimError> {
        let scan = pem::scan(text, what)?;
        let mut keys = scan.blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY"));
        let (Some(block), others) =
            (keys.next(), keys.map(|other| other.line.to_string()).collect::<Vec<_>>())
        else {
            let found =
                scan.blocks.first().map_or("no PEM block".into(), |b| format!("a block `{}`", b.label));
            return Err(PrimError::new(Code::NoKey, "holds no private key")
                .on(what)
                .expected("a PEM private key", found)
                .hint("name the key file; cfssljson writes it as `NAME-key.pem`"));
        };
        if !others.is_empty() {
            return Err(PrimError::invalid(format!(
                "line {}: holds several private keys",
                others.join(", ")
            ))
            .on(what)
            .expected("one", format!("{}, the first in line {}", others.len() + 1, block.line))
            .hint(
                "keep the one that belongs to the certificate; bring each of the others in a file of its own",
            ));
        }
        if block.encrypted_headers {
            return Err(PrimError::invalid(format!(
                "line {}: the key is encrypted in OpenSSL's old way (`Proc-Type: 4,ENCRYPTED`)",
                block.line
            ))
            .on(what)
            .expected("`-----BEGIN ENCRYPTED PRIVATE KEY-----`", format!("`-----BEGIN {}-----` with headers", block.label))
            .hint("convert it, still encrypted: `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW`; it asks for the passphrase"));
        }
        let key = if block.label == "ENCRYPTED PRIVATE KEY" {
            open(&block.der, passphrase, "the key")
        } else {
            Self::from_der(&block.der)
        };
        key.map_err(|error| PrimError {
            message: format!("line {}: {}", block.line, error.message),
            object: what.to_owned(),
            ..error
        })
    }

    /// Reads a DER private key: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// An algorithm or size that is not supported, or a key that contradicts itself.
    pub fn from_der(der: &[u8]) -> Result<Self, PrimError> {
        if let Ok(pair) = RsaPair::from_pkcs8(der).or_else(|_| RsaPair::from_der(der)) {
            return Self::of(Pair::Rsa(Arc::new(pair)));
        }
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve(kind), der) {
                return Self::of(Pair::Ec(Arc::new(pair), kind));
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Self::of(Pair::Ed(Arc::new(pair)));
        }
        Err(PrimError::invalid("is no private key that can be used")
            .expected("RSA of 2048 to 8192 bits, ECDSA P-256, P-384 or P-521, or Ed25519", "something else")
            .hint("look at it with `openssl pkey -in FILE -noout -text_pub`"))
    }

    /// Reads a key that was stored with [`Self::to_secret`].
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_secret(secret: &Secret) -> Result<Self, PrimError> {
        Self::from_pem(secret.expose(), secret.fingerprint())
    }

    /// The key as a secret: PEM bytes under the fingerprint of its public half.
    ///
    /// # Errors
    /// As [`Self::to_pem`].
    pub fn to_secret(&self) -> Result<Secret, PrimError> {
        Ok(Secret::new(self.to_pem()?.as_bytes().to_vec(), self.fingerprint()))
    }

    /// PEM as cfssl writes it: `RSA PRIVATE KEY` (PKCS#1), `EC PRIVATE KEY` (SEC1); Ed25519 as PKCS#8, which every
    /// reader understands.
    ///
    /// # Errors
    /// The library cannot encode the key.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, PrimError> {
        let failed = || PrimError::internal("a private key cannot be encoded");
        let text = match &self.pair {
            Pair::Rsa(pair) => {
                let pkcs8 = pair.as_der().map_err(|_| failed())?;
                let info = pkcs8::PrivateKeyInfoRef::from_der(pkcs8.as_ref()).map_err(|_| failed())?;
                pem::encode("RSA PRIVATE KEY", info.private_key.as_bytes())
            }
            Pair::Ec(pair, _) => {
                let sec1 = pair.private_key().as_der().map_err(|_| failed())?;
                pem::encode("EC PRIVATE KEY", sec1.as_ref())
            }
            Pair::Ed(pair) => pem::encode("PRIVATE KEY", pair.to_pkcs8v1().map_err(|_| failed())?.as_ref()),
        };
        Ok(Zeroizing::new(text))
    }

    /// PKCS#8 version 1, DER, as TLS libraries take it.
    ///
    /// # Errors
    /// The library cannot encode the key.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, PrimError> {
        let failed = |_| PrimError::internal("a private key cannot be encoded");
        Ok(Zeroizing::new(match &self.pair {
            Pair::Rsa(pair) => pair.as_der().map_err(failed)?.as_ref().to_vec(),
            Pair::Ec(pair, _) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Ed(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
        }))
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// `spki:HEX`, as [`Certificate::spki_fingerprint`] gives for its certificate.
    pub fn fingerprint(&self) -> String {
        format!("spki:{}", hex::encode(Sha256::digest(&self.spki)))
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        match &self.pair {
            Pair::Rsa(pair) => KeyKind::Rsa(u32::try_from(pair.public_modulus_len() * 8).unwrap_or(u32::MAX)),
            Pair::Ec(_, kind) => *kind,
            Pair::Ed(_) => KeyKind::Ed25519,
        }
    }

    /// Whether it is the private half of the certificate's key.
    pub fn matches(&self, certificate: &Certificate) -> bool {
        let bits = certificate.key_bits();
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref() == bits,
            Pair::Ec(pair, _) => pair.public_key().as_ref() == bits,
            Pair::Ed(pair) => pair.public_key().as_ref() == bits,
        }
    }

    /// Fails unless it is the private half of the certificate's key.
    ///
    /// # Errors
    /// [`Code::KeyMismatch`], naming both.
    pub fn check_matches(&self, certificate: &Certificate, what: &str) -> Result<(), PrimError> {
        if self.matches(certificate) {
            return Ok(());
        }
        Err(PrimError::new(Code::KeyMismatch, "the private key does not belong to the certificate")
            .on(what)
            .expected(certificate.spki_fingerprint(), self.fingerprint())
            .hint("bring key and certificate that were made together"))
    }

    /// Signs, with the hash that cfssl takes for this key.
    ///
    /// # Errors
    /// The library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PrimError> {
        let failed = |_| PrimError::internal("signing failed");
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match self.kind() {
                    KeyKind::Rsa(4096..) => &signature::RSA_PKCS1_SHA512,
                    KeyKind::Rsa(3072..) => &signature::RSA_PKCS1_SHA384,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut out).map_err(failed)?;
                Ok(out)
            }
            Pair::Ec(pair, _) => {
                Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec())
            }
            Pair::Ed(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
        }
    }

    /// The object identifier of the signatures that [`Self::sign`] makes.
    pub(super) fn signature_oid(&self) -> &'static str {
        match self.kind() {
            KeyKind::Rsa(4096..) => "1.2.840.113549.1.1.13",
            KeyKind::Rsa(3072..) => "1.2.840.113549.1.1.12",
            KeyKind::Rsa(_) => "1.2.840.113549.1.1.11",
            KeyKind::P256 => "1.2.840.10045.4.3.2",
            KeyKind::P384 => "1.2.840.10045.4.3.3",
            KeyKind::P521 => "1.2.840.10045.4.3.4",
            KeyKind::Ed25519 => "1.3.101.112",
        }
    }

    /// The AlgorithmIdentifier that [`Self::sign`] will name: it stands inside what is signed.
    pub(crate) fn signature_algorithm(&self) -> Result<Vec<u8>, PrimError> {
        let mut out = Writer::with_room(16);
        out.sequence(|out| {
            out.oid(self.signature_oid())?;
            if matches!(self.pair, Pair::Rsa(_)) {
                out.raw(&[5, 0]);
            }
            Ok(())
        })?;
        Ok(out.finish())
    }
}

fn curve(kind: KeyKind) -> &'static EcdsaSigningAlgorithm {
    match kind {
        KeyKind::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        KeyKind::P521 => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        _ => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
    }
}

/// The SubjectPublicKeyInfo of a point on a curve.
fn ec_spki(kind: KeyKind, point: &[u8]) -> Result<Vec<u8>, PrimError> {
    let mut out = Writer::with_room(point.len() + 32);
    out.sequence(|out| {
        out.sequence(|out| {
            out.oid("1.2.840.10045.2.1")?;
            out.oid(match kind {
                KeyKind::P384 => "1.3.132.0.34",
                KeyKind::P521 => "1.3.132.0.35",
                _ => "1.2.840.10045.3.1.7",
            })
        })?;
        out.bits(point);
        Ok(())
    })?;
    Ok(out.finish())
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.first() != Some(&0x30) || bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

fn open(der: &[u8], passphrase: Option<&Secret>, which: &str) -> Result<Key, PrimError> {
    let Some(passphrase) = passphrase else {
        return Err(PrimError::invalid(format!("{which} is encrypted with a passphrase"))
            .expected("a key without one, or its passphrase", "`ENCRYPTED PRIVATE KEY`")
            .hint(
                "name a file whose first line is the passphrase (`--passphrase-file FILE`; in a script `passphrase_file`)",
            ));
    };
    Key::from_der(&sealed::open(der, passphrase)?)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.kind(), self.fingerprint())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_encoded_as_the_library_does() {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::P521] {
            let key = Key::generate(kind).unwrap();
            let Pair::Ec(pair, _) = &key.pair else { panic!("a curve") };
            assert_eq!(key.spki(), pair.public_key().as_der().unwrap().as_ref());
        }
    }
}
