//! The traps of the source documents, each by name.

use stdlib::cert::{self, Certificate, Key};
use stdlib::cfssl::{self as ours, Config, Request};
use stdlib::{bundle, ca};

use crate::support::*;

/// `cat ca.new.pem ca.old.pem > ca.pem` where the first lacks its final newline: OpenSSL refuses the file, Go and Rust
/// silently read one certificate of two.
#[test]
fn trap_missing_final_newline() {
    let (one, two) = (new_ca().0, new_ca().0);
    let joined = format!("{}{}", one.pem().trim_end(), two.pem());
    assert!(joined.contains("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
    let parsed = cert::parse(joined.as_bytes(), "ca.pem").unwrap();
    assert_eq!(parsed.certificates, [one.clone(), two.clone()], "none is lost");
    assert!(parsed.notes[0].contains("a newline is missing"), "and it is reported: {:?}", parsed.notes);

    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        &[("joined.pem", &joined), ("ours.pem", &bundle::encode(&parsed.certificates).unwrap())],
    );
    let storeutl = |file| ["storeutl", "-noout", "-certs", file];
    let text = run(folder.path(), "openssl", &storeutl("ours.pem"), true);
    assert!(text.contains("Total found: 2"), "{text}");
    let world = world(folder.path(), now());
    let text = call(&world, &stdlib::gate::ReadOnly, "bundle::of", &[serde_json::json!([joined])]).unwrap();
    assert_eq!(cert::parse_many(text.as_str().unwrap().as_bytes(), "x").unwrap().len(), 2);
}

/// A leaf whose name is its CA's: cfssl leaves out the issuer's key id, and OpenSSL then takes the first of two CAs
/// with that name. We always name the issuer by key id, so that either order of the bundle holds.
#[test]
fn trap_same_dn_leaf_without_authority_key_id() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let same = same_named_by_cfssl(folder);
    let (old, new) = (read_certificate(&folder.join("old.pem")), read_certificate(&folder.join("new.pem")));
    let theirs = read_certificate(&folder.join("theirs.pem"));
    assert_eq!(theirs.subject(), new.subject());
    assert_eq!(theirs.akid(), None, "this is the trap");

    let key = Key::from_pem(&std::fs::read(folder.join("new-key.pem")).unwrap(), "key").unwrap();
    let internal = config().profile("internal").unwrap().clone();
    let (leaf, _) = ours::issue(&new, &key, &request(same), &internal, now()).unwrap();
    assert_eq!(leaf.subject(), leaf.issuer());
    assert_eq!(leaf.akid(), new.skid());
    write(folder, &[("leaf.pem", &leaf.pem())]);
    let verify = |leaf: &str, holds| run(folder, "openssl", &["verify", "-CAfile", "both.pem", leaf], holds);
    write(folder, &[("both.pem", &bundle::encode(&[old.clone(), new.clone()]).unwrap())]);
    verify("theirs.pem", false);
    verify("leaf.pem", true);
    write(folder, &[("both.pem", &bundle::encode(&[new, old]).unwrap())]);
    verify("leaf.pem", true);
}

/// An unknown profile: cfssl signs with `default`, here without any usage or, worse, with others.
#[test]
fn trap_unknown_profile_falls_back_to_default() {
    let error = config().profile("intenal").unwrap_err();
    assert_eq!(
        error.to_string(),
        "ca-config.json: there is no profile `intenal` (expected `client`, `internal`, found `intenal`)"
    );
}

/// A misspelt usage beside a right one: cfssl drops it without a word.
#[test]
fn trap_misspelt_usage_beside_a_valid_one() {
    let json = CA_CONFIG.replacen("\"server auth\"", "\"sever auth\"", 1);
    let error = Config::from_json(json.as_bytes(), "ca-config.json").unwrap_err();
    assert_eq!(
        error.to_string(),
        "ca-config.json: signing.profiles.internal.usages[2]: `sever auth` is no usage (expected one of cfssl's names, found `sever auth`)"
    );
    assert!(error.hint.unwrap().starts_with("did you mean `server auth`?"));
}

