//! Masters of an ACK dedicated cluster: etcd with a CA for clients and another for peers, an API server that the kubelet
//! starts, the files named as the documentation names them.
//!
//! `crictl` stands for a container runtime with a kubelet above it, a loop that starts again what has ended, later each time.
//! The API server is `openssl s_server` with the API server's certificate, which it reads once, as a new container does; it
//! is there only while etcd answers it, by the CA that it has read when it started and the pair that lies there now.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use stdlib::world::{Clock as _, SystemClock};
use time::OffsetDateTime;

use super::hosts::{Machine, Machines};
use super::members::Cluster;

const PROFILE: &str = r#"{"signing": {"default": {"expiry": "8760h", "usages": ["signing", "key encipherment", "server auth", "client auth"]}}}"#;
/// Where the API servers listen.
pub(super) const PORT: u16 = 6443;

/// What is in the container of an API server.
const API: &str = r#"
cd "@FOLDER@" || exit 1
cp "@CA@" api.ca || exit 1
asks() {
  ETCDCTL_API=3 etcdctl --endpoints "@ENDPOINTS@" --cacert api.ca --cert "@CLIENT@" --key "@CLIENT_KEY@" \
    --dial-timeout 2s --command-timeout 4s get / >/dev/null 2>&1
}
n=0; until asks; do n=$((n + 1)); [ "$n" -lt 4 ] || exit 1; sleep 0.3; done
setpriv --pdeathsig KILL openssl s_server -accept @ADDRESS@:@PORT@ -cert "@SERVED@" -key "@SERVED_KEY@" \
  -www -quiet </dev/null >>api.log 2>&1 &
server=$!
trap 'kill "$server"; exit 0' TERM
n=0
while kill -0 "$server" 2>/dev/null; do
  if asks; then n=0; else n=$((n + 1)); [ "$n" -lt 5 ] || { kill "$server"; exit 1; }; fi
  sleep 1
done
exit 1
"#;

/// The kubelet: what has ended is started again, at once and then later and later. That it once ran for a while is forgiven.
const KUBELET: &str = r#"
cd "$1" || exit 1
now() { read -r up rest </proc/uptime; echo "${up%%.*}"; }
pause=0
while :; do
  begun=$(now)
  setpriv --pdeathsig KILL sh api.sh & pid=$!
  echo "$pid" >api.new; mv api.new api.pid
  wait "$pid"
  if [ $(($(now) - begun)) -ge 10 ]; then pause=0; else pause=$((pause * 2 + 1)); fi
  [ "$pause" -le 15 ] || pause=15
  sleep "$pause"
done
"#;

const CRICTL: &str = r#"#!/bin/sh
cd "@FOLDER@" || exit 1
alive() { [ -s api.pid ] && grep -q '^State:[[:space:]]*[RSDI]' "/proc/$(cat api.pid)/status" 2>/dev/null; }
case $1 in
  ps) case "$*" in *'^kube-apiserver$'*) alive && cat api.pid; exit 0;; *) exit 0;; esac;;
  stop) kill "$2" 2>/dev/null; n=0; while alive && [ "$(cat api.pid)" = "$2" ] && [ "$n" -lt 100 ]; do n=$((n + 1)); sleep 0.05; done;;
esac
"#;

