//! What the port promises of timers: a change that is not confirmed takes itself back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use stdlib::error::Code;
use stdlib::host::{ABSENT, Fence, Guard, Host, Put, Timer, TimerState, digest};

/// Holds a host to it, in a folder that the host and this test both see.
pub(crate) async fn hold(host: &dyn Host, folder: &Path) {
    confirmed(host, folder).await;
    not_confirmed(host, folder).await;
    somebody_elses(host, folder).await;
    refused(host, folder).await;
}

/// What the command leaves that stands in for a restart; arguments are what they are.
const RESTARTED: &str = "g it's $HOME";

/// A change of a certificate, of a key and of a file that was not there: done, and guarded.
pub(crate) fn changed(folder: &Path, within: u64, id: &str) -> Guard {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    for (name, bytes) in [("g-cert", "new cert"), ("g-key", "new key"), ("g-made", "made")] {
        fs::write(folder.join(name), bytes).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let _ = fs::remove_file(folder.join(RESTARTED));
    let put = |name: &str, now: &str, old: Option<&str>, mode| Put {
        path: path(name),
        before: digest(now.as_bytes()),
        bytes: old.map(|old| old.as_bytes().to_vec().into()),
        mode,
        owner: None,
    };
    Guard {
        key: "etcd".into(),
        id: id.into(),
        marker: "run-1/trust-both/f".into(),
        puts: vec![
            put("g-cert", "new cert", Some("old cert"), None),
            put("g-key", "new key", Some("old key\n"), Some(0o600)),
            put("g-made", "made", None, None),
        ],
        restart: ["cp", "--", &path("g-cert"), &path(RESTARTED)].map(str::to_owned).into(),
        within: Duration::from_secs(within),
    }
}

fn text(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok()
}

/// Waits until a timer is in a state.
pub(crate) async fn becomes(host: &dyn Host, state: TimerState) -> Timer {
    let begun = Instant::now();
    loop {
        let timers = host.timers().await.unwrap();
        assert!(timers.len() == 1, "{} timers", timers.len());
        if timers[0].state == state {
            return timers.into_iter().next().unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it is {:?}", timers[0].state);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn confirmed(host: &dyn Host, folder: &Path) {
    assert!(host.timers().await.unwrap().is_empty());
    host.arm(&changed(folder, 900, "first"), None).await.unwrap();
    // Armed anew for the same: the earlier one is no more.
    host.arm(&changed(folder, 600, "second"), None).await.unwrap();
    let timer = becomes(host, TimerState::Armed).await;
    assert_eq!((timer.key.as_str(), timer.id.as_str()), ("etcd", "second"));
    assert_eq!(timer.marker, "run-1/trust-both/f");
    assert!(timer.left <= Duration::from_secs(600) && timer.left > Duration::from_secs(300));
    for (id, state) in [("first", TimerState::Armed), ("second", TimerState::Fired)] {
        assert!(!host.disarm("etcd", id, state, None).await.unwrap());
    }
    assert!(host.disarm("etcd", "second", TimerState::Armed, None).await.unwrap());
    assert!(!host.disarm("etcd", "second", TimerState::Armed, None).await.unwrap());
    assert!(host.timers().await.unwrap().is_empty());
    assert_eq!(text(folder, "g-cert").unwrap(), "new cert");
    assert!(text(folder, RESTARTED).is_none());
}

async fn not_confirmed(host: &dyn Host, folder: &Path) {
    host.arm(&changed(folder, 1, "third"), None).await.unwrap();
    let timer = becomes(host, TimerState::Fired).await;
    assert_eq!(timer.code, Some(0));
    assert_eq!(text(folder, "g-cert").unwrap(), "old cert");
    assert_eq!(text(folder, "g-key").unwrap(), "old key\n");
    assert_eq!(text(folder, "g-made"), None);
    // First put back, then restarted.
    assert_eq!(text(folder, RESTARTED).unwrap(), "old cert");
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("g-cert"), mode("g-key")), (0o640, 0o600));
    // It is too late to confirm; what it took away can be put in place again.
    assert!(!host.disarm("etcd", "third", TimerState::Armed, None).await.unwrap());
    assert_eq!(timer.undone.len(), 3);
    host.replace(&timer.undone, None).await.unwrap();
    let all = ["g-cert", "g-key", "g-made"].map(|name| (text(folder, name).unwrap(), mode(name)));
    assert_eq!(
        all,
        [("new cert", 0o640), ("new key", 0o640), ("made", 0o640)].map(|(t, m)| (t.to_owned(), m))
    );
    assert!(host.disarm("etcd", "third", TimerState::Fired, None).await.unwrap());
    assert!(host.timers().await.unwrap().is_empty());
}

/// What somebody else has changed meanwhile is not ours to put back.
async fn somebody_elses(host: &dyn Host, folder: &Path) {
    host.arm(&changed(folder, 1, "fourth"), None).await.unwrap();
    fs::write(folder.join("g-key"), "somebody else's").unwrap();
    let timer = becomes(host, TimerState::Fired).await;
    assert_eq!(text(folder, "g-key").unwrap(), "somebody else's");
    assert_eq!(text(folder, "g-cert").unwrap(), "old cert");
    assert_eq!((timer.kept.len(), timer.undone.len()), (1, 2));
    assert!(timer.kept[0].ends_with("/g-key"));
    assert!(host.disarm("etcd", "fourth", TimerState::Fired, None).await.unwrap());
}

async fn refused(host: &dyn Host, folder: &Path) {
    // A file that is not what it must be.
    let guard = changed(folder, 600, "fifth");
    fs::write(folder.join("g-key"), "another").unwrap();
    let error = host.arm(&guard, None).await.err().unwrap();
    assert_eq!(error.code, Code::Conflict, "{error}");
    assert!(error.object.ends_with("/g-key"), "{error}");
    // A hold that is lost.
    let fence = Fence { token: "nobody's".into() };
    let guard = changed(folder, 600, "sixth");
    assert_eq!(host.arm(&guard, Some(&fence)).await.err().unwrap().code, Code::Locked);
    assert!(host.timers().await.unwrap().is_empty());
    host.arm(&guard, None).await.unwrap();
    let late = host.disarm("etcd", "sixth", TimerState::Armed, Some(&fence)).await;
    assert_eq!(late.err().unwrap().code, Code::Locked);
    // The earlier one waits as before when a later one cannot be armed.
    let absent = Guard {
        puts: vec![Put { before: ABSENT.into(), ..guard.puts[0].clone() }],
        id: "seventh".into(),
        ..guard
    };
    assert!(host.arm(&absent, None).await.is_err());
    assert_eq!(becomes(host, TimerState::Armed).await.id, "sixth");
    assert!(host.disarm("etcd", "sixth", TimerState::Armed, None).await.unwrap());
    for odd in ["", "a/b", "../x", ".hidden", "-x", "a b"] {
        let guard = Guard { key: odd.into(), ..changed(folder, 600, "odd") };
        assert_eq!(host.arm(&guard, None).await.err().unwrap().code, Code::Argument, "{odd:?}");
    }
}

/// How it lies on a host with a real file system: copies are nobody else's to read and gone with the timer, and a timer
/// whose process is gone is known as such.
pub(crate) async fn lie_there(host: &dyn Host, folder: &Path) {
    host.arm(&changed(folder, 600, "lies"), None).await.unwrap();
    let timers = folder.join("state/timers");
    for entry in fs::read_dir(timers.join("etcd")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
    }
    let pid = text(&timers, "etcd/pid").unwrap();
    let line = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains("key\n"), "no content among its arguments");
    assert!(std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    becomes(host, TimerState::Lost).await;
    assert!(host.disarm("etcd", "lies", TimerState::Lost, None).await.unwrap());
    assert_eq!(fs::read_dir(timers).unwrap().count(), 0);
}
