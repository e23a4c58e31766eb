//! `k8s::patch_secret`: certificates, key and CA of a Secret in one write that keeps everything else.

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::error::PrimError;
use crate::gate::{Gate, RecordedEffect};
use crate::registry::Touch;
use crate::secret::{handle_id, not_a_key};
use crate::trust;
use crate::world::World;

use super::content::{self, Content};
use super::object::{Ref, text, touch};
use super::{args, data, owner, replace_secret, secret};

/// `k8s::patch_secret(secret, data, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = target(args)?;
    let replace = replaces(args.get(2))?;
    let data = args::map(args, 1, "data")?;
    if data.is_empty() {
        return Err(PrimError::argument("`data` names no key to write").on(object.to_string()));
    }
    let keys = values(world, data, &object)?;
    let pair = keys.contains_key("tls.crt") || keys.contains_key("tls.key");
    if pair {
        check_pair(world, &object, &keys).await?;
    }
    let replaced = if replace { replace_secret::set(world, gate, &object, &keys).await? } else { None };
    let outcome = match replaced {
        Some(outcome) => outcome,
        None => data::set(world, gate, &object, &keys, false).await?,
    };
    let stored = content::read(content::Flavor::Secret, &object, &outcome.value)?;
    let fingerprint = stored
        .get("tls.crt")
        .and_then(|bytes| content::certificates(bytes, "").ok())
        .and_then(|chain| chain.first().map(crate::cert::Certificate::fingerprint));
    Ok(json!({
        "namespace": object.namespace,
        "name": object.name,
        "uid": text(&outcome.value, &["metadata", "uid"]),
        "changed": outcome.changed,
        "fingerprint": fingerprint,
        "warnings": owner::warning(&object, &outcome.value).into_iter().collect::<Vec<_>>(),
    }))
}

/// Puts one recorded write back.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    if replace_secret::replaces(effect) {
        return replace_secret::restore(world, effect, gate).await;
    }
    data::restore(world, gate, &object, effect).await
}

/// Whether what is immutable is made again.
fn replaces(options: Option<&Value>) -> Result<bool, PrimError> {
    match options.and_then(|options| options.get("immutable")) {
        None => Ok(false),
        Some(Value::String(word)) if word == "refuse" => Ok(false),
        Some(Value::String(word)) if word == "replace" => Ok(true),
        Some(other) => Err(PrimError::argument("`options.immutable` says something else")
            .expected("`refuse` or `replace`", other.to_string())),
    }
}

/// What a call touches.
pub(super) fn touches(args: &[Value]) -> Vec<Touch> {
    let (namespace, name) = (args::hint(args, 0, "namespace"), args::hint(args, 0, "name"));
    if args::hint(args, 2, "immutable") != "replace" {
        return vec![touch("v1", "Secret", namespace, name, &["get", "patch"])];
    }
    vec![
        touch("v1", "Secret", namespace, name, &["get", "patch", "delete"]),
        touch("v1", "Secret", namespace, "", &["create"]),
    ]
}

/// What parties that mount the Secret will load.
pub(super) fn forecast(_world: &World, args: &[Value]) -> Result<Vec<trust::Write>, PrimError> {
    let object = target(args)?;
    let data = args::map(args, 1, "data")?;
    let part = |key: &str| -> Result<Option<trust::Certs>, PrimError> {
        let Some(text) = data.get(key).and_then(Value::as_str) else { return Ok(None) };
        let list = content::certificates(text.as_bytes(), &format!("{object}, key `{key}`"))?;
        Ok(Some(trust::Certs(list.iter().map(|c| c.der().clone()).collect())))
    };
    Ok(vec![trust::Write { place: object.place(), chain: part("tls.crt")?, anchors: part("ca.crt")? }])
}

fn target(args: &[Value]) -> Result<Ref, PrimError> {
    let secret = args::map(args, 0, "secret")?;
    Ok(Ref::secret(args::field(secret, "namespace", "secret")?, args::field(secret, "name", "secret")?))
}

/// Values by key: texts, and what handles stand for.
pub(super) fn values(world: &World, data: &Map<String, Value>, object: &Ref) -> Result<Content, PrimError> {
    data.iter()
        .map(|(key, value)| {
            let bytes = match value {
                Value::String(text) => {
                    not_a_key(text, &format!("data.{key}")).map_err(|e| e.on(object.to_string()))?;
                    text.as_bytes().to_vec()
                }
                value if handle_id(value).is_some() => world.secrets.get(value)?.expose().to_vec(),
                _ => {
                    return Err(PrimError::argument(format!("`data.{key}` is neither a text nor a secret"))
                        .on(object.to_string()));
                }
            };
            if matches!(key.as_str(), "tls.crt" | "ca.crt") {
                content::certificates(&bytes, &format!("data.{key}"))?;
            }
            Ok((key.clone(), Zeroizing::new(bytes)))
        })
        .collect()
}

/// A pair is swapped as one unit: what will lie there must fit together.
async fn check_pair(world: &World, object: &Ref, keys: &Content) -> Result<(), PrimError> {
    let objects = super::client::Objects::of(world)?;
    let mut after = data::present(world, &objects, object).await?.content;
    after.extend(keys.iter().map(|(key, bytes)| (key.clone(), bytes.clone())));
    pair(object, &after)
}

/// That a certificate and a key fit together, where both are there.
pub(super) fn pair(object: &Ref, after: &Content) -> Result<(), PrimError> {
    let (Some(chain), Some(key)) = (after.get("tls.crt"), after.get("tls.key")) else { return Ok(()) };
    let chain = content::certificates(chain, &format!("{object}, key `tls.crt`"))?;
    let Some(leaf) = chain.first() else { return Ok(()) };
    secret::fits(object, leaf, &content::key_fingerprint(key, &format!("{object}, key `tls.key`"))?)
}
