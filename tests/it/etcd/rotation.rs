//! A rotation of CA and certificates on three members, over SSH, forth and back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::shorter;
use super::members::Cluster;
use super::writer::Writer;
use crate::program::{Program, says};

/// The parameters of a rotation of this cluster.
pub(super) fn parameters(cluster: &Cluster) -> Vec<String> {
    let set = [
        format!("inventory={}", cluster.inventory()),
        "clients=apps".to_owned(),
        format!("folders={}", cluster.places().join(",")),
    ];
    set.into_iter().flat_map(|value| ["--set".to_owned(), value]).collect()
}

pub(super) fn types(program: &Program, words: &[&str], more: &[String]) -> std::process::Output {
    let all: Vec<&str> = words.iter().copied().chain(more.iter().map(String::as_str)).collect();
    program.types(&all)
}

/// A person with the path to `sshd`'s and etcd's programs.
pub(super) fn person() -> Program {
    Program::new().with_env("PATH", &std::env::var("PATH").unwrap())
}

pub(super) fn texts(files: &BTreeMap<String, (Vec<u8>, u32)>, ending: &str) -> Vec<Vec<u8>> {
    files.iter().filter(|(path, _)| path.ends_with(ending)).map(|(_, (bytes, _))| bytes.clone()).collect()
}

#[test]
fn a_rotation_over_ssh_loses_no_acknowledged_write_and_goes_back_byte_for_byte() {
    let cluster = Cluster::start(3);
    let before = cluster.files();
    let program = person();
    let writer = Writer::begin(&cluster);
    let election = writer.sees_an_election(&cluster);

    let mut with_snapshot = parameters(&cluster);
    with_snapshot.extend(["--set".to_owned(), "snapshot=before.db".to_owned()]);
    let output = types(&program, &["run", "etcd/rotate-ca", "--yes"], &with_snapshot);
    let told = says(&output, 0, &["distrust-old"]);
    writer.goes_on(20);

    // Everything is new, and only the new CA is trusted; who may read a file is as it was.
    let after = cluster.files();
    assert_eq!(before.len(), after.len());
    for (path, (bytes, mode)) in &before {
        let (now, now_mode) = &after[path];
        assert_ne!(now, bytes, "{path}");
        assert_eq!(now_mode, mode, "{path}");
    }
    let anchors = texts(&after, "/ca.pem");
    assert!(anchors.windows(2).all(|pair| pair[0] == pair[1]), "{told}");
    assert_eq!(stdlib::cert::parse_many(&anchors[0], "ca").unwrap().len(), 1);
    let snapshot = std::fs::read(program.path().join("before.db")).unwrap();
    assert!(snapshot.len() > 10_000 && snapshot.len() % 512 == 32);
    let run = program.runs().pop().unwrap();
    no_marks(&cluster, &run);

    let output = program.types(&["rollback", &run, "--yes"]);
    says(&output, 0, &[]);
    writer.goes_on(20);
    assert_eq!(cluster.files(), before);
    no_marks(&cluster, &run);
    assert!(program.path().join("before.db").exists(), "a snapshot stays");

    let report = writer.ends("rotation of three members, forth and back");
    shorter(&report, &election);
    assert_eq!(report.most_down, 1, "members were restarted, and never two at once: {report:?}");
}

/// No host carries the mark of an unfinished run.
pub(super) fn no_marks(cluster: &Cluster, run: &str) {
    for machine in &cluster.machines.all {
        assert!(!machine.path("state/mark.json").exists(), "{}", machine.name);
        // What an auditor holds the record against.
        let last = std::fs::read_to_string(machine.path("state/last-run.json")).unwrap();
        assert!(last.contains(run), "{last}");
    }
}

/// Whether there is time for all of it: the bounded tier goes through one rotation, forth and back.
pub(super) fn all_tier() -> bool {
    let all = std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all");
    if !all {
        println!("only with ROLLOVER_TEST_TIER=all");
    }
    all
}

#[test]
fn a_killed_rotation_is_resumed_and_a_second_run_is_told_who_has_the_hosts() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(3);
    let program = person();
    let writer = Writer::begin(&cluster);
    let parameters = parameters(&cluster);
    let words: Vec<&str> =
        ["run", "etcd/rotate-ca", "--yes"].into_iter().chain(parameters.iter().map(String::as_str)).collect();

    let mut child = program.begins(&words);
    // Killed amid the first rolling restart: the first member carries the marker of its restart.
    let restarted = |n: usize| cluster.machines.all[n].path("state/restarts/etcd").exists();
    while !(0..3).any(restarted) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it restarted a member");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!(0..3).all(restarted), "it was killed too late");

    let run = program.runs().pop().unwrap();
    let other = person();
    let output = types(&other, &["run", "etcd/rotate-ca", "--yes"], &parameters);
    let told = says(&output, 21, &[run.as_str(), "rollover resume"]);
    assert!(told.contains("m1"), "{told}");

    says(&program.types(&["resume", &run, "--yes"]), 0, &[]);
    no_marks(&cluster, &run);
    let anchors = texts(&cluster.files(), "/ca.pem");
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0] && *anchor != cluster.ca.pem().into_bytes()));
    let report = writer.ends("rotation of three members, killed and resumed");
    assert!(report.most_down <= 1, "{report:?}");
}

#[test]
fn certificates_are_renewed_without_a_restart() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(3);
    let before = cluster.files();
    let starts: Vec<_> =
        cluster.machines.all.iter().map(|m| std::fs::read(m.path("main")).unwrap()).collect();
    let program = person();
    let writer = Writer::begin(&cluster);
    let mut parameters = parameters(&cluster);
    let key = cluster.machines.root.path().join("ca-key.pem");
    parameters.extend(["--set".to_owned(), format!("ca_key={}", key.display())]);
    says(&types(&program, &["run", "etcd/renew-leaves", "--yes"], &parameters), 0, &[]);
    let after = cluster.files();
    for (path, (bytes, _)) in &before {
        assert_eq!(after[path].0 == *bytes, path.ends_with("/ca.pem"), "{path}");
    }
    let now: Vec<_> = cluster.machines.all.iter().map(|m| std::fs::read(m.path("main")).unwrap()).collect();
    assert_eq!(starts, now);
    let report = writer.ends("renewal of every certificate");
    assert_eq!(report.most_down, 0, "{report:?}");
}
