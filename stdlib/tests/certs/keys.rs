//! Private keys in every form that people have.

use stdlib::Secret;
use stdlib::cert::{Key, KeyKind};

use crate::support::*;

#[test]
fn keys_of_openssl_are_read_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let openssl = |args: &[&str]| run(folder, "openssl", args, true);
    openssl(&["genrsa", "-out", "pkcs8-rsa.pem", "2048"]);
    openssl(&["rsa", "-traditional", "-in", "pkcs8-rsa.pem", "-out", "pkcs1-rsa.pem"]);
    for (curve, name) in [("prime256v1", "p256"), ("secp384r1", "p384"), ("secp521r1", "p521")] {
        openssl(&["ecparam", "-name", curve, "-genkey", "-out", &format!("params-{name}.pem")]);
        openssl(&[
            "pkcs8",
            "-topk8",
            "-nocrypt",
            "-in",
            &format!("params-{name}.pem"),
            "-out",
            &format!("pkcs8-{name}.pem"),
        ]);
    }
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "pkcs8-ed25519.pem"]);
    let expected = [
        ("pkcs8-rsa", KeyKind::Rsa(2048)),
        ("pkcs1-rsa", KeyKind::Rsa(2048)),
        ("params-p256", KeyKind::P256),
        ("pkcs8-p256", KeyKind::P256),
        ("params-p384", KeyKind::P384),
        ("pkcs8-p384", KeyKind::P384),
        ("params-p521", KeyKind::P521),
        ("pkcs8-p521", KeyKind::P521),
        ("pkcs8-ed25519", KeyKind::Ed25519),
    ];
    for (name, kind) in expected {
        let text = std::fs::read(folder.join(format!("{name}.pem"))).unwrap();
        if name.starts_with("params") {
            assert!(text.starts_with(b"-----BEGIN EC PARAMETERS-----"));
        }
        let key = Key::from_pem(&text, name).unwrap();
        assert_eq!(key.kind(), kind, "{name}");
        // What we write, openssl takes for the same key.
        std::fs::write(folder.join("ours.pem"), key.to_pem().unwrap().as_bytes()).unwrap();
        let public = |file: &str| openssl(&["pkey", "-in", file, "-pubout"]);
        assert_eq!(public("ours.pem"), public(&format!("{name}.pem")), "{name}");
        assert_eq!(Key::from_secret(&key.to_secret().unwrap()).unwrap().fingerprint(), key.fingerprint());
        assert_eq!(Key::from_der(&key.to_pkcs8().unwrap()).unwrap().spki(), key.spki());
    }
}

#[test]
fn keys_are_written_with_the_headers_of_cfssl() {
    for (kind, header) in [
        (KeyKind::Rsa(2048), "-----BEGIN RSA PRIVATE KEY-----\n"),
        (KeyKind::P384, "-----BEGIN EC PRIVATE KEY-----\n"),
        (KeyKind::Ed25519, "-----BEGIN PRIVATE KEY-----\n"),
    ] {
        assert!(Key::generate(kind).unwrap().to_pem().unwrap().starts_with(header));
    }
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(folder, "openssl", &["genpkey", "-algorithm", "ed25519", "-out", "plain.pem"], true);
    let encrypt =
        ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:open sesame", "-in", "plain.pem", "-out"];
    run(folder, "openssl", &[&encrypt[..], &["sealed.pem"]].concat(), true);
    let sealed = std::fs::read(folder.join("sealed.pem")).unwrap();
    let plain = Key::from_pem(&std::fs::read(folder.join("plain.pem")).unwrap(), "plain.pem").unwrap();
    let open =
        |passphrase: &str| Key::from_encrypted_pem(&sealed, "sealed.pem", &Secret::new(passphrase, "hmac:x"));
    assert_eq!(open("open sesame").unwrap().fingerprint(), plain.fingerprint());
    let error = open("sesame").unwrap_err().to_string();
    assert_eq!(
        error,
        "sealed.pem: line 1: cannot be opened with this passphrase (expected the passphrase with which it was encrypted, found another, or a damaged file)"
    );
    let error = Key::from_pem(&sealed, "sealed.pem").unwrap_err();
    assert!(error.to_string().contains("encrypted with a passphrase"), "{error}");
}

#[test]
fn a_key_shows_its_public_half_alone() {
    let key = Key::generate(KeyKind::P256).unwrap();
    let shown = format!("{key:?} {:?}", key.to_secret().unwrap());
    let pem = key.to_pem().unwrap();
    assert!(shown.contains(&key.fingerprint()));
    for line in pem.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
}
