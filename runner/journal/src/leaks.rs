//! Looking for secrets where they must not be: law 6's scan of a run's record.
//!
//! Of a private key its secret numbers are sought, so it is found in whatever container it is written (PKCS#8, SEC1,
//! PKCS#1; PEM, DER, base64 at any alignment and however wrapped or escaped, hex, and PEM within base64 as Kubernetes
//! Secrets have it). Other secrets are sought whole; those shorter than eight bytes are not, for they are in every
//! file. Of a backup only the private keys in it are secret.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use stdlib::Secret;
use stdlib::world::Disk;
use zeroize::Zeroizing;

use crate::error::JournalError;

const SHORTEST: usize = 8;

/// A secret that lies where it must not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// In which file.
    pub file: PathBuf,
    /// Which secret, by its public fingerprint.
    pub fingerprint: String,
    /// In which form, e.g. `base64`.
    pub form: &'static str,
}

struct Needle {
    text: Zeroizing<Vec<u8>>,
    secret: usize,
    form: &'static str,
}

/// Looks for the secrets in all files below a folder. In folders named `vault` they may be, if nobody else can read
/// them.
///
/// # Errors
/// A file cannot be read.
pub fn leaks(disk: &dyn Disk, dir: &Path, secrets: &[Secret]) -> Result<Vec<Leak>, JournalError> {
    let needles: Vec<Needle> =
        secrets.iter().enumerate().flat_map(|(n, secret)| needles(n, secret)).collect();
    let texts = needles.iter().map(|needle| needle.text.as_slice());
    let internal = |e: aho_corasick::BuildError| JournalError::io(dir)(io::Error::other(e.to_string()));
    let automaton = AhoCorasick::new(texts).map_err(internal)?;
    let scan = Scan { disk, secrets, needles: &needles, automaton };
    let mut found = BTreeSet::new();
    scan.folder(dir, false, &mut found)?;
    Ok(found.into_iter().collect())
}

struct Scan<'a> {
    disk: &'a dyn Disk,
    secrets: &'a [Secret],
    needles: &'a [Needle],
    automaton: AhoCorasick,
}

impl Scan<'_> {
    fn folder(&self, dir: &Path, vault: bool, found: &mut BTreeSet<Leak>) -> Result<(), JournalError> {
        for name in self.disk.list(dir).map_err(JournalError::io(dir))? {
            let path = dir.join(&name);
            if self.disk.list(&path).is_ok() {
                self.folder(&path, vault || name == "vault", found)?;
            } else if vault {
                let mode = self.disk.mode(&path).map_err(JournalError::io(&path))?;
                if mode & 0o077 != 0 {
                    let fingerprint = "everything in the vault".to_owned();
                    found.insert(Leak { file: path, fingerprint, form: "a file that others can read" });
                }
            } else {
                self.file(&path, false, found)?;
                self.file(&path, true, found)?;
            }
        }
        Ok(())
    }

    fn file(&self, path: &Path, squeezed: bool, found: &mut BTreeSet<Leak>) -> Result<(), JournalError> {
        let file = self.disk.open(path).map_err(JournalError::io(path))?;
        let reader: Box<dyn Read> =
            if squeezed { Box::new(Squeeze { inner: file, escaped: false }) } else { file };
        for hit in self.automaton.stream_find_iter(reader) {
            let hit = hit.map_err(JournalError::io(path))?;
            let Some(needle) = self.needles.get(hit.pattern().as_usize()) else { continue };
            let fingerprint = self.secrets.get(needle.secret).map(|s| s.fingerprint().to_owned());
            let fingerprint = fingerprint.unwrap_or_default();
            found.insert(Leak { file: path.to_owned(), fingerprint, form: needle.form });
        }
        Ok(())
    }
}

/// Leaves out white space, colons and JSON's escapes of them, so that wrapped base64 and `ab:cd` hex are in one piece.
struct Squeeze<R> {
    inner: R,
    escaped: bool,
}

