//! What was written is read again: names, requests, configurations, signing requests; and what holds of bundles.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree as _;
use serde_json::{Map, Value, json};
use stdlib::bundle;
use stdlib::cert::name::Builder;
use stdlib::cert::{Certificate, Key, KeyKind, San, SigningRequest, Template};
use stdlib::cfssl::{Config, Profile, Request};
use x509_parser::prelude::FromDer as _;

use crate::inputs::key_json;
use crate::judges;
use crate::support::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A key that is made once, and quick to sign with.
fn quick_key() -> Key {
    thread_local!(static KEY: Key = Key::generate(KeyKind::Ed25519).unwrap());
    KEY.with(Key::clone)
}

fn certificate(subject: Vec<u8>, sans: &[San]) -> Certificate {
    let (at, key) = (now(), quick_key());
    let template = Template::leaf(subject, key.spki(), at, at + time::Duration::HOUR);
    Template { sans: sans.to_vec(), ..template }.self_sign(&key).unwrap()
}

fn label() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,20}[a-zA-Z0-9])?"
}

fn host() -> impl Strategy<Value = String> {
    let dns = || proptest::collection::vec(label(), 1..4).prop_map(|labels| labels.join("."));
    prop_oneof![
        4 => dns(),
        1 => dns().prop_map(|name| format!("*.{name}")),
        1 => dns().prop_map(|name| format!("{name}.")),
        1 => any::<IpAddr>().prop_map(|ip| ip.to_string()),
        1 => ("[a-z0-9.+_-]{1,10}", dns()).prop_map(|(user, domain)| format!("{user}@{domain}")),
        1 => ("[a-z][a-z0-9+.-]{0,6}", "[!-~]{1,20}").prop_map(|(scheme, rest)| format!("{scheme}://{rest}")),
    ]
}

/// Names as an extension holds them: kind by kind, none twice.
fn in_order(sans: &[San]) -> Vec<San> {
    let rank = |san: &San| match san {
        San::Dns(_) => 0,
        San::Email(_) => 1,
        San::Ip(_) => 2,
        San::Uri(_) => 3,
        San::Other(_) => 4,
    };
    let mut seen = HashSet::new();
    let mut all: Vec<San> = sans.iter().filter(|san| seen.insert(*san)).cloned().collect();
    all.sort_by_key(rank);
    all
}

/// Any text at all, and what a request gives a meaning to.
fn value() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{1,12}", "[ -~]{1,20}", ".{1,8}"]
}

proptest! {
    #![proptest_config(cases(200))]

    /// Attributes come back in order, with all their values, under every string type that is chosen for them.
    #[test]
    fn names_survive_der(
        parts in proptest::collection::vec(
            (select(vec!["C", "ST", "L", "O", "OU", "CN", "serialNumber", "emailAddress", "1.2.3.4", "DC"]),
             proptest::collection::btree_set(value(), 1..3)),
            0..6,
        ),
    ) {
        let mut builder = Builder::default();
        for (attribute, values) in &parts {
            builder = builder.with(attribute, values.iter().map(String::as_str));
        }
        let der = builder.to_der().unwrap();
        let (rest, name) = x509_parser::x509::X509Name::from_der(&der).unwrap();
        prop_assert!(rest.is_empty());
        let read: Vec<BTreeSet<String>> = name
            .iter_rdn()
            .map(|rdn| rdn.iter().map(|attribute| attribute.as_str().unwrap().to_owned()).collect())
            .collect();
        let written: Vec<BTreeSet<String>> = parts.into_iter().map(|(_, values)| values).collect();
        prop_assert_eq!(read, written);
        let made = certificate(der.clone(), &[]);
        prop_assert_eq!(made.subject(), der.as_slice());
        prop_assert!(!made.subject_text().chars().any(char::is_control));
    }

    /// Alternative names come back from certificates and signing requests, and every host is what it was taken for.
    #[test]
    fn alternative_names_survive_der(hosts in proptest::collection::vec(host(), 0..8)) {
        let sans: Vec<San> = hosts.iter().map(|host| San::from_host(host).unwrap()).collect();
        for (host, san) in hosts.iter().zip(&sans) {
            match san {
                San::Ip(ip) => prop_assert_eq!(host.parse::<IpAddr>().unwrap().to_canonical(), *ip),
                San::Dns(text) | San::Email(text) | San::Uri(text) => prop_assert_eq!(text, host),
                San::Other(_) => prop_assert!(false, "{}", host),
            }
        }
        let subject = Builder::default().with("CN", ["x"]).to_der().unwrap();
        let made = certificate(subject.clone(), &sans);
        prop_assert_eq!(made.sans(), in_order(&sans));
        let csr = SigningRequest::create(&subject, &sans, &quick_key()).unwrap();
        let csr = SigningRequest::from_pem(csr.as_bytes(), "x").unwrap();
        prop_assert_eq!((csr.sans, csr.subject, csr.ca), (in_order(&sans), subject, false));
    }

    /// Any text is taken for a host or refused, and what is taken is printable.
    #[test]
    fn any_text_is_a_host_or_none(text in prop_oneof![".{0,30}", "[a-z0-9.:/@*_ -]{0,30}"]) {
        match San::from_host(&text) {
            Ok(san) => prop_assert!(san.to_string().bytes().all(|byte| byte.is_ascii_graphic()), "{}", san),
            Err(error) => prop_assert!(error.hint.is_some()),
        }
    }
}

