//! Files that hold a certificate and its key in one, as a kubelet keeps its own. Pure.

use crate::cert::{Certificate, Key};
use crate::error::PrimError;
use crate::pem;

/// What such a file holds.
pub(super) struct Mixed {
    /// Its certificates alone, in PEM.
    pub(super) certificates: String,
    pub(super) key: Result<Key, PrimError>,
}

/// Whether a private key stands in a file.
pub(super) fn holds_key(bytes: &[u8]) -> bool {
    bytes.windows(16).any(|part| part == b"PRIVATE KEY-----")
}

/// The certificates and the key of a file that has both; nothing where it is a key alone.
///
/// # Errors
/// It is damaged.
pub(super) fn of(bytes: &[u8], what: &str) -> Result<Option<Mixed>, PrimError> {
    let blocks = pem::blocks(bytes, what)?.blocks;
    let mut certificates = String::new();
    for block in blocks.iter().filter(|block| pem::label(block) == "CERTIFICATE") {
        certificates += &Certificate::from_der(block.der.to_vec()).map_err(|error| error.on(what))?.pem();
    }
    let key = || Key::from_pem(bytes, what);
    Ok((!certificates.is_empty()).then(|| Mixed { certificates, key: key() }))
}