impl<R: Read> Read for Squeeze<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.inner.read(buffer)?;
            let mut kept = 0;
            for at in 0..read {
                let Some(byte) = buffer.get(at).copied() else { break };
                let escape = byte == b'\\';
                let dropped = escape
                    || byte.is_ascii_whitespace()
                    || byte == b':'
                    || (self.escaped && matches!(byte, b'n' | b'r' | b't'));
                self.escaped = escape;
                if !dropped {
                    if let Some(slot) = buffer.get_mut(kept) {
                        *slot = byte;
                    }
                    kept += 1;
                }
            }
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

fn needles(secret: usize, source: &Secret) -> Vec<Needle> {
    let mut texts: Vec<(Zeroizing<Vec<u8>>, &'static str)> = Vec::new();
    let mut keys = Vec::new();
    private_keys(source.expose(), 3, &mut keys);
    for der in &keys {
        for number in secret_numbers(der) {
            let number = der.get(number).unwrap_or_default();
            forms(number, &mut texts);
            pem_forms(number, &mut texts);
        }
    }
    let backup = source.expose().starts_with(b"{") || source.expose().starts_with(b"mode 0");
    let public = contains(source.expose(), b"-----BEGIN ");
    if keys.is_empty() && !backup && !public && source.expose().len() >= SHORTEST {
        forms(source.expose(), &mut texts);
    }
    texts.sort_by(|a, b| a.0.as_slice().cmp(b.0.as_slice()));
    texts.dedup_by(|a, b| a.0.as_slice() == b.0.as_slice());
    texts.into_iter().map(|(text, form)| Needle { text, secret, form }).collect()
}

/// Who has the end of a secret has it: enough to be sure, and short needles are quick. Not the beginning: all tokens of
/// one issuer begin alike.
fn end_of(bytes: &[u8]) -> &[u8] {
    bytes.last_chunk::<32>().map_or(bytes, <[u8; 32]>::as_slice)
}

fn forms(bytes: &[u8], into: &mut Vec<(Zeroizing<Vec<u8>>, &'static str)>) {
    let bytes = end_of(bytes);
    into.push((Zeroizing::new(bytes.to_vec()), "plain or DER"));
    wrapped_forms(bytes, into);
}

fn wrapped_forms(bytes: &[u8], into: &mut Vec<(Zeroizing<Vec<u8>>, &'static str)>) {
    into.push((Zeroizing::new(hex::encode(bytes).into_bytes()), "hex"));
    into.push((Zeroizing::new(hex::encode_upper(bytes).into_bytes()), "hex"));
    // Within a longer text the bytes may begin at any place of a group of three; only whole groups are certain.
    for skipped in 0..3 {
        let rest = bytes.get(skipped..).unwrap_or_default();
        let whole = rest.get(..rest.len() / 3 * 3).unwrap_or_default();
        if whole.len() >= 6 {
            into.push((Zeroizing::new(STANDARD_NO_PAD.encode(whole).into_bytes()), "PEM or base64"));
            into.push((Zeroizing::new(URL_SAFE_NO_PAD.encode(whole).into_bytes()), "PEM or base64"));
        }
    }
}

/// A number within PEM that is itself within base64 or hex. In the PEM it begins at any place of a group of three, and
/// a line may end within it; then either the first or the second half of its text is in one piece.
fn pem_forms(number: &[u8], into: &mut Vec<(Zeroizing<Vec<u8>>, &'static str)>) {
    let number = end_of(number);
    for skipped in 0..3 {
        let rest = number.get(skipped..).unwrap_or_default();
        let whole = rest.get(..rest.len() / 3 * 3).unwrap_or_default();
        let text = Zeroizing::new(STANDARD_NO_PAD.encode(whole));
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        wrapped_forms(first, into);
        wrapped_forms(second, into);
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The DER of every private key in some bytes: PEM, DER, or either within JSON and base64.
fn private_keys(bytes: &[u8], depth: u32, into: &mut Vec<Zeroizing<Vec<u8>>>) {
    if !secret_numbers(bytes).is_empty() {
        into.push(Zeroizing::new(bytes.to_vec()));
        return;
    }
    let Some(deeper) = depth.checked_sub(1) else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for block in text.split("-----BEGIN ").skip(1) {
        let (Some((label, rest)), true) = (block.split_once("-----"), block.contains("-----END ")) else {
            continue;
        };
        if label.ends_with("PRIVATE KEY") {
            let body: Zeroizing<String> = Zeroizing::new(
                rest.split("-----END ").next().unwrap_or_default().split_ascii_whitespace().collect(),
            );
            if let Ok(der) = STANDARD.decode(body.as_bytes()) {
                private_keys(&Zeroizing::new(der), 0, into);
            }
        }
    }
    // A backup of a file begins with a line that tells its mode.
    let json =
        text.split_once('\n').filter(|(first, _)| first.starts_with("mode 0")).map_or(text, |(_, rest)| rest);
    match serde_json::from_str::<Value>(json) {
        Ok(value) => strings(&value, &mut |found| private_keys(found.as_bytes(), deeper, into)),
        Err(_) => {
            if let Ok(decoded) = STANDARD.decode(text.trim()) {
                private_keys(&Zeroizing::new(decoded), deeper, into);
            }
        }
    }
}

fn strings(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter().for_each(|item| strings(item, each)),
        Value::Object(members) => members.values().for_each(|item| strings(item, each)),
        _ => {}
    }
}

/// One element of DER: its tag, and where its content lies.
fn element(der: &[u8], at: usize) -> Option<(u8, Range<usize>)> {
    let tag = *der.get(at)?;
    let first = *der.get(at + 1)?;
    let (len, start) = if first < 0x80 {
        (usize::from(first), at + 2)
    } else {
        let count = usize::from(first & 0x7f);
        let bytes = der.get(at + 2..at + 2 + count).filter(|_| (1..=4).contains(&count))?;
        (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), at + 2 + count)
    };
    let end = start.checked_add(len).filter(|end| *end <= der.len())?;
    Some((tag, start..end))
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Where the secret numbers of a private key lie in its DER; none for anything else.
fn secret_numbers(der: &[u8]) -> Vec<Range<usize>> {
    match element(der, 0) {
        Some((SEQUENCE, content)) if content.end == der.len() => numbers_in(der, &content),
        _ => Vec::new(),
    }
}

fn numbers_in(der: &[u8], sequence: &Range<usize>) -> Vec<Range<usize>> {
    let mut elements = Vec::new();
    let mut at = sequence.start;
    while at < sequence.end {
        let Some((tag, content)) = element(der, at).filter(|(_, content)| content.end <= sequence.end) else {
            return Vec::new();
        };
        at = content.end;
        elements.push((tag, content));
    }
    let mut found = match elements.as_slice() {
        // PKCS#8: version, algorithm, and a key inside; of Ed25519 a string of octets.
        [(INTEGER, _), (SEQUENCE, _), (OCTETS, inner), ..] => match element(der, inner.start) {
            Some((SEQUENCE, key)) if key.end == inner.end => numbers_in(der, &key),
            Some((OCTETS, key)) if key.end == inner.end => vec![key],
            _ => Vec::new(),
        },
        // SEC1: version and the number.
        [(INTEGER, _), (OCTETS, key), ..] => vec![key.clone()],
        // PKCS#1: version, modulus, public exponent, private exponent, two primes, …
        [(INTEGER, _), (INTEGER, _), (INTEGER, _), (INTEGER, d), (INTEGER, p), (INTEGER, q), ..] => {
            vec![d.clone(), p.clone(), q.clone()]
        }
        _ => Vec::new(),
    };
    for number in &mut found {
        // Written elsewhere, a number may come without the zero that keeps it positive.
        while number.len() > 1 && der.get(number.start) == Some(&0) {
            number.start += 1;
        }
    }
    found.retain(|number| number.len() >= 16);
    found
}
