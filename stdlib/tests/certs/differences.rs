//! What differs between cfssl and us is what `docs/cfssl.md` says, and nothing else.
//!
//! Certificates are made from the same inputs, for the same keys and at the same time, and compared field by field. A
//! difference that no row of the page explains fails the test; so does a row that nothing here shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use stdlib::ca;
use stdlib::cert::{Certificate, Key, KeyUsage, San, SigningRequest};
use stdlib::cfssl::{self as ours, Request};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::FromDer as _;

use crate::odd_inputs::{authorities, config, config_json, requests};
use crate::refusals;
use crate::support::*;

pub(crate) const PAGE: &str = include_str!("../../../docs/cfssl.md");

const AKI: &str = "authority key id, where the leaf's name is the CA's";
const END: &str = "end of a leaf";
const START: &str = "start";
const BACKDATE: &str = "`ca.backdate` of a request";
const CA_NAMES: &str = "names among the `hosts` of an authority";
const TWINS: &str = "a name twice among `hosts`";
const URIS: &str = "URIs among `hosts`";
const MAPPED: &str = "`email protection` and `s/mime`, which are one usage";
const COMMITMENT: &str = "`content commitment`";
const SUBJECT: &str = "`E` and `OID` among `names`";
const CSR_SUBJECT: &str = "subject of a signing request";
const CSR_NAMES: &str = "URIs and further kinds of names in a signing request";

/// A certificate in words, field by field.
fn fields(certificate: &Certificate) -> BTreeMap<String, String> {
    let (_, x509) = x509_parser::certificate::X509Certificate::from_der(certificate.der()).unwrap();
    let tbs = &x509.tbs_certificate;
    let serial = tbs.raw_serial();
    assert!(serial.len() <= 20 && serial[0] & 0x80 == 0 && serial.iter().any(|b| *b != 0), "{serial:?}");
    let kind = |at: OffsetDateTime| if at.year() < 2050 { "UTCTime" } else { "GeneralizedTime" };
    let mut fields = BTreeMap::from([
        ("version".to_owned(), tbs.version.to_string()),
        ("signature".into(), format!("{:?}", tbs.signature)),
        ("outer signature".into(), format!("{:?}", x509.signature_algorithm)),
        ("issuer".into(), hex::encode(tbs.issuer.as_raw())),
        ("subject".into(), hex::encode(tbs.subject.as_raw())),
        ("start".into(), certificate.not_before().to_string()),
        ("type of start".into(), kind(certificate.not_before()).into()),
        ("life".into(), (certificate.not_after() - certificate.not_before()).to_string()),
        ("type of end".into(), kind(certificate.not_after()).into()),
        ("key".into(), hex::encode(tbs.subject_pki.raw)),
        ("unique ids".into(), format!("{:?} {:?}", tbs.issuer_uid, tbs.subject_uid)),
    ]);
    let mut order = Vec::new();
    for extension in tbs.extensions() {
        let oid = extension.oid.to_id_string();
        fields.insert(
            format!("extension {oid}"),
            format!("{} {}", extension.critical, hex::encode(extension.value)),
        );
        order.push(oid);
    }
    fields.insert("order of extensions".into(), order.join(" "));
    fields
}

/// What is needed to explain a difference.
struct Made<'a> {
    label: String,
    ours: &'a Certificate,
    theirs: &'a Certificate,
    /// The issuer; nothing for a root.
    issuer: Option<&'a Certificate>,
    /// The request's JSON; nothing for a signing request.
    request: Option<&'a Value>,
    csr: Option<&'a SigningRequest>,
    /// Before and after cfssl ran; ours was made at the first.
    between: (OffsetDateTime, OffsetDateTime),
}

fn minute(at: OffsetDateTime, nearest: bool) -> OffsetDateTime {
    let at = if nearest { at + Duration::seconds(30) } else { at };
    at.replace_second(0).unwrap().replace_nanosecond(0).unwrap()
}

