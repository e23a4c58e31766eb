//! A probe of one endpoint: what it serves, and whether it and a client with a given identity and trust accept each
//! other. Every answer comes from a new connection, and every connection has a deadline.

use std::sync::Arc;
use std::time::Duration;

use super::config::{Identity, Trust, always, client, unjudging_client};
use super::handshake::{Handshake, TlsFailure, Wait};
use super::mysql::{self, Greeting};
use super::observe::{Observed, observe};
use super::question::{ASKED, handshake_asking};
use crate::error::PrimError;
use crate::world::{Stream, World};

/// How long dialling, the upgrade and a handshake may take, each, unless told otherwise.
pub const WITHIN: Duration = Duration::from_secs(5);
/// How long without an alert counts as accepted, at least.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// What is spoken before TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// Nothing: TLS from the first byte.
    #[default]
    Tls,
    /// MySQL's greeting and its upgrade.
    Mysql,
}

/// Whom to probe, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// DNS name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The name to ask for and to judge by.
    pub name: String,
    /// What comes before TLS.
    pub opening: Opening,
    /// Whom to show.
    pub identity: Option<Identity>,
    /// Whom to trust; without it whatever is served is taken.
    pub trust: Option<Trust>,
    /// The deadline of each connection's dialling, upgrade and handshake.
    pub within: Duration,
}

/// What a probe has found.
#[derive(Debug)]
pub struct Probed {
    /// What a MySQL server said of itself.
    pub greeting: Option<Greeting>,
    /// What is served to whom presents nothing.
    pub observed: Observed,
    /// A handshake with the identity and the trust given: made where one of them is given, or where the server asks for a
    /// client certificate, which it may or may not demand.
    pub attempt: Option<Result<Handshake, TlsFailure>>,
    /// Where the attempt ended since we refuse what is served: one more that takes it, so that it is known what the server
    /// says of us.
    pub unjudged: Option<Result<Handshake, TlsFailure>>,
}

/// Probes an endpoint: one connection that looks, and one that tries where there is something to try.
///
/// # Errors
/// No TLS was spoken: nobody answers, the server is no MySQL server, there is no common protocol.
pub async fn probe(world: &World, target: &Target) -> Result<Probed, TlsFailure> {
    let (stream, greeting) = open(world, target).await?;
    let observed = observe(stream, &target.name, target.within, Arc::clone(&world.clock)).await?;
    let tries = target.identity.is_some() || target.trust.is_some() || observed.asks_client;
    let first = if tries { Some(attempt(world, target).await) } else { None };
    let unjudged = match &first {
        Some(Err(TlsFailure::Rejected(_))) if target.identity.is_some() || observed.asks_client => {
            Some(attempt(world, &Target { trust: None, ..target.clone() }).await)
        }
        _ => None,
    };
    Ok(Probed { greeting, observed, attempt: first, unjudged })
}

/// One handshake on a new connection, as whom and with whose trust the target says.
async fn attempt(world: &World, target: &Target) -> Result<Handshake, TlsFailure> {
    let identities = target.identity.clone().map(always);
    let clock = Arc::clone(&world.clock);
    // A MySQL server agrees on no protocol: it is asked nothing.
    let offered = if target.opening == Opening::Tls { ASKED } else { &[] };
    let config = match &target.trust {
        Some(trust) => client(identities, trust.clone(), clock, offered),
        None => unjudging_client(identities, clock, offered),
    }
    .map_err(|error: PrimError| TlsFailure::Protocol(error.message))?;
    let dialled = || async { open(world, target).await.map(|(stream, _)| stream) };
    let wait = Wait::DataOrSilence(SILENCE);
    handshake_asking(dialled, config, &target.name, wait, target.within, world.clock.as_ref()).await
}

async fn open(world: &World, target: &Target) -> Result<(Box<dyn Stream>, Option<Greeting>), TlsFailure> {
    let mut stream = dial(world, &target.host, target.port, target.within).await?;
    let greeting = match target.opening {
        Opening::Tls => None,
        Opening::Mysql => Some(mysql::upgrade(&mut stream, target.within, world.clock.as_ref()).await?),
    };
    Ok((stream, greeting))
}

/// Dials within a deadline.
pub(crate) async fn dial(
    world: &World,
    host: &str,
    port: u16,
    within: Duration,
) -> Result<Box<dyn Stream>, TlsFailure> {
    tokio::select! {
        dialled = world.net.dial(host, port) => dialled.map_err(TlsFailure::from),
        () = world.clock.sleep(within) => Err(TlsFailure::Io {
            kind: std::io::ErrorKind::TimedOut,
            text: "nobody answers".into(),
        }),
    }
}
