//! Proofs on the wire: what endpoints serve, whom they refuse. Each answer comes from a new connection.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Map, Value, json};

use super::config::{Identity, always, unjudging_client};
use super::handshake::{Handshake, TlsFailure, Wait};
use super::probe::{SILENCE, WITHIN, dial};
use super::question::{ASKED, handshake_asking};
use crate::bundle;
use crate::cert::date;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::args;
use crate::trust::{Ask, Certs, Rejection, Usage, Verifier, describe, verify};
use crate::world::World;

/// How long a proof waits for endpoints that still lag, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);
/// Handshakes at once.
const WIDTH: usize = 16;

/// One address with the names under which it is dialled.
struct Endpoint {
    pod: String,
    host: String,
    port: u16,
    names: Vec<String>,
}

impl Endpoint {
    fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.host)
    }

    fn title(&self) -> String {
        if self.pod.is_empty() { format!("{}:{}", self.host, self.port) } else { self.pod.clone() }
    }
}

fn endpoints(component: &Map<String, Value>) -> Result<Vec<Endpoint>, PrimError> {
    let list = component
        .get("endpoints")
        .and_then(Value::as_array)
        .ok_or_else(|| PrimError::argument("`component.endpoints` is no list of endpoints"))?;
    list.iter()
        .map(|value| {
            let fields = value.as_object().ok_or_else(|| PrimError::argument("an endpoint is a map"))?;
            Ok(Endpoint {
                pod: fields.get("pod").and_then(Value::as_str).unwrap_or_default().to_owned(),
                host: args::field(fields, "host", "endpoint")?.to_owned(),
                port: port(fields.get("port"))?,
                names: fields
                    .get("names")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|name| name.as_str().map(str::to_owned))
                    .collect(),
            })
        })
        .collect()
}

pub(super) fn port(value: Option<&Value>) -> Result<u16, PrimError> {
    value
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .ok_or_else(|| {
            PrimError::argument("`port` is no port number")
                .expected("1 to 65535", value.map_or_else(|| "nothing".to_owned(), Value::to_string))
        })
}

/// Every endpoint that a call's arguments name, for capabilities; promises name none yet.
pub(crate) fn addresses(arguments: &[Value]) -> Vec<(String, u16)> {
    let list = arguments.first().and_then(|component| component.get("endpoints")).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|endpoint| {
            let host = endpoint.get("host")?.as_str()?;
            Some((host.to_owned(), u16::try_from(endpoint.get("port")?.as_u64()?).ok()?))
        })
        .collect()
}

pub(super) fn certs(value: &Value, what: &str) -> Result<Certs, PrimError> {
    Ok(Certs(bundle::certificates(value, what)?.iter().map(|cert| cert.der().clone()).collect()))
}

/// An identity `{cert, key}`, the key as a handle.
pub(super) fn identity(world: &World, value: &Value, what: &str) -> Result<Identity, PrimError> {
    let fields = value
        .as_object()
        .ok_or_else(|| PrimError::argument(format!("`{what}` is no map with `cert` and `key`")))?;
    let chain = certs(fields.get("cert").unwrap_or(&Value::Null), &format!("{what}.cert"))?;
    let key = world.secrets.get(fields.get("key").unwrap_or(&Value::Null))?;
    Identity::new(&chain, &key)
}

pub(super) fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn patience(options: &Map<String, Value>) -> Result<Duration, PrimError> {
    match present(options.get("within")) {
        None => Ok(PATIENCE),
        Some(Value::String(text)) => Duration::try_from(crate::cfssl::duration::parse(text)?)
            .map_err(|_| PrimError::argument("`within` is out of range")),
        Some(other) => {
            Err(PrimError::argument("`within` is no duration").expected("e.g. `2m`", other.to_string()))
        }
    }
}

