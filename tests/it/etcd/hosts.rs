//! Hosts on one machine: an address of the loopback network each, a real `sshd`, a folder in place of a root, and a small
//! supervisor behind a command named `systemctl`. Everything ends with the test, however that ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::apart::{self, Switch};

/// Starts, stops and restarts one program, told through a pipe. What it starts dies with it.
const SUPERVISOR: &str = r#"
cd "$1" || exit 1
n=0
start() {
  n=$((n + 1))
  setpriv --pdeathsig KILL sh ./service.sh >>service.log 2>&1 &
  pid=$!
  echo "$pid invocation-$$-$n" >main.new; mv main.new main
}
stop() {
  [ -n "$pid" ] && { kill "$pid" 2>/dev/null; wait "$pid"; }
  pid=
  echo "0 none" >main.new; mv main.new main
}
start
exec 3<>control
while read -r what id <&3; do
  case $what in
    restart) stop; start;;
    stop) stop;;
    start) [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || start;;
  esac
  : >"done.$id"
done
"#;

/// What is asked of it, in systemd's words.
const SYSTEMCTL: &str = r#"#!/bin/sh
cd "@FOLDER@" || exit 1
what=$1; shift
case $what in
  show)
    read -r pid invocation <main
    state=inactive
    if [ "$pid" != 0 ] && grep -q '^State:[[:space:]]*[RSDI]' "/proc/$pid/status" 2>/dev/null; then state=active; fi
    printf 'LoadState=loaded\nActiveState=%s\nSubState=%s\nMainPID=%s\nInvocationID=%s\n' "$state" running "$pid" "$invocation"
    ;;
  restart|stop|start)
    [ -e no-restart ] && { echo 'Job for etcd.service failed.' >&2; exit 1; }
    lines=$(wc -l <service.log)
    echo "$what $$" >control
    until [ -e "done.$$" ]; do sleep 0.02; done
    rm -f "done.$$"
    [ -e notify ] && [ "$what" != stop ] || exit 0
    # As systemd's `Type=notify`: back when it serves, or not at all.
    n=0
    until tail -n "+$((lines + 1))" service.log | grep -q 'serving client traffic'; do
      n=$((n + 1))
      [ "$n" -lt 900 ] || { echo 'Job for etcd.service failed because a timeout was exceeded.' >&2; exit 1; }
      sleep 0.1
    done
    ;;
  *) echo "unknown command $what" >&2; exit 1;;
esac
"#;

/// One host.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) folder: PathBuf,
    children: Vec<Child>,
    /// Who holds its namespaces, where it has any of its own.
    holder: Option<Child>,
}

