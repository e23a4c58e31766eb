//! Which processes run, under which addresses and names: the sandbox's DNS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::pod::party::Party;
use super::pod::program::{By, Dials, Program, SQL_PORT};
use super::pod::sql::SqlSide;

/// A running process.
pub struct Endpoint {
    /// Its TLS side.
    pub party: Arc<Party>,
    /// Its MySQL side, where that speaks TLS.
    pub sql: Option<Arc<SqlSide>>,
    /// What it runs.
    pub program: &'static Program,
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its cluster.
    pub cluster: String,
    /// What its Services' names begin with: its cluster's name, or that of its group.
    pub stem: String,
    /// Name of its pod.
    pub pod: String,
    /// Where it listens.
    pub ip: IpAddr,
    /// Whether its service leads to it.
    pub ready: AtomicBool,
}

impl Endpoint {
    /// Its own name: `basic-pd-0.basic-pd-peer.tidb.svc`.
    pub fn name(&self) -> String {
        let peer = if self.program.peer_service { "-peer" } else { "" };
        format!("{}.{}{peer}.{}.svc", self.pod, self.program.service(&self.stem), self.namespace)
    }

    /// Its service's name: `basic-pd.tidb.svc`.
    pub fn service_name(&self) -> String {
        format!("{}.{}.svc", self.program.service(&self.stem), self.namespace)
    }

    /// Whether its service leads to it.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

/// One address to dial under one name.
#[derive(Clone)]
pub struct Target {
    /// Who is there.
    pub endpoint: Arc<Endpoint>,
    /// The name that its certificate must hold.
    pub name: String,
    /// The port.
    pub port: u16,
    /// Whether the client needs one such target that answers.
    pub needed: bool,
}

impl Target {
    /// Who answers there.
    pub fn party(&self) -> Arc<Party> {
        match &self.endpoint.sql {
            Some(side) if self.port == SQL_PORT => side.party(),
            _ => Arc::clone(&self.endpoint.party),
        }
    }
}

/// All running processes.
#[derive(Default)]
pub struct Directory(Mutex<BTreeMap<IpAddr, Arc<Endpoint>>>);

impl Directory {
    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<IpAddr, Arc<Endpoint>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process has started.
    pub fn add(&self, endpoint: Arc<Endpoint>) {
        self.held().insert(endpoint.ip, endpoint);
    }

    /// A process has stopped, unless another took its address meanwhile.
    pub fn remove(&self, endpoint: &Arc<Endpoint>) {
        let mut held = self.held();
        if held.get(&endpoint.ip).is_some_and(|e| Arc::ptr_eq(e, endpoint)) {
            held.remove(&endpoint.ip);
        }
    }

    /// All of them, by address.
    pub fn all(&self) -> Vec<Arc<Endpoint>> {
        self.held().values().cloned().collect()
    }

    /// The process at an address.
    pub fn at(&self, ip: IpAddr) -> Option<Arc<Endpoint>> {
        self.held().get(&ip).cloned()
    }

    /// The process of a pod.
    pub fn pod(&self, namespace: &str, pod: &str) -> Option<Arc<Endpoint>> {
        self.held().values().find(|e| e.namespace == namespace && e.pod == pod).cloned()
    }

    /// Where a host leads: an address, a pod's name or a service's (with or without `.svc` and `.cluster.local`).
    pub fn resolve(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(ip) = host.parse() {
            return vec![ip];
        }
        let full = host.trim_end_matches('.').trim_end_matches(".cluster.local").trim_end_matches(".svc");
        let short = |name: String| name.trim_end_matches(".svc").to_owned();
        let held = self.held();
        let matching = held
            .values()
            .filter(|e| short(e.name()) == full || (e.is_ready() && short(e.service_name()) == full));
        matching.map(|e| e.ip).collect()
    }

    /// Everything that a client in this cluster dials, without itself.
    pub fn targets(
        &self,
        namespace: &str,
        cluster: &str,
        dials: &[Dials],
        own: Option<IpAddr>,
    ) -> Vec<Target> {
        let held = self.held();
        let mut targets = Vec::new();
        for dialled in dials {
            let there = held.values().filter(|e| {
                e.program.component == dialled.target
                    && e.cluster == cluster
                    && e.namespace == namespace
                    && own != Some(e.ip)
                    && (dialled.by == By::Pod || e.is_ready())
            });
            targets.extend(there.map(|endpoint| Target {
                endpoint: Arc::clone(endpoint),
                name: if dialled.by == By::Pod { endpoint.name() } else { endpoint.service_name() },
                port: dialled.port,
                needed: dialled.needed,
            }));
        }
        targets
    }
}
