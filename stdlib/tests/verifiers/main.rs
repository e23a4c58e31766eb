//! The emulated verifiers against the originals: `openssl verify`, a small Go program, and rustls' webpki verifiers.
//!
//! Needs the programs `openssl` (3.x) and `go` (Debian's `golang-go`); fails by name where one is missing.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod der;
mod generate;
mod judges;
mod spoil;

use generate::{Case, Generator, Keys, NOW};
use judges::Verdict;
use stdlib::trust::{Ask, Rejection, Usage, Verifier, verify};
use time::Duration;

use crate::der::Key;

fn emulate(verifier: Verifier, case: &Case) -> Result<usize, Rejection> {
    let ask = Ask { usage: case.usage, name: case.name.as_deref(), allowed_cn: &[], at: case.at };
    verify(verifier, &case.chain, &case.anchors, &ask)
}

/// The words of the originals that go with a code of ours.
fn same_reason(verifier: Verifier, rejection: &Rejection, original: &str) -> bool {
    let any = |words: &[&str]| words.iter().any(|word| original.contains(word));
    let code = rejection.code.as_str();
    match verifier {
        Verifier::Webpki => true,
        Verifier::Go => match code {
            "expired" => {
                any(&["has expired or is not yet valid: current time 2026-03-01T12:00:00Z is after"])
            }
            "not-yet-valid" => {
                any(&["has expired or is not yet valid: current time 2026-03-01T12:00:00Z is before"])
            }
            "unknown-authority" => original.ends_with("signed by unknown authority"),
            "bad-signature" => any(&["possibly because of", "signed by unknown authority"]),
            "not-a-ca" => {
                any(&["not authorized to sign other", "cannot sign this kind", "possibly because of"])
            }
            "name-mismatch" => any(&[
                "certificate is",
                "certificate is not valid",
                "doesn't contain any IP SANs",
                "not valid for any names",
                "legacy Common Name",
            ]),
            "usage" => any(&["incompatible key usage"]),
            "path-length" => any(&["too many intermediates"]),
            "name-constraint" => any(&["not authorized to sign for this name", "cannot parse", "constraint"]),
            "critical-extension" => any(&["unhandled critical extension"]),
            _ => false,
        },
        Verifier::Openssl => {
            let first = original
                .lines()
                .find_map(|line| line.strip_prefix("error ")?.split(' ').next()?.parse::<u32>().ok());
            let numbers: &[u32] = match code {
                "expired" => &[10],
                "not-yet-valid" => &[9],
                "unknown-authority" => &[2, 19, 20],
                "self-signed" => &[18],
                "bad-signature" => &[7],
                "not-a-ca" => &[24, 32, 79],
                "usage" => &[26],
                "path-length" => &[22, 25],
                "name-mismatch" => &[62, 64],
                "name-constraint" => &[47, 48, 49, 50, 51, 52, 53],
                "critical-extension" => &[34],
                _ => &[],
            };
            first.is_some_and(|first| numbers.contains(&first))
        }
    }
}

/// Every case by every verifier; panics with the disagreements.
fn compare(cases: &[Case]) -> [usize; 3] {
    let originals: [(Verifier, Vec<Verdict>); 3] = [
        (Verifier::Openssl, judges::openssl(cases, &[])),
        (Verifier::Go, judges::go(cases)),
        (Verifier::Webpki, judges::webpki(cases)),
    ];
    let mut accepted = [0; 3];
    let mut disagreements = Vec::new();
    for (index, (verifier, verdicts)) in originals.iter().enumerate() {
        for (number, (case, original)) in cases.iter().zip(verdicts).enumerate() {
            accepted[index] += usize::from(original.is_ok());
            let ours = emulate(*verifier, case);
            let agree = match (&ours, original) {
                (Ok(anchor), Ok(())) => *anchor < case.anchors.len(),
                (Err(rejection), Err(words)) => same_reason(*verifier, rejection, words),
                _ => false,
            };
            if !agree {
                disagreements.push(format!(
                    "{verifier:?} case {number}: {}\n  original: {original:?}\n  ours: {ours:?}",
                    case.label
                ));
            }
        }
    }
    assert!(
        disagreements.is_empty(),
        "{} disagreements, the first of them:\n{}",
        disagreements.len(),
        disagreements.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
    );
    accepted
}