/// All of them.
pub(crate) struct Machines {
    pub(crate) root: TempDir,
    pub(crate) all: Vec<Machine>,
    /// What joins those that have a network of their own.
    pub(crate) switch: Option<Switch>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in self.children.iter_mut().chain(&mut self.holder) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A child that dies with the thread that started it.
pub(crate) fn leashed(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn keygen(path: &Path) {
    let status =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(status.success());
}

pub(crate) const SSH: u16 = 2222;

impl Machines {
    /// So many, with addresses that no other test of this machine has.
    pub(crate) fn new(count: usize) -> Self {
        Self::make(count, None)
    }

    /// The same, each with a network and a disk of its own, and its files where a host has them. To be asked for where
    /// [`apart::possible`] says so.
    pub(crate) fn apart(count: usize) -> Self {
        Self::make(count, Some(Switch::new()))
    }

    fn make(count: usize, switch: Option<Switch>) -> Self {
        let root = tempfile::tempdir().unwrap();
        // sshd wants a way to its keys that nobody else may write.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let pid = std::process::id();
        let net = match switch {
            Some(_) => apart::prefix(),
            None => format!("127.{}.{}", 64 + pid / 200 % 150, 1 + pid % 200),
        };
        let _ = fs::create_dir_all("/run/sshd");
        keygen(&root.path().join("user_key"));
        let mut known = String::new();
        let mut all = Vec::new();
        for n in 1..=count {
            let folder = root.path().join(format!("m{n}"));
            let address = format!("{net}.{n}");
            for sub in ["pki", "data", "state", "bin", "etc"] {
                fs::create_dir_all(folder.join(sub)).unwrap();
            }
            fs::set_permissions(folder.join("data"), fs::Permissions::from_mode(0o700)).unwrap();
            keygen(&folder.join("host_key"));
            let key = fs::read_to_string(folder.join("host_key.pub")).unwrap();
            known += &format!("[{address}]:{SSH} {key}");
            let systemctl = folder.join("bin/systemctl");
            fs::write(&systemctl, SYSTEMCTL.replace("@FOLDER@", folder.to_str().unwrap())).unwrap();
            fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
            let holder = switch.as_ref().map(|switch| switch.plug(n, &folder));
            all.push(Machine { name: format!("m{n}"), address, folder, children: Vec::new(), holder });
        }
        fs::write(root.path().join("known_hosts"), known).unwrap();
        let mut machines = Self { root, all, switch };
        let user_key = machines.root.path().join("user_key.pub");
        for machine in &mut machines.all {
            machine.start_sshd(&user_key);
        }
        machines
    }

    /// The inventory's words for all of them.
    pub(crate) fn ssh_vars(&self) -> String {
        format!(
            "    ansible_port: {SSH}\n    ansible_ssh_private_key_file: {0}/user_key\n    ansible_ssh_common_args: -F none -o UserKnownHostsFile={0}/known_hosts -o GlobalKnownHostsFile=none\n",
            self.root.path().display()
        )
    }
}

impl Machine {
    fn start_sshd(&mut self, user_key: &Path) {
        let folder = self.folder.display();
        // With a depth of shells bash does not read what this machine's user has in `.bashrc`.
        let config = format!(
            "ListenAddress {}:{SSH}\nLogLevel VERBOSE\nHostKey {folder}/host_key\nAuthorizedKeysFile {}\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nPidFile none\nMaxSessions 64\nMaxStartups 64\n\
             SetEnv SHLVL=1 PATH={folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
            self.address,
            user_key.display(),
        );
        fs::write(self.folder.join("sshd_config"), config).unwrap();
        let log = fs::File::create(self.folder.join("sshd.log")).unwrap();
        let mut sshd = self.leashed("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"]).arg(self.folder.join("sshd_config")).stderr(log);
        self.children.push(sshd.spawn().unwrap());
        let log = self.folder.join("sshd.log");
        self.listens(SSH, &log);
    }

    /// A child of its own, in its namespaces, that dies with the test.
    pub(crate) fn leashed(&self, program: &str) -> Command {
        let Some(holder) = &self.holder else { return leashed(program) };
        let mut command = leashed("nsenter");
        command.args(["-t", &holder.id().to_string(), "-n", "-m", "--", program]);
        command
    }

    /// Runs something there, which must go well.
    pub(crate) fn does(&self, script: &str) {
        let output = self.leashed("sh").args(["-ec", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Where it has one of its folders (`pki`, `data`, `state`), in its own eyes.
    pub(crate) fn place(&self, own: &str) -> PathBuf {
        let apart = self.holder.is_some();
        match own {
            "pki" if apart => "/etc/etcd/pki".into(),
            "data" if apart => "/var/lib/etcd".into(),
            "state" if apart => "/var/lib/rollover".into(),
            _ => self.folder.join(own),
        }
    }

    /// A path of its own, as this machine sees it.
    pub(crate) fn seen(&self, path: &str) -> PathBuf {
        let holder = self.holder.as_ref().expect("it has no disk of its own");
        format!("/proc/{}/root{path}", holder.id()).into()
    }

    /// Waits until something listens there.
    pub(crate) fn listens(&self, port: u16, log: &Path) {
        let begun = Instant::now();
        while std::net::TcpStream::connect((self.address.as_str(), port)).is_err() {
            let said = || fs::read_to_string(log).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(120), "{}:{port}: {}", self.address, said());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Puts a service under its supervisor, started.
    pub(crate) fn supervise(&mut self, script: &str) {
        fs::write(self.folder.join("service.sh"), script).unwrap();
        assert!(Command::new("mkfifo").arg(self.folder.join("control")).status().unwrap().success());
        let mut supervisor = self.leashed("sh");
        supervisor.args(["-c", SUPERVISOR, "supervisor"]).arg(&self.folder).stderr(Stdio::null());
        self.children.push(supervisor.spawn().unwrap());
    }

    /// Ends with the host.
    pub(crate) fn adopt(&mut self, child: Child) {
        self.children.push(child);
    }

    /// A file below its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
