//! Signing requests and leaves that follow others.

use stdlib::cert::{self, Key, KeyKind, SigningRequest};
use stdlib::cfssl as ours;

use crate::support::*;

const KINDS: [KeyKind; 5] =
    [KeyKind::Rsa(2048), KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Ed25519];

/// Requests of cfssl and openssl are read and signed; ours are read and signed by them.
#[test]
fn signing_requests_go_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (ca, ca_key) = new_ca();
    write_pair(folder, "ca.pem", "ca-key.pem", &ca, &ca_key);
    write(folder, &[("ca-config.json", CA_CONFIG), ("pd-server.json", PD)]);
    let internal = config().profile("internal").unwrap().clone();
    let verify = |leaf: &str| {
        run(
            folder,
            "openssl",
            &["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", leaf],
            true,
        );
    };

    cfssl(folder, &["genkey", "pd-server.json"], "theirs");
    let csr =
        SigningRequest::from_pem(&std::fs::read(folder.join("theirs.csr")).unwrap(), "theirs.csr").unwrap();
    assert_eq!((csr.sans.len(), csr.key_text.as_str()), (request(PD).hosts.len(), "ecdsa 256"));
    let leaf = ours::sign(&ca, &ca_key, &csr, &internal, now()).unwrap();
    assert_eq!(leaf.sans(), csr.sans);
    let key = Key::from_pem(&std::fs::read(folder.join("theirs-key.pem")).unwrap(), "key").unwrap();
    assert!(key.matches(&leaf));
    write(folder, &[("leaf.pem", &leaf.pem())]);
    verify("leaf.pem");

    // With a requested key id and usages, which rcgen refuses.
    let args = [
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "o-key.pem",
        "-out",
        "o.csr",
        "-subj",
        "/O=x/O=y/CN=z",
        "-addext",
        "subjectKeyIdentifier=hash",
        "-addext",
        "subjectAltName=DNS:o.example,IP:10.0.0.1",
    ];
    run(folder, "openssl", &args, true);
    let csr = SigningRequest::from_pem(&std::fs::read(folder.join("o.csr")).unwrap(), "o.csr").unwrap();
    let leaf = ours::sign(&ca, &ca_key, &csr, &internal, now()).unwrap();
    assert_eq!((leaf.subject_text(), leaf.organizations().len()), ("O=x, O=y, CN=z", 2));
    write(folder, &[("leaf.pem", &leaf.pem())]);
    verify("leaf.pem");

    for kind in KINDS {
        let key = Key::generate(kind).unwrap();
        let pem = SigningRequest::create(&request(PD).subject().unwrap(), &request(PD).hosts, &key).unwrap();
        let read = SigningRequest::from_pem(pem.as_bytes(), "ours.csr").unwrap();
        assert_eq!((read.spki.as_slice(), read.sans.len()), (key.spki(), 11));
        write(folder, &[("ours.csr", &pem)]);
        run(folder, "openssl", &["req", "-in", "ours.csr", "-noout", "-verify"], true);
        if kind != KeyKind::Ed25519 {
            let sign = [
                "sign",
                "-ca=ca.pem",
                "-ca-key=ca-key.pem",
                "-config=ca-config.json",
                "-profile=internal",
                "ours.csr",
            ];
            cfssl(folder, &sign, "signed");
            verify("signed.pem");
        }
    }
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let key = Key::generate(KeyKind::P256).unwrap();
    let pem = SigningRequest::create(&request(PD).subject().unwrap(), &[], &key).unwrap();
    let der = cert::pem::scan(pem.as_bytes(), "x").unwrap().blocks.remove(0).der;
    let mut forged = der.to_vec();
    let other = Key::generate(KeyKind::P256).unwrap();
    let at = forged.windows(key.spki().len()).position(|w| w == key.spki()).unwrap();
    forged[at..at + other.spki().len()].copy_from_slice(other.spki());
    let error = SigningRequest::from_der(&forged).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its signature was not made by this key (expected a signature by the key that it asks a certificate for, found another's)"
    );
}

#[test]
fn a_leaf_whose_request_is_lost_is_issued_again() {
    let (old_ca, old_key) = new_ca();
    let (new_ca, new_key) = new_ca();
    let internal = config().profile("internal").unwrap().clone();
    for json in [PD, CLIENT] {
        let (old, first) = ours::issue(&old_ca, &old_key, &request(json), &internal, now()).unwrap();
        let (new, key) = ours::reissue(&new_ca, &new_key, &old, None, None, now()).unwrap();
        new.check_signed_by(&new_ca).unwrap();
        assert!(key.matches(&new) && key.fingerprint() != first.fingerprint());
        assert_eq!(
            (new.subject(), new.sans(), new.ext_usage()),
            (old.subject(), old.sans(), old.ext_usage())
        );
        assert_eq!(new.not_after() - new.not_before(), old.not_after() - old.not_before());
        let (same, _) = ours::reissue(&new_ca, &new_key, &old, Some(first.clone()), None, now()).unwrap();
        assert_eq!(same.spki(), old.spki());
    }
    let error = ours::reissue(&new_ca, &new_key, &old_ca, None, None, now()).unwrap_err();
    assert!(error.to_string().contains("renewed and not issued again"), "{error}");
}

#[test]
fn der_and_pem_files_are_told_apart() {
    let (ca, key) = new_ca();
    assert_eq!(cert::parse_any(ca.der(), "ca.der").unwrap().certificates, std::slice::from_ref(&ca));
    assert_eq!(cert::parse_any(ca.pem().as_bytes(), "ca.pem").unwrap().certificates, [ca]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.pem"), key.to_pem().unwrap().as_bytes()).unwrap();
    run(folder.path(), "openssl", &["pkey", "-in", "key.pem", "-outform", "der", "-out", "key.der"], true);
    let read = Key::from_der(&std::fs::read(folder.path().join("key.der")).unwrap()).unwrap();
    assert_eq!(read.fingerprint(), key.fingerprint());
}