/// The cases in which somebody might write a field's name.
fn cased(name: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<bool>(), name.len()).prop_map(move |upper| {
        let case =
            |(c, upper): (char, &bool)| if *upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        name.chars().zip(&upper).map(case).collect()
    })
}

fn kinds() -> impl Strategy<Value = KeyKind> {
    select(crate::peers::KINDS.to_vec())
}

proptest! {
    #![proptest_config(cases(200))]

    /// A request's JSON is read for what it says, whatever the case of its fields and whatever stands beside them.
    #[test]
    fn requests_survive_json(
        (cn, serial) in (value(), value()),
        hosts in proptest::collection::vec(host(), 0..5),
        kind in kinds(),
        (country, unit) in (select(vec!["US", "de", ""]), value()),
        hours in 1u32..876_000,
        fields in (cased("cn"), cased("hosts"), cased("key"), cased("names"), cased("ca"), cased("serialnumber")),
        unknown in "z[a-z]{1,5}",
    ) {
        let mut object = Map::new();
        object.insert(fields.0, json!(cn));
        object.insert(fields.1, json!(hosts));
        object.insert(fields.2, key_json(kind));
        object.insert(fields.3, json!([{ "C": country, "ou": unit }, { "o": "second" }]));
        object.insert(fields.4, json!({ "expiry": format!("{hours}h"), "pathlen": hours % 3 }));
        object.insert(fields.5, json!(serial));
        object.insert(unknown, json!({ "any": [1, null, "thing"] }));
        let text = serde_json::to_string(&Value::Object(object.clone())).unwrap();
        let read = Request::from_json(text.as_bytes(), "x").unwrap();
        prop_assert_eq!(&read, &Request::from_value(&Value::Object(object), "x").unwrap());
        prop_assert_eq!((&read.cn, &read.serial_number, read.key), (&cn, &serial, kind));
        let sans: Vec<San> = hosts.iter().map(|host| San::from_host(host).unwrap()).collect();
        prop_assert_eq!(&read.hosts, &sans);
        prop_assert_eq!((read.names[0].c.as_str(), &read.names[0].ou, read.names[1].o.as_str()), (country, &unit, "second"));
        let ca = read.ca.clone().unwrap();
        prop_assert_eq!(ca.expiry.unwrap().whole_hours(), i64::from(hours));
        prop_assert_eq!(ca.path_len, Some(hours % 3).filter(|length| *length > 0));
        let made = certificate(read.subject().unwrap(), &[]);
        prop_assert_eq!(made.common_name(), cn);
    }

    /// A configuration is read for what it says, and a profile survives being a fact.
    #[test]
    fn configurations_survive_json(
        names in proptest::collection::btree_set("[a-z-]{1,12}", 1..4),
        usages in subsequence(
            vec!["signing", "content commitment", "key encipherment", "key agreement", "cert sign", "crl sign", "any",
                 "server auth", "client auth", "code signing", "s/mime", "ipsec user", "timestamping", "ocsp signing"],
            1..14,
        ),
        (hours, backdate) in (1u32..876_000, 1u32..100),
        (ca, length) in any::<(bool, u8)>(),
        urls in proptest::collection::vec("http://[a-z]{1,9}/[!-~]{0,9}", 0..3),
    ) {
        let profile = json!({
            "usages": usages, "expiry": format!("{hours}h"), "backdate": format!("{backdate}m"),
            "ca_constraint": { "is_ca": ca, "max_path_len": length }, "issuer_urls": urls,
        });
        let profiles: Map<String, Value> = names.iter().map(|name| (name.clone(), profile.clone())).collect();
        let text = json!({ "signing": { "profiles": profiles } }).to_string();
        let config = Config::from_json(text.as_bytes(), "x").unwrap();
        for name in names.iter().filter(|name| *name != "default") {
            let read = config.profile(name).unwrap();
            prop_assert_eq!(read.expiry.whole_hours(), i64::from(hours));
            prop_assert_eq!(read.backdate.whole_minutes(), i64::from(backdate));
            prop_assert_eq!((read.basic.ca, &read.issuer_urls), (ca, &urls));
            let told: usize = read.key_usage.names().iter().filter(|name| **name != "digital signature").count()
                + usize::from(usages.contains(&"signing")) + read.ext_usage.len();
            prop_assert_eq!(told, usages.len());
            let again = Profile::from_value(name, &read.to_fact(), "x").unwrap();
            prop_assert_eq!((&again.key_usage, &again.ext_usage, again.expiry, again.backdate, again.basic),
                (&read.key_usage, &read.ext_usage, read.expiry, read.backdate, read.basic));
            prop_assert_eq!(again.to_fact(), read.to_fact());
        }
    }
}

