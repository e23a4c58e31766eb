//! Inputs that cfssl takes and we refuse, or the other way round: each is shown with the real cfssl.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use stdlib::ca;
use stdlib::cert::{Certificate, Key, SigningRequest};
use stdlib::cfssl::{self as ours, Config, Request, Rules};
use stdlib::error::PrimError;

use crate::differences;
use crate::support::*;

/// What a program makes of an input.
enum Makes {
    /// A certificate of which this holds.
    One(fn(&Certificate) -> bool),
    /// None: its words have this in them.
    None(&'static str),
}

struct Shown {
    row: &'static str,
    request: &'static str,
    config: &'static str,
    profile: &'static str,
    cfssl: Makes,
    ours: Makes,
}

const PLAIN: &str = r#"{"CN":"x","hosts":["a"]}"#;
const USAGES: &str = r#"{"expiry":"8760h","usages":["signing","server auth"]}"#;
const UNSUPPORTED: &str = "`auth_key`, `remote`, `auth_remote`, `name_whitelist`, `copy_extensions`, `allowed_extensions`, `CSRWhitelist`";
const NO_AUTHORITY: &str = "an authority that has expired, is none, or allows none below itself";
const ANY: Makes = Makes::One(|_| true);

fn one(row: &'static str, request: &'static str, cfssl: Makes, ours: Makes) -> Shown {
    Shown { row, request, config: USAGES, profile: "p", cfssl, ours }
}

fn profile(row: &'static str, config: &'static str, cfssl: Makes, ours: Makes) -> Shown {
    Shown { row, request: PLAIN, config, profile: "p", cfssl, ours }
}

fn born_expired(certificate: &Certificate) -> bool {
    certificate.not_after() < now()
}

#[rustfmt::skip]
fn of_leaves() -> Vec<Shown> {
    vec![
        Shown {
            row: "profile that is not there",
            profile: "q",
            // That of `default`, which these profiles do not have.
            cfssl: Makes::One(|c| c.ext_usage().is_some_and(|all| all.len() == 2)),
            ..profile("", USAGES, ANY, Makes::None("there is no profile `q`"))
        },
        profile("misspelt usage beside a right one", r#"{"expiry":"8760h","usages":["signing","sever auth"]}"#,
            Makes::One(|c| c.ext_usage().is_none()), Makes::None("`sever auth` is no usage")),
        profile("expiry that is negative, or no longer than the backdate", r#"{"expiry":"-1h","usages":["signing"]}"#,
            Makes::One(born_expired), Makes::None("it is negative")),
        profile("expiry that is negative, or no longer than the backdate", r#"{"expiry":"4m","usages":["signing"]}"#,
            Makes::One(born_expired), Makes::None("would be born expired")),
        profile(UNSUPPORTED, r#"{"expiry":"1h","usages":["signing"],"name_whitelist":"^[a-z]$"}"#,
            ANY, Makes::None("`name_whitelist` is not supported")),
        profile(UNSUPPORTED, r#"{"expiry":"1h","usages":["signing"],"CSRWhitelist":{"PublicKey":true,"PublicKeyAlgorithm":true,"SignatureAlgorithm":true}}"#,
            Makes::One(|c| c.sans().is_empty() && c.subject_text().is_empty()), Makes::None("`CSRWhitelist` is not supported")),
        one("`{\"algo\": \"rsa\"}` without a size", r#"{"CN":"x","key":{"algo":"rsa"}}"#,
            Makes::None("RSA key is too weak"), Makes::None("an RSA key needs a size")),
        one("RSA sizes", r#"{"CN":"x","key":{"algo":"rsa","size":2560}}"#,
            Makes::One(|c| c.key_text() == "rsa 2560"), Makes::None("expected 2048, 3072, 4096 or 8192 bits")),
        one("`algo` in capitals, or empty", r#"{"CN":"x","key":{"algo":"RSA","size":2048}}"#,
            Makes::None("invalid algorithm"), Makes::One(|c| c.key_text() == "rsa 2048")),
        one("`algo` in capitals, or empty", r#"{"CN":"x","key":{"algo":"","size":384}}"#,
            Makes::None("invalid algorithm"), Makes::One(|c| c.key_text() == "ecdsa 384")),
        one("Ed25519 keys", r#"{"CN":"x","key":{"algo":"ed25519"}}"#,
            Makes::None("invalid algorithm"), Makes::One(|c| c.key_text() == "ed25519")),
        one("a field given twice, also in two cases", r#"{"CN":"x","cn":"y"}"#,
            Makes::One(|c| c.common_name() == "y"), Makes::None("the field is given twice")),
        one("a field given twice, also in two cases", r#"{"CN":"x","CN":"y"}"#,
            Makes::One(|c| c.common_name() == "y"), Makes::None("the field `CN` is given twice")),
        one("a country that is not two letters", r#"{"CN":"x","names":[{"C":"USA"}]}"#,
            Makes::One(|c| c.subject_text().contains("C=USA")), Makes::None("a country is two letters")),
        one("a host that is none", r#"{"CN":"x","hosts":["a b"]}"#, ANY, Makes::None("`a b` is no host")),
        one("a host that is none", r#"{"CN":"x","hosts":[""]}"#, ANY, Makes::None("`` is no host")),
        one("a host that is none", r#"{"CN":"x","hosts":["10.0.0.0/24"]}"#, ANY, Makes::None("is no host")),
        one("a host that is none", r#"{"CN":"x","hosts":["a:2379"]}"#, ANY, Makes::None("is no host")),
        one("a request that names nobody", "{}", Makes::One(|c| c.subject_text().is_empty()), Makes::None("names nobody")),
        one("more than 10,000 hosts", "", ANY, Makes::None("too many names")),
    ]
}

#[rustfmt::skip]
fn of_authorities() -> Vec<Shown> {
    vec![
        one("`pathlenzero` beside another `pathlen`", r#"{"CN":"x","ca":{"pathlen":2,"pathlenzero":true}}"#,
            Makes::One(|c| c.basic_constraints().unwrap().path_len == Some(2)), Makes::None("contradicts `pathlen`")),
        one("expiry that is negative, or no longer than the backdate", r#"{"CN":"x","ca":{"expiry":"-1h"}}"#,
            Makes::One(born_expired), Makes::None("it is negative")),
        one("expiry that is negative, or no longer than the backdate", r#"{"CN":"x","ca":{"expiry":"4m"}}"#,
            Makes::One(born_expired), Makes::None("would be born expired")),
    ]
}

/// Whether the page says that cfssl's behaviour can be had.
fn lax(row: &str) -> bool {
    let line = differences::PAGE.lines().find(|line| line.starts_with(&format!("| {row} |"))).unwrap();
    line.split('|').nth(3).unwrap().contains("refused*")
}

/// A thing that failed in cfssl's words, or the certificate that it made.
fn cfssl_makes(folder: &Path, args: &[&str]) -> Result<Certificate, String> {
    let out = Command::new("cfssl").args(args).current_dir(folder).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    if !out.status.success() || out.stdout.is_empty() {
        return Err(text);
    }
    let made: serde_json::Value =
        serde_json::from_slice(&out.stdout).map_err(|error| format!("{error}: {text}"))?;
    Certificate::from_pem(made["cert"].as_str().unwrap().as_bytes(), "theirs").map_err(|e| e.to_string())
}

fn check(who: &str, input: &str, expected: &Makes, found: &Result<Certificate, String>) {
    let fits = match (expected, found) {
        (Makes::One(holds), Ok(certificate)) => holds(certificate),
        (Makes::None(words), Err(text)) => text.contains(words),
        _ => false,
    };
    assert!(fits, "{who} of {}: {found:?}", input.get(..input.len().min(200)).unwrap());
}

fn words(error: &PrimError) -> String {
    assert!(error.hint.is_some(), "{error} does not say what to do");
    error.to_string()
}

/// Shows every difference in what is taken at all, and names its row.
pub(crate) fn show(folder: &Path, rows: &mut BTreeSet<&'static str>) {
    let ca = read_certificate(&folder.join("ca.pem"));
    let ca_key = Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "key").unwrap();
    let many = format!(r#"{{"CN":"x","hosts":[{}]}}"#, vec![r#""a""#; 10_001].join(","));
    for shown in of_leaves() {
        let request = if shown.request.is_empty() { many.as_str() } else { shown.request };
        let config = format!(r#"{{"signing":{{"profiles":{{"p":{}}}}}}}"#, shown.config);
        write(folder, &[("r.json", request), ("c.json", &config)]);
        let flag = format!("-profile={}", shown.profile);
        let theirs = cfssl_makes(
            folder,
            &["gencert", "-ca=ca.pem", "-ca-key=ca-key.pem", "-config=c.json", &flag, "r.json"],
        );
        check("cfssl", request, &shown.cfssl, &theirs);
        let issue = |rules: Rules| -> Result<(Certificate, usize), String> {
            let told = |error: PrimError| words(&error);
            let config = Config::read_json(config.as_bytes(), "c.json", rules).map_err(told)?;
            let request = Request::read_json(request.as_bytes(), "r.json", rules).map_err(told)?;
            let profile = config.select(shown.profile, rules).map_err(told)?;
            let (leaf, _) = ours::issue(&ca, &ca_key, &request, &profile, now()).map_err(told)?;
            Ok((leaf, request.warnings.len() + profile.warnings.len()))
        };
        check("ours", request, &shown.ours, &issue(Rules::Strict).map(|(leaf, _)| leaf));
        match issue(Rules::Cfssl) {
            Ok((leaf, warnings)) if lax(shown.row) => {
                check("ours, by cfssl's rules,", request, &shown.cfssl, &Ok(leaf));
                assert!(warnings > 0, "{request}: without a warning");
            }
            other => {
                assert!(!lax(shown.row), "{}: {other:?}", shown.row);
                check("ours, by cfssl's rules,", request, &shown.ours, &other.map(|(leaf, _)| leaf));
            }
        }
        rows.insert(shown.row);
    }
    for shown in of_authorities() {
        write(folder, &[("r.json", shown.request)]);
        check("cfssl", shown.request, &shown.cfssl, &cfssl_makes(folder, &["gencert", "-initca", "r.json"]));
        let made = Request::from_json(shown.request.as_bytes(), "r.json").and_then(|r| ca::create(&r, now()));
        check("ours", shown.request, &shown.ours, &made.map(|(ca, _)| ca).map_err(|error| words(&error)));
        rows.insert(shown.row);
    }
    authorities(folder, rows);
    unsupported();
    signing_requests(folder, &ca, &ca_key);
}

/// An authority that cannot be one: cfssl signs with it.
fn authorities(folder: &Path, rows: &mut BTreeSet<&'static str>) {
    let (root, root_key) = new_ca();
    let (leaf, leaf_key) =
        ours::issue(&root, &root_key, &request(PD), config().profile("internal").unwrap(), now()).unwrap();
    let long_ago = now() - time::Duration::days(4000);
    let (expired, expired_key) = ca::create(&request(CA_CSR), long_ago).unwrap();
    let zero = r#"{"CN":"zero","ca":{"pathlenzero":true}}"#;
    let (zero, zero_key) = ca::create(&request(zero), now()).unwrap();
    let config = r#"{"signing":{"profiles":{"p":{"expiry":"1h","usages":["cert sign"],"ca_constraint":{"is_ca":true}}}}}"#;
    write(folder, &[("c.json", config), ("r.json", PLAIN)]);
    let config = Config::from_json(config.as_bytes(), "c.json").unwrap();
    for (ca, key, refusal) in [
        (leaf, leaf_key, "may not sign certificates"),
        (expired, expired_key, "expired on"),
        (zero, zero_key, "does not allow below itself"),
    ] {
        write_pair(folder, "it.pem", "it-key.pem", &ca, &key);
        let args = ["gencert", "-ca=it.pem", "-ca-key=it-key.pem", "-config=c.json", "-profile=p", "r.json"];
        cfssl_makes(folder, &args).unwrap();
        let error = ours::issue(&ca, &key, &request(PLAIN), config.profile("p").unwrap(), now()).unwrap_err();
        assert!(words(&error).contains(refusal), "{error}");
        rows.insert(NO_AUTHORITY);
    }
}

/// A request to be an authority, under a profile that makes none: both refuse.
fn signing_requests(folder: &Path, ca: &Certificate, ca_key: &Key) {
    let args =
        ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k.pem"];
    let asking = ["-out", "a.csr", "-subj", "/CN=z", "-addext", "basicConstraints=critical,CA:TRUE"];
    run(folder, "openssl", &[&args[..], &asking[..]].concat(), true);
    let config = format!(r#"{{"signing":{{"profiles":{{"p":{USAGES}}}}}}}"#);
    write(folder, &[("c.json", &config)]);
    let theirs = cfssl_makes(
        folder,
        &["sign", "-ca=ca.pem", "-ca-key=ca-key.pem", "-config=c.json", "-profile=p", "a.csr"],
    );
    assert!(theirs.is_err_and(|text| text.contains("disallows issuing CA certificate")));
    let csr = SigningRequest::from_pem(&std::fs::read(folder.join("a.csr")).unwrap(), "a.csr").unwrap();
    let config = Config::from_json(config.as_bytes(), "c.json").unwrap();
    let error = ours::sign(ca, ca_key, &csr, config.profile("p").unwrap(), now()).unwrap_err();
    assert!(words(&error).contains("asks to be an authority"), "{error}");
}

/// Fields that cfssl acts upon and we do not: a profile with one of them is read, and refused when it is used.
fn unsupported() {
    for field in [
        r#""auth_key":"k""#,
        r#""remote":"r""#,
        r#""auth_remote":{"remote":"r","auth_key":"k"}"#,
        r#""name_whitelist":"^a$""#,
        r#""copy_extensions":true"#,
        r#""allowed_extensions":["1.2.3.4"]"#,
        r#""CSRWhitelist":{"subject":true}"#,
    ] {
        let name = field.split('"').nth(1).unwrap();
        let config =
            format!(r#"{{"signing":{{"profiles":{{"p":{{"expiry":"1h","usages":["signing"],{field}}}}}}}}}"#);
        let config = Config::from_json(config.as_bytes(), "c.json").unwrap();
        let (ca, key) = new_ca();
        let error = ours::issue(&ca, &key, &request(PLAIN), config.profile("p").unwrap(), now()).unwrap_err();
        assert!(words(&error).contains(&format!("`{name}` is not supported")), "{error}");
    }
}