/// A negative expiry: cfssl issues certificates that are born expired.
#[test]
fn trap_negative_expiry() {
    let json = CA_CONFIG.replace("8760h", "-8760h");
    let error = Config::from_json(json.as_bytes(), "ca-config.json").unwrap_err().to_string();
    assert!(error.contains("it is negative"), "{error}");
}

/// An expiry no longer than the backdate: five minutes are over before they begin.
#[test]
fn trap_backdate_eats_the_expiry() {
    let json = CA_CONFIG.replace("8760h", "5m");
    let config = Config::from_json(json.as_bytes(), "ca-config.json").unwrap();
    let (ca, key) = new_ca();
    let error = ours::issue(&ca, &key, &request(PD), config.profile("internal").unwrap(), now()).unwrap_err();
    assert!(error.to_string().contains("would be born expired"), "{error}");
}

/// `{"algo": "rsa"}`: cfssl keeps the size 256 and fails with `RSA key is too weak`.
#[test]
fn trap_rsa_without_a_size() {
    let json = PD.replace(r#"{"algo":"ecdsa","size":256}"#, r#"{"algo":"rsa"}"#);
    let error = Request::from_json(json.as_bytes(), "pd-server.json").unwrap_err();
    assert_eq!(
        error.to_string(),
        "pd-server.json: key.size: an RSA key needs a size (expected 2048, 3072, 4096 or 8192, found none)"
    );
}

/// A leaf may outlive its CA with cfssl; then it fails one day without any certificate of its own having expired.
#[test]
fn trap_leaf_outlives_its_ca() {
    let short = CA_CSR.replace("87600h", "100h");
    let (ca, key) = ca::create(&request(&short), now()).unwrap();
    let leaf = leaf_of(&ca, &key, now());
    assert_eq!(leaf.not_after(), ca.not_after());
}

/// Expiry alone says nothing: a key of another certificate is found by comparing keys.
#[test]
fn trap_expiry_far_away_on_a_mismatched_pair() {
    let (ca, _) = new_ca();
    let (_, other) = new_ca();
    let error = other.check_matches(&ca, "ca-key.pem").unwrap_err();
    assert_eq!(error.code, stdlib::error::Code::KeyMismatch);
}

/// Serial numbers are positive, of at most 20 octets, and never twice.
#[test]
fn serials_are_positive_and_short_and_differ() {
    let (ca, key) = new_ca();
    let internal = config().profile("internal").unwrap().clone();
    let issue = || ours::issue(&ca, &key, &request(CLIENT), &internal, now()).unwrap().0;
    let serials: std::collections::HashSet<Vec<u8>> = (0..50).map(|_| issue().serial().to_vec()).collect();
    assert_eq!(serials.len(), 50);
    for serial in serials {
        assert!(serial.len() <= 20 && serial[0] & 0x80 == 0, "{serial:?}");
    }
}

/// The documents write `CA` and `CN`, cfssl's own tests `ca` and `cn`: both are read.
#[test]
fn field_names_are_read_in_any_case() {
    let lower =
        CA_CSR.replace("\"CN\"", "\"cn\"").replace("\"CA\":{", "\"ca\":{").replace("\"OU\"", "\"ou\"");
    let (one, two) = (request(CA_CSR), request(&lower));
    assert_eq!(one, two);
    assert!(one.ca.unwrap().expiry.is_some());
}

/// What is in a certificate's name may not play with the terminal.
#[test]
fn names_with_control_characters_are_shown_escaped() {
    let json = r#"{"CN":"a\u001b[31mb\nc","hosts":[]}"#;
    let (ca, key) = new_ca();
    let internal = config().profile("internal").unwrap().clone();
    let (leaf, _): (Certificate, Key) = ours::issue(&ca, &key, &request(json), &internal, now()).unwrap();
    assert_eq!(leaf.subject_text(), r"CN=a\u{1b}[31mb\nc");
}
