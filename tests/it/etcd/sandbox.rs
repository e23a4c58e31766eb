//! The same workflows in a sandbox: nothing is installed, nothing outside of its folder is touched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox::hosts::History;
use sandbox::world::counters::Snapshot;
use serde_json::Value;

use super::members::FILES;
use crate::program::{Program, says};

/// A sandbox of hosts that a person keeps.
struct Kept {
    program: Program,
    dir: PathBuf,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.program.types(&["sandbox", "stop"]);
    }
}

impl Kept {
    fn start() -> Self {
        let program = Program::new();
        let output = program.types(&["sandbox", "start", "--workflow", "etcd/rotate-ca", "--output", "json"]);
        let text = says(&output, 0, &[]);
        let started: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        Self { dir: started["dir"].as_str().unwrap().into(), program }
    }

    fn dir(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    fn host(&self, name: &str) -> PathBuf {
        self.dir.join("hosts").join(name)
    }

    /// Everything that rotates, by its path: bytes and permissions.
    fn files(&self) -> BTreeMap<String, (Vec<u8>, u32)> {
        let mut found = BTreeMap::new();
        for host in ["m1", "m2", "m3", "app1"] {
            for name in FILES {
                let path = self.host(host).join("etc/etcd/pki").join(name);
                if let Ok(bytes) = fs::read(&path) {
                    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                    found.insert(format!("{host}/{name}"), (bytes, mode));
                }
            }
        }
        assert_eq!(found.len(), 3 * 7 + 3);
        found
    }

    /// That no host has anything left of an unfinished run.
    fn is_let_go(&self, run: &str) {
        for host in ["m1", "m2", "m3", "app1"] {
            let state = self.host(host).join("var/lib/rollover");
            assert!(!state.join("mark.json").exists(), "{host}");
            assert!(fs::read_to_string(state.join("last-run.json")).unwrap().contains(run), "{host}");
        }
    }

    fn counted(&self) -> (Snapshot, History) {
        let counted: Snapshot =
            serde_json::from_slice(&fs::read(self.dir.join("counters.json")).unwrap()).unwrap();
        let history = counted.history.clone().unwrap();
        (counted, history)
    }
}

fn anchors(files: &BTreeMap<String, (Vec<u8>, u32)>) -> Vec<&Vec<u8>> {
    files.iter().filter(|(path, _)| path.ends_with("/ca.pem")).map(|(_, (bytes, _))| bytes).collect()
}

#[test]
fn a_rotation_is_killed_resumed_and_taken_back_in_a_sandbox_that_outlives_the_program() {
    let kept = Kept::start();
    let program = &kept.program;
    let before = kept.files();
    let plan = ["plan", "etcd/rotate-ca", "--sandbox-dir", kept.dir()];
    says(&program.types(&plan), 0, &["unproved: app1 application"]);
    let run = ["run", "etcd/rotate-ca", "--yes", "--sandbox-dir", kept.dir(), "--set", "snapshot=before.db"];
    let mut child = program.begins(&run);
    // Killed amid the first rolling restart: the first member carries the marker of its restart.
    let restarted = |host: &str| kept.host(host).join("var/lib/rollover/restarts/etcd").exists();
    while !["m1", "m2", "m3"].iter().any(|host| restarted(host)) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it restarted a member");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let id = program.runs().pop().unwrap();

    let other = ["run", "etcd/rotate-ca", "--yes", "--sandbox-dir", kept.dir()];
    says(&program.types(&other), 21, &[&id, "rollover resume"]);
    says(&program.types(&["status"]), 0, &[&id, "etcd/rotate-ca"]);
    let told = says(&program.types(&["resume", &id, "--yes"]), 0, &["0 refused", "none lost or read stale"]);
    assert!(told.contains("down at one moment"), "{told}");
    let after = kept.files();
    assert!(before.iter().all(|(path, (bytes, mode))| after[path].0 != *bytes && after[path].1 == *mode));
    assert!(anchors(&after).windows(2).all(|pair| pair[0] == pair[1]));
    kept.is_let_go(&id);
    let snapshot = fs::read(program.path().join("before.db")).unwrap();
    assert!(snapshot.len() > 10_000 && snapshot.len() % 512 == 32);

    says(&program.types(&["rollback", &id, "--yes"]), 0, &["none lost or read stale"]);
    assert_eq!(kept.files(), before);
    kept.is_let_go(&id);
    let (counted, history) = kept.counted();
    assert_eq!((counted.refused, history.most_down), (0, 1), "{:?}", counted.refusals);
    assert!(history.acknowledged > 0 && history.wrong.is_empty(), "{history:?}");

    // A host that the sandbox has not is never looked for elsewhere.
    program.writes("hosts.yaml", "etcd:\n  hosts:\n    m9: { ansible_host: 127.0.0.1 }\n");
    let elsewhere = [&other[..], &["--set", "inventory=hosts.yaml", "--set", "clients="]].concat();
    let output = program.types(&elsewhere);
    assert_ne!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("the sandbox has no such host"), "{text}");
}

