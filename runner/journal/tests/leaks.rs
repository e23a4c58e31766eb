//! The scan for secrets finds them in every form, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use journal::leaks;
use stdlib::Secret;
use stdlib::files::SimDisk;
use stdlib::world::Disk;

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "openssl {args:?}");
    out.stdout
}

struct Key {
    name: &'static str,
    pkcs8: Vec<u8>,
    /// In its older form, where it has one.
    legacy: Option<Vec<u8>>,
    certificate: Vec<u8>,
}

fn keys() -> Vec<Key> {
    let make: [(&str, &[&str], Option<&str>); 3] = [
        ("ec", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], Some("ec")),
        ("rsa", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], Some("rsa")),
        ("ed25519", &["genpkey", "-algorithm", "ED25519"], None),
    ];
    make.into_iter()
        .map(|(name, args, legacy)| {
            let pkcs8 = openssl(args, b"");
            let legacy = legacy.map(|kind| match kind {
                "ec" => openssl(&["ec"], &pkcs8),
                _ => openssl(&["rsa", "-traditional"], &pkcs8),
            });
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("key.pem");
            std::fs::write(&path, &pkcs8).unwrap();
            let certificate =
                openssl(&["req", "-x509", "-new", "-subj", "/CN=ca", "-key", path.to_str().unwrap()], b"");
            Key { name, pkcs8, legacy, certificate }
        })
        .collect()
}

fn der(pem: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(pem).unwrap();
    let start = text.rfind("-----BEGIN").unwrap();
    let body: String = text[start..].lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

fn scan(secret: &[u8], content: &[u8]) -> Vec<&'static str> {
    let disk = SimDisk::new();
    disk.make_dir(Path::new("/run"), 0o700).unwrap();
    disk.write_atomic(Path::new("/run/journal.jsonl"), content, 0o600).unwrap();
    let secrets = [Secret::new(secret, "spki:aa")];
    leaks(&disk, Path::new("/run"), &secrets).unwrap().into_iter().map(|leak| leak.form).collect()
}

/// The ways in which a key may get into a record.
fn disguises(pem: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = std::str::from_utf8(pem).unwrap();
    let der = der(pem);
    let colons: Vec<String> = der.iter().map(|byte| format!("{byte:02x}")).collect();
    let wrapped: Vec<String> =
        STANDARD.encode(&der).as_bytes().chunks(76).map(|c| String::from_utf8(c.to_vec()).unwrap()).collect();
    let within = |ahead: usize| [vec![b'x'; ahead], der.clone(), b"tail".to_vec()].concat();
    vec![
        ("PEM", pem.to_vec()),
        ("PEM within JSON", serde_json::to_vec(&serde_json::json!({ "error": text })).unwrap()),
        ("PEM within JSON within JSON", {
            let inner = serde_json::to_string(&serde_json::json!({ "error": text })).unwrap();
            serde_json::to_vec(&serde_json::json!({ "body": inner })).unwrap()
        }),
        ("DER", der.clone()),
        ("hex", hex::encode(&der).into_bytes()),
        ("HEX", hex::encode_upper(&der).into_bytes()),
        ("hex with colons", colons.join(":").into_bytes()),
        (
            "hex dump of openssl",
            colons.chunks(15).map(|c| c.join(":")).collect::<Vec<_>>().join(":\n    ").into_bytes(),
        ),
        ("base64", STANDARD.encode(&der).into_bytes()),
        ("base64url", URL_SAFE.encode(&der).into_bytes()),
        ("base64 wrapped at 76", wrapped.join("\r\n").into_bytes()),
        ("base64 at 1", STANDARD.encode(within(1)).into_bytes()),
        ("base64 at 2", STANDARD.encode(within(2)).into_bytes()),
        ("PEM within base64", STANDARD.encode(pem).into_bytes()),
        (
            "PEM after a certificate within base64",
            STANDARD.encode([b"ab".as_slice(), pem].concat()).into_bytes(),
        ),
        ("PEM within hex", hex::encode(pem).into_bytes()),
    ]
}

#[test]
fn a_key_is_found_in_every_form_and_container() {
    for key in keys() {
        let forms: Vec<&Vec<u8>> = std::iter::once(&key.pkcs8).chain(&key.legacy).collect();
        for (known_as, known) in forms.iter().enumerate() {
            for (written_as, written) in forms.iter().enumerate() {
                for (how, content) in disguises(written) {
                    let found = scan(known, &content);
                    assert!(
                        !found.is_empty(),
                        "{} known as {known_as}, written as {written_as}, {how}",
                        key.name
                    );
                }
            }
            let known = der(known);
            assert!(!scan(&known, &key.pkcs8).is_empty(), "{} known in DER", key.name);
        }
    }
}

#[test]
fn a_certificate_or_public_key_is_no_leak() {
    for key in keys() {
        let public = openssl(&["pkey", "-pubout"], &key.pkcs8);
        for public in [&public, &key.certificate] {
            for (how, content) in disguises(public) {
                assert_eq!(scan(&key.pkcs8, &content), [""; 0], "{}: {how}", key.name);
            }
        }
    }
}

#[test]
fn a_key_within_a_backup_is_found_and_the_rest_of_it_is_not_secret() {
    let key = keys().remove(0);
    let backup = serde_json::json!({
        "kind": "Secret",
        "data": {
            "tls.key": STANDARD.encode(&key.pkcs8),
            "tls.crt": STANDARD.encode(&key.certificate),
            "namespace": STANDARD.encode("tidb-admin"),
        },
    });
    let backup = serde_json::to_vec(&backup).unwrap();
    assert!(!scan(&backup, &der(&key.pkcs8)).is_empty());
    assert!(scan(&backup, &key.certificate).is_empty());
    assert!(scan(&backup, b"namespace tidb-admin").is_empty());
    let of_a_file = [b"mode 0600\n".as_slice(), &key.pkcs8].concat();
    assert!(!scan(&of_a_file, &key.pkcs8).is_empty());
}

#[test]
fn a_password_is_found_whole() {
    let password = b"correct horse battery";
    for content in [
        b"the password is correct horse battery!".to_vec(),
        hex::encode(password).into_bytes(),
        STANDARD.encode(b"user:correct horse battery").into_bytes(),
    ] {
        assert!(!scan(password, &content).is_empty(), "{}", String::from_utf8_lossy(&content));
    }
    assert!(scan(password, b"correct horse").is_empty());
    assert!(scan(b"root", b"root").is_empty(), "what is in every file proves nothing");
}

#[test]
fn the_vault_may_hold_secrets_if_nobody_else_can_read_it() {
    let disk = SimDisk::new();
    let path = Path::new("/run/vault/secret/1");
    disk.make_dir(path.parent().unwrap(), 0o700).unwrap();
    disk.write_atomic(path, b"correct horse battery", 0o600).unwrap();
    let secrets = [Secret::new("correct horse battery", "hmac:00")];
    assert!(leaks(&disk, Path::new("/run"), &secrets).unwrap().is_empty());
    disk.write_atomic(path, b"correct horse battery", 0o604).unwrap();
    let found = leaks(&disk, Path::new("/run"), &secrets).unwrap();
    assert_eq!((found.len(), found[0].form), (1, "a file that others can read"));
}
