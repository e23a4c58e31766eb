//! The documentation of ACK dedicated clusters, as three workflows on real members: renewed, renewed after all has expired,
//! brought back after a renewal that broke them.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stdlib::cert::{Certificate, Key};
use stdlib::world::{Clock as _, SystemClock};

use super::client::{keeps, kept};
use super::confirmed::comes;
use super::expired::systemctl;
use super::faults::goes_on;
use super::masters::{Authority, Masters, PORT};
use super::rotation::{all_tier, person, types};
use super::writer::Writer;
use crate::program::{says, told};

const DAY: Duration = Duration::from_secs(24 * 3600);
const LINE: &str = "etcd CA and certs have successfully rotated!";

/// The documentation's check, and more than it checks: all is 50 years away, each pair belongs together.
fn all_new(masters: &Masters, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let far = SystemClock.now() + DAY * (365 * 50 - 5);
    for (path, bytes) in masters.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let kept_key = matches!(name, "ca.key" | "front-proxy-ca.key");
        assert_eq!(before[&path] == bytes, kept_key, "{}", path.display());
        if !String::from_utf8_lossy(&bytes).contains("BEGIN CERTIFICATE") {
            continue;
        }
        let certificate = Certificate::from_pem(&bytes, name).unwrap();
        let ending = path.extension().unwrap().to_str().unwrap();
        let stem = name.strip_suffix(&format!(".{ending}")).unwrap();
        let key = if ending == "crt" { format!("{stem}.key") } else { format!("{stem}-key.pem") };
        // Where API servers have the CA as etcd's clients no key lies beside it.
        if let Ok(key) = fs::read(path.with_file_name(key)) {
            assert!(Key::from_pem(&key, name).unwrap().matches(&certificate), "{}", path.display());
        }
        assert!(certificate.not_after() > far, "{}: {}", path.display(), certificate.not_after());
    }
}

/// The table that a run ends with has a date for each certificate in the page's folders, and for each port. Paths are broken
/// into lines there; `leftovers.rs` holds them against the files.
fn shown(masters: &Masters, text: &str) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let begin = words.iter().rposition(|word| *word == "UNTIL").expect(text);
    let table = words[begin..].join(" ");
    let is_certificate = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains("BEGIN CERTIFICATE");
    let files = masters.files();
    let certificates = files.iter().filter(|(_, bytes)| is_certificate(bytes));
    let dates = certificates.map(|(path, bytes)| {
        Certificate::from_pem(bytes, &path.display().to_string()).unwrap().not_after().date().to_string()
    });
    let dates: Vec<String> = dates.collect();
    let told = words[begin..].iter().filter(|word| dates.iter().any(|date| date == *word)).count();
    assert_eq!(told, dates.len() + 3 * masters.cluster.machines.all.len(), "{text}");
    for port in [2379, 2380, PORT] {
        assert_eq!(
            table.matches(&format!("port {port} ")).count(),
            masters.cluster.machines.all.len(),
            "{text}"
        );
    }
}

/// That API servers serve, or that none does.
fn serves(masters: &Masters) -> Vec<bool> {
    let all = masters.cluster.machines.all.iter();
    all.map(|machine| TcpStream::connect((machine.address.as_str(), PORT)).is_ok()).collect()
}

fn no_mark(masters: &Masters) {
    for machine in &masters.cluster.machines.all {
        assert!(!machine.path("state/mark.json").exists(), "{}", machine.name);
    }
}

#[test]
fn masters_are_renewed_for_fifty_years_and_go_back_byte_for_byte() {
    if !all_tier() {
        return;
    }
    let masters = Masters::start(DAY * 300);
    let before = masters.files();
    let program = person();
    let writer = Writer::begin(&masters.cluster);
    let text = says(&types(&program, &["run", "ack/etcd-renew", "--yes"], &masters.parameters()), 0, &[LINE]);
    assert!(text.contains("is a link to"), "{text}");
    all_new(&masters, &before);
    shown(&masters, &text);
    no_mark(&masters);
    let run = program.runs().pop().unwrap();
    says(&program.types(&["rollback", &run, "--yes"]), 0, &[]);
    assert_eq!(masters.files(), before);
    no_mark(&masters);
    let report = writer.ends("an ACK cluster renewed, and taken back");
    assert_eq!(report.most_down, 1, "{report:?}");
}

#[test]
fn masters_whose_renewal_is_killed_at_every_turn_forth_and_back_lose_nothing() {
    if !all_tier() {
        return;
    }
    let masters = Masters::start(DAY * 300);
    let before = masters.files();
    let program = person();
    let writer = Writer::begin(&masters.cluster);
    let parameters = masters.parameters();
    let words: Vec<&str> =
        ["run", "ack/etcd-renew", "--yes"].into_iter().chain(parameters.iter().map(String::as_str)).collect();
    let mut seed = 11;
    let forth = goes_on(&program, &words, &mut seed);
    all_new(&masters, &before);
    no_mark(&masters);
    let run = program.runs().pop().unwrap();
    let back = goes_on(&program, &["rollback", &run, "--yes"], &mut seed);
    assert_eq!(masters.files(), before);
    no_mark(&masters);
    let report = writer.ends(&format!("an ACK renewal killed {forth} times forth and {back} times back"));
    assert!(report.most_down <= 1, "{report:?}");
    assert!(forth + back >= 20, "killed only {forth} and {back} times");
}

