//! Kinds of private keys, by the names under which requests ask for them.

use std::fmt;

use crate::error::PrimError;

/// What kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA of 2048, 3072, 4096 or 8192 bits.
    Rsa(u32),
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

/// The sizes of RSA keys that the cryptography library makes. It reads, and signs with, any from 2048 to 8192 bits.
pub const RSA_SIZES: [u32; 4] = [2048, 3072, 4096, 8192];

impl KeyKind {
    /// Reads what [`fmt::Display`] writes: `rsa 2048`, `ecdsa 256`, `ed25519`.
    ///
    /// # Errors
    /// Another algorithm or size.
    pub fn parse(text: &str) -> Result<Self, PrimError> {
        let (algorithm, size) = text.trim().split_once([' ', '-', ':']).unwrap_or((text.trim(), ""));
        let found = || format!("`{}`", text.escape_debug());
        match (algorithm.to_ascii_lowercase().as_str(), size.trim()) {
            ("rsa", size) => {
                let bits = size.parse().map_err(|_| wrong_kind(found()))?;
                check_rsa_size(bits)?;
                Ok(Self::Rsa(bits))
            }
            ("ecdsa", "" | "256") => Ok(Self::P256),
            ("ecdsa", "384") => Ok(Self::P384),
            ("ecdsa", "521") => Ok(Self::P521),
            ("ed25519", "") => Ok(Self::Ed25519),
            _ => Err(wrong_kind(found())),
        }
    }
}

fn wrong_kind(found: String) -> PrimError {
    PrimError::argument("a key of this kind cannot be made").expected(
        "`rsa 2048`, `rsa 3072`, `rsa 4096`, `rsa 8192`, `ecdsa 256`, `ecdsa 384`, `ecdsa 521` or `ed25519`",
        found,
    )
    .hint("name it as `rsa 2048` or `ecdsa 256`")
}

/// Whether an RSA key of this size can be made.
pub(crate) fn check_rsa_size(bits: u32) -> Result<(), PrimError> {
    if RSA_SIZES.contains(&bits) {
        return Ok(());
    }
    Err(PrimError::argument("an RSA key of this size cannot be made")
        .expected("2048, 3072, 4096 or 8192 bits", bits.to_string())
        .hint(if (2048..8192).contains(&bits) {
            "a key of another size that is there already can be used: make it with `openssl genrsa`, and name its file (`--key FILE`; in a script `cert::read_key`)"
        } else {
            "take one of these sizes"
        }))
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "rsa {bits}"),
            Self::P256 => f.write_str("ecdsa 256"),
            Self::P384 => f.write_str("ecdsa 384"),
            Self::P521 => f.write_str("ecdsa 521"),
            Self::Ed25519 => f.write_str("ed25519"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in [KeyKind::Rsa(4096), KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Ed25519] {
            assert_eq!(KeyKind::parse(&kind.to_string()).unwrap(), kind);
        }
        assert_eq!(KeyKind::parse("RSA-2048").unwrap(), KeyKind::Rsa(2048));
        assert_eq!(KeyKind::parse("ecdsa").unwrap(), KeyKind::P256);
        for bad in ["", "rsa", "rsa 2049", "rsa 1024", "ecdsa 224", "ed25519 256", "dsa 2048"] {
            assert!(KeyKind::parse(bad).is_err(), "{bad}");
        }
    }
}
