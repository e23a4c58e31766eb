//! Other layouts than a person's own: kubeadm's static pods and RKE's containers, with their files where they lie, around real
//! members. A shell script stands for the kubelet and its `crictl`, another for docker.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::NoTripwire;
use sandbox::hosts::{Etcd, Layout};
use stdlib::world::{Clock as _, SystemClock};

use super::apart;
use super::confirmed::comes;
use super::hosts::{Machine, Machines};
use super::lab::Lab;
use super::masters::{Api, Authority, PORT, secret};
use super::members::Cluster;
use super::rotation::{all_tier, no_marks, person, types};
use super::writer::Writer;
use crate::lab::virtual_time;
use crate::program::says;

/// Runs what lies in the folder of manifests, and nothing else. What it starts dies with it.
const KUBELET: &str = r#"
cd "$1" || exit 1
n=0
while :; do
  for name in etcd kube-apiserver; do
    pid=; [ ! -e "$name.id" ] || read -r pid id <"$name.id"
    alive=; [ -n "$pid" ] && grep -q '^State:[[:space:]]*[RSDI]' "/proc/$pid/status" 2>/dev/null && alive=1
    if [ -e "/etc/kubernetes/manifests/$name.yaml" ]; then
      if [ -z "$alive" ]; then
        n=$((n + 1))
        setpriv --pdeathsig KILL sh "./$name.sh" >>"$name.log" 2>&1 &
        echo "$! $name$$x$n" >"$name.new"; mv "$name.new" "$name.id"
      fi
    elif [ -n "$alive" ]; then kill "$pid"; fi
  done
  sleep 0.1
done
"#;

/// What the kubelet's runtime says and does.
const CRICTL: &str = r#"#!/bin/sh
cd "@FOLDER@" || exit 1
alive() { grep -q '^State:[[:space:]]*[RSDI]' "/proc/$1/status" 2>/dev/null; }
if [ "$1" = stop ]; then
  for file in *.id; do
    read -r pid id <"$file"
    [ "$id" != "$2" ] || { kill "$pid"; while alive "$pid"; do sleep 0.05; done; exit 0; }
  done
  echo "no container $2" >&2; exit 1
fi
case "$1 $2 $3 $4 $5" in
  'ps -q --state Running --name')
    name=${6#^}; name=${name%\$}
    [ -e "$name.id" ] || exit 0
    read -r pid id <"$name.id"; ! alive "$pid" || echo "$id";;
  *) echo "crictl: unknown: $*" >&2; exit 1;;
esac
"#;

/// Docker with one container, which is a process under the supervisor.
const DOCKER: &str = r#"#!/bin/sh
cd "@FOLDER@" || exit 1
read -r pid invocation <main
alive=; [ "$pid" != 0 ] && grep -q '^State:[[:space:]]*[RSDI]' "/proc/$pid/status" 2>/dev/null && alive=1
case "$*" in
  'ps -q --no-trunc --filter name=^/?etcd$') [ -z "$alive" ] || echo c0ffee;;
  'ps -aq --filter name=^/?etcd$') echo c0ffee;;
  'ps -q --no-trunc --filter label=io.kubernetes.container.name=etcd') ;;
  'inspect --format {{.Id}} {{.State.StartedAt}} c0ffee') echo "c0ffee $invocation";;
  'restart etcd') exec ./supervise restart etcd;;
  *) echo "docker: unknown: $*" >&2; exit 1;;
esac
"#;

