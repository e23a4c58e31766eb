//! Dialling a link: always a new connection without resumption, and counted as held only after application data.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use rustls_pki_types::ServerName;
use serde_json::Value;
use stdlib::tls::TlsFailure;
use stdlib::trust::Certs;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::party::Party;
use super::program::SQL_PORT;
use super::respond;
use super::sql::guests_login;
use crate::world::counters::{Count, Refusal, State};
use crate::world::ctx::Ctx;
use crate::world::directory::Target;
use crate::world::memo::{Combination, Verdict};
use crate::world::net::DIAL_TIMEOUT;

/// What a client asks once the link holds.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// `GET`, `POST`, `DELETE`.
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// The JSON body, or null.
    pub body: Value,
}

impl Ask<'_> {
    /// The question of those who only want to know whether the link holds.
    pub const fn status() -> Ask<'static> {
        Ask { method: "GET", path: "/status", body: Value::Null }
    }
}

/// What came of a dial.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Both sides accepted; the answer.
    Held(u16, Value),
    /// One side refused.
    Refused(Refusal),
    /// Nobody was there, or the connection broke: no question of trust.
    Unreachable(io::ErrorKind),
}

/// Dials, asks and counts.
pub async fn dial(ctx: &Ctx, client: &Party, target: &Target, ask: &Ask<'_>) -> Outcome {
    let link = format!("{} -> {}", client.component, target.endpoint.program.component);
    let states = states(ctx, client, target);
    if let Some(verdict) = remembered(ctx, client, target) {
        let outcome = match verdict {
            Ok(()) => {
                let (code, answer) = respond::respond(ctx, &target.endpoint, ask.method, ask.path, &ask.body);
                Outcome::Held(code, answer)
            }
            Err((by, why)) => Outcome::Refused(refusal(ctx, client, target, by, why)),
        };
        count(ctx, &link, states, &outcome, true);
        return outcome;
    }
    let combination = combination(client, target);
    let result = tokio::time::timeout(DIAL_TIMEOUT, shake(ctx, client, target, ask)).await;
    let outcome = match result {
        Ok(Ok((code, answer))) => Outcome::Held(code, answer),
        Ok(Err(Broken::Refused(by, why))) => Outcome::Refused(refusal(ctx, client, target, by, why)),
        Ok(Err(Broken::Io(kind))) => Outcome::Unreachable(kind),
        Err(_) => Outcome::Unreachable(io::ErrorKind::TimedOut),
    };
    if let (Some(memo), Some(combination)) = (&ctx.memo, combination) {
        let verdict: Option<Verdict> = match &outcome {
            Outcome::Held(..) => Some(Ok(())),
            Outcome::Refused(r) => {
                Some(Err((if r.by == "client" { "client" } else { "server" }, r.why.clone())))
            }
            Outcome::Unreachable(_) => None,
        };
        let server = target.party();
        if let (Some(verdict), Ok(own), Ok(other)) = (verdict, client.leaf(), server.leaf()) {
            let involved: [&Certs; 4] =
                [&own.chain, &client.anchors.certs, &other.chain, &server.anchors.certs];
            memo.put(combination, verdict, &involved, ctx.clock.now());
        }
    }
    count(ctx, &link, states, &outcome, false);
    outcome
}

/// What both sides have loaded, if both can load it.
pub fn states(ctx: &Ctx, client: &Party, target: &Target) -> Option<(State, State)> {
    let server = target.party();
    let states = (client.state()?, server.state()?);
    for (party, state) in [(client, &states.0), (&*server, &states.1)] {
        let fingerprints = |certs: &Certs| certs.0.iter().map(|c| fingerprint(c.as_ref())).collect();
        ctx.counters.material(&state.anchors, || fingerprints(&party.anchors.certs));
        if let Ok(leaf) = party.leaf() {
            ctx.counters.material(&state.leaf, || fingerprints(&leaf.chain));
        }
    }
    Some(states)
}

/// The SHA-256 of a certificate, in hex.
pub fn fingerprint(der: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(der))
}

fn combination(client: &Party, target: &Target) -> Option<Combination> {
    let server = target.party();
    Some(Combination {
        client: (client.leaf().ok()?.pair, client.anchors.digest, client.verifier),
        server: (server.leaf().ok()?.pair, server.anchors.digest, server.verifier),
        allowed_cn: server.allowed_cn.clone(),
        name: target.name.clone(),
    })
}

