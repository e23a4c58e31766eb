//! Real handshakes with the endpoints of a cluster, with the identity of its clients.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use crate::error::PrimError;
use crate::k8s::object::text;
use crate::k8s::secret::Tls;
use crate::secret::Secret;
use crate::tls::config::{Identity, Trust, always, client};
pub use crate::tls::probe::Opening;
use crate::tls::{ASKED, TlsFailure, Wait, handshake_asking, handshake_client, mysql, observe};
use crate::trust::{Certs, Verifier};
use crate::world::World;

/// How long dialling and the handshake may take.
const WITHIN: Duration = Duration::from_secs(5);
/// How long without an alert counts as accepted where a server answers nothing: it judges its client after the client is
/// through.
const SILENCE: Duration = Duration::from_millis(400);
/// Handshakes at once.
const WIDTH: usize = 16;

/// One address with the names under which it is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod.
    pub pod: String,
    /// Its address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Names dialled, the pod's own last.
    pub names: Vec<String>,
    /// What comes before TLS.
    pub opening: Opening,
}

impl Endpoint {
    /// Reads the form that facts have.
    pub fn of(value: &Value) -> Option<Self> {
        let names: Vec<String> = value
            .get("names")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        Some(Self {
            pod: text(value, &["pod"]).to_owned(),
            host: text(value, &["host"]).to_owned(),
            port: u16::try_from(value.get("port")?.as_u64()?).ok()?,
            names,
            opening: Opening::Tls,
        })
    }

    /// The name for the handshake: the pod's own.
    pub fn name(&self) -> &str {
        self.names.last().unwrap_or(&self.host)
    }
}

/// The identity in a Secret, for dialling.
pub fn identity(tls: &Tls) -> Result<Identity, PrimError> {
    let key = tls.content.get("tls.key").map(|bytes| bytes.to_vec()).unwrap_or_default();
    Identity::new(&certs(&tls.chain), &Secret::new(key, &tls.key_fingerprint))
}

/// Certificates as the trust model has them.
pub fn certs(list: &[crate::cert::Certificate]) -> Certs {
    Certs(list.iter().map(|c| c.der().clone()).collect())
}

/// What an endpoint answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The chain that it serves, where it showed one.
    pub chain: Option<Certs>,
    /// Why the handshake was not accepted by both.
    pub failure: Option<TlsFailure>,
}

/// Shakes hands with one endpoint: a new connection without resumption, judged by Go's rules.
pub async fn one(world: &World, endpoint: &Endpoint, identity: &Identity, anchors: &Arc<Certs>) -> Answer {
    let trust = Trust { verifier: Verifier::Go, anchors: Arc::clone(anchors), allowed_cn: Vec::new() };
    let alpn = if endpoint.opening == Opening::Tls { ASKED } else { &[] };
    let config = match client(Some(always(identity.clone())), trust, Arc::clone(&world.clock), alpn) {
        Ok(config) => config,
        Err(error) => return Answer { chain: None, failure: Some(TlsFailure::Protocol(error.message)) },
    };
    let clock = world.clock.as_ref();
    let wait = Wait::DataOrSilence(SILENCE);
    let shaken = match endpoint.opening {
        Opening::Tls => {
            let dialled = || dial(world, endpoint);
            handshake_asking(dialled, config, endpoint.name(), wait, WITHIN, clock).await
        }
        // There is nothing to ask without an account: who does not refuse accepts.
        Opening::Mysql => match dial(world, endpoint).await {
            Ok(stream) => handshake_client(stream, config, endpoint.name(), wait, WITHIN, clock).await,
            Err(failure) => Err(failure),
        },
    };
    match shaken {
        Ok(handshake) => Answer { chain: Some(handshake.peer), failure: None },
        Err(failure) => {
            // Refused or not, what it serves can still be seen.
            let chain = if failure.is_refusal() { served(world, endpoint).await } else { None };
            Answer { chain, failure: Some(failure) }
        }
    }
}

/// Shakes hands with all of them, in the order given.
///
/// # Errors
/// Dialling them is forbidden.
pub async fn all(
    world: &World,
    endpoints: &[Endpoint],
    identity: &Identity,
    anchors: &Arc<Certs>,
) -> Result<Vec<Answer>, PrimError> {
    let mut answers = Vec::with_capacity(endpoints.len());
    for some in endpoints.chunks(WIDTH) {
        let mut probes = Vec::with_capacity(some.len());
        for endpoint in some {
            probes.push(one(world, endpoint, identity, anchors));
        }
        answers.extend(join_all(probes).await);
    }
    let forbidden = |(endpoint, answer): (&Endpoint, &Answer)| {
        answer.failure.as_ref().and_then(|failure| failure.forbidden(&endpoint.pod))
    };
    match endpoints.iter().zip(&answers).find_map(forbidden) {
        Some(error) => Err(error),
        None => Ok(answers),
    }
}

async fn served(world: &World, endpoint: &Endpoint) -> Option<Certs> {
    let stream = dial(world, endpoint).await.ok()?;
    observe(stream, endpoint.name(), WITHIN, Arc::clone(&world.clock)).await.ok().map(|seen| seen.chain)
}

async fn dial(world: &World, endpoint: &Endpoint) -> Result<Box<dyn crate::world::Stream>, TlsFailure> {
    let mut stream = crate::tls::probe::dial(world, &endpoint.host, endpoint.port, WITHIN).await?;
    if endpoint.opening == Opening::Mysql {
        mysql::upgrade(&mut stream, WITHIN, world.clock.as_ref()).await?;
    }
    Ok(stream)
}
