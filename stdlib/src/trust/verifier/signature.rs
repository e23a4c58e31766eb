//! Signatures on certificates, with the algorithms that Go and OpenSSL accept (more than webpki does).

use aws_lc_rs::signature as lc;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use super::x509::Cert;

/// The kind of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    Ec,
    Ed25519,
    Other,
}

/// The digest of a signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digest {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// What a signature algorithm asks of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    RsaPkcs1(Digest),
    RsaPss(Digest),
    Ecdsa(Digest),
    Ed25519,
}

/// The kind of the key in a certificate.
pub(super) fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> KeyKind {
    match spki.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => KeyKind::Rsa,
        "1.2.840.10045.2.1" => KeyKind::Ec,
        "1.3.101.112" => KeyKind::Ed25519,
        _ => KeyKind::Other,
    }
}

/// The kind of key that made the signature of a certificate, if the algorithm is known.
pub(super) fn signer_kind(cert: &Cert<'_>) -> Option<KeyKind> {
    scheme(&cert.x.signature_algorithm).map(|scheme| match scheme {
        Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) => KeyKind::Rsa,
        Scheme::Ecdsa(_) => KeyKind::Ec,
        Scheme::Ed25519 => KeyKind::Ed25519,
    })
}

/// Whether the signature uses SHA-1, which Go refuses.
pub(super) fn is_sha1(cert: &Cert<'_>) -> bool {
    matches!(
        scheme(&cert.x.signature_algorithm),
        Some(Scheme::RsaPkcs1(Digest::Sha1) | Scheme::Ecdsa(Digest::Sha1) | Scheme::RsaPss(Digest::Sha1))
    )
}

fn scheme(algorithm: &AlgorithmIdentifier<'_>) -> Option<Scheme> {
    Some(match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => Scheme::RsaPkcs1(Digest::Sha1),
        "1.2.840.113549.1.1.11" => Scheme::RsaPkcs1(Digest::Sha256),
        "1.2.840.113549.1.1.12" => Scheme::RsaPkcs1(Digest::Sha384),
        "1.2.840.113549.1.1.13" => Scheme::RsaPkcs1(Digest::Sha512),
        "1.2.840.113549.1.1.10" => {
            let params = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
            Scheme::RsaPss(match params.hash_algorithm_oid().to_id_string().as_str() {
                "2.16.840.1.101.3.4.2.1" => Digest::Sha256,
                "2.16.840.1.101.3.4.2.2" => Digest::Sha384,
                "2.16.840.1.101.3.4.2.3" => Digest::Sha512,
                _ => return None,
            })
        }
        "1.2.840.10045.4.1" => Scheme::Ecdsa(Digest::Sha1),
        "1.2.840.10045.4.3.2" => Scheme::Ecdsa(Digest::Sha256),
        "1.2.840.10045.4.3.3" => Scheme::Ecdsa(Digest::Sha384),
        "1.2.840.10045.4.3.4" => Scheme::Ecdsa(Digest::Sha512),
        "1.3.101.112" => Scheme::Ed25519,
        _ => return None,
    })
}

/// Whether the key of `issuer` made the signature on `cert`.
pub(super) fn verifies(cert: &Cert<'_>, issuer: &Cert<'_>) -> bool {
    let Some(scheme) = scheme(&cert.x.signature_algorithm) else { return false };
    let spki = issuer.x.public_key();
    let Some(algorithm) = verification(scheme, spki) else { return false };
    lc::UnparsedPublicKey::new(algorithm, &spki.subject_public_key.data)
        .verify(cert.x.tbs_certificate.as_ref(), &cert.x.signature_value.data)
        .is_ok()
}

fn verification(
    scheme: Scheme,
    spki: &SubjectPublicKeyInfo<'_>,
) -> Option<&'static dyn lc::VerificationAlgorithm> {
    let kind = key_kind(spki);
    Some(match (scheme, kind) {
        (Scheme::RsaPkcs1(Digest::Sha1), KeyKind::Rsa) => &lc::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (Scheme::RsaPkcs1(Digest::Sha256), KeyKind::Rsa) => {
            &lc::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY
        }
        (Scheme::RsaPkcs1(Digest::Sha384), KeyKind::Rsa) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (Scheme::RsaPkcs1(Digest::Sha512), KeyKind::Rsa) => {
            &lc::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY
        }
        (Scheme::RsaPss(Digest::Sha256), KeyKind::Rsa) => &lc::RSA_PSS_2048_8192_SHA256,
        (Scheme::RsaPss(Digest::Sha384), KeyKind::Rsa) => &lc::RSA_PSS_2048_8192_SHA384,
        (Scheme::RsaPss(Digest::Sha512), KeyKind::Rsa) => &lc::RSA_PSS_2048_8192_SHA512,
        (Scheme::Ed25519, KeyKind::Ed25519) => &lc::ED25519,
        (Scheme::Ecdsa(digest), KeyKind::Ec) => {
            let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            match (curve.as_str(), digest) {
                ("1.2.840.10045.3.1.7", Digest::Sha1) => &lc::ECDSA_P256_SHA1_ASN1,
                ("1.2.840.10045.3.1.7", Digest::Sha256) => &lc::ECDSA_P256_SHA256_ASN1,
                ("1.2.840.10045.3.1.7", Digest::Sha384) => &lc::ECDSA_P256_SHA384_ASN1,
                ("1.2.840.10045.3.1.7", Digest::Sha512) => &lc::ECDSA_P256_SHA512_ASN1,
                ("1.3.132.0.34", Digest::Sha256) => &lc::ECDSA_P384_SHA256_ASN1,
                ("1.3.132.0.34", Digest::Sha384) => &lc::ECDSA_P384_SHA384_ASN1,
                ("1.3.132.0.34", Digest::Sha512) => &lc::ECDSA_P384_SHA512_ASN1,
                ("1.3.132.0.35", Digest::Sha256) => &lc::ECDSA_P521_SHA256_ASN1,
                ("1.3.132.0.35", Digest::Sha384) => &lc::ECDSA_P521_SHA384_ASN1,
                ("1.3.132.0.35", Digest::Sha512) => &lc::ECDSA_P521_SHA512_ASN1,
                _ => return None,
            }
        }
        _ => return None,
    })
}
