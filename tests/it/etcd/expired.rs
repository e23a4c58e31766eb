//! A cluster that is down since its certificates, or its CA too, have expired: it comes back with its data.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use stdlib::cert::Certificate;
use stdlib::cfssl::Request;
use stdlib::world::{Clock as _, SystemClock};

use super::client::{keeps, kept};
use super::faults::{goes_on, killed_after};
use super::members::Cluster;
use super::rotation::{all_tier, no_marks, parameters, person, texts, types};
use crate::program::{Program, says, told};

type Files = std::collections::BTreeMap<String, (Vec<u8>, u32)>;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn systemctl(folder: &Path, word: &str) {
    let status = Command::new(folder.join("bin/systemctl")).args([word, "--", "etcd"]).status().unwrap();
    assert!(status.success());
}

/// Puts a CA of long ago, and pairs of it that have expired, in the place of all; the CA has expired too, or not.
fn expire(cluster: &Cluster, ca_too: bool) {
    let now = SystemClock.now();
    let hours = if ca_too { 2 * 8760 } else { 10 * 8760 };
    let request = json!({ "CN": "etcd", "key": { "algo": "ecdsa", "size": 256 }, "ca": { "expiry": format!("{hours}h") } });
    let request = Request::from_json(request.to_string().as_bytes(), "ca").unwrap();
    let (ca, key) = stdlib::ca::create(&request, now - DAY * 1000).unwrap();
    assert_eq!(ca.not_after() < now, ca_too);
    fs::write(cluster.machines.root.path().join("ca-key.pem"), key.to_pem().unwrap().as_bytes()).unwrap();
    for folder in cluster.folders() {
        let folder = Path::new(&folder);
        fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
        for stem in ["server", "peer", "client"] {
            let path = folder.join(format!("{stem}.pem"));
            let Ok(text) = fs::read(&path) else { continue };
            let old = Certificate::from_pem(&text, "old").unwrap();
            let (leaf, leaf_key) =
                stdlib::cfssl::reissue(&ca, &key, &old, None, None, now - DAY * 900).unwrap();
            assert!(leaf.not_after() < now);
            fs::write(&path, leaf.pem()).unwrap();
            fs::write(folder.join(format!("{stem}-key.pem")), leaf_key.to_pem().unwrap().as_bytes()).unwrap();
        }
    }
}

const WORDS: [&str; 4] = ["run", "etcd/renew-expired", "--yes", "--accept-outage"];

/// Puts what must be there afterwards.
fn keep(cluster: &Cluster) {
    keeps(cluster, "kept", "through it all");
}

/// That it is there.
fn is_kept(cluster: &Cluster, text: &str) {
    assert_eq!(kept(cluster, 0, "kept").unwrap().as_deref(), Some("through it all"), "{text}");
}

/// Brings a cluster down by what has expired: two members try to run, without a quorum, one is down altogether. Returns the
/// words with which it is brought back.
fn falls(cluster: &Cluster, ca_too: bool) -> Vec<String> {
    let folders: Vec<_> = cluster.machines.all.iter().map(|machine| machine.folder.clone()).collect();
    for folder in &folders {
        systemctl(folder, "stop");
    }
    expire(cluster, ca_too);
    for folder in &folders[..2] {
        systemctl(folder, "start");
    }
    // From here on a start returns when the member serves, as systemd's does (`Type=notify`).
    for folder in &folders {
        fs::write(folder.join("notify"), "").unwrap();
    }
    kept(cluster, 0, "kept").unwrap_err();
    let mut more = parameters(cluster);
    if !ca_too {
        let key = cluster.machines.root.path().join("ca-key.pem");
        more.extend(["--set".to_owned(), format!("ca_key={}", key.display())]);
    }
    more
}

/// That everything is new, of one CA, and nobody's hold is left.
fn all_new(cluster: &Cluster, program: &Program, expired: &Files, ca_too: bool) {
    no_marks(cluster, &program.runs().pop().unwrap());
    let files = cluster.files();
    for (path, (bytes, mode)) in expired {
        assert_eq!(files[path].0 == *bytes, !ca_too && path.ends_with("/ca.pem"), "{path}");
        assert_eq!(files[path].1, *mode, "{path}");
    }
    let anchors = texts(&files, "/ca.pem");
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0]));
}

fn comes_back(ca_too: bool) {
    let cluster = Cluster::start(3);
    let program = person();
    keep(&cluster);

    // Nothing has expired yet: there is a better way.
    let (code, text) = told(&types(&program, &WORDS, &parameters(&cluster)));
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("nothing has expired") && text.contains("etcd/rotate-ca"), "{text}");

    let more = falls(&cluster, ca_too);
    let expired = cluster.files();
    let text = says(&types(&program, &WORDS, &more), 0, &["expired: m1:", "outage"]);
    is_kept(&cluster, &text);
    all_new(&cluster, &program, &expired, ca_too);
}

#[test]
fn killed_again_and_again_a_cluster_that_has_expired_comes_back_with_its_data() {
    if !all_tier() {
        return;
    }
    let mut kills = 0;
    // Other records each time.
    for (mut seed, ca_too) in [(7, true), (21, false), (90, true)] {
        let cluster = Cluster::start(3);
        let program = person();
        keep(&cluster);
        let more = falls(&cluster, ca_too);
        let expired = cluster.files();
        let words: Vec<&str> = WORDS.into_iter().chain(more.iter().map(String::as_str)).collect();
        assert!(killed_after(&program, &words, 6 + seed), "it ended before it was killed");
        let run = program.runs().pop().unwrap();
        // What has expired is worth nothing: there is no way back, which is said, and nothing is changed.
        let amid = cluster.files();
        let (code, text) = told(&program.types(&["rollback", &run, "--yes"]));
        assert!(code != 0 && text.contains("only goes forward"), "{text}");
        assert_eq!(cluster.files(), amid);
        let more_kills = goes_on(&program, &["resume", &run, "--yes"], &mut seed);
        assert_eq!(program.runs(), [run]);
        is_kept(&cluster, "");
        all_new(&cluster, &program, &expired, ca_too);
        kills += 1 + more_kills;
    }
    println!("killed {kills} times");
    assert!(kills >= 20, "killed only {kills} times");
}

#[test]
fn a_cluster_whose_certificates_and_ca_have_expired_comes_back_with_its_data() {
    comes_back(true);
}

#[test]
fn a_cluster_whose_certificates_alone_have_expired_keeps_its_ca() {
    if all_tier() {
        comes_back(false);
    }
}
