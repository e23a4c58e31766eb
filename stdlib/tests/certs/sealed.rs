//! Keys under a passphrase, and keys of sizes that we do not make.

use serde_json::json;
use stdlib::Secret;
use stdlib::cert::{self, Key, KeyKind};
use stdlib::cfssl as ours;
use stdlib::gate::ReadOnly;

use crate::support::*;

fn secret(text: &str) -> Secret {
    Secret::new(text, "hmac:x")
}

/// Whatever openssl writes in PKCS#8 with PBES2, by any of its options, in PEM and in DER.
#[test]
fn what_openssl_encrypts_opens_with_the_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(
        folder,
        "openssl",
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "plain.pem"],
        true,
    );
    let plain = Key::from_pem(&std::fs::read(folder.join("plain.pem")).unwrap(), "plain.pem").unwrap();
    let ways: [&[&str]; 7] = [
        &["-v2", "aes-256-cbc"],
        &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
        &["-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512"],
        &["-v2", "des3"],
        &["-scrypt"],
        &["-v2", "aes-256-cbc", "-iter", "20000"],
        &["-v2", "aes-256-cbc", "-outform", "DER"],
    ];
    for way in ways {
        let args = ["pkcs8", "-topk8", "-passout", "pass:open sesame", "-in", "plain.pem", "-out", "sealed"];
        run(folder, "openssl", &[&args[..], way].concat(), true);
        let sealed = std::fs::read(folder.join("sealed")).unwrap();
        assert!(Key::needs_passphrase(&sealed), "{way:?}");
        let opened = Key::from_bytes(&sealed, "sealed", Some(&secret("open sesame"))).unwrap();
        assert_eq!(opened.fingerprint(), plain.fingerprint(), "{way:?}");
        let wrong = Key::from_bytes(&sealed, "sealed", Some(&secret("sesame"))).unwrap_err().to_string();
        assert!(wrong.contains("cannot be opened with this passphrase"), "{way:?}: {wrong}");
        let none = Key::from_bytes(&sealed, "sealed", None).unwrap_err();
        assert!(none.hint.unwrap().contains("--passphrase-file"), "{way:?}");
    }
}

/// Older ways are recognised and told with the command that converts them; the command is the right one.
#[test]
fn older_encryption_is_told_with_the_command_that_converts_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pass = ["-passout", "pass:secret"];
    run(folder, "openssl", &["genrsa", "-out", "plain.pem", "2048"], true);
    let legacy = ["rsa", "-traditional", "-aes128", "-in", "plain.pem", "-out", "legacy.pem"];
    run(folder, "openssl", &[&legacy[..], &pass].concat(), true);
    let text = std::fs::read(folder.join("legacy.pem")).unwrap();
    assert!(text.windows(9).any(|w| w == b"ENCRYPTED"), "openssl still writes the old way");
    let error = Key::from_bytes(&text, "legacy.pem", Some(&secret("secret"))).unwrap_err();
    assert!(
        error.to_string().contains("legacy.pem: line 1: the key is encrypted in OpenSSL's old way"),
        "{error}"
    );
    let hint = error.hint.unwrap();
    let command = hint.split('`').nth(1).unwrap().replace("OLD", "legacy.pem").replace("NEW", "new.pem");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    run(folder, "openssl", &[&words[..], &["-passin", "pass:secret"], &pass].concat(), true);
    let new = std::fs::read(folder.join("new.pem")).unwrap();
    Key::from_bytes(&new, "new.pem", Some(&secret("secret"))).unwrap();

    let pbes1 = ["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-in", "plain.pem", "-out", "pbes1.pem"];
    run(folder, "openssl", &[&pbes1[..], &pass].concat(), true);
    let text = std::fs::read(folder.join("pbes1.pem")).unwrap();
    let error = Key::from_bytes(&text, "pbes1.pem", Some(&secret("secret"))).unwrap_err();
    assert!(error.to_string().contains("encrypted in a way that is not supported"), "{error}");
}

