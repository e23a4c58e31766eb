//! What a world has come to: who serves and trusts what, and whether every link holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::pod::dial::{Ask, Outcome, dial, fingerprint};
use super::start::World;

/// A party's key material at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// `pd`.
    pub component: String,
    /// SHA-256 fingerprints of the chain it presents, leaf first.
    pub chain: Vec<String>,
    /// SHA-256 fingerprints of the anchors it has loaded, in order.
    pub anchors: Vec<String>,
    /// Whether it is ready.
    pub ready: bool,
}

/// What the world has come to: who serves and trusts what, and whether every link holds now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndState {
    /// By pod.
    pub pods: BTreeMap<String, Served>,
    /// Links that do not hold, with the reason.
    pub broken: Vec<String>,
}

impl EndState {
    /// Whether every link holds.
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }
}

impl World {
    /// Who serves and trusts what, and whether every link between pods holds now.
    pub async fn end_state(&self) -> EndState {
        let (mut pods, mut broken) = (BTreeMap::new(), Vec::new());
        for endpoint in self.ctx.directory.all() {
            let prints =
                |certs: &stdlib::trust::Certs| certs.0.iter().map(|c| fingerprint(c.as_ref())).collect();
            let chain = endpoint.party.leaf().map(|leaf| prints(&leaf.chain)).unwrap_or_default();
            let served = Served {
                component: endpoint.program.component.to_owned(),
                chain,
                anchors: prints(&endpoint.party.anchors.certs),
                ready: endpoint.is_ready(),
            };
            pods.insert(endpoint.pod.clone(), served);
            if let Some(party) = endpoint.sql.as_ref().map(|side| side.party()) {
                let chain = party.leaf().map(|leaf| prints(&leaf.chain)).unwrap_or_default();
                let anchors = prints(&party.anchors.certs);
                let component = "tidb-sql".to_owned();
                let served = Served { component, chain, anchors, ready: endpoint.is_ready() };
                pods.insert(format!("{} (MySQL)", endpoint.pod), served);
            }
            let own = Some(endpoint.ip);
            let dials = endpoint.program.dials;
            for target in self.ctx.directory.targets(&endpoint.namespace, &endpoint.cluster, dials, own) {
                let link = format!("{} -> {}:{}", endpoint.pod, target.name, target.port);
                match dial(&self.ctx, &endpoint.party, &target, &Ask::status()).await {
                    Outcome::Held(..) => {}
                    Outcome::Refused(refusal) => broken.push(format!("{link}: {}", refusal.why)),
                    Outcome::Unreachable(kind) => broken.push(format!("{link}: {kind}")),
                }
            }
        }
        EndState { pods, broken }
    }
}
