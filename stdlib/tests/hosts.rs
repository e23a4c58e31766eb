//! One contract for every host: what the port promises, held by this machine, by a real `sshd`, and by the
//! sandbox's hosts, whose tests take it from here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::print_stderr)]

#[path = "hosts/changes.rs"]
mod changes;
#[path = "hosts/containers.rs"]
mod containers;
#[path = "hosts/contract.rs"]
mod contract;
#[path = "hosts/desk.rs"]
mod desk;
#[path = "hosts/holds.rs"]
mod holds;
#[path = "hosts/jump.rs"]
mod jump;
#[path = "hosts/laid.rs"]
mod laid;
#[path = "hosts/looking.rs"]
mod looking;
#[path = "hosts/refusals.rs"]
mod refusals;
#[path = "hosts/sshd.rs"]
mod sshd;
#[path = "hosts/stopped.rs"]
mod stopped;
#[path = "hosts/timers.rs"]
mod timers;

use std::sync::Arc;

use stdlib::host::{Command, Host, Local, Pool, Posix};

/// What cannot be tried here is said.
pub(crate) fn not_tested(what: &str) {
    eprintln!("NOT TESTED: {what}");
}

#[tokio::test]
async fn this_machine_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let host: Arc<dyn Host> =
        Arc::new(Posix::new("here", folder.path().join("state").to_str().unwrap(), None, Local));
    contract::holds(host.as_ref(), folder.path()).await;
    timers::lie_there(host.as_ref(), folder.path()).await;
    changes::owners_come_back(host, folder.path()).await;
}

#[tokio::test]
async fn a_host_over_openssh_keeps_the_contract() {
    let Some(server) = sshd::Sshd::start() else { return };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    contract::holds(host.as_ref(), server.folder()).await;
    contract::serves_unit(host.as_ref(), "etcd").await;
    contract::stops(host.as_ref(), &stdlib::host::Service::Unit { unit: "etcd".into() }).await;
    changes::owners_come_back(host, server.folder()).await;
}

/// Runs what it is asked, unless that is a shell which waits for more.
const NO_SHELL: &str = "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in *'while IFS'*) echo 'one command at a time' >&2; exit 1;; esac\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n";

#[tokio::test]
async fn a_host_whose_login_gives_no_shell_keeps_the_contract() {
    let Some(server) = sshd::Sshd::start_with("ForceCommand @FOLDER@/only\n") else { return };
    std::fs::write(server.folder().join("only"), NO_SHELL).unwrap();
    std::fs::set_permissions(
        server.folder().join("only"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    contract::holds(host.as_ref(), server.folder()).await;
    contract::serves_unit(host.as_ref(), "etcd").await;
}

#[tokio::test]
async fn many_commands_cost_one_login() {
    let Some(server) = sshd::Sshd::start() else { return };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    let up = Command::new(["true"]);
    host.run(up.clone()).await.unwrap();
    let before = server.sessions();
    for _ in 0..40 {
        assert_eq!(host.run(up.clone()).await.unwrap().code, 0);
    }
    assert_eq!(server.sessions(), before);
}

/// As a start script does whose daemon keeps its output.
#[tokio::test]
async fn what_a_command_leaves_running_is_not_waited_for_and_disturbs_nobody() {
    let Some(server) = sshd::Sshd::start() else { return };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    let folder = server.folder();
    let stop = folder.join("stop");
    let daemon = format!(
        "setsid -f sh -c 'until [ -e {0} ]; do echo noise; echo noise >&2; sleep 0.01; done'; ",
        stop.display()
    );
    std::fs::create_dir_all(folder.join("state")).unwrap();
    std::fs::write(folder.join("state/mark.json"), r#"{"token":"t"}"#).unwrap();
    let fence = Some(stdlib::host::Fence { token: "t".into() });
    let starts = Command::new(["sh", "-c", &(daemon.clone() + "echo started; exit 3")]).fenced(fence);
    let output = host.run(starts).await.unwrap();
    assert_eq!(output.code, 3, "it went by the daemon's end");
    let late =
        Command::new(["sh", "-c", &(daemon + "sleep 600.5")]).within(std::time::Duration::from_millis(300));
    assert_eq!(host.run(late).await.err().unwrap().code, stdlib::error::Code::Timeout);
    assert!(!stop.exists());
    for n in 0..50 {
        let output = host.run(Command::new(["echo".to_owned(), n.to_string()])).await.unwrap();
        assert_eq!((output.text(), output.stderr.as_str()), (format!("{n}\n"), ""));
    }
    std::fs::write(stop, "").unwrap();
}

#[tokio::test]
async fn where_systemd_is_a_timer_is_a_unit_and_keeps_the_contract() {
    let Some(server) = sshd::Sshd::with_systemd() else { return };
    let pool = Pool::default();
    let host = pool.host(&server.entry("m1")).unwrap();
    let folder = server.folder();
    timers::hold(host.as_ref(), folder).await;
    let units = || std::fs::read_dir(folder.join("units")).unwrap().count();
    let unit = |id: &str| folder.join(format!("units/rollover-timer-{id}.service"));
    assert!(unit("first").exists() && unit("third").exists());

    // Nothing of the login is in it, so nothing of it ends with the login.
    host.arm(&timers::changed(folder, 600, "unit"), None).await.unwrap();
    let before = units();
    let pid = std::fs::read_to_string(folder.join("state/timers/etcd/pid")).unwrap();
    let environment = |pid: &str| {
        String::from_utf8(std::fs::read(format!("/proc/{}/environ", pid.trim())).unwrap()).unwrap()
    };
    assert!(environment(&pid).contains("INVOCATION_ID=rollover-timer-unit"), "{}", environment(&pid));
    assert!(!environment(&pid).contains("SSH_CONNECTION"));

    // Who may not make units has a timer all the same.
    std::fs::write(folder.join("no-units"), "").unwrap();
    host.arm(&timers::changed(folder, 600, "process"), None).await.unwrap();
    let pid = std::fs::read_to_string(folder.join("state/timers/etcd/pid")).unwrap();
    assert!(environment(&pid).contains("SSH_CONNECTION"));
    assert_eq!(units(), before);
    assert!(host.disarm("etcd", "process", stdlib::host::TimerState::Armed, None).await.unwrap());
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
