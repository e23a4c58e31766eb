//! What the hosts begin with: certificates of one CA, files where the manuals have them, an inventory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::json;
use stdlib::PrimError;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use time::OffsetDateTime;

use super::etcd::Paths;

/// A cluster of etcd on hosts of its own, and applications beside it. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Etcd {
    /// How many members: m1, m2, …
    pub members: usize,
    /// How many hosts with an application that dials them: app1, …
    pub applications: usize,
    /// Whether peers have a CA of their own.
    pub peer_ca: bool,
}

impl Default for Etcd {
    fn default() -> Self {
        Self { members: 3, applications: 1, peer_ca: false }
    }
}

/// Where everything lies, as the workflows' parameters have it.
const FOLDER: &str = "/etc/etcd/pki";
const PROFILE: &str = r#"{"signing": {"default": {"expiry": "8760h", "usages": ["signing", "key encipherment", "server auth", "client auth"]}}}"#;

/// The place of a file.
pub(super) fn at(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

impl Etcd {
    /// Names of members.
    pub(super) fn members(&self) -> Vec<String> {
        (1..=self.members).map(|n| format!("m{n}")).collect()
    }

    /// Names of applications.
    pub(super) fn applications(&self) -> Vec<String> {
        (1..=self.applications).map(|n| format!("app{n}")).collect()
    }

    /// Where members' files lie.
    pub(super) fn paths(&self) -> Paths {
        Paths {
            ca: at("ca.pem"),
            cert: at("server.pem"),
            key: at("server-key.pem"),
            peer_ca: at(if self.peer_ca { "peer-ca.pem" } else { "ca.pem" }),
            peer_cert: at("peer.pem"),
            peer_key: at("peer-key.pem"),
        }
    }

    /// The inventory in Ansible's YAML form.
    pub(super) fn inventory(&self, hosts: &BTreeMap<String, IpAddr>) -> String {
        let rows = |names: Vec<String>| -> String {
            let row = |name: String| {
                let address = hosts.get(&name).map(ToString::to_string).unwrap_or_default();
                format!("    {name}: {{ ansible_host: {address} }}\n")
            };
            names.into_iter().map(row).collect::<Vec<_>>().concat()
        };
        let mut text = format!("etcd:\n  hosts:\n{}", rows(self.members()));
        if self.peer_ca {
            text += &format!("  vars:\n    etcd_peer_ca: {}\n", at("peer-ca.pem"));
        }
        if self.applications > 0 {
            text += &format!("applications:\n  hosts:\n{}", rows(self.applications()));
            text += "  vars:\n    etcd_client_service: application\n";
        }
        text
    }
}

/// A file of a host.
#[derive(Clone)]
pub(super) struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// Certificates and keys of a cluster.
#[derive(Clone)]
pub struct Pki {
    /// By host.
    pub(super) files: BTreeMap<String, Vec<File>>,
    /// The keys of the CAs, by the file names that they have beside the hosts.
    pub(super) authorities: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("hosts", &self.files.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

struct Authority {
    cert: Certificate,
    key: Key,
}

impl Authority {
    fn make(name: &str, now: OffsetDateTime) -> Result<Self, PrimError> {
        let request = json!({ "CN": name, "names": [{ "O": "rollover sandbox" }], "key": { "algo": "ecdsa", "size": 256 } });
        let (cert, key) =
            stdlib::ca::create(&Request::from_json(request.to_string().as_bytes(), name)?, now)?;
        Ok(Self { cert, key })
    }

    /// A pair of files.
    fn issue(
        &self,
        name: &str,
        hosts: &[String],
        stem: &str,
        now: OffsetDateTime,
    ) -> Result<[File; 2], PrimError> {
        let request = json!({ "CN": name, "hosts": hosts, "key": { "algo": "ecdsa", "size": 256 } });
        let config = Config::from_json(PROFILE.as_bytes(), "sandbox")?;
        let request = Request::from_json(request.to_string().as_bytes(), name)?;
        let (cert, key) =
            stdlib::cfssl::issue(&self.cert, &self.key, &request, config.profile("default")?, now)?;
        Ok([
            File { path: at(&format!("{stem}.pem")), bytes: cert.pem().into_bytes(), mode: 0o644 },
            File {
                path: at(&format!("{stem}-key.pem")),
                bytes: key.to_pem()?.as_bytes().to_vec(),
                mode: 0o600,
            },
        ])
    }

    fn anchor(&self, name: &str) -> File {
        File { path: at(name), bytes: self.cert.pem().into_bytes(), mode: 0o644 }
    }
}

impl Pki {
    /// Makes the CA and the certificates of hosts with these addresses.
    ///
    /// # Errors
    /// A bug of ours.
    pub(super) fn make(
        etcd: &Etcd,
        hosts: &BTreeMap<String, IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Self, PrimError> {
        let ca = Authority::make("etcd", now)?;
        let apart = if etcd.peer_ca { Some(Authority::make("etcd peers", now)?) } else { None };
        let peers = apart.as_ref().unwrap_or(&ca);
        let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
        let address = |name: &str| hosts.get(name).map(ToString::to_string).unwrap_or_default();
        for name in etcd.members() {
            let names = [address(&name), "localhost".to_owned()];
            let mut all = vec![ca.anchor("ca.pem")];
            all.extend(apart.as_ref().map(|peers| peers.anchor("peer-ca.pem")));
            all.extend(ca.issue(&name, &names, "server", now)?);
            // Its address alone, as most have it: its peers take it from there and from nowhere else.
            all.extend(peers.issue(&name, &names[..1], "peer", now)?);
            all.extend(ca.issue("health", &[], "client", now)?);
            files.insert(name, all);
        }
        for name in etcd.applications() {
            let mut all = vec![ca.anchor("ca.pem")];
            all.extend(ca.issue(&name, &[], "client", now)?);
            files.insert(name, all);
        }
        let mut authorities = vec![("ca-key.pem".to_owned(), ca.key.to_pem()?.as_bytes().to_vec())];
        if let Some(peers) = &apart {
            authorities.push(("peer-ca-key.pem".to_owned(), peers.key.to_pem()?.as_bytes().to_vec()));
        }
        Ok(Self { files, authorities })
    }
}
