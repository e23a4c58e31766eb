//! What a person reads when something is wrong: every error names the file, the place, and what to do.

use std::fmt::Write as _;

use serde_json::json;
use stdlib::cert::{self, Certificate, Key, San, pem};
use stdlib::cfssl::{self as ours, Config, Request};
use stdlib::error::PrimError;
use stdlib::{bundle, ca};
use time::macros::datetime;

use crate::support::*;

/// All of them as a person sees them; each says what was expected, what was found, and what to do.
fn shown(errors: &[(&str, PrimError)]) -> String {
    let mut out = String::new();
    for (name, error) in errors {
        assert!(
            error.expected.is_some() && error.found.is_some(),
            "{name} does not say what was expected: {error}"
        );
        let hint = error.hint.as_ref().unwrap_or_else(|| panic!("{name} does not say what to do: {error}"));
        writeln!(out, "# {name} [{:?}]\n{error}\nhint: {hint}\n", error.code).unwrap();
    }
    without_fingerprints(&out)
}

/// As [`shown`], for errors in a file: each names the file, and the place in it, `line 3` or `signing.profiles.p.expiry`;
/// only what is missing altogether has no place.
fn shown_in_files(errors: &[(&str, PrimError)]) -> String {
    for (name, error) in errors {
        assert!(error.object.contains("pki/"), "{name} does not name the file: {error}");
        let place = |text: &str| text.starts_with("line ") || text.contains("(line ") || text.contains(": ");
        let missing =
            ["holds no", "holds several", "has no", "there is no", "is too large", "does not belong"];
        assert!(
            place(&error.message) || missing.iter().any(|words| error.message.contains(words)),
            "{name} does not name the place: {error}"
        );
    }
    shown(errors)
}

