//! What real members are in that no rotation may begin with, in the operator's words; and their leadership and snapshots,
//! judged by etcd's own programs.

use std::fs;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::cert::{Certificate, Key};
use stdlib::error::Code;
use stdlib::gate::{Effect, Gate, Past, Permit, Progress};
use stdlib::registry::registry;
use stdlib::{PrimError, World};

use super::hosts::{Machine, leashed};
use super::members::{Cluster, issue};
use super::rotation::{parameters, person, types};
use crate::program::says;

/// `etcdctl` of the application.
fn etcdctl(cluster: &Cluster, words: &[&str]) -> Output {
    let app = cluster.machines.root.path().join("app");
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(cluster.endpoints().join(","));
    for (flag, file) in [("--cacert", "ca.pem"), ("--cert", "client.pem"), ("--key", "client-key.pem")] {
        command.arg(flag).arg(app.join(file));
    }
    command.args(words).output().unwrap()
}

fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn restart(machine: &Machine) {
    done(Command::new(machine.path("bin/systemctl")).args(["restart", "etcd"]).output().unwrap());
    machine.listens(2379, &machine.path("service.log"));
}

/// Nothing is changed, no host is marked, and the plan says this.
fn is_refused(cluster: &Cluster, words: &[&str]) {
    is_refused_with(cluster, &parameters(cluster), words);
}

fn is_refused_with(cluster: &Cluster, parameters: &[String], words: &[&str]) {
    let (program, before) = (person(), cluster.files());
    let output = types(&program, &["run", "etcd/rotate-ca", "--yes"], parameters);
    let code = output.status.code().unwrap();
    assert_ne!(code, 0);
    let text = says(&output, code, &[]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(line.contains(word), "`{word}` is missing: {text}");
    }
    assert_eq!(cluster.files(), before);
    for machine in &cluster.machines.all {
        assert!(!machine.path("state/mark.json").exists(), "{}", machine.name);
    }
}

#[test]
fn a_database_that_is_full_is_refused_in_the_words_of_its_alarm() {
    let cluster = Cluster::start(3);
    for machine in &cluster.machines.all {
        let script = fs::read_to_string(machine.path("service.sh")).unwrap();
        let small = script.replace("--logger zap", "--logger zap --quota-backend-bytes 1048576");
        fs::write(machine.path("service.sh"), small).unwrap();
        restart(machine);
    }
    let value = "x".repeat(100_000);
    let full = (0..60).any(|n| {
        let put = etcdctl(&cluster, &["put", &format!("fill/{n}"), &value]);
        String::from_utf8_lossy(&put.stderr).contains("database space exceeded")
    });
    assert!(full, "the quota is not reached");
    assert!(done(etcdctl(&cluster, &["alarm", "list"])).contains("NOSPACE"));
    is_refused(&cluster, &["alarms are raised: NOSPACE at m"]);
}

