//! What the hosts begin with: how many of which, in whose layout, and in what state.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::world::Expired;

/// A cluster of etcd on hosts of its own, and who dials it. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Etcd {
    /// How many members: m1, m2, …
    pub members: usize,
    /// How many hosts with an application that dials them: app1, … None where API servers are beside the members.
    pub applications: usize,
    /// Whether peers have a CA of their own.
    pub peer_ca: bool,
    /// Who installed it.
    pub layout: Layout,
    /// What has expired: members refuse one another then, and hold what was written before.
    pub expired: Expired,
    /// Whether a renewal by hand was left half-way: CAs differ, a key is another certificate's.
    pub broken: bool,
}

impl Default for Etcd {
    fn default() -> Self {
        Self {
            members: 3,
            applications: 1,
            peer_ca: false,
            layout: Layout::Systemd,
            expired: Expired::Nothing,
            broken: false,
        }
    }
}

impl Etcd {
    /// Names of members.
    pub fn members(&self) -> Vec<String> {
        (1..=self.members).map(|n| format!("m{n}")).collect()
    }

    /// Names of hosts with an application.
    pub fn applications(&self) -> Vec<String> {
        let count = if self.layout.stacked() { 0 } else { self.applications };
        (1..=count).map(|n| format!("app{n}")).collect()
    }

    /// Names of hosts from which somebody dials the members.
    pub(super) fn diallers(&self) -> Vec<String> {
        if self.layout.stacked() { self.members() } else { self.applications() }
    }

    /// Whether the members talk with each other when it begins.
    pub(super) fn is_well(&self) -> bool {
        self.expired == Expired::Nothing && !self.broken
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
        let mut text = format!("{}:\n  hosts:\n{}", self.layout.group(), rows(self.members()));
        if self.peer_ca && self.layout != Layout::Ack {
            let paths = self.layout.member(1, IpAddr::from([0, 0, 0, 0]), true);
            let _ = writeln!(text, "  vars:\n    etcd_peer_ca: {}", paths.peer_ca);
        }
        if !self.applications().is_empty() {
            let _ = write!(text, "applications:\n  hosts:\n{}", rows(self.applications()));
            if self.layout == Layout::Systemd {
                text += "  vars:\n    etcd_client_service: application\n";
            }
        }
        text
    }

    /// Parameters of workflows, with the inventory and the CAs' keys in this folder.
    pub(super) fn params(&self, dir: &Path) -> Vec<(String, String)> {
        let at = |name: &str| dir.join(name).display().to_string();
        let mut params = vec![
            ("inventory", at("hosts.yaml")),
            ("layout", self.layout.word().to_owned()),
            ("snapshot", at("snapshots/")),
        ];
        // Where hosts have the keys, they are found there.
        if !self.layout.keeps_keys() {
            // The old CA's key lies in `pki`.
            params.push(("ca_out", at("pki/new")));
            if self.expired != Expired::Everything {
                params.push(("ca_key", at("pki/ca-key.pem")));
                if self.peer_ca {
                    params.push(("peer_ca_key", at("pki/peer-ca-key.pem")));
                }
            }
        }
        if !self.applications().is_empty() {
            params.push(("clients", "applications".to_owned()));
        }
        if self.layout.stacked() {
            params.push(("ports", "2379,2380,6443".to_owned()));
        }
        params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
