//! What OpenSSH refuses, told in the operator's words.

use std::fs;

use stdlib::error::Code;
use stdlib::host::{Command, Pool};
use stdlib::{PrimError, host::Entry};

use crate::sshd::Sshd;

async fn told(entry: &Entry) -> PrimError {
    let host = Pool::default().host(entry).unwrap();
    host.run(Command::new(["true"])).await.err().expect("it must be refused")
}

#[tokio::test]
async fn an_unknown_host_key_is_shown_and_refused_whatever_the_inventory_says() {
    let Some(server) = Sshd::start() else { return };
    fs::write(server.folder().join("nobody"), "").unwrap();
    let mut entry = server.entry_knowing("m1", "nobody");
    entry.args.extend(["-o".into(), "StrictHostKeyChecking=no".into()]);
    let error = told(&entry).await;
    assert_eq!(error.code, Code::Forbidden, "{error}");
    let print = std::process::Command::new("ssh-keygen")
        .args(["-lf"])
        .arg(server.folder().join("host_key.pub"))
        .output()
        .unwrap();
    let print = String::from_utf8(print.stdout).unwrap();
    let print = print.split(' ').nth(1).unwrap();
    assert!(error.found.as_ref().unwrap().contains(print), "{error}");
    let hint = error.hint.unwrap();
    assert!(hint.contains("ssh-keyscan -p") && hint.contains("127.0.0.1 >> ~/.ssh/known_hosts"), "{hint}");
    assert_eq!(fs::read_to_string(server.folder().join("nobody")).unwrap(), "", "nothing was learnt");
}

#[tokio::test]
async fn a_changed_host_key_is_no_unknown_one() {
    let Some(server) = Sshd::start() else { return };
    server.knows("changed", "user_key.pub");
    let error = told(&server.entry_knowing("m1", "changed")).await;
    assert_eq!(error.code, Code::Forbidden);
    assert!(error.message.contains("another than the one that is known"), "{error}");
    assert!(error.found.unwrap().contains("SHA256:"));
}

#[tokio::test]
async fn a_wrong_key_a_closed_port_and_a_missing_sudo_each_say_what_to_do() {
    let Some(server) = Sshd::start() else { return };
    let mut entry = server.entry("m1");
    entry.key_file = Some(server.folder().join("host_key").to_str().unwrap().to_owned());
    let error = told(&entry).await;
    assert_eq!(error.code, Code::Forbidden, "{error}");
    assert!(error.hint.unwrap().contains("ansible_ssh_private_key_file"));

    let mut entry = server.entry("m1");
    entry.port = Some(1);
    let error = told(&entry).await;
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(error.message.contains("refused"), "{error}");
}

/// Kills the server's side of a connection.
pub(crate) async fn session_ends(host: &dyn stdlib::host::Host) {
    let up = "p=$PPID; until case $(cat /proc/$p/comm) in sshd*) true;; *) false;; esac; \
              do p=$(cut -d' ' -f4 /proc/$p/stat); done; echo $p";
    let pid = host.run(Command::new(["sh", "-c", up])).await.unwrap().text();
    let killed = std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(killed.success());
}

#[tokio::test]
async fn a_connection_that_broke_is_made_anew() {
    let Some(server) = Sshd::start() else { return };
    let pool = Pool::default();
    let entry = server.entry("m1");
    let host = pool.host(&entry).unwrap();
    session_ends(host.as_ref()).await;
    let mut last = None;
    for _ in 0..50 {
        match host.run(Command::new(["echo", "again"])).await {
            Ok(output) => {
                assert_eq!(output.text(), "again\n");
                return;
            }
            Err(error) => last = Some(error),
        }
    }
    panic!("{last:?}");
}
