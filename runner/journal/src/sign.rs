//! The key that signs checkpoints, and the text by which an auditor knows it.
//!
//! Both have the forms of C2SP `signed-note`: a verifier key is `NAME+HASH+BASE64`, where HASH is the first four
//! bytes of SHA-256 over the name, a newline, the algorithm byte 1 (Ed25519) and the public key. The private key's
//! file is one line, `PRIVATE+KEY+NAME+HASH+BASE64` over the algorithm byte and the seed. The key is made once for a
//! machine and user.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use stdlib::world::Disk;
use zeroize::Zeroizing;

use crate::error::JournalError;

const ALGORITHM: u8 = 1;
const KEY_FILE: &str = "signing.key";
const PUBLIC_FILE: &str = "signing.vkey";

/// A public key with its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

fn key_id(name: &str, key: &[u8]) -> [u8; 4] {
    let digest =
        Sha256::new().chain_update(name).chain_update([b'\n', ALGORITHM]).chain_update(key).finalize();
    let mut id = [0; 4];
    id.copy_from_slice(&digest[..4]);
    id
}

fn name_is_valid(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control())
}

impl VerifierKey {
    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The four bytes that tell keys of one name apart.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, &self.key)
    }

    /// The raw public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.key
    }

    /// Whether the signature over the text is this key's.
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key).verify(text, signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ALGORITHM];
        bytes.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(bytes))
    }
}

impl FromStr for VerifierKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let malformed = |why: &str| format!("`{text}` is no verifier key (NAME+HASH+BASE64): {why}");
        if text.starts_with("PRIVATE+KEY+") {
            return Err("this is a private key; the verifier key lies beside it, in `signing.vkey`".into());
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("expected three parts"));
        };
        let bytes = STANDARD.decode(key).map_err(|_| malformed("the key is not base64"))?;
        let (Some(1), Ok(key)) = (bytes.first(), <[u8; 32]>::try_from(bytes.get(1..).unwrap_or_default()))
        else {
            return Err(malformed("not an Ed25519 key"));
        };
        let parsed = Self { name: name.to_owned(), key };
        if !name_is_valid(name) {
            return Err(malformed("the name is empty, or has spaces"));
        }
        if hex::encode(parsed.id()) != id {
            return Err(malformed("the hash does not belong to name and key"));
        }
        Ok(parsed)
    }
}

/// A private key with its name.
pub struct Signer {
    public: VerifierKey,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public)
    }
}

impl Signer {
    /// The key of this machine and user: read from the folder, or made and stored there (durably, mode 0600). `name`
    /// is used when it is made; characters that a name may not have become `-`.
    ///
    /// # Errors
    /// The folder cannot be read or written; the file is not a key, or others can read it.
    pub fn load_or_create(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Self, JournalError> {
        let path = dir.join(KEY_FILE);
        if !disk.exists(&path) {
            let name: String =
                name.chars().map(|c| if name_is_valid(&c.to_string()) { c } else { '-' }).collect();
            let name = if name.is_empty() { "rollover".to_owned() } else { name };
            let mut seed = Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(seed.as_mut()).map_err(|_| JournalError::Randomness)?;
            let signer = Self::from_seed(&name, seed.as_ref())?;
            disk.make_dir(dir, 0o700).map_err(JournalError::io(dir))?;
            disk.write_atomic(&path, signer.private_text(seed.as_ref()).as_bytes(), 0o600)
                .map_err(JournalError::io(&path))?;
        }
        let signer = Self::load(disk, &path)?;
        let public = dir.join(PUBLIC_FILE);
        if !disk.exists(&public) {
            let text = format!("{}\n", signer.public);
            disk.write_atomic(&public, text.as_bytes(), 0o644).map_err(JournalError::io(&public))?;
        }
        Ok(signer)
    }

    fn load(disk: &dyn Disk, path: &Path) -> Result<Self, JournalError> {
        let mode = disk.mode(path).map_err(JournalError::io(path))?;
        if mode & 0o077 != 0 {
            return Err(JournalError::Exposed { path: path.to_owned(), mode });
        }
        let text = Zeroizing::new(disk.read(path).map_err(JournalError::io(path))?);
        let malformed = || JournalError::BadKey { path: path.to_owned() };
        let text = std::str::from_utf8(&text).map_err(|_| malformed())?;
        let rest = text.trim().strip_prefix("PRIVATE+KEY+").ok_or_else(malformed)?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let bytes = Zeroizing::new(STANDARD.decode(key).map_err(|_| malformed())?);
        if bytes.first() != Some(&ALGORITHM) {
            return Err(malformed());
        }
        let signer = Self::from_seed(name, bytes.get(1..).unwrap_or_default()).map_err(|_| malformed())?;
        if hex::encode(signer.public.id()) == id { Ok(signer) } else { Err(malformed()) }
    }

    /// A key from its 32-byte seed.
    ///
    /// # Errors
    /// The seed has another length, or the name has spaces or a plus.
    pub fn from_seed(name: &str, seed: &[u8]) -> Result<Self, JournalError> {
        let bad = || JournalError::BadKey { path: name.into() };
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| bad())?;
        let key = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| bad())?;
        if !name_is_valid(name) {
            return Err(bad());
        }
        Ok(Self { public: VerifierKey { name: name.to_owned(), key }, pair })
    }

    fn private_text(&self, seed: &[u8]) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(vec![ALGORITHM]);
        bytes.extend_from_slice(seed);
        let encoded = Zeroizing::new(STANDARD.encode(&*bytes));
        let id = hex::encode(self.public.id());
        Zeroizing::new(format!("PRIVATE+KEY+{}+{id}+{}\n", self.public.name, *encoded))
    }

    /// Its public half.
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// Signs.
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}
