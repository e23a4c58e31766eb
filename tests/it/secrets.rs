//! No private key is anywhere but in files that only their owner can read (Must hold 6).
//!
//! The search is not the product's own: that one is held to the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use runner::events::EndState;
use stdlib::files::SimDisk;
use stdlib::world::Disk;

use crate::lab::{Lab, STATE, virtual_time};
use tests::hands::Hands;

/// A private key: where it was found, its PEM, and bytes of it that nobody else may know.
struct PrivateKey {
    whence: String,
    pem: Vec<u8>,
    secret: Vec<u8>,
}

fn der(pem: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap()
}

impl PrivateKey {
    fn read(whence: &str, pem: &[u8]) -> Self {
        let der = der(pem);
        // Of a P-256 key the number itself; of an RSA key bytes after the modulus, amid the private exponent.
        let ec = der.windows(5).position(|window| window == [2, 1, 1, 4, 32]).map(|at| at + 5..at + 37);
        let secret = ec.unwrap_or(der.len() * 2 / 5..der.len() * 2 / 5 + 48);
        Self { whence: whence.to_owned(), pem: pem.to_vec(), secret: der[secret].to_vec() }
    }

    /// The key as PEM, DER, base64 of either at any alignment, and hex.
    fn forms(&self) -> Vec<Vec<u8>> {
        let mut forms = vec![self.secret.clone()];
        forms.push(hex(&self.secret, false));
        forms.push(hex(&self.secret, true));
        let secret_line = |line: &&str| !line.starts_with("-----") && line.len() >= 48;
        let text = String::from_utf8(self.pem.clone()).unwrap();
        let lines: Vec<&str> = text.lines().filter(secret_line).collect();
        // The first line of an RSA key, and the last of any key, are public.
        let lines = if lines.len() > 3 { &lines[lines.len() / 2..lines.len() - 1] } else { &lines[..1] };
        let mut encoded: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        forms.extend(encoded.clone());
        encoded.push(self.secret.clone());
        for bytes in encoded {
            for skipped in 0..3 {
                let whole = &bytes[skipped..skipped + (bytes.len() - skipped) / 3 * 3];
                forms.push(STANDARD_NO_PAD.encode(whole).into_bytes());
                forms.push(URL_SAFE_NO_PAD.encode(whole).into_bytes());
            }
        }
        forms
    }
}

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap();
    let text: String = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    if upper { text.to_uppercase().into_bytes() } else { text.into_bytes() }
}

/// Bytes without line breaks, as JSON or a file has them, so that wrapped base64 is in one piece.
fn unwrapped(bytes: &[u8]) -> Vec<u8> {
    let plain = String::from_utf8_lossy(bytes).replace("\\n", "").replace(['\n', '\r', ' '], "");
    plain.into_bytes()
}

/// Which keys are in which of some texts.
fn found(keys: &[PrivateKey], texts: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeSet<(PathBuf, String)> {
    let needles: Vec<(usize, Vec<u8>)> = keys
        .iter()
        .enumerate()
        .flat_map(|(n, key)| key.forms().into_iter().map(move |form| (n, form)))
        .collect();
    let search = AhoCorasick::new(needles.iter().map(|(_, form)| form)).unwrap();
    let mut hits = BTreeSet::new();
    for (path, text) in texts {
        for text in [text.clone(), unwrapped(text)] {
            for hit in search.find_overlapping_iter(&text) {
                hits.insert((path.clone(), keys[needles[hit.pattern().as_usize()].0].whence.clone()));
            }
        }
    }
    hits
}

/// What others than its owner could read, or what a run publishes: the files of the disk but those of mode 0600 that
/// are a vault's or a key's, and all of the record whatever its mode.
fn exposed(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let vault = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "vault");
    let mut files = disk.files();
    files.retain(|path, _| disk.mode(path).unwrap() != 0o600 || (path.starts_with(STATE) && !vault(path)));
    files
}

async fn keys(lab: &Lab, when: &str, into: &mut Vec<PrivateKey>) {
    let mut add = |whence: String, pem: &[u8]| {
        if !into.iter().any(|known| known.pem == pem) {
            into.push(PrivateKey::read(&whence, pem));
        }
    };
    for (path, bytes) in lab.files() {
        if path.to_string_lossy().contains("-key") {
            add(format!("{when}: {}", path.display()), &bytes);
        }
    }
    for (name, files) in lab.secrets().await {
        if let Some(pem) = files.get("tls.key") {
            add(format!("{when}: Secret {name}"), pem);
        }
    }
}