/// Certificates to make bundles of.
fn pool() -> Vec<Certificate> {
    thread_local!(static POOL: Vec<Certificate> = (0..6)
        .map(|n| certificate(Builder::default().with("CN", [n.to_string().as_str()]).to_der().unwrap(), &[]))
        .collect());
    POOL.with(Vec::clone)
}

fn some() -> impl Strategy<Value = Vec<Certificate>> {
    proptest::collection::vec(0usize..6, 0..8)
        .prop_map(|picks| picks.into_iter().map(|n| pool()[n].clone()).collect())
}

proptest! {
    #![proptest_config(cases(200))]

    /// Merging: none lost, none twice, the first place counts; once more changes nothing, and brackets do not matter.
    #[test]
    fn bundles_are_merged_as_ordered_sets((a, b, c) in (some(), some(), some())) {
        let merged = bundle::merge([a.as_slice(), &b, &c]);
        let distinct: HashSet<&Certificate> = merged.iter().collect();
        prop_assert_eq!(distinct.len(), merged.len());
        prop_assert_eq!(distinct, a.iter().chain(&b).chain(&c).collect::<HashSet<_>>());
        let place = |list: &[Certificate], one: &Certificate| list.iter().position(|other| other == one);
        let all = [a.clone(), b.clone(), c.clone()].concat();
        let places: Vec<_> = merged.iter().map(|one| place(&all, one)).collect();
        prop_assert!(places.is_sorted());
        prop_assert_eq!(&bundle::merge([merged.as_slice(), &merged]), &merged);
        let left = bundle::merge([bundle::merge([a.as_slice(), &b]).as_slice(), &c]);
        let right = bundle::merge([a.as_slice(), &bundle::merge([b.as_slice(), &c])]);
        prop_assert_eq!((&left, &right), (&merged, &merged));
    }

    /// Removing: exactly those; what was added is taken out again; never all.
    #[test]
    fn bundles_are_left_without_what_was_removed((a, b) in (some(), some())) {
        let staying: Vec<Certificate> = a.iter().filter(|one| !b.contains(one)).cloned().collect();
        match bundle::remove(&a, &b) {
            Ok(left) => prop_assert_eq!(&left, &staying),
            Err(error) => prop_assert!(staying.is_empty(), "{}", error),
        }
        let merged = bundle::merge([a.as_slice(), &b]);
        if !staying.is_empty() {
            let back = bundle::remove(&merged, &b).unwrap();
            prop_assert_eq!(back, bundle::merge([staying.as_slice()]));
        }
    }

    /// Encoding: the same certificates in the same order, however the text is then joined.
    #[test]
    fn bundles_survive_pem((a, b, newline) in (some(), some(), any::<bool>())) {
        let text = bundle::encode(&a).unwrap();
        let joined = if newline { text } else { text.trim_end().to_owned() } + &bundle::encode(&b).unwrap();
        let all = [a, b].concat();
        match bundle::parse(joined.as_bytes(), "x") {
            Ok(read) => prop_assert_eq!(read, all),
            Err(error) => prop_assert!(all.is_empty(), "{}", error),
        }
    }

    /// Comparing: what is said to be in both, or in one alone, is; and turned round it says the same turned round.
    #[test]
    fn bundles_are_compared_as_sets((a, b) in (some(), some())) {
        let (there, back) = (bundle::compare(&a, &b), bundle::compare(&b, &a));
        prop_assert_eq!(there.same(), a.iter().collect::<HashSet<_>>() == b.iter().collect::<HashSet<_>>());
        prop_assert_eq!((&there.only_first, &there.only_second), (&back.only_second, &back.only_first));
        prop_assert!(there.only_first.iter().all(|one| a.contains(one) && !b.contains(one)));
        prop_assert!(there.both.iter().all(|one| a.contains(one) && b.contains(one)));
    }
}

