//! What goes wrong on real hosts: it is stopped in time, explained, and the way back works.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::members::Cluster;
use super::rotation::{all_tier, no_marks, parameters, person, texts, types};
use super::writer::Writer;
use crate::program::{says, told};

#[test]
fn five_members_rotate_one_at_a_time() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(5);
    let program = person();
    let writer = Writer::begin(&cluster);
    says(&types(&program, &["run", "etcd/rotate-ca", "--yes"], &parameters(&cluster)), 0, &[]);
    let anchors = texts(&cluster.files(), "/ca.pem");
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0] && *anchor != cluster.ca.pem().into_bytes()));
    let report = writer.ends("rotation of five members");
    assert_eq!(report.most_down, 1, "{report:?}");
}

fn systemctl(folder: &Path, word: &str) {
    let status = Command::new(folder.join("bin/systemctl")).args([word, "--", "etcd"]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_member_that_is_down_or_does_not_restart_stops_the_run_in_time() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(3);
    let before = cluster.files();
    let program = person();
    let parameters = parameters(&cluster);
    let m2 = cluster.machines.all[1].folder.clone();

    // One is down before: nothing is changed, and no mark is left.
    systemctl(&m2, "stop");
    let output = types(&program, &["run", "etcd/rotate-ca", "--yes"], &parameters);
    let (code, text) = told(&output);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("m2") && text.contains("refused"), "{text}");
    assert_eq!(cluster.files(), before);
    assert!(cluster.machines.all.iter().all(|machine| !machine.path("state/mark.json").exists()), "{text}");
    systemctl(&m2, "start");
    cluster.machines.all[1].listens(2379, &m2.join("service.log"));

    // One cannot be restarted: the others are not touched after it, and the way back works.
    let writer = Writer::begin(&cluster);
    fs::write(m2.join("no-restart"), "").unwrap();
    let output = types(&program, &["run", "etcd/rotate-ca", "--yes"], &parameters);
    let (code, text) = told(&output);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("could not be restarted") && text.contains("journalctl -u etcd"), "{text}");
    fs::remove_file(m2.join("no-restart")).unwrap();
    let run = program.runs().pop().unwrap();
    says(&program.types(&["rollback", &run, "--yes"]), 0, &[]);
    assert_eq!(cluster.files(), before);
    no_marks(&cluster, &run);
    let report = writer.ends("a member that would not restart");
    assert!(report.most_down <= 1, "{report:?}");
}
