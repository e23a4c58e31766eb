//! `tls::probe`: a probe's arguments and its answer as values.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::config::Trust;
use super::handshake::TlsFailure;
use super::probe::{Opening, Probed, Target, WITHIN, probe as look};
use super::prove::{certs, identity, port, present, shown, verifier};
use crate::cert::{Certificate, Question, opinions, opinions_value};
use crate::error::{Code, PrimError};
use crate::k8s::{args, forward};
use crate::trust::{Certs, Usage};
use crate::world::World;

/// `tls::probe(host, port, [options])`.
pub(super) async fn probe(world: &World, arguments: &[Value]) -> Result<Value, PrimError> {
    let target = target(world, arguments)?;
    let place = format!("{}:{}", target.host, target.port);
    let found = look(world, &target).await.map_err(|failure| {
        let unavailable = || {
            let error = PrimError::new(Code::Unavailable, failure.to_string()).on(&*place);
            let inside = forward::is_of_cluster(&target.host);
            if inside { error.hint(world.net.unreached()) } else { error }
        };
        failure.forbidden(&place).unwrap_or_else(unavailable)
    })?;
    answer(world, &target, &found)
}

fn target(world: &World, arguments: &[Value]) -> Result<Target, PrimError> {
    let host = args::text(arguments, 0, "host")?.to_owned();
    let port = port(arguments.get(1))?;
    let empty = Map::new();
    let (name, fields) = match present(arguments.get(2)) {
        None => (None, &empty),
        Some(Value::String(name)) => (Some(name.clone()), &empty),
        Some(Value::Object(fields)) => {
            (fields.get("name").and_then(Value::as_str).map(str::to_owned), fields)
        }
        Some(_) => return Err(PrimError::argument("`options` is neither a name nor a map")),
    };
    let opening = match present(fields.get("mysql")) {
        None | Some(Value::Bool(false)) => Opening::Tls,
        Some(Value::Bool(true)) => Opening::Mysql,
        Some(other) => {
            return Err(PrimError::argument("`options.mysql` has the wrong type")
                .expected("true or false", other.to_string()));
        }
    };
    let within = match present(fields.get("within")) {
        None => WITHIN,
        Some(value) => Duration::try_from(crate::cfssl::duration_of(value)?)
            .map_err(|_| PrimError::argument("`options.within` is out of range"))?,
    };
    let verifier = verifier(fields)?;
    let trust = present(fields.get("anchors"))
        .map(|anchors| {
            let anchors = Arc::new(certs(anchors, "options.anchors")?);
            Ok::<_, PrimError>(Trust { verifier, anchors, allowed_cn: Vec::new() })
        })
        .transpose()?;
    let identity = present(fields.get("identity"))
        .map(|value| identity(world, value, "options.identity"))
        .transpose()?;
    Ok(Target { name: name.unwrap_or_else(|| host.clone()), host, port, opening, identity, trust, within })
}

fn certificates(certs: &Certs) -> Result<Vec<Certificate>, PrimError> {
    certs.0.iter().map(|der| Certificate::from_der(der.to_vec())).collect()
}

/// A probe's answer: what `tls::probe` and `rollover cert probe --output json` give.
///
/// # Errors
/// The chain served cannot be judged, since a certificate in it is malformed.
pub fn answer(world: &World, target: &Target, found: &Probed) -> Result<Value, PrimError> {
    let mut value = shown(&found.observed.chain);
    let Some(fields) = value.as_object_mut() else { return Ok(value) };
    fields.insert("chain".into(), found.observed.chain.pem().into());
    fields.insert("protocol".into(), found.observed.protocol.clone().into());
    fields.insert("asks_client".into(), found.observed.asks_client.into());
    if let Some(greeting) = &found.greeting {
        fields.insert("server".into(), greeting.version.clone().into());
    }
    match &found.attempt {
        None => {}
        Some(Ok(_)) => {
            fields.insert("accepted".into(), true.into());
        }
        Some(Err(failure)) => {
            fields.insert("accepted".into(), false.into());
            let by = match failure {
                TlsFailure::Rejected(_) => Some("us"),
                TlsFailure::RefusedBy(_) => Some("server"),
                _ => None,
            };
            fields.insert("refused_by".into(), by.into());
            fields.insert("reason".into(), failure.to_string().into());
        }
    }
    if let Some(unjudged) = &found.unjudged {
        fields.insert("server_accepts".into(), unjudged.is_ok().into());
    }
    if let Some(trust) = &target.trust {
        let question = Question {
            usage: Usage::Server,
            names: vec![target.name.clone()],
            allowed_cn: Vec::new(),
            at: world.clock.now(),
        };
        let (chain, anchors) = (certificates(&found.observed.chain)?, certificates(&trust.anchors)?);
        let judged = opinions_value(&opinions(&chain, &anchors, &question), &chain, &anchors, &question);
        if let Value::Object(judged) = judged {
            fields.extend(judged.into_iter().filter(|(name, _)| name != "agree"));
        }
    }
    Ok(value)
}
