//! Where cfssl is lax in a way that bites: refused, and with the switch done as cfssl does it, with a warning. The judge
//! is cfssl itself: each case runs it on the same inputs, and compares what it issues.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use stdlib::cert::Certificate;
use stdlib::cfssl::{self as ours, Config, Request, Rules};
use stdlib::error::PrimError;
use stdlib::gate::ReadOnly;

use crate::support::*;

/// A configuration with these profiles, as JSON within `signing`.
fn config_of(signing: &str) -> String {
    format!(r#"{{"signing":{signing}}}"#)
}

/// What cfssl issues: the certificate, or nothing where it refuses.
fn theirs(folder: &Path, config: &str, profile: &str, request: &str) -> Option<Certificate> {
    write(folder, &[("config.json", config), ("request.json", request)]);
    let out = Command::new("cfssl")
        .args(["gencert", "-ca=ca.pem", "-ca-key=ca-key.pem", "-config=config.json"])
        .args([&format!("-profile={profile}"), "request.json"])
        .current_dir(folder)
        .output()
        .expect("install cfssl with `apt-get install golang-cfssl`");
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout).ok()?;
    Some(Certificate::from_pem(answer["cert"].as_str()?.as_bytes(), "theirs").unwrap())
}

/// What we issue by these rules, with every warning.
fn mine(
    folder: &Path,
    rules: Rules,
    config: &str,
    profile: &str,
    request: &str,
) -> Result<(Certificate, Vec<String>), PrimError> {
    let ca = read_certificate(&folder.join("ca.pem"));
    let key = stdlib::cert::Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "key").unwrap();
    let request = Request::read_json(request.as_bytes(), "request.json", rules)?;
    let profile = Config::read_json(config.as_bytes(), "config.json", rules)?.select(profile, rules)?;
    let (leaf, _) = ours::issue(&ca, &key, &request, &profile, now())?;
    Ok((leaf, [request.warnings, profile.warnings].concat()))
}

fn same(ours: &Certificate, theirs: &Certificate, case: &str) {
    assert_eq!(ours.subject(), theirs.subject(), "{case}");
    assert_eq!(ours.sans(), theirs.sans(), "{case}");
    assert_eq!((ours.key_usage(), ours.ext_usage()), (theirs.key_usage(), theirs.ext_usage()), "{case}");
    assert_eq!(ours.other_extensions(), theirs.other_extensions(), "{case}");
    assert_eq!(ours.not_after() - ours.not_before(), theirs.not_after() - theirs.not_before(), "{case}");
    assert!((ours.not_before() - theirs.not_before()).abs() <= time::Duration::minutes(2), "{case}");
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (ca, key) = new_ca();
    write_pair(folder.path(), "ca.pem", "ca-key.pem", &ca, &key);
    folder
}

const PLAIN: &str = r#"{"CN":"x","hosts":["a.example"]}"#;