fn program(path: &Path, text: &str, machine: &Machine) {
    fs::write(path, text.replace("@FOLDER@", machine.folder.to_str().unwrap())).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder of certificates, as this machine sees it and as the host does: its own `/etc` lies in its folder.
fn folder(machine: &Machine, path: &str) -> PathBuf {
    let here = machine.path(path.trim_start_matches('/'));
    fs::create_dir_all(&here).unwrap();
    here
}

/// What starts a member with these files.
fn member(
    machine: &Machine,
    all: &str,
    (ca, server, peer): (&str, &str, &str),
    ending: (&str, &str),
) -> String {
    let (name, address) = (&machine.name, &machine.address);
    let (cert, key) = ending;
    format!(
        "exec etcd --name {name} --data-dir /var/lib/etcd --listen-client-urls https://{address}:2379 \
         --advertise-client-urls https://{address}:2379 --listen-peer-urls https://{address}:2380 \
         --initial-advertise-peer-urls https://{address}:2380 --initial-cluster {all} --initial-cluster-state new \
         --cert-file {server}{cert} --key-file {server}{key} --trusted-ca-file {ca} --client-cert-auth \
         --peer-cert-file {peer}{cert} --peer-key-file {peer}{key} --peer-trusted-ca-file {ca} \
         --peer-client-cert-auth --logger zap\n"
    )
}

fn initial(machines: &Machines) -> String {
    let all = machines.all.iter().map(|m| format!("{}=https://{}:2380", m.name, m.address));
    all.collect::<Vec<_>>().join(",")
}

/// The cluster, once its members listen; the application goes by the files of the first host.
fn steady(machines: Machines, ca: Authority, log: &str, own: [PathBuf; 3]) -> Cluster {
    for machine in &machines.all {
        machine.listens(2379, &machine.path(log));
        if machine.path("kube-apiserver.sh").exists() {
            machine.listens(PORT, &machine.path("kube-apiserver.log"));
        }
    }
    let app = machines.root.path().join("app");
    fs::create_dir(&app).unwrap();
    for (name, path) in ["ca.pem", "client.pem", "client-key.pem"].iter().zip(own) {
        symlink(path, app.join(name)).unwrap();
    }
    let mut text = format!("etcd:\n  vars:\n{}  hosts:\n", machines.ssh_vars());
    for machine in &machines.all {
        text += &format!("    {}: {{ ansible_host: {} }}\n", machine.name, machine.address);
    }
    let cluster = Cluster { machines, ca: ca.cert };
    fs::write(cluster.inventory(), text).unwrap();
    cluster
}

fn kubeadm() -> Cluster {
    let mut machines = Machines::apart(3);
    let at = SystemClock.now();
    let ca = Authority::new("etcd-ca", 87_600, at);
    let kubernetes = Authority::new("kubernetes", 87_600, at);
    let all = initial(&machines);
    let first = machines.all[0].path("etc/kubernetes/pki");
    for machine in &mut machines.all {
        let (kube, etcd) =
            (folder(machine, "/etc/kubernetes/pki"), folder(machine, "/etc/kubernetes/pki/etcd"));
        let manifests = folder(machine, "/etc/kubernetes/manifests");
        fs::write(etcd.join("ca.crt"), ca.cert.pem()).unwrap();
        secret(&etcd.join("ca.key"), &ca.key);
        let hosts = [machine.name.as_str(), "localhost", machine.address.as_str(), "127.0.0.1"];
        for stem in ["server", "peer"] {
            ca.issue(
                &machine.name,
                &hosts,
                &etcd.join(format!("{stem}.crt")),
                &etcd.join(format!("{stem}.key")),
                at,
            );
        }
        for (name, stem) in [
            ("kube-etcd-healthcheck-client", etcd.join("healthcheck-client")),
            ("kube-apiserver-etcd-client", kube.join("apiserver-etcd-client")),
        ] {
            ca.issue(name, &[], &stem.with_extension("crt"), &stem.with_extension("key"), at);
        }
        let pki = "/etc/kubernetes/pki/etcd";
        let files = (&*format!("{pki}/ca.crt"), &*format!("{pki}/server"), &*format!("{pki}/peer"));
        fs::write(machine.path("etcd.sh"), member(machine, &all, files, (".crt", ".key"))).unwrap();
        fs::write(kube.join("ca.crt"), kubernetes.cert.pem()).unwrap();
        let served = (machine.path("serving.crt"), machine.path("serving.key"));
        kubernetes.issue("kube-apiserver", &hosts, &served.0, &served.1, at);
        let api = Api {
            ca: &format!("{pki}/ca.crt"),
            client: [
                "/etc/kubernetes/pki/apiserver-etcd-client.crt",
                "/etc/kubernetes/pki/apiserver-etcd-client.key",
            ],
            served: ["serving.crt", "serving.key"],
            // Kubeadm has each ask the member beside it.
            endpoints: &format!("https://{}:2379", machine.address),
        };
        fs::write(machine.path("kube-apiserver.sh"), api.script(machine)).unwrap();
        for name in ["etcd", "kube-apiserver"] {
            fs::write(manifests.join(format!("{name}.yaml")), format!("# {name}\n")).unwrap();
        }
        program(&machine.path("bin/crictl"), CRICTL, machine);
        fs::remove_file(machine.path("bin/systemctl")).unwrap();
        let mut kubelet = machine.leashed("sh");
        kubelet.args(["-c", KUBELET, "kubelet"]).arg(&machine.folder).stderr(std::process::Stdio::null());
        machine.adopt(kubelet.spawn().unwrap());
    }
    let pair = ["crt", "key"].map(|ending| first.join(format!("apiserver-etcd-client.{ending}")));
    let [cert, key] = pair;
    steady(machines, ca, "etcd.log", [first.join("etcd/ca.crt"), cert, key])
}

fn rke() -> Cluster {
    let mut machines = Machines::apart(3);
    let at = SystemClock.now();
    let ca = Authority::new("kube-ca", 87_600, at);
    let all = initial(&machines);
    let first = machines.all[0].path("etc/kubernetes/ssl");
    for machine in &mut machines.all {
        let ssl = folder(machine, "/etc/kubernetes/ssl");
        fs::write(ssl.join("kube-ca.pem"), ca.cert.pem()).unwrap();
        let stem = format!("kube-etcd-{}", machine.address.replace('.', "-"));
        let hosts = [machine.address.as_str(), "localhost", "127.0.0.1"];
        for (name, hosts, stem) in
            [("kube-etcd", &hosts[..], stem.as_str()), ("system:node", &[][..], "kube-node")]
        {
            ca.issue(name, hosts, &ssl.join(format!("{stem}.pem")), &ssl.join(format!("{stem}-key.pem")), at);
        }
        let own = format!("/etc/kubernetes/ssl/{stem}");
        let script =
            member(machine, &all, ("/etc/kubernetes/ssl/kube-ca.pem", &own, &own), (".pem", "-key.pem"));
        program(&machine.path("bin/docker"), DOCKER, machine);
        fs::rename(machine.path("bin/systemctl"), machine.path("supervise")).unwrap();
        machine.supervise(&script);
    }
    let pair = ["kube-node.pem", "kube-node-key.pem"].map(|name| first.join(name));
    let [cert, key] = pair;
    steady(machines, ca, "service.log", [first.join("kube-ca.pem"), cert, key])
}

/// Every file below `/etc/kubernetes` of all hosts.
fn files(cluster: &Cluster) -> BTreeMap<PathBuf, Vec<u8>> {
    fn below(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    for machine in &cluster.machines.all {
        below(&machine.path("etc/kubernetes"), &mut found);
    }
    found
}

/// What is another after each start, of every host.
fn starts(cluster: &Cluster, file: &str) -> Vec<String> {
    cluster.machines.all.iter().map(|machine| fs::read_to_string(machine.path(file)).unwrap()).collect()
}

fn set(cluster: &Cluster, layout: &str) -> Vec<String> {
    let set = [format!("inventory={}", cluster.inventory()), format!("layout={layout}")];
    set.into_iter().flat_map(|value| ["--set".to_owned(), value]).collect()
}

fn all_new(cluster: &Cluster, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let after = files(cluster);
    assert!(after.keys().eq(before.keys()), "a file more or less: {:?}", after.keys());
    for (path, bytes) in before {
        let is_manifest = path.extension().is_some_and(|ending| ending == "yaml");
        let not_etcds = is_manifest || path.ends_with("etc/kubernetes/pki/ca.crt");
        assert_eq!(after[path] == *bytes, not_etcds, "{}", path.display());
    }
}

fn rotates(cluster: &Cluster, layout: &str, started: &[&str], story: &str) {
    let (before, begun) =
        (files(cluster), started.iter().map(|file| starts(cluster, file)).collect::<Vec<_>>());
    let person = person();
    let writer = Writer::begin(cluster);
    let parameters = set(cluster, layout);
    says(&types(&person, &["run", "etcd/rotate-ca", "--yes"], &parameters), 0, &["distrust-old"]);
    all_new(cluster, &before);
    let now: Vec<_> = started.iter().map(|file| starts(cluster, file)).collect();
    for (before, now) in begun.iter().flatten().zip(now.iter().flatten()) {
        assert_ne!(before, now, "it was restarted");
    }
    let run = person.runs().pop().unwrap();
    no_marks(cluster, &run);
    writer.goes_on(20);
    says(&person.types(&["rollback", &run, "--yes"]), 0, &[]);
    assert_eq!(files(cluster), before);
    no_marks(cluster, &run);
    // An API server is there only while etcd answers it.
    for machine in cluster.machines.all.iter().filter(|m| m.path("kube-apiserver.sh").exists()) {
        machine.listens(PORT, &machine.path("kube-apiserver.log"));
    }
    let report = writer.ends(story);
    assert_eq!(report.most_down, 1, "{report:?}");
}

#[test]
fn static_pods_of_kubeadm_rotate_forth_and_back() {
    if !all_tier() || !apart::possible() {
        return;
    }
    rotates(
        &kubeadm(),
        "kubeadm",
        &["etcd.id", "kube-apiserver.id"],
        "kubeadm's static pods, forth and back",
    );
}

/// Who has no access to the manifests names the container: the kubelet starts it again.
#[test]
fn members_that_an_inventory_names_as_a_kubelets_containers_rotate_forth_and_back() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = kubeadm();
    let inventory = fs::read_to_string(cluster.inventory()).unwrap();
    let named = inventory.replace(" }\n", ", etcd_service: \"crictl:etcd\" }\n");
    assert_eq!(named.matches("crictl:etcd").count(), 3, "{inventory}");
    fs::write(cluster.inventory(), named).unwrap();
    rotates(
        &cluster,
        "kubeadm",
        &["etcd.id", "kube-apiserver.id"],
        "containers of a kubelet, forth and back",
    );
}

#[test]
fn whoever_signs_after_a_rotation_of_static_pods_has_the_new_key_and_restarts_nothing() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = kubeadm();
    let person = person();
    let writer = Writer::begin(&cluster);
    says(&types(&person, &["run", "etcd/rotate-ca", "--yes"], &set(&cluster, "kubeadm")), 0, &[]);
    let begun = [starts(&cluster, "etcd.id"), starts(&cluster, "kube-apiserver.id")];
    let before = files(&cluster);
    says(&types(&person, &["run", "etcd/renew-leaves", "--yes"], &set(&cluster, "kubeadm")), 0, &[]);
    assert_eq!([starts(&cluster, "etcd.id"), starts(&cluster, "kube-apiserver.id")], begun);
    for (path, bytes) in files(&cluster) {
        let kept = ["ca.crt", "ca.key", "etcd.yaml", "kube-apiserver.yaml"];
        assert_eq!(
            before[&path] == bytes,
            kept.iter().any(|name| path.ends_with(name)),
            "{}",
            path.display()
        );
    }
    let verify = [
        "run",
        "hosts/verify",
        "--yes",
        "--set",
        "group=etcd",
        "--set",
        "folders=/etc/kubernetes/pki/etcd,/etc/kubernetes/pki",
        "--set",
        "ports=2379,2380",
        "--set",
    ];
    let inventory = [format!("inventory={}", cluster.inventory())];
    says(&types(&person, &verify, &inventory), 0, &["ca.crt", "port 2380"]);
    let report = writer.ends("leaves renewed with the key that a rotation left");
    assert!(report.most_down <= 1, "{report:?}");
}