#[test]
fn the_emulations_agree_with_the_originals_on_a_thousand_generated_chains() {
    let seed = std::env::var("VERIFIERS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2026);
    let count = std::env::var("VERIFIERS_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let keys = Keys::new();
    let mut generator = Generator::new(&keys, seed);
    let cases: Vec<Case> = (0..count).map(|_| generator.case()).collect();
    let accepted = compare(&cases);
    // A generator that makes only rubbish, or only sound chains, would compare nothing.
    for (verifier, accepted) in ["openssl", "go", "webpki"].iter().zip(accepted) {
        assert!(
            accepted * 6 > count && accepted * 6 < count * 5,
            "{verifier} accepted {accepted} of {count}"
        );
    }
}

/// A named case with what each verifier says of it: OpenSSL, Go, webpki.
struct Known {
    case: Case,
    verdicts: [bool; 3],
}

/// The table of the procedures (two authorities of one name, leaves with and without AKI, leaf DN = CA DN), and the
/// anchors that webpki takes where the others do not.
fn known() -> Vec<Known> {
    use generate::{authority, leaf, subject};
    let (one, two, holder) = (Key::p256(), Key::p256(), Key::p256());
    let dn = subject(0);
    let first = authority(dn.clone(), &one, 1).sign(&one, &dn, &one);
    let second = authority(dn.clone(), &two, 2).sign(&two, &dn, &two);
    let with_aki = leaf(subject(7), &holder, Some(&two), 3).sign(&holder, &dn, &two);
    let without_aki = leaf(subject(7), &holder, None, 4).sign(&holder, &dn, &two);
    let same_dn = leaf(dn.clone(), &holder, None, 5).sign(&holder, &dn, &two);
    let (first, second) = (&first, &second);
    let mut known = Vec::new();
    let mut add = |label: &str,
                   leaf: &rustls_pki_types::CertificateDer<'static>,
                   rest: &[&rustls_pki_types::CertificateDer<'static>],
                   anchors: &[&rustls_pki_types::CertificateDer<'static>],
                   verdicts| {
        known.push(Known {
            case: Case {
                label: label.into(),
                chain: std::iter::once(leaf).chain(rest.iter().copied()).cloned().collect(),
                anchors: anchors.iter().map(|anchor| (*anchor).clone()).collect(),
                usage: Usage::Server,
                name: Some("pd-0.peer.tidb.svc".into()),
                at: NOW,
            },
            verdicts,
        });
    };
    add("with AKI, issuer first", &with_aki, &[], &[second, first], [true, true, true]);
    add("with AKI, issuer second", &with_aki, &[], &[first, second], [true, true, true]);
    add("without AKI, issuer first", &without_aki, &[], &[second, first], [true, true, true]);
    add("without AKI, issuer second", &without_aki, &[], &[first, second], [false, true, true]);
    add("leaf DN is CA DN, no AKI, one CA", &same_dn, &[], &[second], [false, true, true]);

    let spoilt = |label: &str, change: &dyn Fn(&mut der::Spec)| {
        let mut spec = authority(subject(2), &one, 6);
        change(&mut spec);
        let anchor = spec.sign(&one, &subject(2), &one);
        let leaf = leaf(subject(7), &holder, Some(&one), 7).sign(&holder, &subject(2), &one);
        (label.to_owned(), leaf, anchor)
    };
    for (label, leaf, anchor) in [
        spoilt("expired anchor", &|spec| spec.not_after = NOW - Duration::HOUR),
        spoilt("anchor without constraints", &|spec| (spec.basic, spec.key_usage) = (None, None)),
        spoilt("anchor without certSign", &|spec| spec.key_usage = Some(generate::DIGITAL_SIGNATURE)),
    ] {
        add(&label, &leaf, &[], &[&anchor], [false, false, true]);
    }
    let (label, leaf_, anchor) = spoilt("anchor without key usage", &|spec| spec.key_usage = None);
    add(&label, &leaf_, &[], &[&anchor], [true, true, true]);

    let mut short = authority(subject(1), &one, 8);
    short.basic = Some((true, Some(0)));
    let anchor = short.sign(&one, &subject(1), &one);
    let mut middle = authority(subject(2), &two, 9);
    middle.authority = Some(der::Authority::KeyId(one.id()));
    let middle = middle.sign(&two, &subject(1), &one);
    let below = leaf(subject(7), &holder, Some(&two), 10).sign(&holder, &subject(2), &two);
    add("path length of the anchor broken", &below, &[&middle], &[&anchor], [false, false, true]);
    known
}

#[test]
fn the_known_differences_between_verifiers_are_as_documented() {
    let known = known();
    let cases: Vec<Case> = known.iter().map(|known| known.case.clone()).collect();
    compare(&cases);
    for Known { case, verdicts } in &known {
        let found = [Verifier::Openssl, Verifier::Go, Verifier::Webpki]
            .map(|verifier| emulate(verifier, case).is_ok());
        assert_eq!(&found, verdicts, "{}", case.label);
    }
}
