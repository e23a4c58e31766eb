//! Signatures: whether a key signed these bytes, for every algorithm that we issue or meet.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::PrimError;

const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const P521: &str = "1.3.132.0.35";

/// The usual name of a signature algorithm.
pub(crate) fn signature_name(oid: &str) -> &str {
    match oid {
        "1.2.840.113549.1.1.5" => "sha1WithRSAEncryption",
        "1.2.840.113549.1.1.11" => "sha256WithRSAEncryption",
        "1.2.840.113549.1.1.12" => "sha384WithRSAEncryption",
        "1.2.840.113549.1.1.13" => "sha512WithRSAEncryption",
        "1.2.840.113549.1.1.10" => "rsassaPss",
        "1.2.840.10045.4.1" => "ecdsa-with-SHA1",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.3.101.112" => "Ed25519",
        other => other,
    }
}

/// The kind and size of a public key, as cfssl's requests name them.
pub(crate) fn key_name(spki: &SubjectPublicKeyInfo<'_>) -> String {
    let oid = spki.algorithm.algorithm.to_id_string();
    match (oid.as_str(), curve(spki).as_deref()) {
        ("1.2.840.113549.1.1.1", _) => match spki.parsed() {
            Ok(PublicKey::RSA(key)) => format!("rsa {}", key.key_size()),
            _ => "rsa".into(),
        },
        (_, Some(P256)) => "ecdsa 256".into(),
        (_, Some(P384)) => "ecdsa 384".into(),
        (_, Some(P521)) => "ecdsa 521".into(),
        ("1.3.101.112", _) => "ed25519".into(),
        _ => oid,
    }
}

fn curve(spki: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    if spki.algorithm.algorithm.to_id_string() != "1.2.840.10045.2.1" {
        return None;
    }
    Some(spki.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string())
}

/// Reads a SubjectPublicKeyInfo.
pub(super) fn read_spki(spki: &[u8]) -> Result<SubjectPublicKeyInfo<'_>, PrimError> {
    SubjectPublicKeyInfo::from_der(spki).map(|(_, spki)| spki).map_err(|_| {
        PrimError::invalid("malformed public key")
            .expected("the DER of a SubjectPublicKeyInfo", "broken DER")
            .hint("it was damaged or cut: copy it again from where it came")
    })
}

/// Checks the signature of a certificate with an issuer's SubjectPublicKeyInfo.
pub(crate) fn signature(certificate: &[u8], issuer_spki: &[u8]) -> Result<(), PrimError> {
    let (_, x509) = X509Certificate::from_der(certificate)
        .map_err(|_| PrimError::invalid("is no well-formed certificate").expected("DER", "broken DER"))?;
    let parameters = x509.signature_algorithm.parameters.as_ref().map(|p| p.data).unwrap_or_default();
    check(
        issuer_spki,
        &x509.signature_algorithm.algorithm.to_id_string(),
        parameters,
        x509.tbs_certificate.as_ref(),
        &x509.signature_value.data,
    )
}

/// Checks a signature over `message` with a SubjectPublicKeyInfo.
pub(crate) fn check(
    spki: &[u8],
    algorithm: &str,
    parameters: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), PrimError> {
    let spki = read_spki(spki)?;
    let unsupported = || {
        PrimError::invalid(format!(
            "is signed with `{}` by a key of kind `{}`, which is not supported",
            signature_name(algorithm),
            key_name(&spki)
        ))
        .expected("RSA with SHA-1 or SHA-2, ECDSA with SHA-2, or Ed25519", "another")
    };
    let curve = curve(&spki);
    let algorithm: &dyn VerificationAlgorithm = match (signature_name(algorithm), curve.as_deref()) {
        ("sha1WithRSAEncryption", None) => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        ("sha256WithRSAEncryption", None) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        ("sha384WithRSAEncryption", None) => &signature::RSA_PKCS1_2048_8192_SHA384,
        ("sha512WithRSAEncryption", None) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        // The hash is named in the parameters: id-sha256, -384 and -512 end in 1, 2 and 3.
        ("rsassaPss", None) => match pss_hash(parameters) {
            Some(1) => &signature::RSA_PSS_2048_8192_SHA256,
            Some(2) => &signature::RSA_PSS_2048_8192_SHA384,
            Some(3) => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return Err(unsupported()),
        },
        ("ecdsa-with-SHA256", Some(P256)) => &signature::ECDSA_P256_SHA256_ASN1,
        ("ecdsa-with-SHA384", Some(P256)) => &signature::ECDSA_P256_SHA384_ASN1,
        ("ecdsa-with-SHA512", Some(P256)) => &signature::ECDSA_P256_SHA512_ASN1,
        ("ecdsa-with-SHA256", Some(P384)) => &signature::ECDSA_P384_SHA256_ASN1,
        ("ecdsa-with-SHA384", Some(P384)) => &signature::ECDSA_P384_SHA384_ASN1,
        ("ecdsa-with-SHA512", Some(P384)) => &signature::ECDSA_P384_SHA512_ASN1,
        ("ecdsa-with-SHA256", Some(P521)) => &signature::ECDSA_P521_SHA256_ASN1,
        ("ecdsa-with-SHA384", Some(P521)) => &signature::ECDSA_P521_SHA384_ASN1,
        ("ecdsa-with-SHA512", Some(P521)) => &signature::ECDSA_P521_SHA512_ASN1,
        ("Ed25519", None) => &signature::ED25519,
        _ => return Err(unsupported()),
    };
    UnparsedPublicKey::new(algorithm, &spki.subject_public_key.data).verify(message, signature).map_err(
        |_| {
            PrimError::invalid("its signature was not made by this key")
                .expected("a signature by it", "another's, or an altered text")
        },
    )
}

/// Last arc of the hash in RSASSA-PSS parameters, which begin with `[0] SEQUENCE { OID 2.16.840.1.101.3.4.2.N`.
fn pss_hash(parameters: &[u8]) -> Option<u8> {
    let prefix = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    let at = parameters.windows(prefix.len()).position(|window| window == prefix)?;
    parameters.get(at + prefix.len()).copied()
}