#[test]
fn certificates_are_renewed_in_a_sandbox_of_its_own_without_a_restart() {
    let program = Program::new();
    let output = program.types(&["run", "etcd/renew-leaves", "--sandbox", "--yes"]);
    says(&output, 0, &["switch-leaves", "0 refused", "none lost or read stale; at most 0 of them down"]);
    let listed = says(&program.types(&["sandbox", "list", "--output", "json"]), 0, &[]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let dir = Path::new(listed[0]["dir"].as_str().unwrap());
    for host in ["m1", "m2", "m3"] {
        assert!(!dir.join("hosts").join(host).join("var/lib/rollover/restarts").exists(), "{host}");
    }
    says(&program.types(&["sandbox", "stop"]), 0, &[]);
}

/// What a workflow says when it runs with `--sandbox`, in a home of its own.
fn in_its_sandbox(words: &[&str]) -> String {
    let program = Program::new();
    let output = program.types(&[&["run"], words, &["--sandbox", "--yes"]].concat());
    let text = says(&output, 0, &["Done. Every phase is proved.", "none lost or read stale"]);
    assert!(!text.contains("\n0 writes acknowledged"), "{text}");
    says(&program.types(&["sandbox", "stop"]), 0, &[]);
    text
}

#[test]
fn every_other_workflow_of_hosts_has_a_fitting_sandbox() {
    const LINE: &str = "etcd CA and certs have successfully rotated!";
    // The page's table of dates.
    const TABLE: &str = "HOST WHERE WHAT NAME UNTIL DAYS";
    let outage = "--accept-outage";
    let all: [(&[&str], &[&str]); 5] = [
        // It writes again only where what was written before everything expired is there.
        (&["etcd/renew-expired", outage], &["expired: m1:", "(CA, until", "outage"]),
        (
            &["ack/etcd-renew"],
            &[LINE, "m3:/var/lib/etcd/cert/ca.pem is a link to", "0 refused", TABLE, "port 6443"],
        ),
        (&["ack/etcd-renew-expired", outage], &[LINE, "expired: m1:", "outage", TABLE, "front-proxy-client"]),
        (&["ack/etcd-rollback", outage], &[LINE, "outage", TABLE, "port 2380"]),
        (&["hosts/verify"], &["port 6443", "port 2380", "front-proxy-client", "0 refused"]),
    ];
    std::thread::scope(|scope| {
        for (words, told) in &all {
            scope.spawn(move || {
                let text = in_its_sandbox(words);
                let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
                for word in *told {
                    assert!(line.contains(word), "{words:?}: `{word}` is missing: {text}");
                }
            });
        }
    });
}

#[test]
fn an_api_server_that_does_not_serve_is_seen_before_anything_is_changed() {
    let program = Program::new();
    let run = ["run", "etcd/rotate-ca", "--sandbox", "--yes", "--set", "layout=kubeadm"];
    // Nobody listens there.
    let output = program.types(&[&run[..], &["--set", "apiserver_port=6444"]].concat());
    says(
        &output,
        36,
        &["inventory", "the API server of m1", ":6444", "see whether it is up", "nothing was changed"],
    );
}
