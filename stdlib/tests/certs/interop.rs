//! What we issue, they accept; what they issue, we read and extend.

use std::path::Path;

use stdlib::cert::{Certificate, Key, KeyKind};
use stdlib::{bundle, ca, cfssl as ours};

use crate::support::*;

fn verify(folder: &Path, anchors: &str, leaf: &str, purpose: &str) -> String {
    run(folder, "openssl", &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", anchors, leaf], true)
}

const KEYS: [(&str, KeyKind); 7] = [
    (r#"{"algo":"rsa","size":2048}"#, KeyKind::Rsa(2048)),
    (r#"{"algo":"rsa","size":3072}"#, KeyKind::Rsa(3072)),
    (r#"{"algo":"rsa","size":4096}"#, KeyKind::Rsa(4096)),
    (r#"{"algo":"ecdsa","size":256}"#, KeyKind::P256),
    (r#"{"algo":"ecdsa","size":384}"#, KeyKind::P384),
    (r#"{"algo":"ecdsa","size":521}"#, KeyKind::P521),
    (r#"{"algo":"ed25519"}"#, KeyKind::Ed25519),
];

/// Every kind of key as CA and as leaf, from the page's requests, accepted by `openssl verify -x509_strict`.
#[test]
fn openssl_accepts_what_we_issue_with_every_kind_of_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (json, kind) in KEYS {
        let csr = CA_CSR.replace(r#"{"algo":"ecdsa","size":256}"#, json);
        let (ca, ca_key) = ca::create(&request(&csr), now()).unwrap();
        assert_eq!((ca_key.kind(), ca.key_text()), (kind, kind.to_string().as_str()));
        ca.check_signed_by(&ca).unwrap();
        write_pair(folder, "ca.pem", "ca-key.pem", &ca, &ca_key);
        run(folder, "openssl", &["pkey", "-in", "ca-key.pem", "-noout", "-check"], true);
        let pd = PD.replace(r#"{"algo":"ecdsa","size":256}"#, json);
        for (request_json, profile, purposes) in [
            (pd.as_str(), "internal", &["sslserver", "sslclient"][..]),
            (CLIENT, "client", &["sslclient"][..]),
        ] {
            let profile = config().profile(profile).unwrap().clone();
            let (leaf, key) = ours::issue(&ca, &ca_key, &request(request_json), &profile, now()).unwrap();
            leaf.check_signed_by(&ca).unwrap();
            write_pair(folder, "leaf.pem", "leaf-key.pem", &leaf, &key);
            for purpose in purposes {
                verify(folder, "ca.pem", "leaf.pem", purpose);
            }
        }
        run(
            folder,
            "openssl",
            &["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "leaf.pem"],
            false,
        );
    }
}

/// cfssl makes the CA, we issue under it; we make the CA, cfssl issues under it; each accepts the other's.
#[test]
fn cfssl_and_we_extend_each_others_authorities() {
    for (json, _) in [KEYS[0], KEYS[3], KEYS[4], KEYS[5]] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let csr = CA_CSR.replace(r#"{"algo":"ecdsa","size":256}"#, json);
        write(folder, &[("ca-csr.json", &csr), ("ca-config.json", CA_CONFIG), ("pd-server.json", PD)]);

        cfssl(folder, &["gencert", "-initca", "ca-csr.json"], "theirs");
        let their_ca = read_certificate(&folder.join("theirs.pem"));
        let their_key = Key::from_pem(&std::fs::read(folder.join("theirs-key.pem")).unwrap(), "key").unwrap();
        assert!(their_key.matches(&their_ca));
        let internal = config().profile("internal").unwrap().clone();
        let (leaf, key) = ours::issue(&their_ca, &their_key, &request(PD), &internal, now()).unwrap();
        assert_eq!(leaf.issuer(), their_ca.subject(), "the issuer's name is copied byte for byte");
        write_pair(folder, "leaf.pem", "leaf-key.pem", &leaf, &key);
        verify(folder, "theirs.pem", "leaf.pem", "sslserver");

        let (our_ca, our_key) = ca::create(&request(&csr), now()).unwrap();
        write_pair(folder, "ours.pem", "ours-key.pem", &our_ca, &our_key);
        let sign = [
            "gencert",
            "-ca=ours.pem",
            "-ca-key=ours-key.pem",
            "-config=ca-config.json",
            "-profile=internal",
        ];
        cfssl(folder, &[&sign[..], &["pd-server.json"]].concat(), "pd-server");
        verify(folder, "ours.pem", "pd-server.pem", "sslserver");
        let theirs = read_certificate(&folder.join("pd-server.pem"));
        theirs.check_signed_by(&our_ca).unwrap();
        let key = Key::from_pem(&std::fs::read(folder.join("pd-server-key.pem")).unwrap(), "key").unwrap();
        assert!(key.matches(&theirs));
    }
}

/// From the same inputs, our certificate and cfssl's differ only in what must differ: serial, key, signature.
#[test]
fn our_certificates_are_field_by_field_those_of_cfssl() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let several = r#"{"cn":"x","hosts":["b.example","a@b.example","10.0.0.1","*.z","::1","a.example"],
      "names":[{"C":"US","O":"a&b","OU":"c"},{"C":"DE","O":"b","OU":"d","ST":"Zürich","L":"x*y"}],"serialnumber":"99"}"#;
    write(folder, &[("ca-csr.json", CA_CSR), ("ca-config.json", CA_CONFIG)]);
    cfssl(folder, &["gencert", "-initca", "ca-csr.json"], "ca");
    let their_ca = read_certificate(&folder.join("ca.pem"));
    let ca_key = Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "key").unwrap();
    let (our_ca, _) = new_ca();
    compare(&our_ca, &their_ca);
    for (json, profile) in [(PD, "internal"), (CLIENT, "client"), (several, "internal")] {
        write(folder, &[("request.json", json)]);
        let profile_flag = format!("-profile={profile}");
        cfssl(
            folder,
            &[
                "gencert",
                "-ca=ca.pem",
                "-ca-key=ca-key.pem",
                "-config=ca-config.json",
                &profile_flag,
                "request.json",
            ],
            "theirs",
        );
        let theirs = read_certificate(&folder.join("theirs.pem"));
        let profile = config().profile(profile).unwrap().clone();
        let (ours, _) = ours::issue(&their_ca, &ca_key, &request(json), &profile, now()).unwrap();
        compare(&ours, &theirs);
        assert_eq!(ours.akid(), theirs.akid());
    }
}

fn compare(ours: &Certificate, theirs: &Certificate) {
    assert_eq!(ours.subject_text(), theirs.subject_text());
    assert_eq!(ours.subject(), theirs.subject(), "{}", ours.subject_text());
    assert_eq!(ours.issuer(), theirs.issuer());
    assert_eq!(ours.sans(), theirs.sans());
    assert_eq!(ours.key_usage(), theirs.key_usage());
    assert_eq!(ours.ext_usage(), theirs.ext_usage());
    assert_eq!(ours.basic_constraints(), theirs.basic_constraints());
    assert_eq!(ours.signature_algorithm(), theirs.signature_algorithm());
    assert_eq!(ours.version(), theirs.version());
    assert_eq!(ours.skid().map(<[u8]>::len), theirs.skid().map(<[u8]>::len));
    assert_eq!(ours.not_after() - ours.not_before(), theirs.not_after() - theirs.not_before());
    assert!((ours.not_before() - theirs.not_before()).abs() <= time::Duration::minutes(2));
    assert_eq!(order(ours), order(theirs), "extensions in the same order");
}

/// Object identifiers of the extensions, in order.
fn order(certificate: &Certificate) -> Vec<String> {
    use x509_parser::prelude::FromDer as _;
    let (_, x509) = x509_parser::certificate::X509Certificate::from_der(certificate.der()).unwrap();
    x509.extensions().iter().map(|e| format!("{} {}", e.oid.to_id_string(), e.critical)).collect()
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
    let (leaf, _) = ours::issue(&new, &new_key, &request(PD), &internal, now()).unwrap();
    write(folder, &[("old.pem", &old.pem()), ("bridge.pem", &bridge.pem()), ("leaf.pem", &leaf.pem())]);
    let args = ["verify", "-x509_strict", "-CAfile", "old.pem", "-untrusted", "bridge.pem", "leaf.pem"];
    run(folder, "openssl", &args, true);
    run(folder, "openssl", &["verify", "-x509_strict", "-CAfile", "old.pem", "leaf.pem"], false);
}

/// One source document issues certificates for 50 years: past 2038 and past 2050, where the time's type changes.
#[test]
fn dates_beyond_2038_and_2050_are_written_and_read_right() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let csr = CA_CSR.replace("87600h", "438000h");
    let (ca, _) = ca::create(&request(&csr), time::macros::datetime!(2026-11-22 06:18:42 UTC)).unwrap();
    write(folder, &[("ca.pem", &ca.pem())]);
    let dates = run(folder, "openssl", &["x509", "-in", "ca.pem", "-noout", "-dates"], true);
    assert_eq!(dates, "notBefore=Nov 22 06:13:00 2026 GMT\nnotAfter=Nov  9 06:13:00 2076 GMT\n");
    assert_eq!(ca.not_after(), time::macros::datetime!(2076-11-09 06:13 UTC));
    let text = run(folder, "openssl", &["asn1parse", "-in", "ca.pem"], true);
    assert!(text.contains("UTCTIME           :261122061300Z"), "{text}");
    assert!(text.contains("GENERALIZEDTIME   :20761109061300Z"), "{text}");
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