#[test]
fn masters_whose_certificates_have_expired_come_back_with_their_data() {
    if !all_tier() {
        return;
    }
    // The members began when all was valid; a year later nobody talks with anybody.
    let masters = Masters::start(Duration::ZERO);
    let cluster = &masters.cluster;
    keeps(cluster, "kept", "yes");
    let program = person();
    let words = ["--yes", "--accept-outage"];
    let run = |name: &'static str| [&["run", name][..], &words].concat();
    let (code, text) = told(&types(&program, &run("ack/etcd-renew-expired"), &masters.parameters()));
    assert!(code != 0 && text.contains("ack/etcd-renew`"), "{text}");

    let then = SystemClock.now() - DAY * 1000;
    let (clients, peers) = (Authority::new("etcd", 8760, then), Authority::new("etcd-peer", 8760, then));
    for machine in &cluster.machines.all {
        systemctl(&machine.folder, "stop");
        for (path, _) in masters.files().into_iter().filter(|(path, _)| path.starts_with(&machine.folder)) {
            let text = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.extension().is_none_or(|ending| ending != "pem") || name.ends_with("-key.pem") {
                continue;
            }
            let ca = if name.contains("peer") || name.contains("-name-") { &peers } else { &clients };
            if name.ends_with("ca.pem") {
                fs::write(&path, ca.cert.pem()).unwrap();
                continue;
            }
            let old = Certificate::from_pem(&text, name).unwrap();
            let (leaf, key) =
                stdlib::cfssl::reissue(&ca.cert, &ca.key, &old, None, Some(time::Duration::days(30)), then)
                    .unwrap();
            fs::write(&path, leaf.pem()).unwrap();
            let stem = name.trim_end_matches(".pem");
            fs::write(path.with_file_name(format!("{stem}-key.pem")), key.to_pem().unwrap().as_bytes())
                .unwrap();
        }
        systemctl(&machine.folder, "start");
    }
    let before = masters.files();
    let (code, text) = told(&types(&program, &["run", "ack/etcd-renew", "--yes"], &masters.parameters()));
    assert!(code != 0 && text.contains("ack/etcd-renew-expired"), "{text}");
    // An API server does not live without etcd.
    comes("the API servers are down", || serves(&masters).iter().all(|serves| !serves));
    let output = types(&program, &run("ack/etcd-renew-expired"), &masters.parameters());
    let text = says(&output, 0, &[LINE, "outage"]);
    assert_eq!(serves(&masters), [true; 3]);
    all_new(&masters, &before);
    shown(&masters, &text);
    assert_eq!(kept(cluster, 0, "kept").unwrap().as_deref(), Some("yes"));
    no_mark(&masters);
}

#[test]
fn masters_that_a_renewal_by_hand_broke_get_a_fresh_set() {
    if !all_tier() {
        return;
    }
    let masters = Masters::start(Duration::ZERO);
    let cluster = &masters.cluster;
    keeps(cluster, "kept", "yes");
    // Half done by hand: one master has another CA in use, one a bundle, one a key of another certificate.
    let other = Authority::new("etcd", 8760, SystemClock.now());
    let pki = |n: usize, name: &str| cluster.machines.all[n].path(&format!("disk/cert/{name}"));
    let add = |path: &Path, text: &str| fs::write(path, fs::read_to_string(path).unwrap() + text).unwrap();
    fs::write(pki(0, "ca.pem"), other.cert.pem()).unwrap();
    add(&pki(1, "peer-ca.pem"), &other.cert.pem());
    fs::write(pki(2, "etcd-server-key.pem"), other.key.to_pem().unwrap().as_bytes()).unwrap();
    for machine in &cluster.machines.all[..2] {
        systemctl(&machine.folder, "restart");
    }
    let before = masters.files();
    let program = person();
    let words = ["run", "ack/etcd-rollback", "--yes", "--accept-outage"];
    let text = says(&types(&program, &words, &masters.parameters()), 0, &[LINE]);
    assert_eq!(serves(&masters), [true; 3]);
    all_new(&masters, &before);
    shown(&masters, &text);
    assert_eq!(kept(cluster, 0, "kept").unwrap().as_deref(), Some("yes"));
    no_mark(&masters);

    // A folder that is not there is refused by name.
    fs::remove_file(cluster.machines.all[1].path("cert")).unwrap();
    let (code, text) = told(&types(&program, &words, &masters.parameters()));
    assert!(code != 0 && text.contains("m2") && text.contains("/cert"), "{text}");
}
