//! A real etcd cluster on such hosts, with TLS between members and before clients.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use stdlib::world::{Clock as _, SystemClock};

use super::hosts::Machines;

const PROFILE: &str = r#"{"signing": {"default": {"expiry": "8760h", "usages": ["signing", "key encipherment", "server auth", "client auth"]}}}"#;

/// Members, and an application on this machine that dials them.
pub(crate) struct Cluster {
    pub(crate) machines: Machines,
    pub(crate) ca: Certificate,
}

pub(super) fn issue(ca: &Certificate, ca_key: &Key, name: &str, hosts: &[&str], folder: &Path, stem: &str) {
    let request = json!({ "CN": name, "hosts": hosts, "key": { "algo": "ecdsa", "size": 256 } }).to_string();
    let request = Request::from_json(request.as_bytes(), name).unwrap();
    let config = Config::from_json(PROFILE.as_bytes(), "profile").unwrap();
    let (cert, key) =
        stdlib::cfssl::issue(ca, ca_key, &request, config.profile("default").unwrap(), SystemClock.now())
            .unwrap();
    fs::write(folder.join(format!("{stem}.pem")), cert.pem()).unwrap();
    let path = folder.join(format!("{stem}-key.pem"));
    fs::write(&path, key.to_pem().unwrap().as_bytes()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Certificates and keys that rotate.
pub(crate) const FILES: [&str; 7] =
    ["ca.pem", "server.pem", "server-key.pem", "peer.pem", "peer-key.pem", "client.pem", "client-key.pem"];

impl Cluster {
    /// So many members, all up.
    pub(crate) fn start(count: usize) -> Self {
        Self::on(Machines::new(count))
    }

    /// The same, on hosts with a network and a disk of their own.
    pub(crate) fn apart(count: usize) -> Self {
        Self::on(Machines::apart(count))
    }

    fn on(mut machines: Machines) -> Self {
        let request =
            br#"{"CN": "etcd", "names": [{"O": "rollover test"}], "key": {"algo": "ecdsa", "size": 256}}"#;
        let (ca, ca_key) =
            stdlib::ca::create(&Request::from_json(request, "ca").unwrap(), SystemClock.now()).unwrap();
        fs::write(machines.root.path().join("ca-key.pem"), ca_key.to_pem().unwrap().as_bytes()).unwrap();
        let all: Vec<String> =
            machines.all.iter().map(|m| format!("{}=https://{}:2380", m.name, m.address)).collect();
        for machine in &machines.all {
            let pki = machine.path("pki");
            fs::write(pki.join("ca.pem"), ca.pem()).unwrap();
            for stem in ["server", "peer"] {
                issue(&ca, &ca_key, &machine.name, &[&machine.address, "localhost"], &pki, stem);
            }
            issue(&ca, &ca_key, "health", &[], &pki, "client");
        }
        let app = machines.root.path().join("app");
        fs::create_dir(&app).unwrap();
        fs::write(app.join("ca.pem"), ca.pem()).unwrap();
        issue(&ca, &ca_key, "app", &[], &app, "client");
        for machine in &mut machines.all {
            let (name, address, folder) = (&machine.name, &machine.address, machine.folder.display());
            let (pki, data) = (machine.place("pki"), machine.place("data"));
            let (pki, data) = (pki.display(), data.display());
            // What a test holds up does not start to serve; one that is picky does not start with two CAs.
            let script = format!(
                "while [ -e {folder}/hold ]; do sleep 0.05; done\n\
                 if [ -e {folder}/picky ] && [ \"$(grep -c BEGIN {pki}/ca.pem)\" -gt 1 ]; then exit 1; fi\nexec etcd --name {name} --data-dir {data} --listen-client-urls https://{address}:2379 \
                 --advertise-client-urls https://{address}:2379 --listen-peer-urls https://{address}:2380 \
                 --initial-advertise-peer-urls https://{address}:2380 --initial-cluster {} --initial-cluster-state new \
                 --cert-file {pki}/server.pem --key-file {pki}/server-key.pem --trusted-ca-file {pki}/ca.pem \
                 --client-cert-auth --peer-cert-file {pki}/peer.pem --peer-key-file {pki}/peer-key.pem \
                 --peer-trusted-ca-file {pki}/ca.pem --peer-client-cert-auth --logger zap\n",
                all.join(",")
            );
            machine.supervise(&script);
        }
        for machine in &machines.all {
            machine.listens(2379, &machine.path("service.log"));
        }
        let cluster = Self { machines, ca };
        cluster.write_inventory();
        cluster
    }

    /// An inventory with the members and the application, each with its own files.
    fn write_inventory(&self) {
        let mut text = format!("etcd:\n  vars:\n{}  hosts:\n", self.machines.ssh_vars());
        for machine in &self.machines.all {
            let (pki, state) = (machine.place("pki"), machine.place("state"));
            let pki = pki.display();
            text += &format!(
                "    {}:\n      ansible_host: {}\n      rollover_state: {}\n      etcd_ca: {pki}/ca.pem\n      etcd_peer_ca: {pki}/ca.pem\n",
                machine.name,
                machine.address,
                state.display()
            );
            for (var, stem) in [("", "server"), ("peer_", "peer"), ("client_", "client")] {
                text += &format!(
                    "      etcd_{var}cert: {pki}/{stem}.pem\n      etcd_{var}key: {pki}/{stem}-key.pem\n"
                );
            }
        }
        let root = self.machines.root.path().display();
        text += &format!(
            "apps:\n  hosts:\n    app:\n      ansible_connection: local\n      rollover_state: {root}/app/state\n      etcd_client_ca: {root}/app/ca.pem\n      etcd_client_cert: {root}/app/client.pem\n      etcd_client_key: {root}/app/client-key.pem\n"
        );
        fs::write(self.inventory(), text).unwrap();
    }

    pub(crate) fn inventory(&self) -> String {
        self.machines.root.path().join("hosts.yaml").to_str().unwrap().to_owned()
    }

    /// Folders with what rotates.
    pub(crate) fn folders(&self) -> Vec<String> {
        let root = self.machines.root.path();
        let members = self.machines.all.iter().map(|machine| machine.path("pki"));
        members.chain([root.join("app")]).map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    /// The same, as the hosts themselves name them.
    pub(crate) fn places(&self) -> Vec<String> {
        let root = self.machines.root.path();
        let members = self.machines.all.iter().map(|machine| machine.place("pki"));
        let all = members.chain([root.join("app")]).map(|path| path.to_str().unwrap().to_owned());
        all.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Everything that rotates, by its path: bytes and permissions.
    pub(crate) fn files(&self) -> BTreeMap<String, (Vec<u8>, u32)> {
        let mut found = BTreeMap::new();
        for folder in self.folders() {
            for name in FILES {
                let path = Path::new(&folder).join(name);
                if let Ok(bytes) = fs::read(&path) {
                    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
                    found.insert(path.to_str().unwrap().to_owned(), (bytes, mode));
                }
            }
        }
        found
    }

    /// Endpoints for clients.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.machines.all.iter().map(|machine| format!("{}:2379", machine.address)).collect()
    }
}
