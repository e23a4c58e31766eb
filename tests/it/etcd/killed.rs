//! `kill -9` at seeded records of a rotation on real members, again and again on one cluster: from each it is taken back, and
//! from each it is resumed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{keeps, kept};
use super::members::Cluster;
use super::rotation::{all_tier, no_marks, parameters, person, texts, types};
use super::writer::Writer;
use crate::program::{Program, says};

/// At how many records, each twice. `ROLLOVER_TEST_KILLS` says otherwise.
fn rounds() -> usize {
    std::env::var("ROLLOVER_TEST_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(20)
}

fn records(program: &Program, run: &str) -> usize {
    let journal = program.state().join("runs").join(run).join("journal.jsonl");
    fs::read(journal).map_or(0, |journal| journal.iter().filter(|byte| **byte == b'\n').count())
}

/// Types a command, and kills it as soon as the run has so many records: the one of this name, or else the next one that
/// comes to be. Returns which, and whether it was killed.
fn killed_at(program: &Program, words: &[&str], run: Option<&str>, goal: usize) -> (String, bool) {
    let before = program.runs();
    let mut child = program.begins(words);
    let newest = || program.runs().into_iter().find(|run| !before.contains(run));
    loop {
        let run = run.map(str::to_owned).or_else(newest);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{words:?} ended with {status}");
            return (run.unwrap(), false);
        }
        if let Some(run) = run
            && records(program, &run) >= goal
        {
            child.kill().unwrap();
            child.wait().unwrap();
            return (run, true);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every member answers, and holds what was written before.
fn holds(cluster: &Cluster, round: usize) {
    for member in 0..cluster.machines.all.len() {
        let found = kept(cluster, member, "kept");
        let found = found.unwrap_or_else(|why| panic!("round {round}: member {member}: {why}"));
        assert_eq!(found.as_deref(), Some("yes"), "round {round}: member {member}");
    }
}

#[test]
fn killed_at_each_of_many_records_it_is_taken_back_and_it_is_resumed() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(3);
    keeps(&cluster, "kept", "yes");
    let program = person();
    let writer = Writer::begin(&cluster);
    let parameters = parameters(&cluster);
    let words: Vec<&str> =
        ["run", "etcd/rotate-ca", "--yes"].into_iter().chain(parameters.iter().map(String::as_str)).collect();
    // By the CA that each has followed.
    let keys = || -> BTreeMap<_, _> {
        let folders = fs::read_dir(Path::new(program.path()).join("etcd-ca")).into_iter().flatten();
        let key = |folder: PathBuf| Some((folder.clone(), fs::read(folder.join("ca-key.pem")).ok()?));
        folders.filter_map(|folder| key(folder.unwrap().path())).collect()
    };

    // How many records a whole one has.
    says(&types(&program, &["run", "etcd/rotate-ca", "--yes"], &parameters), 0, &[]);
    let whole = records(&program, &program.runs().pop().unwrap());
    let mut seed = 17_usize;
    let mut kills = 0;
    for round in 0..rounds() {
        seed = (seed * 1_103_515_245 + 12_345) % (1 << 31);
        let goal = 4 + seed / 65_536 % (whole - 6);
        let (before, own) = (cluster.files(), keys());

        let (run, killed) = killed_at(&program, &words, None, goal);
        assert!(killed, "round {round}: it ended before record {goal} of {whole}");
        says(&program.types(&["rollback", &run, "--yes"]), 0, &[]);
        assert_eq!(cluster.files(), before, "round {round}: killed at record {goal}, taken back");
        assert_eq!(keys(), own, "round {round}");
        no_marks(&cluster, &run);
        holds(&cluster, round);

        let (run, killed) = killed_at(&program, &words, None, goal);
        assert!(killed, "round {round}: it ended before record {goal} of {whole}");
        // Once more on the way, and then to the end.
        let resume = ["resume", run.as_str(), "--yes"];
        let (_, again) = killed_at(&program, &resume, Some(&run), goal + 5 + seed % 23);
        if again {
            says(&program.types(&resume), 0, &[]);
        }
        kills += 2 + usize::from(again);
        let anchors = texts(&cluster.files(), "/ca.pem");
        let old = texts(&before, "/ca.pem");
        assert!(anchors.iter().all(|anchor| *anchor == anchors[0] && *anchor != old[0]), "round {round}");
        assert_eq!(keys().len(), own.len() + 1, "round {round}: the new CA's key, and those before");
        no_marks(&cluster, &run);
        holds(&cluster, round);
        println!("round {round}: killed at record {goal} of {whole}, taken back; killed there, resumed");
    }
    let report = writer.ends(&format!("rotations killed {kills} times at {} records", rounds()));
    assert!(report.most_down <= 1, "{report:?}");
}
