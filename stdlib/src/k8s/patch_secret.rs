//! `k8s::patch_secret`: certificates, key and CA of a Secret in one write that keeps everything else.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::error::PrimError;
use crate::gate::{Gate, RecordedEffect};
use crate::secret::{handle_id, not_a_key};
use crate::trust;
use crate::world::World;

use super::content::{self, Content};
use super::object::{Ref, text};
use super::{args, data, owner, secret};

/// `k8s::patch_secret(secret, data)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = target(args)?;
    let keys = wanted(world, args, &object)?;
    let pair = keys.contains_key("tls.crt") || keys.contains_key("tls.key");
    if pair {
        check_pair(world, &object, &keys).await?;
    }
    let outcome = data::set(world, gate, &object, &keys, false).await?;
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
    data::restore(world, gate, &object, effect).await
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

fn wanted(world: &World, args: &[Value], object: &Ref) -> Result<Content, PrimError> {
    let data = args::map(args, 1, "data")?;
    if data.is_empty() {
        return Err(PrimError::argument("`data` names no key to write").on(object.to_string()));
    }
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
    let (Some(chain), Some(key)) = (after.get("tls.crt"), after.get("tls.key")) else { return Ok(()) };
    let chain = content::certificates(chain, &format!("{object}, key `tls.crt`"))?;
    let Some(leaf) = chain.first() else { return Ok(()) };
    secret::fits(object, leaf, &content::key_fingerprint(key, &format!("{object}, key `tls.key`"))?)
}