#[test]
fn containers_of_rke_rotate_forth_and_back() {
    if !all_tier() || !apart::possible() {
        return;
    }
    rotates(&rke(), "rke", &["main"], "RKE's containers, forth and back");
}

#[test]
fn a_runner_that_is_killed_while_a_manifest_is_out_of_its_folder_goes_on() {
    if !all_tier() || !apart::possible() {
        return;
    }
    let cluster = kubeadm();
    let before = files(&cluster);
    let person = person();
    let writer = Writer::begin(&cluster);
    let parameters = set(&cluster, "kubeadm");
    let words: Vec<&str> =
        ["run", "etcd/rotate-ca", "--yes"].into_iter().chain(parameters.iter().map(String::as_str)).collect();
    let mut child = person.begins(&words);
    let out = |machine: &Machine| machine.path("etc/kubernetes/.etcd.yaml.parked").exists();
    comes("a manifest is out of its folder", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it restarted a member");
        cluster.machines.all.iter().any(out)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let run = person.runs().pop().unwrap();
    says(&person.types(&["resume", &run, "--yes"]), 0, &[]);
    all_new(&cluster, &before);
    no_marks(&cluster, &run);
    let report = writer.ends("a runner killed while a manifest was out of its folder");
    assert!(report.most_down <= 1, "{report:?}");
}

#[test]
fn a_ca_that_is_not_etcds_alone_is_left_to_whom_it_belongs() {
    virtual_time(async {
        let lab = Lab::of(1, &Etcd { layout: Layout::Rke, ..Etcd::default() }).await;
        lab.copies("m2", "etc/kubernetes/ssl/kube-node.pem", "etc/kubernetes/ssl/kube-proxy.pem");
        let before = lab.files();
        let failure = lab.run(&lab.workflow("etcd/rotate-ca"), Arc::new(NoTripwire)).await.unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("m2:/etc/kubernetes/ssl/kube-proxy.pem"), "{text}");
        assert!(lab.files() == before);
    });
}