async fn shake(
    world: &World,
    endpoint: &Endpoint,
    identity: Option<&Identity>,
    closes: bool,
) -> Result<Handshake, TlsFailure> {
    let config =
        unjudging_client(identity.map(|identity| always(identity.clone())), Arc::clone(&world.clock), ASKED)
            .map_err(|error| TlsFailure::Protocol(error.message))?;
    let wait = if closes { Wait::DataSilenceOrClose(SILENCE) } else { Wait::DataOrSilence(SILENCE) };
    let dialled = || dial(world, &endpoint.host, endpoint.port, WITHIN);
    handshake_asking(dialled, config, endpoint.name(), wait, WITHIN, world.clock.as_ref()).await
}

/// The public facts of a leaf.
pub(super) fn shown(chain: &Certs) -> Value {
    chain.0.first().map_or_else(
        || json!({}),
        |leaf| {
            let leaf = describe(leaf);
            json!({
                "fingerprint": leaf.fingerprint,
                "subject": leaf.subject,
                "issuer": leaf.issuer,
                "not_after": date(leaf.not_after),
            })
        },
    )
}

/// What endpoints are asked to serve.
struct Expected {
    verifier: Verifier,
    issued_by: Option<Certs>,
    trusted_by: Option<Certs>,
}

impl Expected {
    fn check(&self, world: &World, endpoint: &Endpoint, chain: &Certs) -> Result<(), PrimError> {
        let found = chain.0.first().map(describe).map_or_else(
            || "no certificate".to_owned(),
            |leaf| format!("`{}` ({}) issued by `{}`", leaf.subject, leaf.fingerprint, leaf.issuer),
        );
        let judge = |anchors: &Certs| -> Result<(), Rejection> {
            for name in &endpoint.names {
                let ask =
                    Ask { usage: Usage::Server, name: Some(name), allowed_cn: &[], at: world.clock.now() };
                verify(self.verifier, &chain.0, &anchors.0, &ask)?;
            }
            if endpoint.names.is_empty() {
                let ask = Ask { usage: Usage::Server, name: None, allowed_cn: &[], at: world.clock.now() };
                verify(self.verifier, &chain.0, &anchors.0, &ask)?;
            }
            Ok(())
        };
        for (anchors, what) in [(&self.issued_by, "issued by"), (&self.trusted_by, "trusted by")] {
            let Some(anchors) = anchors else { continue };
            judge(anchors).map_err(|rejection| {
                let cas: Vec<String> = anchors
                    .0
                    .iter()
                    .map(describe)
                    .map(|ca| format!("`{}` ({})", ca.subject, ca.fingerprint))
                    .collect();
                unproved(endpoint, rejection.text)
                    .expected(format!("a certificate {what} {}", cas.join(" or ")), found.clone())
            })?;
        }
        Ok(())
    }
}

fn unproved(endpoint: &Endpoint, message: impl Into<String>) -> PrimError {
    PrimError::new(Code::Unproved, message).on(endpoint.title())
}

/// `tls::serves(component, expected)`.
pub(crate) async fn serves(world: &World, arguments: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let component = args::map(arguments, 0, "component")?;
    let options = args::map(arguments, 1, "expected")?;
    let list = |key: &str| {
        present(options.get(key)).map(|value| certs(value, &format!("expected.{key}"))).transpose()
    };
    let expected = Expected {
        verifier: verifier(component)?,
        issued_by: list("issued_by")?,
        trusted_by: list("trusted_by")?,
    };
    if expected.issued_by.is_none() && expected.trusted_by.is_none() {
        return Err(PrimError::argument("`expected` names neither `issued_by` nor `trusted_by`"));
    }
    let shown_by = present(options.get("identity")).or_else(|| present(component.get("identity")));
    let identity = shown_by.map(|value| identity(world, value, "identity")).transpose()?;
    let judge = |endpoint: &Endpoint, answer: Result<Handshake, TlsFailure>| match answer {
        Ok(handshake) => {
            expected.check(world, endpoint, &handshake.peer)?;
            let mut found = shown(&handshake.peer);
            if let Some(fields) = found.as_object_mut() {
                fields.insert("protocol".into(), handshake.protocol.into());
            }
            Ok(found)
        }
        Err(failure @ TlsFailure::RefusedBy(_)) => Err(unproved(endpoint, failure.to_string())
            .hint("it has not loaded the CA of that certificate: a changed CA needs a restart")),
        Err(failure) => Err(unproved(endpoint, failure.to_string())),
    };
    until_proved(world, gate, component, identity.as_ref(), patience(options)?, &judge).await
}

