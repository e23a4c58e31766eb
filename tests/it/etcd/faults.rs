//! What goes wrong on real hosts: it is stopped in time, explained, and the way back works.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::members::Cluster;
use super::rotation::{all_tier, no_marks, parameters, person, texts, types};
use super::writer::{Report, Writer};
use crate::program::{Program, says, told};

/// Types a command, and kills it as soon as its run has so many records more; says whether it was killed.
pub(super) fn killed_after(program: &Program, words: &[&str], more: usize) -> bool {
    let records = || {
        let run = program.runs().pop()?;
        let journal = fs::read(program.state().join("runs").join(run).join("journal.jsonl")).ok()?;
        Some(journal.iter().filter(|byte| **byte == b'\n').count())
    };
    let goal = records().unwrap_or(0) + more;
    let mut child = program.begins(words);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{words:?} ended with {status}");
            return false;
        }
        if records().unwrap_or(0) >= goal {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Kills again and again, each time some records later, until the command comes to its end.
pub(super) fn goes_on(program: &Program, words: &[&str], seed: &mut usize) -> usize {
    let mut kills = 0;
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    loop {
        *seed = (*seed * 1_103_515_245 + 12_345) % (1 << 31);
        let line: Vec<&str> = words.iter().map(String::as_str).collect();
        // What a session has done is never done again; but it writes some records before it goes on, an intent for each
        // step of a group that runs side by side among them: were it killed within these always, it would never end.
        if !killed_after(program, &line, 4 + *seed / 65_536 % 29) {
            return kills;
        }
        kills += 1;
        words = vec!["resume".into(), program.runs().pop().unwrap(), "--yes".into()];
    }
}

#[test]
fn killed_at_every_turn_forth_and_back_it_loses_nothing() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(3);
    let before = cluster.files();
    let program = person();
    let writer = Writer::begin(&cluster);
    let parameters = parameters(&cluster);
    let words: Vec<&str> =
        ["run", "etcd/rotate-ca", "--yes"].into_iter().chain(parameters.iter().map(String::as_str)).collect();
    let mut seed = 5;
    let forth = goes_on(&program, &words, &mut seed);
    let anchors = texts(&cluster.files(), "/ca.pem");
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0] && *anchor != cluster.ca.pem().into_bytes()));
    assert_eq!(program.runs().len(), 1);
    let run = program.runs().pop().unwrap();
    no_marks(&cluster, &run);
    let back = goes_on(&program, &["rollback", &run, "--yes"], &mut seed);
    assert_eq!(cluster.files(), before);
    no_marks(&cluster, &run);
    let report = writer.ends(&format!("rotation killed {forth} times forth and {back} times back"));
    assert!(report.most_down <= 1, "{report:?}");
    assert!(forth + back >= 10, "killed only {forth} and {back} times");
}

#[test]
fn five_members_rotate_one_at_a_time() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(5);
    let program = person();
    let writer = Writer::begin(&cluster);
    let election = writer.sees_an_election(&cluster);
    says(&types(&program, &["run", "etcd/rotate-ca", "--yes"], &parameters(&cluster)), 0, &[]);
    let anchors = texts(&cluster.files(), "/ca.pem");
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0] && *anchor != cluster.ca.pem().into_bytes()));
    let report = writer.ends("rotation of five members");
    assert_eq!(report.most_down, 1, "{report:?}");
    shorter(&report, &election);
}

/// That nobody waits longer for a rotation than for a leader to be elected. On a loaded machine either may take longer by
/// chance, so three times as long is let pass; an election amid the rotation would take as long for all as it did.
pub(super) fn shorter(rotation: &Report, election: &Report) {
    let share = rotation.silence.as_secs_f64() / election.silence.as_secs_f64();
    println!("longest gap of all writers: {share:.2} of an election");
    assert!(!all_tier() || share < 3.0, "{rotation:?} {election:?}");
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
