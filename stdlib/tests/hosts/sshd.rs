//! A real `sshd` on the loopback interface, for the user of this test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use stdlib::host::Entry;
use tempfile::TempDir;

pub(crate) struct Sshd {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stands in for systemd: one unit, `etcd`, that is started anew each time it is told so.
const SYSTEMCTL: &str = r#"#!/bin/sh
what=$1
for unit; do :; done
if [ "$unit" != etcd ]; then
  [ "$what" = show ] && { printf 'LoadState=not-found\nActiveState=inactive\n'; exit 0; }
  echo "Failed to $what $unit.service: Unit $unit.service not found." >&2; exit 5
fi
starts=$(cat @FOLDER@/starts 2>/dev/null || echo 1)
case $what in
  show)
    state='active\nSubState=running'; [ ! -e @FOLDER@/down ] || state='inactive\nSubState=dead'
    printf "LoadState=loaded\nActiveState=$state\nMainPID=7\nInvocationID=%s\n" "$starts";;
  restart) rm -f @FOLDER@/down; echo $((starts + 1)) >@FOLDER@/starts;;
  stop) : >@FOLDER@/down;;
esac
"#;

/// Stands in for systemd's `systemd-run`, by its manual page, as far as it is asked: options come before the command, what
/// is none is refused, two units of one name cannot be, and the command runs detached in a clean environment.
const SYSTEMD_RUN: &str = r#"#!/bin/sh
unit=; given=
[ -e @FOLDER@/no-units ] && { echo 'Failed to start transient service unit: Access denied' >&2; exit 1; }
while [ $# -gt 0 ]; do
  case $1 in
    --quiet|--collect) ;;
    --setenv=*=*) given=${1#--setenv=};;
    --unit=*) unit=${1#--unit=};;
    --) shift; break;;
    -*) echo "systemd-run: unrecognized option '$1'" >&2; exit 1;;
    *) break;;
  esac
  shift
done
[ $# -gt 0 ] || { echo 'Command line to execute required.' >&2; exit 1; }
case $unit in ''|*[!A-Za-z0-9:_.@-]*) echo "Failed to mangle unit name" >&2; exit 1;; esac
# Its arguments are searched for variables.
case "$*" in *\$*) echo "it would be expanded: $*" >&2; exit 1;; esac
mkdir "@FOLDER@/units/$unit.service" || { echo "Unit $unit.service already exists." >&2; exit 1; }
command -v "$1" >/dev/null || { echo "Failed to find executable $1" >&2; exit 1; }
cd /
setsid -f env -i INVOCATION_ID="$unit" "$given" "$@" </dev/null >/dev/null 2>&1
"#;

fn keygen(path: &Path) {
    let status =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(status.success());
}

impl Sshd {
    /// Nothing where there is no `sshd`, which is said.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same with more in its configuration, where `@FOLDER@` is its folder.
    pub(crate) fn start_with(more: &str) -> Option<Self> {
        Self::begin(more, &[])
    }

    /// On a host that systemd runs, as far as timers go; nothing where a mount namespace cannot be made, which is said.
    pub(crate) fn with_systemd() -> Option<Self> {
        // A `/run` of its own: this machine's is not touched.
        let own = "mount -t tmpfs none /run && mkdir -p /run/sshd /run/systemd/system && exec \"$@\"";
        let wrapper = ["unshare", "-m", "sh", "-c", own, "sh"];
        let tried = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            eprintln!("NOT TESTED: timers as units of systemd's: no mount namespace can be made here");
            return None;
        }
        let server = Self::begin("", &wrapper)?;
        fs::create_dir(server.folder().join("units")).unwrap();
        let program = server.folder().join("bin/systemd-run");
        fs::write(&program, SYSTEMD_RUN.replace("@FOLDER@", server.folder().to_str().unwrap())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Some(server)
    }

    fn begin(more: &str, wrapper: &[&str]) -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() {
            eprintln!("skipped: no /usr/sbin/sshd here; Debian's openssh-server has it");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        keygen(&at("host_key"));
        keygen(&at("user_key"));
        fs::copy(at("user_key.pub"), at("authorized_keys")).unwrap();
        fs::set_permissions(at("authorized_keys"), fs::Permissions::from_mode(0o600)).unwrap();
        let systemctl = at("bin/systemctl");
        fs::create_dir(at("bin")).unwrap();
        fs::write(&systemctl, SYSTEMCTL.replace("@FOLDER@", folder.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        // Without the privileges of root sshd needs no such folder, with them it insists.
        let _ = fs::create_dir_all("/run/sshd");
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            // With a depth of shells bash does not read what this machine's user has in `.bashrc`.
            let config = format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\nStrictModes no\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\nMaxSessions 64\nMaxStartups 64\nLogLevel VERBOSE\n\
                 SetEnv SHLVL=1 PATH={0}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
                folder.path().display()
            ) + &more.replace("@FOLDER@", folder.path().to_str().unwrap());
            fs::write(at("sshd_config"), config).unwrap();
            let log = fs::File::create(at("sshd.log")).unwrap();
            let words: Vec<&str> = wrapper.iter().copied().chain(["/usr/sbin/sshd"]).collect();
            let mut child = Command::new(words[0])
                .args(&words[1..])
                .args(["-D", "-e", "-f"])
                .arg(at("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let begun = Instant::now();
            // Another process may have taken the port in between; then it ends, and there is another port.
            while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    let server = Self { folder, port, child };
                    server.knows("known_hosts", "host_key.pub");
                    return Some(server);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("sshd does not start: {}", fs::read_to_string(at("sshd.log")).unwrap());
    }

    /// Writes a known_hosts file with this key for the server.
    pub(crate) fn knows(&self, file: &str, key: &str) {
        let key = fs::read_to_string(self.folder().join(key)).unwrap();
        fs::write(self.folder().join(file), format!("[127.0.0.1]:{} {key}", self.port)).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Gives it a program, in which `@FOLDER@` is its folder.
    pub(crate) fn has(&self, program: &str, text: &str) {
        let path = self.folder().join("bin").join(program);
        fs::write(&path, text.replace("@FOLDER@", self.folder().to_str().unwrap())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it has noted so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder().join("sshd.log")).unwrap()
    }

    /// How many sessions were begun so far, each with a login shell of its own.
    pub(crate) fn sessions(&self) -> usize {
        fs::read_to_string(self.folder().join("sshd.log")).unwrap().matches("Starting session").count()
    }

    /// The host as an inventory would have it.
    pub(crate) fn entry(&self, name: &str) -> Entry {
        self.entry_knowing(name, "known_hosts")
    }

    pub(crate) fn entry_knowing(&self, name: &str, known_hosts: &str) -> Entry {
        let folder = self.folder().to_str().unwrap();
        let entry = json!({
            "name": name, "address": "127.0.0.1", "port": self.port, "key_file": format!("{folder}/user_key"),
            "args": ["-F", "none", "-o", format!("UserKnownHostsFile={folder}/{known_hosts}"), "-o", "GlobalKnownHostsFile=none"],
            "state": format!("{folder}/state"),
        });
        serde_json::from_value(entry).unwrap()
    }
}