/// The files of an API server, as its machine has them in its folder or by their whole paths, and whom it asks.
pub(super) struct Api<'a> {
    /// The CA of etcd.
    pub(super) ca: &'a str,
    /// The pair that it shows etcd.
    pub(super) client: [&'a str; 2],
    /// The pair that it serves.
    pub(super) served: [&'a str; 2],
    /// Members of etcd.
    pub(super) endpoints: &'a str,
}

impl Api<'_> {
    /// The script that is one on this machine.
    pub(super) fn script(&self, machine: &Machine) -> String {
        [
            ("@FOLDER@", machine.folder.to_str().unwrap()),
            ("@ADDRESS@", &machine.address),
            ("@PORT@", &PORT.to_string()),
            ("@ENDPOINTS@", self.endpoints),
            ("@CA@", self.ca),
            ("@CLIENT@", self.client[0]),
            ("@CLIENT_KEY@", self.client[1]),
            ("@SERVED@", self.served[0]),
            ("@SERVED_KEY@", self.served[1]),
        ]
        .iter()
        .fold(API.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

/// A CA with its key.
pub(super) struct Authority {
    pub(super) cert: Certificate,
    pub(super) key: Key,
}

impl Authority {
    pub(super) fn new(name: &str, hours: u64, at: OffsetDateTime) -> Self {
        let request = json!({ "CN": name, "key": { "algo": "ecdsa", "size": 256 }, "ca": { "expiry": format!("{hours}h") } });
        let (cert, key) =
            stdlib::ca::create(&Request::from_json(request.to_string().as_bytes(), name).unwrap(), at)
                .unwrap();
        Self { cert, key }
    }

    pub(super) fn issue(
        &self,
        name: &str,
        hosts: &[&str],
        cert_path: &Path,
        key_path: &Path,
        at: OffsetDateTime,
    ) {
        let request = json!({ "CN": name, "hosts": hosts, "key": { "algo": "ecdsa", "size": 256 } });
        let request = Request::from_json(request.to_string().as_bytes(), name).unwrap();
        let config = Config::from_json(PROFILE.as_bytes(), "profile").unwrap();
        let profile = config.profile("default").unwrap();
        let (cert, key) = stdlib::cfssl::issue(&self.cert, &self.key, &request, profile, at).unwrap();
        fs::write(cert_path, cert.pem()).unwrap();
        secret(key_path, &key);
    }
}

pub(super) fn secret(path: &Path, key: &Key) {
    fs::write(path, key.to_pem().unwrap().as_bytes()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Such a cluster: the members and the application are as those of any other, the files are not.
pub(super) struct Masters {
    pub(super) cluster: Cluster,
}

impl Masters {
    /// Three, with everything issued `age` ago for a year, by CAs that live for ten years.
    pub(super) fn start(age: Duration) -> Self {
        let mut machines = Machines::new(3);
        let at = SystemClock.now() - age;
        let [clients, peers, kubernetes, proxy] = ["etcd", "etcd-peer", "kubernetes", "front-proxy-ca"]
            .map(|name| Authority::new(name, 87_600, at));
        let names: Vec<String> =
            machines.all.iter().enumerate().map(|(n, m)| format!("{}-name-{}", m.address, n + 1)).collect();
        let all: Vec<String> = machines
            .all
            .iter()
            .zip(&names)
            .map(|(m, name)| format!("{name}=https://{}:2380", m.address))
            .collect();
        let endpoints: Vec<String> =
            machines.all.iter().map(|machine| format!("https://{}:2379", machine.address)).collect();
        for (machine, name) in machines.all.iter().zip(&names) {
            // Etcd's folder lies elsewhere, with a link in its usual place, as the documentation asks for.
            let (real, kube) = (machine.path("disk/cert"), machine.path("kubernetes"));
            fs::create_dir_all(&real).unwrap();
            fs::create_dir_all(kube.join("etcd")).unwrap();
            symlink(&real, machine.path("cert")).unwrap();
            let hosts = [machine.address.as_str(), "localhost"];
            fs::write(real.join("ca.pem"), clients.cert.pem()).unwrap();
            fs::write(real.join("peer-ca.pem"), peers.cert.pem()).unwrap();
            secret(&real.join("ca-key.pem"), &clients.key);
            secret(&real.join("peer-ca-key.pem"), &peers.key);
            let pair = |stem: &str| (real.join(format!("{stem}.pem")), real.join(format!("{stem}-key.pem")));
            for (ca, cn, hosts, stem) in [
                (&clients, "etcd-server", &hosts[..], "etcd-server"),
                (&clients, "etcd-client", &[][..], "etcd-client"),
                (&peers, name.as_str(), &hosts[..], name.as_str()),
            ] {
                let (cert, key) = pair(stem);
                ca.issue(cn, hosts, &cert, &key, at);
            }
            fs::write(kube.join("etcd/ca.pem"), clients.cert.pem()).unwrap();
            clients.issue(
                "etcd-client",
                &[],
                &kube.join("etcd/etcd-client.pem"),
                &kube.join("etcd/etcd-client-key.pem"),
                at,
            );
            for (ca, stem) in [(&kubernetes, "ca"), (&proxy, "front-proxy-ca")] {
                fs::write(kube.join(format!("{stem}.crt")), ca.cert.pem()).unwrap();
                secret(&kube.join(format!("{stem}.key")), &ca.key);
            }
            for (ca, cn, hosts, stem) in [
                (&kubernetes, "kube-apiserver", &hosts[..], "apiserver"),
                (&kubernetes, "kube-apiserver-kubelet-client", &[][..], "apiserver-kubelet-client"),
                (&proxy, "front-proxy-client", &[][..], "front-proxy-client"),
            ] {
                ca.issue(cn, hosts, &kube.join(format!("{stem}.crt")), &kube.join(format!("{stem}.key")), at);
            }
            let api = Api {
                ca: "kubernetes/etcd/ca.pem",
                client: ["kubernetes/etcd/etcd-client.pem", "kubernetes/etcd/etcd-client-key.pem"],
                served: ["kubernetes/apiserver.crt", "kubernetes/apiserver.key"],
                endpoints: &endpoints.join(","),
            };
            fs::write(machine.path("api.sh"), api.script(machine)).unwrap();
            let crictl = machine.path("bin/crictl");
            fs::write(&crictl, CRICTL.replace("@FOLDER@", machine.folder.to_str().unwrap())).unwrap();
            fs::set_permissions(&crictl, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (machine, name) in machines.all.iter_mut().zip(&names) {
            let (address, folder) = (machine.address.clone(), machine.folder.display().to_string());
            let script = format!(
                "exec etcd --name {name} --data-dir {folder}/data --listen-client-urls https://{address}:2379 \
                 --advertise-client-urls https://{address}:2379 --listen-peer-urls https://{address}:2380 \
                 --initial-advertise-peer-urls https://{address}:2380 --initial-cluster {} --initial-cluster-state new \
                 --cert-file {folder}/cert/etcd-server.pem --key-file {folder}/cert/etcd-server-key.pem \
                 --trusted-ca-file {folder}/cert/ca.pem --client-cert-auth \
                 --peer-cert-file {folder}/cert/{name}.pem --peer-key-file {folder}/cert/{name}-key.pem \
                 --peer-trusted-ca-file {folder}/cert/peer-ca.pem --peer-client-cert-auth --logger zap\n",
                all.join(",")
            );
            machine.supervise(&script);
            let mut kubelet = machine.leashed("sh");
            kubelet.args(["-c", KUBELET, "kubelet"]).arg(&machine.folder).stderr(std::process::Stdio::null());
            machine.adopt(kubelet.spawn().unwrap());
        }
        for machine in &machines.all {
            machine.listens(2379, &machine.path("service.log"));
            machine.listens(PORT, &machine.path("api.log"));
        }
        let app = machines.root.path().join("app");
        fs::create_dir(&app).unwrap();
        // The application is the first master's API server, as far as etcd sees.
        for (name, real) in [("ca", "ca"), ("client", "etcd-client"), ("client-key", "etcd-client-key")] {
            let real = machines.all[0].path(&format!("kubernetes/etcd/{real}.pem"));
            symlink(real, app.join(format!("{name}.pem"))).unwrap();
        }
        let masters = Self { cluster: Cluster { machines, ca: clients.cert } };
        masters.write_inventory();
        masters
    }

    fn write_inventory(&self) {
        let machines = &self.cluster.machines;
        let mut text = format!("masters:\n  vars:\n{}  hosts:\n", machines.ssh_vars());
        for machine in &machines.all {
            let folder = machine.folder.display();
            text += &format!(
                "    {}:\n      ansible_host: {}\n      rollover_state: {folder}/state\n      ack_etcd_folder: {folder}/cert\n      ack_kubernetes_folder: {folder}/kubernetes\n",
                machine.name, machine.address
            );
        }
        fs::write(self.cluster.inventory(), text).unwrap();
    }

    /// What a person gives: the inventory, and the folders that its variables name.
    pub(super) fn parameters(&self) -> Vec<String> {
        let folders: Vec<String> = self
            .cluster
            .machines
            .all
            .iter()
            .flat_map(|m| [m.path("cert"), m.path("kubernetes")])
            .map(|path| path.display().to_string())
            .collect();
        [format!("inventory={}", self.cluster.inventory()), format!("folders={}", folders.join(","))]
            .into_iter()
            .flat_map(|value| ["--set".to_owned(), value])
            .collect()
    }

    /// Every file that the documentation's last step looks at, and the keys: by its path.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let folders = self
            .cluster
            .machines
            .all
            .iter()
            .flat_map(|m| ["disk/cert", "kubernetes", "kubernetes/etcd"].map(|folder| m.path(folder)));
        let entries = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
        let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }
}
