//! One contract for every host: what the port promises, held by this machine, by a real `sshd`, and by the
//! sandbox's hosts, whose tests take it from here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stderr)]

#[path = "hosts/contract.rs"]
mod contract;
#[path = "hosts/refusals.rs"]
mod refusals;
#[path = "hosts/sshd.rs"]
mod sshd;
#[path = "hosts/timers.rs"]
mod timers;

use std::sync::Arc;

use stdlib::host::{Host, Local, Pool, Posix};

#[tokio::test]
async fn this_machine_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let host: Arc<dyn Host> =
        Arc::new(Posix::new("here", folder.path().join("state").to_str().unwrap(), None, Local));
    contract::holds(host.as_ref(), folder.path()).await;
    timers::lie_there(host.as_ref(), folder.path()).await;
}

#[tokio::test]
async fn a_host_over_openssh_keeps_the_contract() {
    let Some(server) = sshd::Sshd::start() else { return };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    contract::holds(host.as_ref(), server.folder()).await;
    contract::serves(host.as_ref(), "etcd").await;
}

#[tokio::test]
async fn a_timer_needs_neither_us_nor_a_connection() {
    let Some(server) = sshd::Sshd::start() else { return };
    let folder = server.folder().to_owned();
    std::fs::write(folder.join("file"), "new").unwrap();
    let put = stdlib::host::Put {
        path: folder.join("file").to_str().unwrap().to_owned(),
        before: stdlib::host::digest(b"new"),
        bytes: Some(b"old".to_vec().into()),
        mode: None,
        owner: None,
    };
    let guard = stdlib::host::Guard {
        key: "etcd".into(),
        id: "alone".into(),
        marker: "run/phase/f".into(),
        puts: vec![put],
        restart: vec!["true".into()],
        within: std::time::Duration::from_secs(2),
    };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    host.arm(&guard, None).await.unwrap();
    refusals::session_ends(host.as_ref()).await;
    let begun = std::time::Instant::now();
    while std::fs::read(folder.join("file")).unwrap() != b"old" {
        assert!(begun.elapsed() < std::time::Duration::from_secs(120), "it was not put back");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
