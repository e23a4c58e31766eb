//! Every kind of key, every request and every profile of the procedures: what we issue, all three judges accept.

use std::collections::BTreeMap;

use stdlib::ca;
use stdlib::cert::{Certificate, Key, KeyKind};
use stdlib::cfssl::{self as ours, Config, Request};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::inputs::{self, Input};
use crate::peers::{self, Answer, Court, KINDS, NO, ONLY_GO, YES};
use crate::support::*;

const AT: OffsetDateTime = datetime!(2026-11-22 06:18 UTC);

struct Authority {
    certificate: Certificate,
    key: Key,
}

/// The authorities of the procedures, by name, with this key.
fn authorities(key: &Key) -> BTreeMap<&'static str, Authority> {
    let one = |(name, request)| {
        let request = Request::from_value(&request, "ca-csr.json").unwrap();
        let certificate = ca::create_for(&request, key, AT).unwrap();
        certificate.check_signed_by(&certificate).unwrap();
        (name, Authority { certificate, key: key.clone() })
    };
    inputs::authorities().into_iter().map(one).collect()
}

/// Which authority issues an input where the procedures are followed.
fn authority_of(input: &Input) -> &'static str {
    let name = input.name.as_str();
    match () {
        () if name.contains("MySQL") => "TiDB Server",
        () if name.contains("etcd") => "etcd-ca",
        () if name.contains("front-proxy") => "front-proxy-ca",
        () if input.request["CN"] == "TiDB" => "TiDB",
        () => "kubernetes",
    }
}

fn issue(input: &Input, by: &Authority, key: &Key) -> Certificate {
    let config = Config::from_json(inputs::CONFIG.as_bytes(), "ca-config.json").unwrap();
    let profile = config.profile(input.profile).unwrap();
    let request = input.with_key(key.kind());
    let leaf = ours::issue_for(&by.certificate, &by.key, &request, profile, key.spki(), AT).unwrap();
    assert!(key.matches(&leaf), "{}", input.name);
    leaf
}

/// As what it is made for it is accepted, under one name or all; as what it is not made for it is refused.
fn ask(court: &mut Court, input: &Input, leaf: &Certificate, by: &Authority, every_name: bool) {
    let label = format!("{}: {} of {}", input.name, leaf.key_text(), by.certificate.key_text());
    let (chain, anchors) = ([leaf], [&by.certificate]);
    let answer = |yes: bool| if yes { YES } else { NO };
    court.client(&label, &chain, &anchors, AT, answer(input.client));
    let names = input.dialled();
    if every_name {
        for (name, host) in &names {
            court.server(&label, &chain, &anchors, (name, AT), under(host, answer(input.server)));
        }
        if input.server {
            court.server(&label, &chain, &anchors, ("another.example", AT), NO);
            court.server(&label, &chain, &anchors, ("127.0.0.2", AT), NO);
        }
    } else if let Some((name, _)) = names.iter().find(|(_, host)| under(host, YES) == YES) {
        court.server(&label, &chain, &anchors, (name, AT), answer(input.server));
    }
}

/// The answer for a name that a host of the request stands for.
fn under(host: &str, answer: Answer) -> Answer {
    match host.strip_prefix("*.") {
        Some(label) if !label.contains('.') && answer == YES => ONLY_GO,
        _ => answer,
    }
}

/// With P-256, under every name; the authorities are those of the procedures.
#[test]
fn every_request_and_profile_of_the_procedures() {
    let key = Key::generate(KeyKind::P256).unwrap();
    let ca_key = Key::generate(KeyKind::P256).unwrap();
    let mut court = Court::default();
    let authorities = authorities(&ca_key);
    for input in inputs::all() {
        let by = &authorities[authority_of(&input)];
        ask(&mut court, &input, &issue(&input, by, &key), by, true);
    }
    assert!(court.judge() > 200);
}

/// Each kind of key as that of the authority, with leaves of P-256, and as that of the leaf, under P-256; each with each
/// where everything is asked for.
#[test]
fn every_kind_of_key_with_every_request() {
    let keys = peers::keys();
    assert_eq!(keys.iter().map(Key::kind).collect::<Vec<_>>(), KINDS);
    let quick = Key::generate(KeyKind::P256).unwrap();
    let mut court = Court::default();
    for ca_key in std::iter::once(&quick).chain(&keys) {
        let authorities = authorities(ca_key);
        for key in std::iter::once(&quick).chain(&keys) {
            let one_is_quick = ca_key.kind() == KeyKind::P256 || key.kind() == KeyKind::P256;
            if key.spki() == ca_key.spki() || !(one_is_quick || peers::all_tiers()) {
                continue;
            }
            for input in inputs::all() {
                let by = &authorities[authority_of(&input)];
                ask(&mut court, &input, &issue(&input, by, key), by, false);
            }
        }
    }
    assert!(court.judge() > 900);
}

/// Whether openssl takes the private keys that we write for those of the certificates.
#[test]
fn openssl_reads_every_kind_of_key_that_we_write() {
    let folder = tempfile::tempdir().unwrap();
    for key in peers::keys() {
        let request = request(
            &CA_CSR.replace(r#"{"algo":"ecdsa","size":256}"#, &inputs::key_json(key.kind()).to_string()),
        );
        assert_eq!(request.key, key.kind());
        let ca = ca::create_for(&request, &key, AT).unwrap();
        assert_eq!(ca.key_text(), key.kind().to_string());
        write_pair(folder.path(), "ca.pem", "ca-key.pem", &ca, &key);
        // `-check` of RSA tests primes for seconds; that the halves fit is seen below.
        if !matches!(key.kind(), KeyKind::Rsa(4096..)) {
            run(folder.path(), "openssl", &["pkey", "-in", "ca-key.pem", "-noout", "-check"], true);
        }
        let of_key = run(folder.path(), "openssl", &["pkey", "-in", "ca-key.pem", "-pubout"], true);
        let of_certificate =
            run(folder.path(), "openssl", &["x509", "-in", "ca.pem", "-noout", "-pubkey"], true);
        assert_eq!(of_key, of_certificate, "{}", key.kind());
    }
}