#[test]
fn a_learner_is_refused_whether_it_is_named_or_not() {
    let cluster = Cluster::start(3);
    let root = cluster.machines.root.path();
    let address = cluster.machines.all[0].address.rsplit_once('.').unwrap().0.to_owned() + ".4";
    let peer = format!("--peer-urls=https://{address}:2380");
    let add = || etcdctl(&cluster, &["member", "add", "m4", "--learner", &peer]);
    // A cluster that has just begun takes no other member for some seconds.
    let added = (0..100).map(|_| add()).find(|output| {
        let early = String::from_utf8_lossy(&output.stderr).contains("unhealthy cluster");
        if early {
            std::thread::sleep(Duration::from_millis(200));
        }
        !early
    });
    done(added.expect("it takes no other member"));
    is_refused(&cluster, &["it has members that are not named here"]);

    // It starts, and the inventory names it.
    let folder = root.join("m4");
    let pki = folder.join("pki");
    fs::create_dir_all(&pki).unwrap();
    let ca = Certificate::from_pem(cluster.ca.pem().as_bytes(), "ca").unwrap();
    let ca_key = Key::from_pem(&fs::read(root.join("ca-key.pem")).unwrap(), "ca").unwrap();
    fs::write(pki.join("ca.pem"), ca.pem()).unwrap();
    for stem in ["server", "peer", "client"] {
        issue(&ca, &ca_key, "m4", &[&address, "localhost"], &pki, stem);
    }
    let all = cluster.machines.all.iter().map(|m| format!("{}=https://{}:2380", m.name, m.address));
    let all: Vec<String> = all.chain([format!("m4=https://{address}:2380")]).collect();
    let at = |name: &str| pki.join(name).to_str().unwrap().to_owned();
    let (clients, peers) = (format!("https://{address}:2379"), format!("https://{address}:2380"));
    let mut etcd = leashed("etcd");
    etcd.args(["--name", "m4", "--data-dir", folder.join("data").to_str().unwrap()]);
    etcd.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    etcd.args([
        "--initial-cluster",
        &all.join(","),
        "--initial-cluster-state",
        "existing",
        "--logger",
        "zap",
    ]);
    etcd.args(["--cert-file", &at("server.pem"), "--key-file", &at("server-key.pem"), "--client-cert-auth"]);
    etcd.args(["--trusted-ca-file", &at("ca.pem"), "--peer-trusted-ca-file", &at("ca.pem")]);
    etcd.args([
        "--peer-cert-file",
        &at("peer.pem"),
        "--peer-key-file",
        &at("peer-key.pem"),
        "--peer-client-cert-auth",
    ]);
    let mut etcd = etcd.stderr(fs::File::create(folder.join("log")).unwrap()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while !done(etcdctl(&cluster, &["member", "list"])).lines().any(|line| line.contains("started, m4")) {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            fs::read_to_string(folder.join("log")).unwrap()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = fs::read_to_string(cluster.inventory()).unwrap();
    let mut own = format!(
        "    m4:\n      ansible_host: {address}\n      ansible_connection: local\n      rollover_state: {}/state\n      etcd_ca: {1}\n      etcd_peer_ca: {1}\n",
        folder.display(),
        at("ca.pem"),
    );
    for (var, stem) in [("", "server"), ("peer_", "peer"), ("client_", "client")] {
        own += &format!(
            "      etcd_{var}cert: {}\n      etcd_{var}key: {}\n",
            at(&format!("{stem}.pem")),
            at(&format!("{stem}-key.pem"))
        );
    }
    fs::write(cluster.inventory(), text.replace("apps:\n", &(own + "apps:\n"))).unwrap();
    let mut named = parameters(&cluster);
    let folders = named.iter_mut().find(|word| word.starts_with("folders=")).unwrap();
    *folders += &format!(",{}", pki.display());
    is_refused_with(&cluster, &named, &["m4 is a learner that has not joined yet"]);
    let _ = etcd.kill();
    let _ = etcd.wait();
}

/// Takes note of what is announced, and lets it be.
#[derive(Default)]
struct Noting(Mutex<Vec<Effect>>);

impl Gate for Noting {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        self.0.lock().unwrap().push(effect);
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        "run/phase/f".into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

/// The cluster as a script has it.
fn named(cluster: &Cluster, world: &World) -> Value {
    let app = cluster.machines.root.path().join("app");
    let text = |name: &str| fs::read_to_string(app.join(name)).unwrap();
    let key = text("client-key.pem");
    let fingerprint = Key::from_pem(key.as_bytes(), "key").unwrap().fingerprint();
    let key = world.secrets.put(&stdlib::Secret::new(key.into_bytes(), fingerprint)).unwrap();
    let member = |machine: &Machine| json!({ "host": { "name": machine.name, "address": machine.address } });
    json!({
        "members": cluster.machines.all.iter().map(member).collect::<Vec<_>>(),
        "identity": { "cert": text("client.pem"), "key": key },
        "trusted_by": text("ca.pem"),
    })
}

#[tokio::test]
async fn a_snapshot_is_one_for_etcds_own_program_and_the_leadership_goes_where_it_is_asked_to() {
    let cluster = Cluster::start(3);
    let folder = tempfile::tempdir().unwrap();
    let world = World::system(None, folder.path().to_owned());
    let (all, gate) = (named(&cluster, &world), Noting::default());
    let run = async |name: &str, more: &[Value]| {
        let args: Vec<Value> = [all.clone()].into_iter().chain(more.iter().cloned()).collect();
        (registry().get(name).unwrap().run)(&world, &args, &gate).await
    };
    done(etcdctl(&cluster, &["put", "kept", "value"]));
    run("etcd::snapshot", &[json!("saved.db")]).await.unwrap();
    let saved = folder.path().join("saved.db");
    let is_whole = |path: &std::path::Path| {
        let status = etcdctl(&cluster, &["snapshot", "status", path.to_str().unwrap(), "-w", "json"]);
        let status: Value = serde_json::from_str(&done(status)).unwrap();
        let (keys, revision) = (status["totalKey"].as_u64().unwrap(), status["revision"].as_u64().unwrap());
        assert!(keys > 0 && revision > 1, "{status}");
    };
    is_whole(&saved);
    // It is no formality: one that was touched is none.
    let mut bytes = fs::read(&saved).unwrap();
    bytes[5000] ^= 1;
    let spoilt = folder.path().join("spoilt.db");
    fs::write(&spoilt, &bytes).unwrap();
    let taken = run("etcd::snapshot", &[json!("spoilt.db")]).await;
    assert!(taken.is_ok(), "what is torn is taken anew: {taken:?}");
    assert_ne!(fs::read(&spoilt).unwrap(), bytes);
    is_whole(&spoilt);

    let led = async || {
        let seen = run("etcd::members", &[]).await.unwrap();
        let members = seen["members"].as_array().unwrap().clone();
        members.into_iter().find(|member| member["leader"] == true).unwrap()["host"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let before = gate.0.lock().unwrap().len();
    for member in all["members"].as_array().unwrap() {
        let (host, from) = (member["host"]["name"].as_str().unwrap(), led().await);
        let moved = run("etcd::move_leader", std::slice::from_ref(member)).await.unwrap();
        assert_eq!(moved, json!({ "host": host, "moved": from != host, "from": from }));
        assert_eq!(led().await, host);
        let again = run("etcd::move_leader", std::slice::from_ref(member)).await.unwrap();
        assert_eq!(again, json!({ "host": host, "moved": false, "from": host }));
    }
    let announced: Vec<String> =
        gate.0.lock().unwrap()[before..].iter().map(|effect| effect.place.0.clone()).collect();
    assert!(
        announced.len() >= 2 && announced.iter().all(|place| place.contains(":leadership:etcd")),
        "{announced:?}"
    );
    let stranger = json!({ "host": { "name": "m9", "address": "127.0.0.1" } });
    let error = run("etcd::move_leader", &[stranger]).await.err().unwrap();
    assert!(error.message.contains("none of `cluster.members`"), "{error}");
}

/// Its leader may not know yet that nobody follows it: it is asked for what needs a majority.
#[tokio::test]
async fn a_cluster_that_has_just_lost_its_quorum_is_not_healthy_whatever_its_leader_believes() {
    let cluster = Cluster::start(3);
    let world = World::system(None, cluster.machines.root.path().to_owned());
    let (all, gate) = (named(&cluster, &world), Noting::default());
    let looks = async || {
        (registry().get("etcd::members").unwrap().run)(&world, std::slice::from_ref(&all), &gate).await
    };
    let seen = looks().await.unwrap();
    let leads = |host: &str| {
        seen["members"].as_array().unwrap().iter().any(|m| m["host"] == host && m["leader"] == true)
    };
    let followers: Vec<&Machine> =
        cluster.machines.all.iter().filter(|machine| !leads(&machine.name)).collect();
    assert_eq!(followers.len(), 2);
    let signal = |signal: &str| {
        for machine in &followers {
            let main = fs::read_to_string(machine.path("main")).unwrap();
            done(Command::new("kill").args([signal, main.split(' ').next().unwrap()]).output().unwrap());
        }
    };
    signal("-STOP");
    let error = looks().await.unwrap_err();
    signal("-CONT");
    assert_eq!(error.code, Code::Unproved, "{error}");
    assert!(error.message.contains("it is not healthy: a read that needs the quorum failed"), "{error}");
}
