//! A change that nobody confirms takes itself back on the host, and the run goes on from there.

use std::fs;
use std::time::{Duration, Instant};

use super::hosts::Machine;
use super::members::Cluster;
use super::rotation::{all_tier, no_marks, parameters, person, texts};
use super::writer::Writer;
use crate::program::{says, told};

/// Waits for something that comes by itself.
pub(super) fn comes(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(180), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ca(machine: &Machine) -> Vec<u8> {
    fs::read(machine.path("pki/ca.pem")).unwrap()
}

#[test]
fn a_runner_that_is_killed_before_it_confirms_leaves_a_host_that_restores_itself() {
    if !all_tier() {
        return;
    }
    let cluster = Cluster::start(3);
    let all = &cluster.machines.all;
    let program = person();
    let writer = Writer::begin(&cluster);
    let mut parameters = parameters(&cluster);
    parameters.extend(["--set".to_owned(), "confirm_within=15s".to_owned()]);
    let words: Vec<&str> =
        ["run", "etcd/rotate-ca", "--yes"].into_iter().chain(parameters.iter().map(String::as_str)).collect();

    // The first member that is restarted does not come to serve: nothing can be confirmed.
    let starts: Vec<_> = all.iter().map(|machine| fs::read(machine.path("main")).unwrap()).collect();
    let before = cluster.ca.pem().into_bytes();
    for machine in all {
        fs::write(machine.path("hold"), "").unwrap();
    }
    let mut child = program.begins(&words);
    let restarted = |n: usize| fs::read(all[n].path("main")).is_ok_and(|now| now != starts[n]);
    comes("a member is restarted", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it restarted a member");
        (0..3).any(restarted)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let first = (0..3).find(|n| restarted(*n)).unwrap();
    let first = &all[first];
    assert!(first.path("state/timers/etcd/armed").exists(), "a timer waits");
    assert_ne!(ca(first), before);
    for machine in all {
        fs::remove_file(machine.path("hold")).unwrap();
    }

    // Nobody does anything: the host takes the change back, and the member serves with what it had.
    comes("the timer has fired", || first.path("state/timers/etcd/fired").exists());
    assert_eq!(ca(first), before);
    assert!(all.iter().all(|machine| machine.name == first.name || ca(machine) != before));
    first.listens(2379, &first.path("service.log"));
    writer.goes_on(20);

    // The run says what happened, puts its file in place again and goes on to its end.
    let run = program.runs().pop().unwrap();
    let output = program.types(&["resume", &run, "--yes"]);
    let text = says(&output, 0, &["nobody confirmed the restart in time", &first.name]);
    let anchors = texts(&cluster.files(), "/ca.pem");
    assert!(anchors.iter().all(|anchor| *anchor == anchors[0] && *anchor != before), "{text}");
    assert!(all.iter().all(|machine| fs::read_dir(machine.path("state/timers")).unwrap().count() == 0));
    no_marks(&cluster, &run);
    let (_, shown) = told(&program.types(&["audit", "show", &run]));
    assert!(shown.contains("nobody confirmed the restart in time"), "{shown}");
    let report = writer.ends("a runner killed before it confirmed");
    assert!(report.most_down <= 1, "{report:?}");
}
