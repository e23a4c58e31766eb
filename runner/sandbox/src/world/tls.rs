//! TLS configurations of the world's parties, made once for each combination of what they are made of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ClientConfig, ServerConfig};
use stdlib::PrimError;
use stdlib::tls::config::{self as tls, Identity, Trust};
use stdlib::trust::Verifier;
use stdlib::world::Clock;

use super::pod::party::{Leaf, Party};
use super::volume::Digest;

/// What a server of HTTP agrees to speak, as the real ones do.
const ALPN: &[&[u8]] = &[b"http/1.1"];

type Made = (Digest, Digest, Verifier, Vec<String>);

/// Configurations by what they are made of.
#[derive(Default)]
pub struct Configs {
    clients: Mutex<HashMap<Made, Arc<ClientConfig>>>,
    servers: Mutex<HashMap<Made, Arc<ServerConfig>>>,
    sql_servers: Mutex<HashMap<Made, Arc<ServerConfig>>>,
}

fn made(party: &Party, leaf: &Leaf) -> Made {
    (leaf.pair, party.anchors.digest, party.verifier, party.allowed_cn.clone())
}

fn trust(party: &Party, allowed_cn: &[String]) -> Trust {
    Trust {
        verifier: party.verifier,
        anchors: Arc::new(party.anchors.certs.clone()),
        allowed_cn: allowed_cn.to_vec(),
    }
}

fn cached<C>(
    held: &Mutex<HashMap<Made, Arc<C>>>,
    key: Made,
    make: impl FnOnce() -> Result<Arc<C>, PrimError>,
) -> Result<Arc<C>, String> {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = held.get(&key) {
        return Ok(Arc::clone(known));
    }
    let fresh = make().map_err(|e| e.to_string())?;
    held.insert(key, Arc::clone(&fresh));
    Ok(fresh)
}

impl Configs {
    /// How a party dials with this key pair: without resumption.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn client(
        &self,
        party: &Party,
        leaf: &Leaf,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<ClientConfig>, String> {
        cached(&self.clients, made(party, leaf), || {
            let identity = tls::always(Identity::new(&leaf.chain, &leaf.key)?);
            tls::client(Some(identity), trust(party, &[]), Arc::clone(clock), &[])
        })
    }

    /// How a party serves with this key pair: it demands a client certificate.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn server(
        &self,
        party: &Party,
        leaf: &Leaf,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<ServerConfig>, String> {
        cached(&self.servers, made(party, leaf), || {
            let identity = tls::always(Identity::new(&leaf.chain, &leaf.key)?);
            tls::server(identity, Some(trust(party, &party.allowed_cn)), Arc::clone(clock), ALPN)
        })
    }

    /// The same for MySQL clients: one that shows a certificate is judged, one that shows none is not.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn sql_server(
        &self,
        party: &Party,
        leaf: &Leaf,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<ServerConfig>, String> {
        cached(&self.sql_servers, made(party, leaf), || {
            let identity = tls::always(Identity::new(&leaf.chain, &leaf.key)?);
            tls::server_if_given(identity, trust(party, &[]), Arc::clone(clock))
        })
    }
}