/// `tls::refuses(component, options)`.
pub(super) async fn refuses(world: &World, arguments: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let component = args::map(arguments, 0, "component")?;
    let options = args::map(arguments, 1, "options")?;
    let identity = identity(world, options.get("identity").unwrap_or(&Value::Null), "options.identity")?;
    let who = identity.chain().first().map(describe);
    let judge = |endpoint: &Endpoint, answer: Result<Handshake, TlsFailure>| match answer {
        Err(TlsFailure::RefusedBy(alert)) => Ok(json!({ "alert": alert })),
        Ok(_) => {
            let who = who.as_ref().map_or_else(String::new, |leaf| {
                format!("`{}` ({}) issued by `{}`", leaf.subject, leaf.fingerprint, leaf.issuer)
            });
            Err(unproved(endpoint, format!("it still accepts {who}"))
                .hint("it has not loaded the new trust: a changed CA needs a restart"))
        }
        Err(failure) => Err(unproved(endpoint, format!("it did not get as far as refusing: {failure}"))),
    };
    until_proved(world, gate, component, Some(&identity), patience(options)?, &judge).await
}

pub(super) fn verifier(component: &Map<String, Value>) -> Result<Verifier, PrimError> {
    match present(component.get("verifier")) {
        None => Ok(Verifier::Go),
        Some(value) => serde_json::from_value(value.clone()).map_err(|_| {
            PrimError::argument("`component.verifier` is not known")
                .expected("`webpki`, `go` or `openssl`", value.to_string())
        }),
    }
}

type Verdict<'j> =
    &'j (dyn Fn(&Endpoint, Result<Handshake, TlsFailure>) -> Result<Value, PrimError> + Send + Sync);

/// Asks all endpoints, again and again while some lag, until each has given a good answer in one round.
async fn until_proved(
    world: &World,
    gate: &dyn Gate,
    component: &Map<String, Value>,
    identity: Option<&Identity>,
    patience: Duration,
    verdict: Verdict<'_>,
) -> Result<Value, PrimError> {
    let endpoints = endpoints(component)?;
    let closes = present(component.get("closes")).and_then(Value::as_bool).unwrap_or(false);
    let until = world.clock.now() + patience;
    loop {
        let mut answers = Vec::with_capacity(endpoints.len());
        for some in endpoints.chunks(WIDTH) {
            let shaken = some.iter().map(|endpoint| shake(world, endpoint, identity, closes));
            answers.extend(join_all(shaken).await);
        }
        let mut evidence = Vec::with_capacity(endpoints.len());
        let mut failure = None;
        for (endpoint, answer) in endpoints.iter().zip(answers) {
            if let Some(forbidden) = answer.as_ref().err().and_then(|f| f.forbidden(&endpoint.title())) {
                return Err(forbidden);
            }
            let unreached = matches!(answer, Err(TlsFailure::Io { .. })) && !endpoint.pod.is_empty();
            match verdict(endpoint, answer) {
                Ok(mut found) => {
                    if let Some(fields) = found.as_object_mut() {
                        fields.insert("pod".into(), endpoint.pod.clone().into());
                        fields.insert("host".into(), endpoint.host.clone().into());
                        fields.insert("port".into(), endpoint.port.into());
                    }
                    evidence.push(found);
                }
                Err(error) if unreached => {
                    failure.get_or_insert(error.hint(world.net.unreached()));
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        let Some(error) = failure else { return Ok(json!({ "endpoints": evidence })) };
        if world.clock.now() >= until {
            return Err(error);
        }
        gate.progress(Progress {
            text: error.to_string(),
            done: u64::try_from(evidence.len()).ok().zip(u64::try_from(endpoints.len()).ok()),
        });
        world.clock.sleep(PAUSE).await;
    }
}