/// Replaces fingerprints, which differ each time.
fn without_fingerprints(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_hexdigit() && !c.is_ascii_uppercase() {
            run.push(c);
            continue;
        }
        out.push_str(if run.len() >= 8 && run.chars().any(|c| c.is_ascii_digit()) { "HEX" } else { &run });
        run.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

fn failure<T>(result: Result<T, PrimError>) -> PrimError {
    match result {
        Ok(_) => panic!("this should fail"),
        Err(error) => error,
    }
}

#[test]
fn pem_and_certificates() {
    let one = pem::encode("CERTIFICATE", &[48; 60]);
    let parse = |text: &str| failure(cert::parse_many(text.as_bytes(), "pki/ca.pem"));
    let (good, key) = new_ca();
    let key_pem = key.to_pem().unwrap();
    let mut damaged = good.pem();
    damaged.replace_range(100..101, "!");
    insta::assert_snapshot!(shown_in_files(&[
        ("an empty file", parse("")),
        ("DER instead of PEM", failure(cert::parse_many(good.der(), "pki/ca.der"))),
        ("some other text", parse("hello")),
        ("cut short", parse(one.get(..80).unwrap())),
        ("cut at its start", parse(one.get(30..).unwrap())),
        ("one block opens inside another", parse(&format!("{}{one}", one.get(..60).unwrap()))),
        ("ends as something else", parse(&one.replace("END CERTIFICATE", "END PRIVATE KEY"))),
        ("not base64", parse(&damaged)),
        ("base64 cut short", parse("-----BEGIN CERTIFICATE-----\nTWFu\nTQ\n-----END CERTIFICATE-----\n")),
        ("an empty block", parse("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")),
        ("a malformed BEGIN", parse("-----BEGIN CERTIFICATE----\nTWFu\n")),
        ("the second of two is no certificate", parse(&format!("{}{}", good.pem(), one))),
        ("a key among certificates", parse(&format!("{}{}", good.pem(), *key_pem))),
        ("openssl's trusted format", parse(&good.pem().replace("CERTIFICATE", "TRUSTED CERTIFICATE"))),
        (
            "a bundle for one CA",
            failure(Certificate::from_pem(good.pem().repeat(2).as_bytes(), "pki/ca.pem"))
        ),
    ]));
}

/// What has no file: the caller's arguments.
#[test]
fn arguments() {
    let (good, _) = new_ca();
    let good = std::slice::from_ref(&good);
    insta::assert_snapshot!(shown(&[
        ("an emptied bundle", failure(bundle::remove(good, good))),
        ("a size that cannot be made", failure(Key::generate(cert::KeyKind::Rsa(1024)))),
        ("no host", failure(San::from_host(""))),
    ]));
}

#[test]
fn signing_requests() {
    let read = |text: &str| failure(cert::SigningRequest::from_pem(text.as_bytes(), "pki/pd-server.csr"));
    let key = Key::generate(cert::KeyKind::P256).unwrap();
    let request = request(PD);
    let good = cert::SigningRequest::create(&request.subject().unwrap(), &request.hosts, &key).unwrap();
    let mut der = pem::scan(good.as_bytes(), "x").unwrap().blocks.remove(0).der.to_vec();
    let at = der.windows(4).position(|window| window == b"TiDB").unwrap();
    der[at] = b't';
    insta::assert_snapshot!(shown_in_files(&[
        ("none", read("")),
        ("a certificate in place of a request", read(&new_ca().0.pem())),
        ("two", read(&good.repeat(2))),
        ("cut short", read(&good[..200])),
        ("broken", read(&pem::encode("CERTIFICATE REQUEST", b"nonsense"))),
        ("altered", read(&pem::encode("CERTIFICATE REQUEST", &der))),
        ("too large", read(&pem::encode("CERTIFICATE REQUEST", &vec![48; 2 << 20]))),
    ]));
}

#[test]
fn keys() {
    let read = |text: &str| failure(Key::from_pem(text.as_bytes(), "pki/ca-key.pem"));
    let (ca, key) = new_ca();
    let pem = key.to_pem().unwrap();
    insta::assert_snapshot!(shown_in_files(&[
        ("no key", read("")),
        ("a certificate in place of a key", read(&ca.pem())),
        ("two keys", read(&pem.repeat(2))),
        ("no key at all in the block", read(&pem::encode("PRIVATE KEY", b"nonsense"))),
        ("encrypted", read(&pem::encode("ENCRYPTED PRIVATE KEY", b"nonsense"))),
        (
            "encrypted in the old way",
            read(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nTWFu\n-----END RSA PRIVATE KEY-----\n"
            )
        ),
        ("another's key", failure(new_ca().1.check_matches(&ca, "pki/ca-key.pem"))),
    ]));
}

#[test]
fn requests() {
    let read = |text: &str| failure(Request::from_json(text.as_bytes(), "pki/pd-server.json"));
    insta::assert_snapshot!(shown_in_files(&[
        (
            "the comma that the page's importer example lacks",
            read("{\n  \"CN\": \"TiDB\"\n  \"hosts\": []\n}")
        ),
        ("cut short", read("{\"CN\": ")),
        ("a list", read("[]")),
        ("a field twice", read("{\"CN\": \"a\", \"CN\": \"b\"}")),
        ("a field twice in two cases", read("{\"CN\": \"a\", \"cn\": \"b\"}")),
        ("hosts as a text", read("{\"hosts\": \"basic-pd\"}")),
        ("a host that is a number", read("{\"hosts\": [\"a\", 1]}")),
        ("a host with a space", read("{\"hosts\": [\"basic-pd\", \"basic pd\"]}")),
        ("rsa without a size", read("{\"key\": {\"algo\": \"rsa\"}}")),
        ("rsa 1024", read("{\"key\": {\"algo\": \"rsa\", \"size\": 1024}}")),
        ("ecdsa 255", read("{\"key\": {\"algo\": \"ecdsa\", \"size\": 255}}")),
        ("dsa", read("{\"key\": {\"algo\": \"dsa\"}}")),
        ("a long country", read("{\"names\": [{\"C\": \"USA\"}]}")),
        ("days in an expiry", read("{\"CN\": \"x\", \"ca\": {\"expiry\": \"3650d\"}}")),
        (
            "a contradictory path length",
            read("{\"CN\": \"x\", \"ca\": {\"pathlen\": 2, \"pathlenzero\": true}}")
        ),
        (
            "no name for a CA",
            failure(ca::create(&Request::from_json(b"{}", "pki/ca-csr.json").unwrap(), now()))
        ),
        ("nested too deeply", read(&"[".repeat(10_000))),
        ("more behind the end", read("{\"CN\": \"x\"} and more")),
        ("single quotes", read("{'CN': 'x'}")),
        ("an object identifier that is none", read("{\"names\": [{\"OID\": {\"1.x\": \"v\"}}]}")),
        ("too many hosts", read(&format!("{{\"hosts\": [{}]}}", vec!["\"a\""; 10_001].join(",")))),
    ]));
}

#[test]
fn configurations() {
    let read = |text: &str| failure(Config::from_json(text.as_bytes(), "pki/ca-config.json"));
    let profile = |body: &str| read(&format!("{{\"signing\": {{\"profiles\": {{\"internal\": {body}}}}}}}"));
    insta::assert_snapshot!(shown_in_files(&[
        ("another file", read("{\"CN\": \"x\"}")),
        ("no usages", profile("{\"expiry\": \"1h\"}")),
        ("no expiry", profile("{\"usages\": [\"signing\"]}")),
        ("a misspelt usage", profile("{\"expiry\": \"1h\", \"usages\": [\"signing\", \"sever auth\"]}")),
        ("an unknown usage", profile("{\"expiry\": \"1h\", \"usages\": [\"everything one could want\"]}")),
        ("a negative expiry", profile("{\"expiry\": \"-1h\", \"usages\": [\"signing\"]}")),
        ("an expiry of zero", profile("{\"expiry\": \"0h\", \"usages\": [\"signing\"]}")),
        ("a time that is none", profile("{\"not_after\": \"tomorrow\", \"usages\": [\"signing\"]}")),
        (
            "an unknown profile",
            failure(
                Config::from_json(CA_CONFIG.as_bytes(), "pki/ca-config.json")
                    .unwrap()
                    .profile("default")
                    .cloned()
            )
        ),
    ]));
}

#[test]
fn issuing() {
    let at = datetime!(2026-11-22 06:18 UTC);
    let (ca, key) = ca::create(&request(CA_CSR), at).unwrap();
    let config = config();
    let internal = config.profile("internal").unwrap();
    let (leaf, leaf_key) = ours::issue(&ca, &key, &request(PD), internal, at).unwrap();
    let issue = |ca, key, json: &str, at| failure(ours::issue(ca, key, &request(json), internal, at));
    let remote = CA_CONFIG.replace("\"usages\":", "\"auth_key\":\"k\",\"usages\":");
    let remote = Config::from_json(remote.as_bytes(), "pki/ca-config.json").unwrap();
    let zero = r#"{"CN":"zero","key":{"algo":"ecdsa","size":256},"ca":{"pathlenzero":true}}"#;
    let (zero, zero_key) = ca::create(&request(zero), at).unwrap();
    let intermediate = CA_CONFIG.replace("\"usages\":", "\"ca_constraint\":{\"is_ca\":true},\"usages\":");
    let intermediate = Config::from_json(intermediate.as_bytes(), "pki/ca-config.json").unwrap();
    insta::assert_snapshot!(shown(&[
        ("a leaf as CA", issue(&leaf, &leaf_key, PD, at)),
        ("another's key", issue(&ca, &leaf_key, PD, at)),
        ("an expired CA", issue(&ca, &key, PD, datetime!(2037-01-01 0:00 UTC))),
        ("a CA of the future", issue(&ca, &key, PD, datetime!(2020-01-01 0:00 UTC))),
        ("a request for a CA", issue(&ca, &key, CA_CSR, at)),
        ("a request for nobody", issue(&ca, &key, "{}", at)),
        (
            "remote signing",
            failure(ours::issue(&ca, &key, &request(PD), remote.profile("internal").unwrap(), at))
        ),
        (
            "an authority below a path length of 0",
            failure(ours::issue(
                &zero,
                &zero_key,
                &request(PD),
                intermediate.profile("internal").unwrap(),
                at
            ))
        ),
        ("a cross certificate below a path length of 0", failure(ca::cross_sign(&zero, &zero_key, &ca, at))),
        ("renewing a leaf", failure(ca::renew(&leaf, &leaf_key, None, at))),
        ("another issuer's certificate", failure(leaf.check_signed_by(&zero))),
    ]));
}

#[test]
fn folders() {
    let read = |change: &dyn Fn(&std::path::Path)| {
        let at = datetime!(2026-11-22 06:18 UTC);
        let folder = pki_of(at);
        let path = folder.path();
        change(path);
        let world = world(path, at);
        let error = failure(call(
            &world,
            &stdlib::gate::ReadOnly,
            "cfssl::folder",
            &[path.display().to_string().into()],
        ));
        let strip = |text: String| text.replace(&path.display().to_string(), "pki");
        PrimError {
            object: strip(error.object),
            message: strip(error.message),
            hint: error.hint.map(strip),
            found: error.found.map(strip),
            ..error
        }
    };
    let remove = |name: &'static str| move |f: &std::path::Path| std::fs::remove_file(f.join(name)).unwrap();
    let fixed = datetime!(2010-01-01 0:00 UTC);
    insta::assert_snapshot!(shown(&[
        ("no folder", read(&|f| std::fs::remove_dir_all(f).unwrap())),
        ("no configuration", read(&remove("ca-config.json"))),
        ("no CA", read(&remove("ca.pem"))),
        ("no CA key", read(&remove("ca-key.pem"))),
        (
            "another's CA key",
            read(&|f| std::fs::write(f.join("ca-key.pem"), new_ca().1.to_pem().unwrap().as_bytes()).unwrap())
        ),
        (
            "an expired CA",
            read(&|f| {
                let (ca, key) = ca::create(&request(CA_CSR), fixed).unwrap();
                write_pair(f, "ca.pem", "ca-key.pem", &ca, &key);
            })
        ),
        (
            "a leaf as CA",
            read(&|f| {
                let (ca, key) = ca::create(&request(CA_CSR), fixed).unwrap();
                let (leaf, key) =
                    ours::issue(&ca, &key, &request(PD), config().profile("internal").unwrap(), fixed)
                        .unwrap();
                write_pair(f, "ca.pem", "ca-key.pem", &leaf, &key);
            })
        ),
        (
            "two CAs and no hint which is in force",
            read(&|f| write(f, &[("ca.pem", &(new_ca().0.pem() + &new_ca().0.pem()))]))
        ),
        (
            "a new CA without the old one",
            read(&|f| {
                std::fs::rename(f.join("ca.pem"), f.join("ca.new.pem")).unwrap();
            })
        ),
        (
            "malformed JSON",
            read(&|f| write(f, &[("importer-server.json", "{\n\"CN\": \"TiDB\"\n\"hosts\": []}")]))
        ),
    ]));
}

#[test]
fn arguments_of_primitives() {
    let world = world(std::path::Path::new("/"), now());
    let call =
        |name: &str, args: &[serde_json::Value]| failure(call(&world, &stdlib::gate::ReadOnly, name, args));
    let (ca, key) = new_ca();
    let value = value_of(&world, &ca, &key);
    let request: serde_json::Value = serde_json::from_str(PD).unwrap();
    insta::assert_snapshot!(shown(&[
        ("a bundle of nothing", call("bundle::of", &[json!([null])])),
        ("a bundle of a number", call("bundle::of", &[json!([value, 3])])),
        ("a bundle of a map", call("bundle::of", &[json!([{ "key": 1 }])])),
        (
            "a CA without its key",
            call("cfssl::issue", &[json!({ "cert": ca.pem(), "key": null }), request.clone(), json!({})])
        ),
        (
            "a profile's name alone",
            call("cfssl::issue", &[value.clone(), request.clone(), json!("internal")])
        ),
        (
            "an unknown profile's name",
            call("cfssl::issue", &[value.clone(), request.clone(), json!("intern"), config().to_facts()])
        ),
        ("a folder that is none", call("cfssl::install", &[json!(1), value.clone()])),
        (
            "no request for a successor",
            call("cfssl::successor", &[json!({ "path": "/pki", "ca_csr": null })])
        ),
    ]));
}