fn remembered(ctx: &Ctx, client: &Party, target: &Target) -> Option<Verdict> {
    let memo = ctx.memo.as_ref()?;
    let here = ctx.directory.at(target.endpoint.ip)?;
    if !Arc::ptr_eq(&here, &target.endpoint) {
        return None;
    }
    memo.get(&combination(client, target)?, ctx.clock.now())
}

fn count(ctx: &Ctx, link: &str, states: Option<(State, State)>, outcome: &Outcome, memoised: bool) {
    let counted = match outcome {
        Outcome::Held(..) => Count::Held,
        Outcome::Refused(refusal) => {
            tracing::warn!(
                "refused: {} -> {} as {}:{} by the {}: {}",
                refusal.client,
                refusal.server,
                refusal.name,
                refusal.port,
                refusal.by,
                refusal.why
            );
            Count::Refused(refusal)
        }
        Outcome::Unreachable(_) => Count::Unreachable,
    };
    ctx.counters.count(link, states, &counted, memoised);
}

fn refusal(ctx: &Ctx, client: &Party, target: &Target, by: &str, why: String) -> Refusal {
    Refusal {
        at: ctx.now(),
        client: client.label.clone(),
        server: target.party().label.clone(),
        name: target.name.clone(),
        port: target.port,
        by: by.to_owned(),
        why,
    }
}

enum Broken {
    Refused(&'static str, String),
    Io(io::ErrorKind),
}

async fn shake(ctx: &Ctx, client: &Party, target: &Target, ask: &Ask<'_>) -> Result<(u16, Value), Broken> {
    let leaf = client.leaf().map_err(|why| Broken::Refused("client", why))?;
    let config =
        ctx.configs.client(client, &leaf, &ctx.clock).map_err(|why| Broken::Refused("client", why))?;
    let name =
        ServerName::try_from(target.name.clone()).map_err(|e| Broken::Refused("client", e.to_string()))?;
    let to = SocketAddr::new(target.endpoint.ip, target.port);
    let connection = ctx.net.connect(client.ip, to).await.map_err(|e| Broken::Io(e.kind()))?;
    let local = connection.local;
    let judge = |e: io::Error| blame(ctx, local, &e);
    let mut raw = connection.stream;
    let sql = target.port == SQL_PORT;
    if sql {
        let upgraded = stdlib::tls::mysql::upgrade(&mut raw, DIAL_TIMEOUT, &*ctx.clock).await;
        upgraded.map_err(|_| Broken::Io(io::ErrorKind::ConnectionRefused))?;
    }
    let mut stream = TlsConnector::from(config).connect(name, raw).await.map_err(judge)?;
    if sql {
        stream.write_all(&guests_login()).await.map_err(judge)?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await.map_err(judge)?;
        let accepted = matches!(answer, [.., 0]);
        return accepted.then_some((200, Value::Null)).ok_or(Broken::Io(io::ErrorKind::InvalidData));
    }
    let body = if ask.body.is_null() { String::new() } else { ask.body.to_string() };
    let request = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        ask.method,
        ask.path,
        target.name,
        body.len(),
    );
    stream.write_all(request.as_bytes()).await.map_err(judge)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(judge)?;
    parse(&answer).ok_or_else(|| blame(ctx, local, &io::ErrorKind::UnexpectedEof.into()))
}

/// The status and the JSON body of an HTTP answer.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Who broke a connection: the server, if it left word; the client, if its own verifier said no; else nobody.
fn blame(ctx: &Ctx, local: SocketAddr, error: &io::Error) -> Broken {
    let word = ctx.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&local);
    if let Some(why) = word {
        return Broken::Refused("server", why);
    }
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).map(TlsFailure::from) {
        Some(TlsFailure::RefusedBy(alert)) => Broken::Refused("server", alert),
        Some(TlsFailure::Rejected(rejection)) => Broken::Refused("client", rejection.text),
        Some(TlsFailure::Io { kind, .. }) => Broken::Io(kind),
        Some(other) => Broken::Refused("client", other.to_string()),
        None => Broken::Io(error.kind()),
    }
}
