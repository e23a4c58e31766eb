//! The sandbox's hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "../../../../stdlib/tests/hosts/contract.rs"]
mod contract;
#[path = "../../../../stdlib/tests/hosts/timers.rs"]
#[allow(dead_code, reason = "how timers lie on a real file system is not the sandbox's")]
mod timers;

use std::path::Path;
use std::sync::Arc;

use sandbox::hosts::{Fault, Machine, Program, Unit};
use sandbox::world::Timing;
use sandbox::world::timing::Dice;
use stdlib::error::Code;
use stdlib::host::{ABSENT, Command, Host, Put};
use stdlib::world::SystemClock;
use tokio::task::JoinSet;

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
    machine.add_unit(Arc::clone(&unit));
    unit.start().await
}

#[tokio::test]
async fn a_host_of_the_sandbox_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    // Its root is this machine's, so that the test sees by the same paths what the host sees.
    let host = machine("/".as_ref(), folder.path().join("state").to_str().unwrap());
    contract::holds(host.as_ref(), folder.path()).await;
    unit(&host, "etcd", Arc::new(Idle)).await.unwrap();
    contract::serves(host.as_ref(), "etcd").await;
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
