//! The sandbox's hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "../../../../stdlib/tests/hosts/changes.rs"]
mod changes;
#[path = "../../../../stdlib/tests/hosts/contract.rs"]
mod contract;
#[path = "../../../../stdlib/tests/hosts/timers.rs"]
#[allow(dead_code, reason = "how timers lie on a real file system is not the sandbox's")]
mod timers;

use std::path::Path;
use std::sync::Arc;

use sandbox::hosts::{Etcd, Fault, Keeper, Layout, Machine, Options, Program, Unit, World};
use sandbox::world::Timing;
use sandbox::world::timing::Dice;
use stdlib::error::Code;
use stdlib::host::{ABSENT, Command, Host, Put, Runtime, Service};
use stdlib::world::SystemClock;
use tokio::task::JoinSet;

/// What cannot be tried here is said.
#[allow(clippy::print_stderr)]
pub(crate) fn not_tested(what: &str) {
    eprintln!("NOT TESTED: {what}");
}

/// A service that does nothing for as long as it lives.
struct Idle;

impl Program for Idle {
    fn start(self: Arc<Self>) -> Result<JoinSet<()>, String> {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        Ok(tasks)
    }
}

/// One that does not come up.
struct Broken;

impl Program for Broken {
    fn start(self: Arc<Self>) -> Result<JoinSet<()>, String> {
        Err("open /etc/etcd/pki/ca.pem: no such file".into())
    }
}

fn machine(root: &Path, state: &str) -> Arc<Machine> {
    let bell = tokio::sync::watch::Sender::new(0);
    Machine::new("m1", root.to_owned(), state, Arc::new(SystemClock), bell)
}

async fn unit(machine: &Machine, name: &str, program: Arc<dyn Program>) -> Result<(), String> {
    let unit = Unit::new(name, program, (Arc::new(SystemClock), Timing::brisk(), Dice::new(1, name)));
    machine.add_unit(Keeper::Systemd, Arc::clone(&unit));
    unit.start().await
}

#[tokio::test]
async fn a_host_of_the_sandbox_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    // Its root is this machine's, so that the test sees by the same paths what the host sees.
    let host = machine("/".as_ref(), folder.path().join("state").to_str().unwrap());
    contract::holds(host.as_ref(), folder.path()).await;
    unit(&host, "etcd", Arc::new(Idle)).await.unwrap();
    contract::serves_unit(host.as_ref(), "etcd").await;
    contract::stops(host.as_ref(), &Service::of(&"etcd".into()).unwrap()).await;
    changes::owners_come_back(host, folder.path()).await;
}

#[tokio::test]
async fn what_the_kubelet_and_docker_keep_is_restarted_as_on_a_real_host() {
    for (layout, runtime) in [(Layout::Kubeadm, Runtime::Crictl), (Layout::Rke, Runtime::Docker)] {
        let root = tempfile::tempdir().unwrap();
        let etcd = Etcd { layout, ..Etcd::default() };
        let options = Options { etcd, ..Options::process(root.path().to_owned(), 1) };
        let world = World::start(options).await.unwrap();
        let host = world.machine("m1").unwrap();
        contract::serves_container(host.as_ref(), "etcd", runtime).await;
        if layout == Layout::Kubeadm {
            let pod = serde_json::json!({ "manifest": "/etc/kubernetes/manifests/etcd.yaml" });
            let pod = Service::of(&pod).unwrap();
            contract::serves(host.as_ref(), &pod).await;
            contract::stops(host.as_ref(), &pod).await;
        } else {
            let own = serde_json::json!({ "container": "etcd", "runtime": "docker" });
            contract::stops(host.as_ref(), &Service::of(&own).unwrap()).await;
        }
    }
}

#[tokio::test]
async fn a_service_that_does_not_come_up_says_why_and_is_failed() {
    let folder = tempfile::tempdir().unwrap();
    let host = machine(folder.path(), "/var/lib/rollover");
    let error = unit(&host, "etcd", Arc::new(Broken)).await.err().unwrap();
    assert!(error.contains("ca.pem"));
    let output = host.run(Command::new(["systemctl", "restart", "--", "etcd"])).await.unwrap();
    assert_eq!(
        (output.code, output.complaint().as_str()),
        (1, "etcd: open /etc/etcd/pki/ca.pem: no such file")
    );
    let shown = host.run(Command::new(["systemctl", "show", "--", "etcd"])).await.unwrap().text();
    assert!(shown.contains("ActiveState=failed"), "{shown}");
}

