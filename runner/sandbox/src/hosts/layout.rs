//! Where everything lies and who keeps it, as those who install etcd have it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::etcd::Paths;
use super::kept::Keeper;

/// Who installed the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// A person: units of systemd, files below `/etc/etcd/pki`.
    #[default]
    Systemd,
    /// kubeadm: static pods on the control planes, with an API server beside each member.
    Kubeadm,
    /// RKE: containers of docker's on hosts for etcd alone; the CA is the one of the whole cluster.
    Rke,
    /// Alibaba Cloud, for a dedicated cluster: units of systemd, and the API server a pod beside each member.
    Ack,
}

/// A pair of files.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub cert: String,
    pub key: String,
}

impl Pair {
    /// As cfssl names them.
    fn pem(stem: &str) -> Self {
        Self { cert: format!("{stem}.pem"), key: format!("{stem}-key.pem") }
    }
    /// As kubeadm names them.
    pub(super) fn crt(stem: &str) -> Self {
        Self { cert: format!("{stem}.crt"), key: format!("{stem}.key") }
    }
}

/// Who dials the members: its CA, its pair, what it is called and who keeps it.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    pub ca: String,
    pub pair: Pair,
    pub name: &'static str,
    pub keeper: Keeper,
}

/// The folder of the API servers' own certificates.
pub(super) const KUBERNETES: &str = "/etc/kubernetes/pki";
const PERSON: &str = "/etc/etcd/pki";
const KUBEADM: &str = "/etc/kubernetes/pki/etcd";
const RKE: &str = "/etc/kubernetes/ssl";
const ACK: &str = "/var/lib/etcd/cert";

impl Layout {
    /// Where a member's files lie; of this number, from one.
    pub(super) fn member(self, number: usize, ip: IpAddr, peer_ca: bool) -> Paths {
        let (folder, ca, server, peer) = match self {
            Self::Systemd => (PERSON, "ca.pem", Pair::pem("server"), Pair::pem("peer")),
            Self::Kubeadm => (KUBEADM, "ca.crt", Pair::crt("server"), Pair::crt("peer")),
            Self::Rke => {
                let own = Pair::pem(&format!("kube-etcd-{}", ip.to_string().replace('.', "-")));
                (RKE, "kube-ca.pem", own.clone(), own)
            }
            Self::Ack => (ACK, "ca.pem", Pair::pem("etcd-server"), Pair::pem(&format!("{ip}-name-{number}"))),
        };
        let at = |name: &str| format!("{folder}/{name}");
        let peers = match self {
            Self::Ack => "peer-ca.pem",
            Self::Systemd if peer_ca => "peer-ca.pem",
            Self::Kubeadm if peer_ca => "peer-ca.crt",
            _ => ca,
        };
        Paths {
            ca: at(ca),
            cert: at(&server.cert),
            key: at(&server.key),
            peer_ca: at(peers),
            peer_cert: at(&peer.cert),
            peer_key: at(&peer.key),
        }
    }

    /// A client's pair that lies on each member's host.
    pub(super) fn health(self) -> Pair {
        match self {
            Self::Systemd => Pair::pem(&format!("{PERSON}/client")),
            Self::Kubeadm => Pair::crt(&format!("{KUBEADM}/healthcheck-client")),
            Self::Rke => Pair::pem(&format!("{RKE}/kube-node")),
            Self::Ack => Pair::pem(&format!("{ACK}/etcd-client")),
        }
    }

    /// Who keeps a member.
    pub(super) fn keeper(self) -> Keeper {
        match self {
            Self::Systemd | Self::Ack => Keeper::Systemd,
            Self::Kubeadm => Keeper::Kubelet,
            Self::Rke => Keeper::Docker,
        }
    }

    /// Whether an API server is beside each member, with certificates of its own.
    pub(super) fn stacked(self) -> bool {
        matches!(self, Self::Kubeadm | Self::Ack)
    }

    /// Whether the keys of etcd's CAs lie beside them on each member's host, or with who installed it.
    pub(super) fn keeps_keys(self) -> bool {
        self.stacked()
    }

    /// Where the key of a CA file lies, where it lies beside it.
    pub(super) fn key_of(self, ca: &str) -> String {
        let stem = ca.rsplit_once('.').map_or(ca, |(stem, _)| stem);
        if self == Self::Kubeadm { format!("{stem}.key") } else { format!("{stem}-key.pem") }
    }

    /// Who dials the members.
    pub(super) fn dialler(self) -> Dialler {
        let api = "kube-apiserver";
        match self {
            Self::Systemd => Dialler {
                ca: format!("{PERSON}/ca.pem"),
                pair: Pair::pem(&format!("{PERSON}/client")),
                name: "application",
                keeper: Keeper::Systemd,
            },
            Self::Kubeadm => Dialler {
                ca: format!("{KUBEADM}/ca.crt"),
                pair: Pair::crt(&format!("{KUBERNETES}/apiserver-etcd-client")),
                name: api,
                keeper: Keeper::Kubelet,
            },
            Self::Rke => Dialler {
                ca: format!("{RKE}/kube-ca.pem"),
                pair: Pair::pem(&format!("{RKE}/kube-node")),
                name: api,
                keeper: Keeper::Docker,
            },
            Self::Ack => Dialler {
                ca: format!("{KUBERNETES}/etcd/ca.pem"),
                pair: Pair::pem(&format!("{KUBERNETES}/etcd/etcd-client")),
                name: api,
                keeper: Keeper::Kubelet,
            },
        }
    }

    /// The group of the members in the inventory.
    pub(super) fn group(self) -> &'static str {
        if self == Self::Ack { "masters" } else { "etcd" }
    }

    /// The layout that the workflows' parameter has this word for.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Systemd, Self::Kubeadm, Self::Rke].into_iter().find(|layout| layout.word() == word)
    }

    /// The word of the workflows' parameter.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Systemd | Self::Ack => "systemd",
            Self::Kubeadm => "kubeadm",
            Self::Rke => "rke",
        }
    }

    /// A folder with a link in its usual place, as the documentation of ACK asks for where it lies elsewhere: on the last
    /// host.
    pub(super) fn elsewhere(self) -> Option<(&'static str, &'static str)> {
        (self == Self::Ack).then_some((ACK, "/data/etcd/cert"))
    }
}
