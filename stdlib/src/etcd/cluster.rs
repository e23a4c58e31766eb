//! A cluster as scripts name it.

use std::sync::Arc;

use serde_json::Value;

use super::client::{Access, Endpoint, connect};
use crate::bundle;
use crate::error::PrimError;
use crate::host::{Entry, Service};
use crate::k8s::args;
use crate::secret::Secret;
use crate::tls::config::Identity;
use crate::trust::Certs;
use crate::world::World;

/// A member as a script names it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Where it listens for clients.
    pub endpoint: Endpoint,
    /// The host that it runs on.
    pub host: Entry,
    /// How it is restarted.
    pub service: Service,
    /// Files that it loads when it starts: what its host puts back unless a restart is confirmed.
    pub loads: Vec<String>,
}

/// Members, and how they are asked.
pub struct Cluster {
    /// In the order of the script.
    pub members: Vec<Member>,
    pub(super) access: Access,
}

/// A member as `{host, endpoint, service}`.
pub(super) fn member(value: &Value) -> Result<Member, PrimError> {
    let fields = value
        .as_object()
        .ok_or_else(|| PrimError::argument("a member is a map `host`, `endpoint`, `service`"))?;
    let host = crate::host::entry(fields.get("host").unwrap_or(&Value::Null))?;
    let endpoint = match fields.get("endpoint").and_then(Value::as_str) {
        Some(text) => Endpoint::of(text)?,
        None => Endpoint { host: host.address.clone(), port: 2379 },
    };
    let service = match fields.get("service") {
        None | Some(Value::Null) => Service::Unit { unit: "etcd".into() },
        Some(service) => Service::of(service)?,
    };
    let loads = match fields.get("loads") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => crate::host::paths(list, "loads")?,
    };
    Ok(Member { endpoint, host, service, loads })
}

impl Cluster {
    /// Reads `{members, identity, trusted_by}`.
    ///
    /// # Errors
    /// A field is missing or malformed.
    pub fn of(world: &World, arguments: &[Value], index: usize) -> Result<Self, PrimError> {
        let fields = args::map(arguments, index, "cluster")?;
        let list = fields
            .get("members")
            .and_then(Value::as_array)
            .filter(|list| !list.is_empty())
            .ok_or_else(|| PrimError::argument("`cluster.members` is no list of members"))?;
        let members = list.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { members, access: access(world, fields)? })
    }

    /// Asks the leader, at its endpoint, to let another member lead.
    pub(super) async fn hand_over(&self, world: &World, leader: &Endpoint, to: u64) -> Result<(), PrimError> {
        let connection = connect(world, leader, &self.access).await?;
        connection.ask(connection.client().move_leader(to)).await.map(drop)
    }
}

/// `{identity: {cert, key}, trusted_by}`.
fn access(world: &World, fields: &serde_json::Map<String, Value>) -> Result<Access, PrimError> {
    let identity = fields
        .get("identity")
        .and_then(Value::as_object)
        .ok_or_else(|| PrimError::argument("`cluster.identity` is no map with `cert` and `key`"))?;
    let chain = bundle::certificates(identity.get("cert").unwrap_or(&Value::Null), "cluster.identity.cert")?;
    let chain = Certs(chain.iter().map(|cert| cert.der().clone()).collect());
    let key: Secret = world.secrets.get(identity.get("key").unwrap_or(&Value::Null))?;
    let anchors =
        bundle::certificates(fields.get("trusted_by").unwrap_or(&Value::Null), "cluster.trusted_by")?;
    let anchors = Arc::new(Certs(anchors.iter().map(|cert| cert.der().clone()).collect()));
    Ok(Access { identity: Identity::new(&chain, &key)?, anchors })
}