#[test]
fn no_private_key_leaves_the_vault_in_a_whole_rotation() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let mut known = Vec::new();
        keys(&lab, "before", &mut known).await;
        assert_eq!(known.len(), 5, "a CA and four leaves");
        let ending = lab.forward("tidb/cfssl-rotate", &[("remove_old_ca", "true")]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        keys(&lab, "after", &mut known).await;
        assert_eq!(known.len(), 10, "another CA and four other leaves");

        let mut seen = exposed(&lab.disk);
        assert!(seen.keys().any(|path| path.ends_with("journal.jsonl")));
        assert!(seen.keys().any(|path| path.to_string_lossy().contains("/bodies/")));
        let events = serde_json::to_vec(&lab.reporter.events()).unwrap();
        assert!(events.len() > 10_000);
        seen.insert("events".into(), events);
        seen.insert("ending".into(), serde_json::to_vec(&ending).unwrap());
        assert_eq!(found(&known, &seen), BTreeSet::new());

        let run = PathBuf::from(&ending.record);
        let secrets: Vec<stdlib::Secret> =
            known.iter().map(|key| stdlib::Secret::new(key.pem.clone(), key.whence.clone())).collect();
        assert_eq!(
            journal::leaks(&*lab.disk, &run, &secrets).unwrap(),
            [],
            "the product's own search agrees"
        );

        modes(&lab, &run);
        planted(&lab, &known, &seen);
    });
}

/// The vault holds the keys, and only its owner can read it.
fn modes(lab: &Lab, run: &std::path::Path) {
    let vault = run.join("vault");
    assert_eq!(lab.disk.mode(&vault).unwrap(), 0o700);
    let mut sealed = 0;
    for path in lab.disk.files().into_keys() {
        let mode = lab.disk.mode(&path).unwrap();
        if path.starts_with(&vault) {
            sealed += 1;
            assert_eq!(mode, 0o600, "{}", path.display());
            let folder = path.parent().unwrap();
            assert_eq!(lab.disk.mode(folder).unwrap(), 0o700, "{}", folder.display());
        }
        if path.to_string_lossy().contains("-key") {
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    assert!(sealed > 10, "{sealed} files in the vault");
}

/// The search finds each key in each form, so that its silence means something.
fn planted(lab: &Lab, keys: &[PrivateKey], seen: &BTreeMap<PathBuf, Vec<u8>>) {
    let journal = seen.keys().find(|path| path.ends_with("journal.jsonl")).unwrap();
    for key in keys {
        let der = der(&key.pem);
        let mut shifted = b"x".to_vec();
        shifted.extend_from_slice(&key.pem);
        let forms = [
            ("PEM", key.pem.clone()),
            ("PEM in JSON", serde_json::to_vec(std::str::from_utf8(&key.pem).unwrap()).unwrap()),
            ("DER", der.clone()),
            ("base64 of DER", STANDARD.encode(&der).into_bytes()),
            ("base64 of PEM", STANDARD.encode(&key.pem).into_bytes()),
            ("base64 of PEM, shifted", STANDARD.encode(&shifted).into_bytes()),
            ("hex", hex(&der, false)),
            ("hex in capitals", hex(&der, true)),
        ];
        for (form, bytes) in forms {
            let mut copy = seen[journal].clone();
            copy.extend_from_slice(&bytes);
            let texts = BTreeMap::from([(journal.clone(), copy)]);
            let expected = BTreeSet::from([(journal.clone(), key.whence.clone())]);
            assert_eq!(found(keys, &texts), expected, "{} as {form}", key.whence);
        }
    }
    // A vault's file that others can read is found too.
    let loose = PathBuf::from("/tmp-copy/vault/secret");
    lab.disk.make_dir(loose.parent().unwrap(), 0o700).unwrap();
    lab.disk.write_atomic(&loose, &keys[0].pem, 0o644).unwrap();
    assert_eq!(found(keys, &exposed(&lab.disk)), BTreeSet::from([(loose, keys[0].whence.clone())]));
}
