//! The operator's own ways to a host: jump hosts, an agent, a configuration file. Whatever they say, every key on the way is
//! one that is known.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};

use serde_json::json;
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{Command, Entry, Host, Pool};
use tempfile::TempDir;

use crate::sshd::Sshd;

/// Servers, and the operator's configuration for them.
struct Desk {
    folder: TempDir,
    servers: Vec<(&'static str, Sshd)>,
}

impl Desk {
    /// One server for each of these names, each with what else stands below `Host NAME`.
    fn of<const N: usize>(hosts: [(&'static str, &str); N]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut servers = Vec::new();
        let mut config = String::new();
        for (name, more) in hosts {
            let server = Sshd::start()?;
            let (port, key) = (server.port(), server.folder().join("user_key"));
            writeln!(config, "Host {name}\n  HostName 127.0.0.1\n  Port {port}\n{more}").unwrap();
            if !more.contains("Identity") {
                writeln!(config, "  IdentityFile {}", key.display()).unwrap();
            }
            servers.push((name, server));
        }
        let user = String::from_utf8(Process::new("id").arg("-un").output().unwrap().stdout).unwrap();
        // Whoever wrote this would have us take any key.
        writeln!(
            config,
            "Host *\n  User {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  \
             StrictHostKeyChecking no\n  NoHostAuthenticationForLocalhost yes",
            user.trim(),
            folder.path().join("known").display(),
        )
        .unwrap();
        let config = config.replace("@FOLDER@", folder.path().to_str().unwrap());
        fs::write(folder.path().join("config"), config).unwrap();
        let desk = Self { folder, servers };
        let names: Vec<&str> = desk.servers.iter().map(|(name, _)| *name).collect();
        desk.knows(&names);
        Some(desk)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server(&self, name: &str) -> &Sshd {
        &self.servers.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Knows the keys of these and of no others.
    fn knows(&self, names: &[&str]) {
        let line = |name: &&str| {
            let server = self.server(name);
            let key = fs::read_to_string(server.folder().join("host_key.pub")).unwrap();
            format!("[127.0.0.1]:{} {key}", server.port())
        };
        fs::write(self.at("known"), names.iter().map(line).collect::<String>()).unwrap();
    }

    /// A host that the inventory knows by the name in the configuration, and by nothing else.
    fn entry(&self, name: &str, more: &[&str]) -> Entry {
        let mut args = vec!["-F".to_owned(), self.at("config").to_str().unwrap().to_owned()];
        args.extend(more.iter().map(|word| (*word).to_owned()));
        serde_json::from_value(json!({ "name": name, "address": name, "args": args })).unwrap()
    }

    async fn refused(&self, name: &str, more: &[&str]) -> PrimError {
        let host = Pool::default().host(&self.entry(name, more)).unwrap();
        host.run(Command::new(["true"])).await.err().expect("it must be refused")
    }

    fn fingerprint(&self, name: &str) -> String {
        let key = self.server(name).folder().join("host_key.pub");
        let shown = Process::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
        String::from_utf8(shown.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    /// The key of this server is not known: it is shown, named, refused and not learnt.
    async fn does_not_know(&self, way: (&str, &[&str]), whose: &str, message: &str, hint: &str) {
        let before = fs::read_to_string(self.at("known")).unwrap();
        let error = self.refused(way.0, way.1).await;
        assert_eq!((error.code, error.message.as_str()), (Code::Forbidden, message), "{error}");
        assert!(error.found.as_ref().unwrap().contains(&self.fingerprint(whose)), "{error}");
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
        assert_eq!(fs::read_to_string(self.at("known")).unwrap(), before, "nothing was learnt");
    }

    fn bastion(&self, name: &str) -> String {
        format!(
            "the host key of the jump host {name} ([127.0.0.1]:{}) is not known",
            self.server(name).port()
        )
    }
}

async fn answers(host: &dyn Host) {
    assert_eq!(host.run(Command::new(["echo", "here"])).await.unwrap().text(), "here\n");
}

async fn is_reached(entry: &Entry) {
    let pool = Pool::default();
    answers(pool.host(entry).unwrap().as_ref()).await;
}

#[tokio::test]
async fn a_host_by_its_name_in_the_configuration_is_reached_as_that_says() {
    let Some(desk) = Desk::of([("m1", "")]) else { return };
    is_reached(&desk.entry("m1", &[])).await;
    // The inventory has the last word.
    let mut entry = desk.entry("m1", &[]);
    entry.port = Some(1);
    let host = Pool::default().host(&entry).unwrap();
    assert_eq!(host.run(Command::new(["true"])).await.err().unwrap().code, Code::Unavailable);
    // The configuration would not look at the keys of this machine at all.
    desk.knows(&[]);
    let hint = format!("ssh-keyscan -p {} 127.0.0.1 >> ", desk.server("m1").port());
    desk.does_not_know(("m1", &[]), "m1", "its host key is not known", &hint).await;
    let missing = desk.at("none-such");
    let entry = serde_json::from_value(json!({
        "name": "m1", "address": "m1", "args": ["-F", missing.to_str().unwrap()],
    }));
    let host = Pool::default().host(&entry.unwrap()).unwrap();
    let error = host.run(Command::new(["true"])).await.err().unwrap();
    assert!(error.message.contains("names a file that cannot be read"), "{error}");
    fs::write(desk.at("config"), "Prot 22\n").unwrap();
    let error = desk.refused("m1", &[]).await;
    assert!(
        error.message.contains("bad configuration option") || error.message.contains("terminating"),
        "{error}"
    );
}

#[tokio::test]
async fn a_jump_host_is_gone_through_and_its_key_must_be_known_too() {
    let Some(desk) = Desk::of([("bastion", ""), ("m1", "  ProxyJump bastion"), ("m2", "")]) else { return };
    is_reached(&desk.entry("m1", &[])).await;
    assert!(desk.server("bastion").log().contains("Accepted publickey"));
    // As inventories say it.
    is_reached(&desk.entry("m2", &["-J", "bastion"])).await;
    is_reached(&desk.entry("m2", &["-o", "ProxyJump=bastion", "-o", "StrictHostKeyChecking=no"])).await;
    assert_eq!(desk.server("bastion").log().matches("Accepted publickey").count(), 3);

    desk.knows(&["m1", "m2"]);
    let hint =
        format!("there; if it is the same, `ssh-keyscan -p {} 127.0.0.1 >> ", desk.server("bastion").port());
    desk.does_not_know(("m1", &[]), "bastion", &desk.bastion("bastion"), &hint).await;
    desk.does_not_know(("m2", &["-Jbastion"]), "bastion", &desk.bastion("bastion"), &hint).await;

    desk.knows(&["bastion"]);
    desk.does_not_know(("m1", &[]), "m1", "its host key is not known", "config m1` once by hand").await;

    let other = fs::read_to_string(desk.server("m1").folder().join("host_key.pub")).unwrap();
    fs::write(desk.at("known"), format!("[127.0.0.1]:{} {other}", desk.server("bastion").port())).unwrap();
    let error = desk.refused("m1", &[]).await;
    assert_eq!(error.code, Code::Forbidden, "{error}");
    assert!(error.message.starts_with("the host key of the jump host bastion"), "{error}");
    assert!(error.message.ends_with("is another than the one that is known"), "{error}");
    assert!(error.found.unwrap().contains(&desk.fingerprint("bastion")));
}

#[tokio::test]
async fn several_jump_hosts_are_each_held_to_it() {
    let hosts =
        [("outer", ""), ("inner", ""), ("m1", "  ProxyJump outer,inner"), ("m2", "  ProxyJump nearer")];
    let Some(desk) = Desk::of(hosts) else { return };
    is_reached(&desk.entry("m1", &[])).await;
    assert!(desk.server("inner").log().contains("Accepted publickey"));
    desk.knows(&["outer", "m1"]);
    desk.does_not_know(("m1", &[]), "inner", &desk.bastion("inner"), "`ssh inner` once by hand").await;
    desk.knows(&["inner", "m1"]);
    desk.does_not_know(("m1", &[]), "outer", &desk.bastion("outer"), "ssh-keyscan").await;
    // A jump host that has one of its own.
    let mut config = fs::read_to_string(desk.at("config")).unwrap();
    let inner = desk.server("inner");
    let (port, key) = (inner.port(), inner.folder().join("user_key"));
    config = format!(
        "Host nearer\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {}\n  ProxyJump outer\n{config}",
        key.display()
    );
    fs::write(desk.at("config"), config).unwrap();
    desk.does_not_know(("m2", &[]), "outer", &desk.bastion("outer"), "ssh-keyscan").await;
    desk.knows(&["outer", "inner", "m2"]);
    is_reached(&desk.entry("m2", &[])).await;
}

#[tokio::test]
async fn an_ssh_that_a_proxy_command_runs_is_held_to_it_as_well() {
    let through = "  ProxyCommand ssh -F @FOLDER@/config -W %h:%p bastion";
    let Some(desk) = Desk::of([("bastion", ""), ("m1", through)]) else { return };
    is_reached(&desk.entry("m1", &[])).await;
    assert!(desk.server("bastion").log().contains("Accepted publickey"));
    desk.knows(&["m1"]);
    let before = fs::read_to_string(desk.at("known")).unwrap();
    let error = desk.refused("m1", &[]).await;
    assert_eq!(error.code, Code::Forbidden, "{error}");
    let whose =
        format!("the host key of [127.0.0.1]:{}, by which it is reached,", desk.server("bastion").port());
    assert!(error.message.starts_with(&whose), "{error}");
    assert!(error.found.as_ref().unwrap().contains(&desk.fingerprint("bastion")), "{error}");
    assert_eq!(fs::read_to_string(desk.at("known")).unwrap(), before, "nothing was learnt");
}

#[tokio::test]
async fn who_refuses_on_the_way_is_named() {
    let Some(desk) = Desk::of([("bastion", ""), ("m1", "  ProxyJump bastion")]) else { return };
    let bastion = desk.server("bastion");
    let error = desk.refused("m1", &["-p", "1"]).await;
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(
        error.message.contains("the jump host bastion") && error.message.contains("cannot go on to it"),
        "{error}"
    );
    fs::write(bastion.folder().join("authorized_keys"), "").unwrap();
    let error = desk.refused("m1", &[]).await;
    assert_eq!(error.code, Code::Forbidden, "{error}");
    assert!(
        error.message.starts_with("the jump host bastion") && error.message.contains("refuses us"),
        "{error}"
    );
    let config = fs::read_to_string(desk.at("config")).unwrap();
    fs::write(desk.at("config"), config.replacen(&bastion.port().to_string(), "1", 1)).unwrap();
    let error = desk.refused("m1", &[]).await;
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(error.message.contains("the jump host bastion") && error.message.contains("refused"), "{error}");
}

/// An `ssh-agent`, by its socket.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(socket: PathBuf) -> Self {
        let mut ran = Process::new("ssh-agent");
        let child = ran.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let begun = std::time::Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "no agent");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { child, socket }
    }

    fn learns(&self, key: &Path) {
        let added =
            Process::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).status().unwrap();
        assert!(added.success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_key_that_only_the_agent_has_opens_the_host() {
    let agent = "  IdentitiesOnly no\n  IdentityAgent @FOLDER@/agent\n  IdentityFile none";
    let Some(desk) = Desk::of([("m1", agent)]) else { return };
    let running = Agent::start(desk.at("agent"));
    let error = desk.refused("m1", &[]).await;
    assert_eq!(error.code, Code::Forbidden, "{error}");
    assert!(error.hint.unwrap().contains("add it to your agent"));
    let key = desk.server("m1").folder().join("user_key");
    running.learns(&key);
    fs::rename(&key, desk.at("away")).unwrap();
    is_reached(&desk.entry("m1", &[])).await;
    // The inventory says which of the agent's keys it is, by its public half.
    let mut entry = desk.entry("m1", &[]);
    entry.key_file = Some(key.with_extension("pub").to_str().unwrap().to_owned());
    is_reached(&entry).await;
}