impl Made<'_> {
    /// The rows that explain all differences of the two; panics where one is not explained.
    fn rows(&self) -> BTreeSet<&'static str> {
        let (ours, theirs) = (fields(self.ours), fields(self.theirs));
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let mut rows = BTreeSet::new();
        for name in names {
            let (one, two) = (ours.get(name), theirs.get(name));
            if one != two {
                let row = self.explain(name, one.map(String::as_str), two.map(String::as_str));
                rows.extend(row.unwrap_or_else(|| {
                    panic!("{}: `{name}` differs and no row of docs/cfssl.md says so\n  ours:   {one:?}\n  theirs: {two:?}", self.label)
                }));
            }
        }
        rows
    }

    fn explain(&self, field: &str, ours: Option<&str>, theirs: Option<&str>) -> Option<Vec<&'static str>> {
        let row = |holds: bool, row: &'static str| holds.then(|| vec![row]);
        match field {
            "start" => self.explain_start(),
            "life" => row(
                self.issuer.is_some_and(|issuer| {
                    self.ours.not_after() == issuer.not_after()
                        && self.theirs.not_after() > issuer.not_after()
                }),
                END,
            ),
            "extension 2.5.29.35" => row(
                theirs.is_none()
                    && self.issuer.is_some_and(|issuer| {
                        self.ours.akid() == issuer.skid() && self.ours.subject() == issuer.subject()
                    }),
                AKI,
            ),
            // Bit 1, which 1.2 gives only to the misspelt name.
            "extension 2.5.29.15" => row(
                self.ours.key_usage()?.0 == self.theirs.key_usage()?.0 | KeyUsage::CONTENT_COMMITMENT.0,
                COMMITMENT,
            ),
            "extension 2.5.29.37" => {
                let mut once = Vec::new();
                for usage in self.theirs.ext_usage()? {
                    if !once.contains(usage) {
                        once.push(usage.clone());
                    }
                }
                row(self.ours.ext_usage() == Some(&once), MAPPED)
            }
            "extension 2.5.29.17" => self.explain_names(),
            "subject" if self.csr.is_some_and(|csr| csr.subject == self.ours.subject()) => {
                Some(vec![CSR_SUBJECT])
            }
            "subject" => {
                let extra = self.request?["names"]
                    .as_array()?
                    .iter()
                    .any(|n| n["E"].is_string() || n["OID"].is_object());
                row(extra && self.ours.subject_text().starts_with(self.theirs.subject_text()), SUBJECT)
            }
            // Those that both have, in one order.
            "order of extensions" => {
                let (ours, theirs): (Vec<&str>, Vec<&str>) =
                    (ours?.split(' ').collect(), theirs?.split(' ').collect());
                let common = |of: &[&str], other: &[&str]| -> Vec<String> {
                    of.iter().filter(|oid| other.contains(oid)).map(|oid| (*oid).to_owned()).collect()
                };
                (common(&ours, &theirs) == common(&theirs, &ours)).then(Vec::new)
            }
            _ => None,
        }
    }

    /// cfssl rounds to the nearest minute, we take the minute begun; and its version 1.2 backdates by five minutes only.
    fn explain_start(&self) -> Option<Vec<&'static str>> {
        let (before, after) = self.between;
        let backdate = minute(before, false) - self.ours.not_before();
        let possible = |back: Duration| {
            [minute(before, true) - back, minute(after, true) - back].contains(&self.theirs.not_before())
        };
        if possible(backdate) {
            return Some(vec![START]);
        }
        let asked = self.request?.get("ca")?.get("backdate")?.is_string();
        (asked && possible(Duration::minutes(5))).then(|| vec![BACKDATE])
    }

    fn explain_names(&self) -> Option<Vec<&'static str>> {
        let mut rows = Vec::new();
        let mut expected: Vec<San> = Vec::new();
        if let Some(csr) = self.csr {
            // They keep what they know of the request, we all of it.
            let known = |san: &&San| matches!(san, San::Dns(_) | San::Email(_) | San::Ip(_));
            if csr.sans.iter().filter(known).count() == self.theirs.sans().len() {
                rows.push(CSR_NAMES);
                expected.extend(csr.sans.iter().cloned());
            }
        }
        if self.theirs.is_ca() && self.theirs.sans().iter().all(|san| matches!(san, San::Ip(_))) {
            return self.ours.sans().is_empty().then(|| vec![CA_NAMES]);
        }
        for san in self.theirs.sans() {
            let san = match san {
                San::Dns(name) if name.contains("://") => {
                    rows.push(URIS);
                    San::Uri(name.clone())
                }
                other => other.clone(),
            };
            if !expected.contains(&san) {
                expected.push(san);
            } else if self.csr.is_none() {
                rows.push(TWINS);
            }
        }
        let mut once: Vec<San> = Vec::new();
        for san in expected {
            if once.contains(&san) {
                rows.push(TWINS);
            } else {
                once.push(san);
            }
        }
        let sorted = |list: &[San]| list.iter().cloned().collect::<BTreeSet<San>>();
        let ranks_agree = self.ours.sans().len() == once.len() && sorted(&once) == sorted(self.ours.sans());
        (ranks_agree && !rows.is_empty()).then_some(rows)
    }
}

fn cfssl_certificate(folder: &Path, args: &[&str]) -> (Certificate, (OffsetDateTime, OffsetDateTime)) {
    let before = now();
    cfssl(folder, args, "theirs");
    (read_certificate(&folder.join("theirs.pem")), (before, now()))
}