/// What is refused, and what cfssl does with it: a name, the configuration, the profile, the request, a part of the
/// warning.
fn cases() -> Vec<(&'static str, String, &'static str, &'static str, &'static str)> {
    let fine = r#""internal":{"expiry":"10h","usages":["signing","server auth"]}"#;
    let profile = |fields: &str| {
        config_of(&format!(r#"{{"default":{{"expiry":"20h"}},"profiles":{{"internal":{{{fields}}}}}}}"#))
    };
    let usages = r#""usages":["server auth"]"#;
    let with_default = config_of(&format!(
        r#"{{"default":{{"expiry":"20h","usages":["client auth"]}},"profiles":{{{fine}}}}}"#
    ));
    vec![
        (
            "an unknown profile beside a default",
            with_default,
            "intenal",
            PLAIN,
            "there is no profile `intenal`",
        ),
        (
            "an unknown profile where there is no default",
            config_of(&format!(r#"{{"profiles":{{{fine}}}}}"#)),
            "intenal",
            PLAIN,
            "`default` is taken",
        ),
        (
            "a misspelt usage",
            profile(r#""expiry":"10h","usages":["signing","sever auth"]"#),
            "internal",
            PLAIN,
            "it is dropped, as cfssl does",
        ),
        (
            "a negative expiry",
            profile(&format!(r#""expiry":"-10h",{usages}"#)),
            "internal",
            PLAIN,
            "negative",
        ),
        (
            "an expiry that the backdate eats",
            profile(&format!(r#""expiry":"5m",{usages}"#)),
            "internal",
            PLAIN,
            "born expired",
        ),
        (
            "an expiry of zero",
            profile(&format!(r#""expiry":"0h",{usages}"#)),
            "internal",
            PLAIN,
            "it is zero",
        ),
        (
            "a negative backdate",
            profile(&format!(r#""expiry":"10h","backdate":"-1h",{usages}"#)),
            "internal",
            PLAIN,
            "signing.profiles.internal.backdate",
        ),
        (
            "hosts that are none",
            config_of(&format!(r#"{{"profiles":{{{fine}}}}}"#)),
            "internal",
            r#"{"CN":"x","hosts":["a b","","ok.example"]}"#,
            "hosts[1]",
        ),
        (
            "a country that is no two letters",
            config_of(&format!(r#"{{"profiles":{{{fine}}}}}"#)),
            "internal",
            r#"{"CN":"x","hosts":["a.example"],"names":[{"C":"China"}]}"#,
            "a country is two letters",
        ),
        (
            "a request that names nobody",
            config_of(&format!(r#"{{"profiles":{{{fine}}}}}"#)),
            "internal",
            r#"{"hosts":[]}"#,
            "names nobody",
        ),
    ]
}

#[test]
fn what_bites_is_refused_and_done_as_cfssl_does_it_where_that_is_asked_for() {
    let folder = folder();
    for (case, config, profile, request, warning) in cases() {
        let theirs = theirs(folder.path(), &config, profile, request);
        let theirs = theirs.unwrap_or_else(|| panic!("{case}: cfssl takes it"));
        let refusal = mine(folder.path(), Rules::Strict, &config, profile, request);
        assert!(refusal.is_err(), "{case} is refused");
        let (leaf, warnings) = mine(folder.path(), Rules::Cfssl, &config, profile, request)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        same(&leaf, &theirs, case);
        assert!(warnings.iter().any(|text| text.contains(warning)), "{case}: {warnings:?}");
    }
}

/// The switch permits nothing that cfssl refuses.
#[test]
fn what_cfssl_refuses_is_refused_under_its_rules_too() {
    let folder = folder();
    let fine = r#""internal":{"expiry":"10h","usages":["server auth"]}"#;
    let good = config_of(&format!(r#"{{"profiles":{{{fine}}}}}"#));
    let no_usages = config_of(&format!(r#"{{"default":{{"expiry":"20h"}},"profiles":{{{fine}}}}}"#));
    let misspelt = config_of(r#"{"profiles":{"internal":{"expiry":"10h","usages":["sever auth"]}}}"#);
    let rsa = r#"{"CN":"x","hosts":["a"],"key":{"algo":"rsa"}}"#;
    for (case, config, profile, request) in [
        ("an unknown profile, and a default without usages", &no_usages, "nope", PLAIN),
        ("nothing but misspelt usages", &misspelt, "internal", PLAIN),
        ("an RSA key without a size", &good, "internal", rsa),
        ("a curve that nobody has", &good, "internal", r#"{"CN":"x","key":{"algo":"ecdsa","size":224}}"#),
        ("a host beyond ASCII", &good, "internal", r#"{"CN":"x","hosts":["ümlaut"]}"#),
        ("a CA's section in a leaf's request", &good, "internal", r#"{"CN":"x","ca":{"expiry":"1h"}}"#),
    ] {
        assert!(theirs(folder.path(), config, profile, request).is_none(), "{case}: cfssl refuses");
        for rules in [Rules::Strict, Rules::Cfssl] {
            assert!(mine(folder.path(), rules, config, profile, request).is_err(), "{case} {rules:?}");
        }
    }
}

/// What is fine strictly means the same under cfssl's rules, without a word; as does what a profile leaves to the
/// default.
#[test]
fn what_is_fine_is_the_same_under_both() {
    let folder = folder();
    let urls = config_of(
        r#"{"default":{"expiry":"20h","crl_url":"http://d/crl","ocsp_url":"http://d/ocsp","issuer_urls":["http://d/ca"]},
          "profiles":{"internal":{"expiry":"10h","usages":["signing","server auth"]},
            "own":{"expiry":"10h","usages":["signing"],"crl_url":"http://own/crl"}}}"#,
    );
    for (config, profile, request) in [
        (CA_CONFIG, "internal", PD),
        (&urls, "internal", PD),
        (&urls, "own", PD),
        (CA_CONFIG, "client", CLIENT),
    ] {
        let theirs = theirs(folder.path(), config, profile, request).unwrap();
        for rules in [Rules::Strict, Rules::Cfssl] {
            let (leaf, warnings) = mine(folder.path(), rules, config, profile, request).unwrap();
            same(&leaf, &theirs, profile);
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }
    // A fact of the profile says the same as the file.
    let profile =
        Config::from_json(urls.as_bytes(), "config.json").unwrap().profile("internal").unwrap().clone();
    let again = ours::Profile::from_value("internal", &profile.to_fact(), "config.json").unwrap();
    assert_eq!(
        (again.crl_url, again.ocsp_url, again.issuer_urls),
        (profile.crl_url, profile.ocsp_url, profile.issuer_urls)
    );
}

#[test]
fn an_authority_that_is_born_expired_is_made_only_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let json = CA_CSR.replace("87600h", "-1h");
    write(folder.path(), &[("ca-csr.json", &json)]);
    cfssl(folder.path(), &["gencert", "-initca", "ca-csr.json"], "theirs");
    let theirs = read_certificate(&folder.path().join("theirs.pem"));
    assert!(Request::from_json(json.as_bytes(), "ca-csr.json").is_err());
    let request = Request::read_json(json.as_bytes(), "ca-csr.json", Rules::Cfssl).unwrap();
    let (ca, _) = stdlib::ca::create(&request, now()).unwrap();
    assert_eq!(ca.not_after() - ca.not_before(), theirs.not_after() - theirs.not_before());
    assert!(request.warnings[0].contains("ca.expiry"), "{:?}", request.warnings);
}

/// The same switch in a script: an option of the calls that read requests and profiles.
#[test]
fn scripts_ask_for_it_by_an_option_and_are_warned() {
    let world = world(Path::new("/"), now());
    let (ca, key) = new_ca();
    let ca = value_of(&world, &ca, &key);
    let request: serde_json::Value = serde_json::from_str(PD).unwrap();
    let profiles = Config::from_json(
        CA_CONFIG
            .replace(
                r#""default":{"expiry":"8760h"}"#,
                r#""default":{"expiry":"8760h","usages":["client auth"]}"#,
            )
            .as_bytes(),
        "c",
    )
    .unwrap()
    .to_facts();
    let args = |options: serde_json::Value| {
        [ca.clone(), request.clone(), json!("intenal"), profiles.clone(), options]
    };
    let refusal = call(&world, &ReadOnly, "cfssl::issue", &args(json!(null))).unwrap_err();
    assert!(refusal.to_string().contains("no profile `intenal`"), "{refusal}");
    let issued = call(&world, &ReadOnly, "cfssl::issue", &args(json!({ "cfssl_lax": true }))).unwrap();
    assert!(
        issued["warnings"][0].as_str().unwrap().contains("`default` is taken, as cfssl does"),
        "{issued}"
    );
    let leaf = Certificate::from_pem(issued["cert"].as_str().unwrap().as_bytes(), "x").unwrap();
    assert_eq!(leaf.ext_usage().unwrap().len(), 1, "the default has one usage");
    let wrong = call(&world, &ReadOnly, "cfssl::issue", &args(json!({ "cfssl_lax": "yes" }))).unwrap_err();
    assert!(wrong.to_string().contains("`cfssl_lax` has the wrong type"), "{wrong}");
}
