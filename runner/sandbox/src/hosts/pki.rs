//! The certificates that the hosts begin with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::json;
use stdlib::PrimError;
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use time::OffsetDateTime;

use super::etcd::Paths;
use super::genesis::Etcd;
use super::kept::{Keeper, manifest};
use super::layout::{KUBERNETES, Layout, Pair};

const PROFILE: &str = r#"{"signing": {"default": {"expiry": "8760h", "usages": ["signing", "key encipherment", "server auth", "client auth"]}}}"#;

/// A file of a host.
#[derive(Clone)]
pub(super) struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// Certificates and keys of a cluster, and what else its hosts begin with.
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
    now: OffsetDateTime,
}

impl Authority {
    fn make(name: &str, now: OffsetDateTime) -> Result<Self, PrimError> {
        let request = json!({ "CN": name, "names": [{ "O": "rollover sandbox" }], "key": { "algo": "ecdsa", "size": 256 } });
        let (cert, key) =
            stdlib::ca::create(&Request::from_json(request.to_string().as_bytes(), name)?, now)?;
        Ok(Self { cert, key, now })
    }

    /// A pair of files.
    fn issue(&self, name: &str, hosts: &[String], at: &Pair) -> Result<[File; 2], PrimError> {
        let request = json!({ "CN": name, "hosts": hosts, "key": { "algo": "ecdsa", "size": 256 } });
        let config = Config::from_json(PROFILE.as_bytes(), "sandbox")?;
        let request = Request::from_json(request.to_string().as_bytes(), name)?;
        let (cert, key) =
            stdlib::cfssl::issue(&self.cert, &self.key, &request, config.profile("default")?, self.now)?;
        Ok([public(&at.cert, cert.pem()), secret(&at.key, &key)?])
    }

    fn anchor(&self, path: &str) -> File {
        public(path, self.cert.pem())
    }
}

fn public(path: &str, text: impl Into<Vec<u8>>) -> File {
    File { path: path.to_owned(), bytes: text.into(), mode: 0o644 }
}

fn secret(path: &str, key: &Key) -> Result<File, PrimError> {
    Ok(File { path: path.to_owned(), bytes: key.to_pem()?.as_bytes().to_vec(), mode: 0o600 })
}

/// What the kubelet starts, and knows by its name.
fn pod(name: &str) -> File {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: kube-system }}\nspec:\n  hostNetwork: true\n  containers:\n  - name: {name}\n"
    );
    File { path: manifest(name), bytes: text.into_bytes(), mode: 0o600 }
}

/// The API server's own certificates on one host, all of one pair of CAs.
fn kubernetes(ca: &Authority, proxy: &Authority, names: &[String]) -> Result<Vec<File>, PrimError> {
    let at = |stem: &str| Pair::crt(&format!("{KUBERNETES}/{stem}"));
    let mut files = Vec::new();
    for (authority, stem) in [(ca, "ca"), (proxy, "front-proxy-ca")] {
        let pair = at(stem);
        files.push(authority.anchor(&pair.cert));
        files.push(secret(&pair.key, &authority.key)?);
    }
    files.extend(ca.issue("kube-apiserver", names, &at("apiserver"))?);
    files.extend(ca.issue("kube-apiserver-kubelet-client", &[], &at("apiserver-kubelet-client"))?);
    files.extend(proxy.issue("front-proxy-client", &[], &at("front-proxy-client"))?);
    Ok(files)
}

impl Pki {
    /// Makes the CAs and the certificates of hosts with these addresses.
    ///
    /// # Errors
    /// A bug of ours.
    pub(super) fn make(
        etcd: &Etcd,
        hosts: &BTreeMap<String, IpAddr>,
        now: OffsetDateTime,
    ) -> Result<Self, PrimError> {
        let layout = etcd.layout;
        let now = now - etcd.expired.age();
        let ca = Authority::make(if layout == Layout::Rke { "kube-ca" } else { "etcd" }, now)?;
        let apart = if etcd.peer_ca || layout == Layout::Ack {
            Some(Authority::make("etcd peers", now)?)
        } else {
            None
        };
        let peers = apart.as_ref().unwrap_or(&ca);
        let clusters = if layout.stacked() {
            Some((Authority::make("kubernetes", now)?, Authority::make("front-proxy-ca", now)?))
        } else {
            None
        };
        let (health, dialler) = (layout.health(), layout.dialler());
        let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
        for (number, name) in (1..).zip(etcd.members()) {
            let Some(ip) = hosts.get(&name) else { continue };
            let names = [ip.to_string(), "localhost".to_owned()];
            let at = layout.member(number, *ip, etcd.peer_ca);
            let pair = |cert: &str, key: &str| Pair { cert: cert.to_owned(), key: key.to_owned() };
            let mut all = vec![ca.anchor(&at.ca)];
            if at.peer_ca != at.ca {
                all.push(peers.anchor(&at.peer_ca));
            }
            if layout.keeps_keys() {
                all.push(secret(&layout.key_of(&at.ca), &ca.key)?);
                if at.peer_ca != at.ca {
                    all.push(secret(&layout.key_of(&at.peer_ca), &peers.key)?);
                }
            }
            all.extend(ca.issue(&name, &names, &pair(&at.cert, &at.key))?);
            if at.peer_cert != at.cert {
                // Its address alone, as most have it: its peers take it from there and from nowhere else.
                all.extend(peers.issue(&name, &names[..1], &pair(&at.peer_cert, &at.peer_key))?);
            }
            all.extend(ca.issue("health", &[], &health)?);
            if let Some((cluster, proxy)) = &clusters {
                if dialler.ca != at.ca {
                    all.push(ca.anchor(&dialler.ca));
                }
                all.extend(ca.issue("kube-apiserver-etcd-client", &[], &dialler.pair)?);
                all.extend(kubernetes(cluster, proxy, &names)?);
                all.push(pod(dialler.name));
            }
            if layout.keeper() == Keeper::Kubelet {
                all.push(pod("etcd"));
            }
            if etcd.broken {
                half_done(number, &at, &mut all, now)?;
            }
            files.insert(name, all);
        }
        for name in etcd.applications() {
            let mut all = vec![ca.anchor(&dialler.ca)];
            all.extend(ca.issue(&name, &[], &dialler.pair)?);
            files.insert(name, all);
        }
        let mut authorities = vec![("ca-key.pem".to_owned(), ca.key.to_pem()?.as_bytes().to_vec())];
        if let Some(peers) = &apart {
            authorities.push(("peer-ca-key.pem".to_owned(), peers.key.to_pem()?.as_bytes().to_vec()));
        }
        Ok(Self { files, authorities })
    }
}

/// As a renewal by hand leaves it half-way: one host has another CA in use, one two of them for its peers, one the key of
/// another certificate.
fn half_done(number: usize, at: &Paths, files: &mut [File], now: OffsetDateTime) -> Result<(), PrimError> {
    let other = Authority::make("etcd", now)?;
    let mut change = |path: &str, with: &dyn Fn(&mut Vec<u8>)| {
        if let Some(file) = files.iter_mut().find(|file| file.path == path) {
            with(&mut file.bytes);
        }
    };
    let pem = other.cert.pem().into_bytes();
    match number {
        1 => change(&at.ca, &|bytes| bytes.clone_from(&pem)),
        2 => change(&at.peer_ca, &|bytes| bytes.extend_from_slice(&pem)),
        3 => {
            let key = other.key.to_pem()?.as_bytes().to_vec();
            change(&at.key, &|bytes| bytes.clone_from(&key));
        }
        _ => {}
    }
    Ok(())
}
