//! What we issue, they accept; what they issue, we read and extend.

use std::path::Path;

use stdlib::cert::{Certificate, Key};
use stdlib::{bundle, ca, cfssl as ours};

use crate::support::*;

fn verify(folder: &Path, anchors: &str, leaf: &str, purpose: &str) -> String {
    run(folder, "openssl", &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", anchors, leaf], true)
}

/// cfssl 1.2 makes multi-valued names from several `names`; rebuilding them in another order would break the chain.
#[test]
fn a_ca_with_a_multi_valued_name_issues_through_us() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let csr = r#"{"CN":"TiDB","key":{"algo":"ecdsa","size":256},"names":[{"C":"US","O":"a","OU":"x"},{"C":"DE","O":"b","OU":"y"}]}"#;
    write(folder, &[("ca-csr.json", csr)]);
    cfssl(folder, &["gencert", "-initca", "ca-csr.json"], "ca");
    let ca = read_certificate(&folder.join("ca.pem"));
    assert!(ca.subject_text().contains(" + "), "{}", ca.subject_text());
    let key = Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "key").unwrap();
    let internal = config().profile("internal").unwrap().clone();
    let (leaf, leaf_key) = ours::issue(&ca, &key, &request(PD), &internal, now()).unwrap();
    write_pair(folder, "leaf.pem", "leaf-key.pem", &leaf, &leaf_key);
    verify(folder, "ca.pem", "leaf.pem", "sslserver");
}

/// A renewed CA keeps its leaves; a cross-signed one is accepted by who trusts only the old.
#[test]
fn renewed_and_cross_signed_authorities_hold_in_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (old, old_key) = new_ca();
    let internal = config().profile("internal").unwrap().clone();
    let (leaf, leaf_key) = ours::issue(&old, &old_key, &request(PD), &internal, now()).unwrap();
    write_pair(folder, "leaf.pem", "leaf-key.pem", &leaf, &leaf_key);
    let renewed = ca::renew(&old, &old_key, None, now()).unwrap();
    assert_ne!(renewed.serial(), old.serial());
    assert_eq!((renewed.subject(), renewed.skid(), renewed.spki()), (old.subject(), old.skid(), old.spki()));
    write(folder, &[("renewed.pem", &renewed.pem())]);
    verify(folder, "renewed.pem", "leaf.pem", "sslserver");

    let (new, new_key) = new_ca();
    let bridge = ca::cross_sign(&old, &old_key, &new, now()).unwrap();
    let leaf = leaf_of(&new, &new_key, now());
    write(folder, &[("old.pem", &old.pem()), ("bridge.pem", &bridge.pem()), ("leaf.pem", &leaf.pem())]);
    let args = ["verify", "-x509_strict", "-CAfile", "old.pem", "-untrusted", "bridge.pem", "leaf.pem"];
    run(folder, "openssl", &args, true);
    run(folder, "openssl", &["verify", "-x509_strict", "-CAfile", "old.pem", "leaf.pem"], false);
}

/// A bundle that we encode has as many certificates for openssl as for us.
#[test]
fn openssl_counts_the_same_certificates_in_our_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<Certificate> = (0..3).map(|_| new_ca().0).collect();
    let merged = bundle::merge([&all[..2], &all[1..]]);
    assert_eq!(merged, all, "order kept, twins dropped");
    write(folder.path(), &[("bundle.pem", &bundle::encode(&merged).unwrap())]);
    let text = run(folder.path(), "openssl", &["storeutl", "-noout", "-certs", "bundle.pem"], true);
    assert!(text.contains("Total found: 3"), "{text}");
}

/// URLs of a profile stand where openssl looks for them.
#[test]
fn urls_of_a_profile_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let json = CA_CONFIG.replace(
        r#""client":{"#,
        r#""client":{"ocsp_url":"http://ocsp.example","crl_url":"http://crl.example/a.crl","issuer_urls":["http://ca.example/ca.crt"],"#,
    );
    let config = stdlib::cfssl::Config::from_json(json.as_bytes(), "ca-config.json").unwrap();
    let (ca, key) = new_ca();
    let (leaf, _) =
        ours::issue(&ca, &key, &request(CLIENT), config.profile("client").unwrap(), now()).unwrap();
    write(folder.path(), &[("leaf.pem", &leaf.pem())]);
    let text = run(folder.path(), "openssl", &["x509", "-in", "leaf.pem", "-noout", "-text"], true);
    for part in [
        "OCSP - URI:http://ocsp.example",
        "CA Issuers - URI:http://ca.example/ca.crt",
        "URI:http://crl.example/a.crl",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
