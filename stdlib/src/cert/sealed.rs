//! Private keys under a passphrase: PKCS#8 with PBES2, as openssl has written them since 1.1.

use pkcs8::der::Decode as _;
use pkcs8::pkcs5::{self, EncryptionScheme, pbes2};
use pkcs8::{EncryptedPrivateKeyInfoRef, Error};
use zeroize::Zeroizing;

use crate::error::PrimError;
use crate::secret::Secret;

/// Some seconds of work; what tools write is a hundredth of it.
const MAX_ITERATIONS: u32 = 10_000_000;
/// `N · r · p` of scrypt, of which 128 bytes each are held and gone through: 256 MiB.
const MAX_SCRYPT: u64 = 1 << 21;
const CONVERT: &str = "convert it: `openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW`";

/// The passphrase in a file: its first line without the line's end, as openssl's `-passin file:` reads it.
pub fn passphrase(file: &[u8]) -> Secret {
    let line = file.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Secret::new(line.strip_suffix(b"\r").unwrap_or(line), "hmac:passphrase")
}

/// Opens an `EncryptedPrivateKeyInfo`.
pub(super) fn open(der: &[u8], passphrase: &Secret) -> Result<Zeroizing<Vec<u8>>, PrimError> {
    let sealed = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|_| unsupported("another scheme"))?;
    check_cost(&sealed.encryption_algorithm)?;
    let plain = sealed.decrypt(passphrase.expose()).map_err(|error| match error {
        Error::EncryptedPrivateKey(pkcs5::Error::NoPbes1CryptSupport) => unsupported("PBES1"),
        Error::EncryptedPrivateKey(pkcs5::Error::UnsupportedAlgorithm { oid }) => {
            unsupported(&format!("the algorithm {oid}"))
        }
        _ => PrimError::invalid("cannot be opened with this passphrase")
            .expected("the passphrase with which it was encrypted", "another, or a damaged file")
            .hint("check the passphrase: of a file, the first line counts, with its blanks"),
    })?;
    Ok(Zeroizing::new(plain.as_bytes().to_vec()))
}

/// Whether bytes are an `EncryptedPrivateKeyInfo` in DER.
pub(super) fn is_sealed(der: &[u8]) -> bool {
    EncryptedPrivateKeyInfoRef::from_der(der).is_ok()
}

fn unsupported(found: &str) -> PrimError {
    PrimError::invalid("is encrypted in a way that is not supported")
        .expected("PBES2 with AES or 3DES", found)
        .hint(CONVERT)
}

/// Whoever wrote the file chose how long opening it takes: not longer than we are willing to wait.
fn check_cost(scheme: &EncryptionScheme) -> Result<(), PrimError> {
    let EncryptionScheme::Pbes2(pbes2::Parameters { kdf, .. }) = scheme else { return Ok(()) };
    let costly = |limit: String, found: String| {
        Err(PrimError::invalid("would take too long to open").expected(limit, found).hint(CONVERT))
    };
    match kdf {
        pbes2::Kdf::Pbkdf2(params) if params.iteration_count > MAX_ITERATIONS => {
            costly(format!("at most {MAX_ITERATIONS} rounds of PBKDF2"), params.iteration_count.to_string())
        }
        pbes2::Kdf::Scrypt(params) => {
            let cost = params
                .cost_parameter
                .checked_mul(u64::from(params.block_size))
                .and_then(|cost| cost.checked_mul(u64::from(params.parallelization)));
            match cost {
                Some(cost) if cost <= MAX_SCRYPT => Ok(()),
                _ => costly(
                    format!("N·r·p of at most {MAX_SCRYPT} for scrypt"),
                    format!("N={}", params.cost_parameter),
                ),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pkcs8::EncryptedPrivateKeyInfo;
    use pkcs8::der::Encode as _;
    use pkcs8::der::asn1::OctetStringRef;

    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        for file in ["open sesame", "open sesame\n", "open sesame\r\n", "open sesame\nsecond\n"] {
            assert_eq!(passphrase(file.as_bytes()).expose(), b"open sesame", "{file:?}");
        }
        assert_eq!(passphrase(b" \n").expose(), b" ", "blanks belong to it");
        assert_eq!(passphrase(b"").expose(), b"");
    }

    /// A file that asks for hours or gigabytes is refused before any of it is spent.
    #[test]
    fn a_file_does_not_choose_how_long_opening_it_takes() {
        let sealed = |kdf: pbes2::Kdf| {
            let encryption = pbes2::EncryptionScheme::Aes256Cbc { iv: [0; 16] };
            let scheme = EncryptionScheme::Pbes2(pbes2::Parameters { kdf, encryption });
            EncryptedPrivateKeyInfo {
                encryption_algorithm: scheme,
                encrypted_data: OctetStringRef::new(&[0; 48]).unwrap(),
            }
            .to_der()
            .unwrap()
        };
        let refusal = |kdf| open(&sealed(kdf), &Secret::new("x", "hmac:x")).unwrap_err().to_string();
        let rounds = pbes2::Pbkdf2Params::hmac_sha256(90_000_000, &[1; 8]).unwrap();
        let told = refusal(rounds.into());
        assert!(told.starts_with("would take too long to open (expected at most 10000000 rounds"), "{told}");
        let greedy = pbes2::ScryptParams {
            salt: [1_u8; 8].as_slice().try_into().unwrap(),
            cost_parameter: 1 << 40,
            block_size: 8,
            parallelization: 1,
            key_length: None,
        };
        let told = refusal(pbes2::Kdf::Scrypt(greedy));
        assert!(told.contains("N=1099511627776"), "{told}");
    }
}
