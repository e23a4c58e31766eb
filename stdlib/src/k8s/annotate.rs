//! `k8s::annotate`: annotations of any object, put back key by key.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

use super::args;
use super::client::Objects;
use super::object::{Ref, at, text};

const PATH: &str = "metadata.annotations";
const ROUNDS: usize = 6;

/// `k8s::annotate(api_version, kind, namespace, name, annotations)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = Ref::new(
        args::text(args, 0, "api_version")?,
        args::text(args, 1, "kind")?,
        args.get(2).and_then(Value::as_str).unwrap_or_default(),
        args::text(args, 3, "name")?,
    );
    let wanted = args::map(args, 4, "annotations")?;
    if let Some((key, _)) = wanted.iter().find(|(_, value)| !value.is_string() && !value.is_null()) {
        return Err(PrimError::argument(format!("`annotations.{key}` is neither a text nor empty")));
    }
    let changed = write(world, gate, &object, wanted, None).await?;
    Ok(json!({ "changed": changed }))
}

/// Puts the annotations back that one effect changed.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    let broken =
        || PrimError::internal("the sealed copy of the annotations cannot be read").on(object.to_string());
    let backup = effect.backup.as_ref().ok_or_else(broken)?;
    let before: Map<String, Value> = serde_json::from_slice(backup.expose()).map_err(|_| broken())?;
    write(world, gate, &object, &before, Some(&effect.after)).await.map(|_| ())
}

/// Writes these annotations (null removes). With `only_over`, only where the present values have that digest.
async fn write(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    wanted: &Map<String, Value>,
    only_over: Option<&str>,
) -> Result<bool, PrimError> {
    let objects = Objects::behind(world, gate)?;
    let mut announced = String::new();
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let now = objects.get(object).await?;
        let present = subset(&now, wanted);
        if present == *wanted {
            return Ok(!announced.is_empty());
        }
        let (before, after) = (digest(&present), digest(wanted));
        if let Some(expected) = only_over.filter(|expected| **expected != before) {
            return Err(PrimError::new(Code::Conflict, "its annotations were changed after this run had")
                .on(object.to_string())
                .expected(expected, before));
        }
        if announced != before {
            let bytes = serde_json::to_vec(&present).map_err(|e| PrimError::internal(e.to_string()))?;
            let fingerprint = world.secrets.keyed_digest(&bytes);
            let effect = Effect {
                place: object.part(PATH),
                before: before.clone(),
                after,
                class: EffectClass::Restorable,
                backup: Some(Secret::new(bytes, fingerprint)),
                summary: json!({ "before": present, "after": wanted }),
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(true);
            }
            announced = before;
        }
        let patch = json!({ "metadata": { "annotations": wanted } });
        match objects.merge(object, text(&now, &["metadata", "resourceVersion"]), patch).await {
            Ok(_) => return Ok(true),
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

/// The present values of these keys; null for those that are not there.
fn subset(object: &Value, keys: &Map<String, Value>) -> Map<String, Value> {
    let present = at(object, &["metadata", "annotations"]);
    keys.keys()
        .map(|key| (key.clone(), present.and_then(|p| p.get(key)).cloned().unwrap_or(Value::Null)))
        .collect()
}

fn digest(annotations: &Map<String, Value>) -> String {
    let bytes = serde_json_canonicalizer::to_vec(annotations).unwrap_or_default();
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