/// Durations: whatever Go takes and is longer than nothing means the same to us; whatever it refuses we refuse.
#[test]
fn durations_are_read_as_go_reads_them() {
    let number = || prop_oneof![4 => "[0-9]{1,6}", 2 => "[0-9]{0,4}\\.[0-9]{0,12}", 1 => "[0-9]{1,25}"];
    let unit = || select(vec!["h", "m", "s", "ms", "us", "µs", "μs", "ns", "d", "y", "H", "", " h"]);
    let part = || (number(), unit()).prop_map(|(number, unit)| format!("{number}{unit}"));
    let text = (select(vec!["", "", "", "+", "-", " "]), proptest::collection::vec(part(), 0..4));
    let text = text.prop_map(|(sign, parts)| format!("{sign}{}", parts.concat()));
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let texts: Vec<String> = (0..3_000).map(|_| text.new_tree(&mut runner).unwrap().current()).collect();
    let mut questions = String::new();
    for text in &texts {
        writeln!(questions, "duration {}", hex::encode(text)).unwrap();
    }
    let mut taken = 0;
    for (text, go) in texts.iter().zip(judges::ask_go(questions)) {
        let request = json!({ "CN": "x", "ca": { "expiry": text } });
        let ours = Request::from_value(&request, "x").map(|request| request.ca.unwrap().expiry);
        match (ours, go.parse::<i128>()) {
            (Ok(Some(ours)), Ok(nanos)) => {
                // Go multiplies fractions as floating point numbers.
                assert!((ours.whole_nanoseconds() - nanos).abs() <= 1, "{text:?}: {ours:?} and {nanos} ns");
                taken += 1;
            }
            // An empty text is an absent field.
            (Ok(None), _) => assert!(text.is_empty()),
            (Err(_), Ok(nanos)) => assert!(nanos <= 0, "{text:?}: Go reads {nanos}"),
            (Err(_), Err(_)) => {}
            (Ok(ours), Err(_)) => panic!("{text:?}: we read {ours:?}, Go nothing"),
        }
    }
    assert!(taken > 500, "{taken} of {}", texts.len());
}