/// Sizes of RSA keys that the library does not make are read, and sign, all the same.
#[test]
fn rsa_keys_of_other_sizes_are_refused_in_the_making_and_used_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for bits in [2056_u32, 2560] {
        let error = Key::generate(KeyKind::Rsa(bits)).unwrap_err();
        assert_eq!(error.expected.as_deref(), Some("2048, 3072, 4096 or 8192 bits"));
        assert!(error.hint.unwrap().contains("openssl genrsa"));
        run(folder, "openssl", &["genrsa", "-traditional", "-out", "ca-key.pem", &bits.to_string()], true);
        let key = Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "ca-key.pem").unwrap();
        assert_eq!(key.kind(), KeyKind::Rsa(bits));
        let args =
            ["req", "-x509", "-key", "ca-key.pem", "-subj", "/CN=odd", "-days", "30", "-out", "ca.pem"];
        run(folder, "openssl", &args, true);
        let ca = read_certificate(&folder.join("ca.pem"));
        let internal = config().profile("internal").unwrap().clone();
        let (leaf, _) = ours::issue(&ca, &key, &request(CLIENT), &internal, now()).unwrap();
        write(folder, &[("leaf.pem", &leaf.pem())]);
        run(folder, "openssl", &["verify", "-CAfile", "ca.pem", "leaf.pem"], true);
    }
}

/// A PKI folder whose CA key is encrypted: read with a passphrase file, and what is retired stays encrypted.
#[test]
fn a_folder_with_an_encrypted_key_is_read_and_left_with_it_encrypted() {
    let folder = pki();
    let path = folder.path();
    let args = [
        "pkcs8",
        "-topk8",
        "-v2",
        "aes-256-cbc",
        "-passout",
        "pass:sesame",
        "-in",
        "ca-key.pem",
        "-out",
        "sealed",
    ];
    run(path, "openssl", &args, true);
    std::fs::rename(path.join("sealed"), path.join("ca-key.pem")).unwrap();
    let sealed = std::fs::read(path.join("ca-key.pem")).unwrap();
    write(path, &[("pass.txt", "sesame\n")]);
    let world = world(path, now());
    let dir = json!(path.display().to_string());

    let refusal = call(&world, &ReadOnly, "cfssl::folder", std::slice::from_ref(&dir)).unwrap_err();
    assert!(refusal.to_string().contains("ca-key.pem: line 1: the key is encrypted"), "{refusal}");
    let fact =
        call(&world, &ReadOnly, "cfssl::folder", &[dir, json!({ "passphrase_file": "pass.txt" })]).unwrap();
    assert!(fact["notes"].to_string().contains("is encrypted"), "{}", fact["notes"]);
    assert!(!fact.to_string().contains("sesame"), "the passphrase is no part of the fact");

    let new = call(&world, &ReadOnly, "cfssl::successor", std::slice::from_ref(&fact)).unwrap();
    let gate = Recorder::default();
    let done = call(&world, &gate, "cfssl::install", &[fact, new.clone()]).unwrap();
    let retired = std::path::Path::new(done["retired"].as_str().unwrap()).join("ca-key.pem");
    assert_eq!(std::fs::read(retired).unwrap(), sealed, "kept as it lay there");
    let in_force = cert::Certificate::from_pem(new["cert"].as_str().unwrap().as_bytes(), "x").unwrap();
    let key = Key::from_pem(&std::fs::read(path.join("ca-key.pem")).unwrap(), "ca-key.pem").unwrap();
    assert!(key.matches(&in_force));
}

#[test]
fn scripts_read_a_key_as_a_secret() {
    let folder = pki();
    let world = world(folder.path(), now());
    let read = call(&world, &ReadOnly, "cert::read_key", &[json!("ca-key.pem")]).unwrap();
    let ca = std::fs::read_to_string(folder.path().join("ca.pem")).unwrap();
    assert_eq!(read["mode"], "0600");
    let fits =
        |pem: &str| call(&world, &ReadOnly, "cert::matches", &[json!(pem), read["key"].clone()]).unwrap();
    assert_eq!((fits(&ca), fits(&new_ca().0.pem())), (json!(true), json!(false)));
    let text = read.to_string();
    let key = std::fs::read_to_string(folder.path().join("ca-key.pem")).unwrap();
    assert!(key.lines().filter(|line| !line.starts_with('-')).all(|line| !text.contains(line)));

    let made = call(&world, &ReadOnly, "cert::key", &[json!("ecdsa 384")]).unwrap();
    assert_eq!(made["kind"], "ecdsa 384");
    let args = [serde_json::from_str(PD).unwrap(), made["key"].clone()];
    let asked = call(&world, &ReadOnly, "cert::request", &args).unwrap();
    let seen = call(&world, &ReadOnly, "cert::inspect", &[asked["csr"].clone()]).unwrap();
    assert_eq!(seen["requests"][0]["spki"], made["spki"]);
    assert_eq!(seen["requests"][0]["sans"].as_array().unwrap().len(), 11);
    let error = call(&world, &ReadOnly, "cert::key", &[json!("rsa 2049")]).unwrap_err();
    assert!(error.to_string().contains("expected 2048, 3072, 4096 or 8192 bits"), "{error}");
}
