//! What a process shows and whom it trusts: its pair as it lies there now, its anchors as it loaded them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use serde_json::Value;
use stdlib::tls::TlsFailure;
use stdlib::tls::config::{self as tls, Identities, Identity, Trust};
use stdlib::trust::{Certs, Verifier};
use stdlib::world::{Clock, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::machine::{Fault, Machine};
use super::world::Shared;
use crate::world::counters::{Count, Refusal, State};
use crate::world::memo::Combination;
use crate::world::net::DIAL_TIMEOUT;
use crate::world::pod::dial::fingerprint;
use crate::world::pod::party::{Anchors, Leaf, read_anchors, read_leaf};
use crate::world::volume::{Digest, digest};

/// A pair of files.
pub(crate) struct Pair {
    machine: Arc<Machine>,
    cert: String,
    key: String,
    /// By their bytes, so that what has not changed is read once.
    read: Mutex<Option<(Digest, Shown)>>,
}

/// A pair as it was read, or why it cannot be shown.
type Shown = Result<(Arc<Leaf>, Identity), String>;

impl Pair {
    fn new(machine: &Arc<Machine>, cert: &str, key: &str) -> Arc<Self> {
        Arc::new(Self {
            machine: Arc::clone(machine),
            cert: cert.to_owned(),
            key: key.to_owned(),
            read: Mutex::default(),
        })
    }

    /// As it lies there now.
    fn now(&self) -> Shown {
        let [cert, key] = self.machine.files([&self.cert, &self.key])?;
        let bytes = digest([cert.as_slice(), key.as_slice()]);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, pair)) = &*read
            && *known == bytes
        {
            return pair.clone();
        }
        let files: BTreeMap<String, Vec<u8>> =
            [("tls.crt".to_owned(), cert), ("tls.key".to_owned(), key)].into();
        let pair = read_leaf(&files).and_then(|leaf| {
            let identity = Identity::new(&leaf.chain, &leaf.key).map_err(|error| error.to_string())?;
            Ok((Arc::new(leaf), identity))
        });
        *read = Some((bytes, pair.clone()));
        pair
    }
}

/// What it offers as a server and as a client (RFC 7301).
type Protocols = (&'static [&'static [u8]], &'static [&'static [u8]]);
const HTTP: Protocols = (&[b"http/1.1"], &[b"http/1.1"]);
const GRPC: Protocols = (&[b"h2", b"http/1.1"], &[b"h2"]);