fn of_leaves(folder: &Path, rows: &mut BTreeSet<&'static str>) {
    let ca = read_certificate(&folder.join("ca.pem"));
    let ca_key = Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "key").unwrap();
    let config = config();
    for (label, json, profile) in requests() {
        write(folder, &[("request.json", &json.to_string())]);
        let flag = format!("-profile={profile}");
        let args =
            ["gencert", "-ca=ca.pem", "-ca-key=ca-key.pem", "-config=ca-config.json", &flag, "request.json"];
        let (theirs, between) = cfssl_certificate(folder, &args);
        let request = Request::from_value(&json, "request.json").unwrap();
        let profile = config.profile(profile).unwrap();
        let ours = ours::issue_for(&ca, &ca_key, &request, profile, theirs.spki(), between.0).unwrap();
        let made = Made {
            label,
            ours: &ours,
            theirs: &theirs,
            issuer: Some(&ca),
            request: Some(&json),
            csr: None,
            between,
        };
        rows.extend(made.rows());
    }
}

fn of_authorities(folder: &Path, rows: &mut BTreeSet<&'static str>) {
    for json in authorities() {
        write(folder, &[("request.json", &json.to_string())]);
        let (theirs, between) = cfssl_certificate(folder, &["gencert", "-initca", "request.json"]);
        let key = Key::from_pem(&std::fs::read(folder.join("theirs-key.pem")).unwrap(), "key").unwrap();
        let request = Request::from_value(&json, "request.json").unwrap();
        let ours = ca::create_for(&request, &key, between.0).unwrap();
        let made = Made {
            label: json.to_string(),
            ours: &ours,
            theirs: &theirs,
            issuer: None,
            request: Some(&json),
            csr: None,
            between,
        };
        rows.extend(made.rows());

        // The same authority, its life begun anew.
        std::fs::rename(folder.join("theirs.pem"), folder.join("old.pem")).unwrap();
        std::fs::rename(folder.join("theirs-key.pem"), folder.join("old-key.pem")).unwrap();
        let (renewed, between) =
            cfssl_certificate(folder, &["gencert", "-renewca", "-ca=old.pem", "-ca-key=old-key.pem"]);
        let ours = ca::renew(&theirs, &key, None, between.0).unwrap();
        let made = Made {
            label: format!("renewed {json}"),
            ours: &ours,
            theirs: &renewed,
            issuer: None,
            request: None,
            csr: None,
            between,
        };
        rows.extend(made.rows());
    }
}

fn of_signing_requests(folder: &Path, rows: &mut BTreeSet<&'static str>) {
    let ca = read_certificate(&folder.join("ca.pem"));
    let ca_key = Key::from_pem(&std::fs::read(folder.join("ca-key.pem")).unwrap(), "key").unwrap();
    let config = config();
    for (subject, names, profile) in [
        ("/C=US/O=x/CN=z", "DNS:a,IP:10.0.0.1,IP:::1,email:a@b.c", "internal"),
        ("/CN=z", "DNS:a", "client"),
        ("/CN=z/O=x/O=y/DC=q", "DNS:a", "internal"),
        ("/CN=z", "DNS:a,URI:spiffe://a/b,RID:1.2.3.4,otherName:1.2.3.4;UTF8:foo", "internal"),
    ] {
        let names = format!("subjectAltName={names}");
        run(
            folder,
            "openssl",
            &[
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                "csr-key.pem",
                "-out",
                "a.csr",
                "-utf8",
                "-subj",
                subject,
                "-addext",
                &names,
            ],
            true,
        );
        let csr = SigningRequest::from_pem(&std::fs::read(folder.join("a.csr")).unwrap(), "a.csr").unwrap();
        let flag = format!("-profile={profile}");
        let args = ["sign", "-ca=ca.pem", "-ca-key=ca-key.pem", "-config=ca-config.json", &flag, "a.csr"];
        let (theirs, between) = cfssl_certificate(folder, &args);
        let ours = ours::sign(&ca, &ca_key, &csr, config.profile(profile).unwrap(), between.0).unwrap();
        let label = format!("{subject} {names}");
        let made = Made {
            label,
            ours: &ours,
            theirs: &theirs,
            issuer: Some(&ca),
            request: None,
            csr: Some(&csr),
            between,
        };
        rows.extend(made.rows());
    }
}

/// The first column of the page's first table.
fn page() -> BTreeSet<&'static str> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    rows.take_while(|line| line.starts_with('|')).map(|line| line.split('|').nth(1).unwrap().trim()).collect()
}

#[test]
fn the_differences_from_cfssl_are_those_of_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, &[("ca-csr.json", CA_CSR), ("ca-config.json", &config_json())]);
    cfssl(folder, &["gencert", "-initca", "ca-csr.json"], "ca");
    let mut shown = BTreeSet::new();
    of_leaves(folder, &mut shown);
    of_authorities(folder, &mut shown);
    of_signing_requests(folder, &mut shown);
    // Seen only in the second half of a minute.
    shown.insert(START);
    refusals::show(folder, &mut shown);
    let page = page();
    let unseen: Vec<_> = page.difference(&shown).collect();
    let unsaid: Vec<_> = shown.difference(&page).collect();
    assert!(
        unseen.is_empty() && unsaid.is_empty(),
        "rows that nothing shows: {unseen:#?}\nthat the page lacks: {unsaid:#?}"
    );
}