#[tokio::test]
async fn a_host_that_is_away_or_full_or_wrong_about_the_time_is_so_in_every_answer() {
    let folder = tempfile::tempdir().unwrap();
    let host = machine(folder.path(), "/var/lib/rollover");
    let put = [Put {
        path: "/etc/x".into(),
        before: ABSENT.into(),
        bytes: Some(b"x".to_vec().into()),
        mode: None,
        owner: None,
    }];
    host.fault(Fault::Full, true);
    assert!(host.replace(&put, None).await.err().unwrap().message.contains("No space left"));
    assert!(!folder.path().join("etc/x").exists());
    assert_eq!(host.free("/").await.unwrap(), 0);
    host.fault(Fault::Full, false);
    host.replace(&put, None).await.unwrap();
    assert!(folder.path().join("etc/x").exists(), "files lie below the folder");

    host.fault(Fault::Ahead(600), true);
    let offset = host.clock(&SystemClock).await.unwrap();
    assert!((599_000..=601_000).contains(&offset.millis), "{offset:?}");

    host.fault(Fault::Away, true);
    for error in [
        host.read("/etc/x", 10).await.err(),
        host.replace(&put, None).await.err(),
        host.run(Command::new(["true"])).await.err(),
        host.clock(&SystemClock).await.err(),
    ] {
        assert_eq!(error.unwrap().code, Code::Unavailable);
    }
}

#[tokio::test]
async fn a_host_of_another_process_answers_as_one_of_this() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_owned();
    let scenario =
        sandbox::world::Scenario { etcd: Some(sandbox::hosts::Etcd::default()), ..Default::default() };
    let options = sandbox::process::Options { scenario, ..Default::default() };
    let serving = tokio::spawn(async move { sandbox::process::serve(&dir, options).await });
    let ready = loop {
        if let Ok(text) = std::fs::read(folder.path().join("ready.json")) {
            break serde_json::from_slice::<serde_json::Value>(&text).unwrap();
        }
        assert!(!serving.is_finished(), "it ended at once");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let connect = sandbox::hosts::connect(folder.path().to_owned(), &ready).unwrap();
    let entry =
        |name: &str| serde_json::from_value(serde_json::json!({ "name": name, "address": name })).unwrap();
    assert!(connect(&entry("m9")).is_err(), "no host but its own");
    let host = connect(&entry("m1")).unwrap();
    contract::runs(host.as_ref()).await;
    contract::serves_unit(host.as_ref(), "etcd").await;
    let here = folder.path().join("hosts/m1");
    let path = "/etc/etcd/pki/ca.pem";
    let found = host.read(path, 1 << 20).await.unwrap().unwrap();
    let bytes = std::fs::read(here.join("etc/etcd/pki/ca.pem")).unwrap();
    assert_eq!((found.bytes.as_slice(), found.mode, found.real.as_str()), (bytes.as_slice(), 0o644, path));
    let put = |before: &str| {
        let bytes = Some(b"a\0b".to_vec().into());
        [Put { path: "/srv/x".into(), before: before.into(), bytes, mode: Some(0o640), owner: None }]
    };
    host.replace(&put(ABSENT), None).await.unwrap();
    assert_eq!(std::fs::read(here.join("srv/x")).unwrap(), b"a\0b");
    let error = host.replace(&put(ABSENT), None).await.err().unwrap();
    assert_eq!((error.code, error.object.as_str()), (Code::Conflict, "m1:/srv/x"));
    assert_eq!(host.list("/srv").await.unwrap().unwrap(), ["x"]);
    assert!(host.free("/srv").await.unwrap() > 0 && host.free("/nowhere").await.is_err());
    assert!(host.clock(&SystemClock).await.unwrap().millis.abs() < 60_000);
    let guard = stdlib::host::Guard {
        key: "etcd".into(),
        id: "one".into(),
        marker: "run/phase/f".into(),
        puts: vec![Put { bytes: None, before: stdlib::host::digest(b"a\0b"), ..put(ABSENT)[0].clone() }],
        restart: vec!["true".into()],
        within: std::time::Duration::from_secs(1),
    };
    host.arm(&guard, None).await.unwrap();
    timers::becomes(host.as_ref(), stdlib::host::TimerState::Fired).await;
    assert!(!here.join("srv/x").exists());
    assert!(host.disarm("etcd", "one", stdlib::host::TimerState::Fired, None).await.unwrap());
    serving.abort();
}