/// One side of a process.
pub(crate) struct Side {
    /// `m1`, `app1`: its host.
    pub label: String,
    /// `member`, `peer`, `application`: rows of the counters.
    pub component: &'static str,
    pub machine: Arc<Machine>,
    pub ip: IpAddr,
    pub anchors: Arc<Anchors>,
    pair: Arc<Pair>,
    pub server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Side {
    /// Loads it, as a process does when it starts. Whoever dials it must show a certificate.
    pub(crate) fn load(
        component: &'static str,
        who: (&str, &Arc<Machine>, IpAddr),
        files: (&str, &str, &str),
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        Self::of(component, who, files, clock, (false, HTTP))
    }

    /// The same, of a process that speaks gRPC.
    pub(crate) fn grpc(
        component: &'static str,
        who: (&str, &Arc<Machine>, IpAddr),
        files: (&str, &str, &str),
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        Self::of(component, who, files, clock, (false, GRPC))
    }

    /// As [`Self::load`], where whoever dials it need not show one.
    pub(crate) fn open(
        component: &'static str,
        who: (&str, &Arc<Machine>, IpAddr),
        files: (&str, &str, &str),
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        Self::of(component, who, files, clock, (true, HTTP))
    }

    fn of(
        component: &'static str,
        (label, machine, ip): (&str, &Arc<Machine>, IpAddr),
        (ca, cert, key): (&str, &str, &str),
        clock: &Arc<dyn Clock>,
        (open, (serves, asks)): (bool, Protocols),
    ) -> Result<Arc<Self>, String> {
        let [bytes] = machine.files([ca])?;
        let anchors =
            read_anchors(&[("ca.crt".to_owned(), bytes)].into()).map_err(|why| why.replace("ca.crt", ca))?;
        let anchors = Arc::new(anchors);
        let pair = Pair::new(machine, cert, key);
        pair.now().map_err(|why| why.replace("tls.crt", cert).replace("tls.key", key))?;
        let trust = || Trust {
            verifier: Verifier::Go,
            anchors: Arc::new(anchors.certs.clone()),
            allowed_cn: Vec::new(),
        };
        let shown: Identities = {
            let pair = Arc::clone(&pair);
            Arc::new(move || pair.now().ok().map(|(_, identity)| identity))
        };
        let failed = |error: stdlib::PrimError| error.to_string();
        let asked = (!open).then(trust);
        let server = tls::server(Arc::clone(&shown), asked, Arc::clone(clock), serves).map_err(failed)?;
        let client = tls::client(Some(shown), trust(), Arc::clone(clock), asks).map_err(failed)?;
        Ok(Arc::new(Self {
            label: label.to_owned(),
            component,
            machine: Arc::clone(machine),
            ip,
            anchors,
            pair,
            server,
            client,
        }))
    }

    fn leaf(&self) -> Result<Arc<Leaf>, String> {
        self.pair.now().map(|(leaf, _)| leaf)
    }

    /// SHA-256 fingerprints of the chain that it presents now, leaf first.
    pub(crate) fn presents(&self) -> Vec<String> {
        let certs = self.leaf().map(|leaf| leaf.chain.0.clone()).unwrap_or_default();
        certs.iter().map(|cert| fingerprint(cert.as_ref())).collect()
    }

    /// SHA-256 fingerprints of the anchors that it has loaded.
    pub(crate) fn trusts(&self) -> Vec<String> {
        self.anchors.certs.0.iter().map(|cert| fingerprint(cert.as_ref())).collect()
    }

    /// As the counters name it.
    pub(crate) fn state(&self) -> Option<State> {
        let leaf = self.leaf().ok()?;
        Some(State { leaf: hex::encode(leaf.digest), anchors: hex::encode(self.anchors.digest) })
    }
}

/// What came of a dial.
#[derive(Debug, Clone)]
pub(crate) enum Outcome<T> {
    Held(T),
    Refused(String),
    Unreachable,
}

/// The bytes of a link that holds.
pub(crate) type Link = TlsStream<Box<dyn Stream>>;

/// One question to the other side of a link, asked over it; nothing where it hangs up.
pub(crate) type Exchange<'a, T> = &'a (dyn Fn(Link) -> BoxFuture<'a, io::Result<Option<T>>> + Send + Sync);

/// What the other side answers once the link holds; used where the handshake is known already.
pub(crate) type Respond<'a, T> = &'a (dyn Fn() -> BoxFuture<'a, T> + Send + Sync);

/// Dials, by a new connection without resumption, asks, and counts.
pub(crate) async fn dial<T>(
    shared: &Shared,
    from: &Side,
    to: &Side,
    port: u16,
    exchange: Exchange<'_, T>,
    respond: Respond<'_, T>,
) -> Outcome<T> {
    let link = format!("{} -> {}", from.component, to.component);
    if from.machine.has(Fault::Away) || to.machine.has(Fault::Away) {
        shared.counters.count(&link, None, &Count::Unreachable, false);
        return Outcome::Unreachable;
    }
    let states = states(shared, from, to);
    let combination = combination(from, to);
    let now = shared.clock.now();
    let known = shared.memo.as_ref().zip(combination.as_ref()).and_then(|(memo, all)| memo.get(all, now));
    let memoised = known.is_some();
    let (outcome, by) = match known {
        Some(Ok(())) => (Outcome::Held(respond().await), ""),
        Some(Err((by, why))) => (Outcome::Refused(why), by),
        None => match tokio::time::timeout(DIAL_TIMEOUT, shake(shared, from, to, port, exchange)).await {
            Ok(Ok(answer)) => (Outcome::Held(answer), ""),
            Ok(Err(Some((by, why)))) => (Outcome::Refused(why), by),
            Ok(Err(None)) | Err(_) => (Outcome::Unreachable, ""),
        },
    };
    if let (Some(memo), Some(combination), false) = (&shared.memo, combination, memoised) {
        let verdict = match &outcome {
            Outcome::Held(_) => Some(Ok(())),
            Outcome::Refused(why) => Some(Err((by, why.clone()))),
            Outcome::Unreachable => None,
        };
        if let (Some(verdict), Ok(own), Ok(other)) = (verdict, from.leaf(), to.leaf()) {
            let involved: [&Certs; 4] = [&own.chain, &from.anchors.certs, &other.chain, &to.anchors.certs];
            memo.put(combination, verdict, &involved, now);
        }
    }
    let refusal = |why: &str| Refusal {
        at: crate::world::ctx::kube_time(now),
        client: from.label.clone(),
        server: to.label.clone(),
        name: to.ip.to_string(),
        port,
        by: by.to_owned(),
        why: why.to_owned(),
    };
    match &outcome {
        Outcome::Held(_) => shared.counters.count(&link, states, &Count::Held, memoised),
        Outcome::Refused(why) => {
            tracing::warn!("refused: {} -> {} ({link}) by the {by}: {why}", from.label, to.label);
            shared.counters.count(&link, states, &Count::Refused(&refusal(why)), memoised);
        }
        Outcome::Unreachable => shared.counters.count(&link, states, &Count::Unreachable, memoised),
    }
    outcome
}

fn states(shared: &Shared, from: &Side, to: &Side) -> Option<(State, State)> {
    let states = (from.state()?, to.state()?);
    for (side, state) in [(from, &states.0), (to, &states.1)] {
        shared.counters.material(&state.anchors, || side.trusts());
        shared.counters.material(&state.leaf, || side.presents());
    }
    Some(states)
}

fn combination(from: &Side, to: &Side) -> Option<Combination> {
    Some(Combination {
        client: (from.leaf().ok()?.pair, from.anchors.digest, Verifier::Go),
        server: (to.leaf().ok()?.pair, to.anchors.digest, Verifier::Go),
        // Peers also compare addresses: the same certificates are another matter from elsewhere.
        allowed_cn: vec![from.ip.to_string(), to.component.to_owned()],
        name: to.ip.to_string(),
    })
}

type Broken = Option<(&'static str, String)>;

async fn shake<T>(
    shared: &Shared,
    from: &Side,
    to: &Side,
    port: u16,
    exchange: Exchange<'_, T>,
) -> Result<T, Broken> {
    from.leaf().map_err(|why| Some(("client", why)))?;
    let address = SocketAddr::new(to.ip, port);
    let connection = shared.net.connect(Some(from.ip), address).await.map_err(|_| None)?;
    let local = connection.local;
    let judge = |error: io::Error| blame(shared, local, &error);
    let name = ServerName::from(to.ip);
    let stream =
        TlsConnector::from(Arc::clone(&from.client)).connect(name, connection.stream).await.map_err(judge)?;
    let answer = exchange(stream).await.map_err(judge)?;
    answer.ok_or_else(|| blame(shared, local, &io::ErrorKind::UnexpectedEof.into()))
}

/// One request.
pub(crate) struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a Value,
}

/// One request and its answer, by HTTP/1.1, on a connection that ends with it.
pub(crate) async fn exchange(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    ask: &Ask<'_>,
    host: &str,
) -> io::Result<Option<(u16, Value)>> {
    let body = if ask.body.is_null() { String::new() } else { ask.body.to_string() };
    let request = format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        ask.method,
        ask.path,
        body.len(),
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let parsed = || {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, serde_json::from_str(body).unwrap_or(Value::Null)))
    };
    Ok(parsed())
}

/// Who broke a connection: the server, if it left word; the client, if its own verifier said no; else nobody.
fn blame(shared: &Shared, local: SocketAddr, error: &io::Error) -> Broken {
    let word = shared.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&local);
    if let Some(why) = word {
        return Some(("server", why));
    }
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).map(TlsFailure::from) {
        Some(TlsFailure::RefusedBy(alert)) => Some(("server", alert)),
        Some(TlsFailure::Rejected(rejection)) => Some(("client", rejection.text)),
        Some(TlsFailure::Io { .. }) | None => None,
        Some(other) => Some(("client", other.to_string())),
    }
}

/// How long a refused client has to read its alert.
pub(crate) const FAREWELL: Duration = Duration::from_millis(500);
