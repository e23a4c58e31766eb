//! `k8s::patch`: fields of any object, by a merge patch (RFC 7386) or a JSON patch (RFC 6902), put back as they were.
//!
//! The server is asked first, without effect, what the patch would make of the object: its defaults are part of what is
//! announced, and an admission rule that says no does so before anything is.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

use super::args;
use super::client::Objects;
use super::fields::{difference, digest, present};
use super::object::{Ref, text};

/// How often a write that lost against somebody else's is decided anew.
const ROUNDS: usize = 6;

/// `k8s::patch(api_version, kind, namespace, name, patch)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = Ref::new(
        args::text(args, 0, "api_version")?,
        args::text(args, 1, "kind")?,
        args.get(2).and_then(Value::as_str).unwrap_or_default(),
        args::text(args, 3, "name")?,
    );
    let patch = args.get(4).cloned().unwrap_or(Value::Null);
    no_secret(&object)?;
    let operations = match &patch {
        Value::Array(_) => {
            Some(serde_json::from_value::<json_patch::Patch>(patch.clone()).map_err(|error| {
                PrimError::argument(format!("`patch` is no JSON patch: {error}"))
                    .expected("a list of maps `op`, `path`, `value`", patch.to_string())
            })?)
        }
        Value::Object(_) => None,
        other => {
            return Err(PrimError::argument("`patch` is neither a merge patch nor a JSON patch")
                .expected("a map, or a list of operations", other.to_string()));
        }
    };
    let wish = |now: &Value| -> Result<Value, PrimError> {
        let mut wanted = now.clone();
        match &operations {
            None => json_patch::merge(&mut wanted, &patch),
            Some(operations) => json_patch::patch(&mut wanted, operations).map_err(|error| {
                PrimError::new(Code::Conflict, format!("the patch does not fit what is there: {error}"))
                    .on(object.to_string())
            })?,
        }
        Ok(wanted)
    };
    let changed = write(world, gate, &object, &wish).await?;
    Ok(json!({ "changed": changed }))
}

/// Keys would become part of the record.
pub(super) fn no_secret(object: &Ref) -> Result<(), PrimError> {
    if object.kind != "Secret" {
        return Ok(());
    }
    Err(PrimError::argument("a Secret is not changed by fields, which are recorded")
        .on(object.to_string())
        .hint("`k8s::patch_secret` keeps its keys out of the record"))
}

async fn write(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    wish: &(dyn Fn(&Value) -> Result<Value, PrimError> + Send + Sync),
) -> Result<bool, PrimError> {
    let objects = Objects::behind(world, gate)?;
    let (mut announced, mut conflict) = (None, None);
    for _ in 0..ROUNDS {
        let now = objects.get(object).await?;
        let Some(patch) = difference(&now, &wish(&now)?) else { return Ok(announced.is_some()) };
        let version = text(&now, &["metadata", "resourceVersion"]).to_owned();
        let tried = match objects.try_merge(object, &version, patch.clone()).await {
            Err(error) if error.code == Code::Conflict => {
                conflict = Some(error);
                continue;
            }
            other => other?,
        };
        let before = present(&now, &patch);
        let after = present(&tried, &before);
        if before == after {
            return Err(PrimError::new(Code::Conflict, "the API server does not keep what the patch writes")
                .on(object.to_string())
                .expected(patch.to_string(), "no change"));
        }
        if announced.as_ref() != Some(&(before.clone(), after.clone())) {
            if gate.effect(effect(world, object, &before, &after)?).await? == Permit::AlreadyDone {
                return Ok(true);
            }
            announced = Some((before, after));
        }
        match objects.merge(object, &version, patch).await {
            Ok(_) => return Ok(true),
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

/// What is announced: the parts that differ, before and after.
pub(super) fn effect(
    world: &World,
    object: &Ref,
    before: &Value,
    after: &Value,
) -> Result<Effect, PrimError> {
    let bytes = serde_json::to_vec(before).map_err(|error| PrimError::internal(error.to_string()))?;
    let fingerprint = world.secrets.keyed_digest(&bytes);
    Ok(Effect {
        place: object.part("fields"),
        before: digest(before),
        after: digest(after),
        class: EffectClass::Restorable,
        backup: Some(Secret::new(bytes, fingerprint)),
        summary: json!({ "before": before, "after": after }),
    })
}

/// Puts the fields back that one effect changed, where nobody has changed them since.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    let broken =
        || PrimError::internal("the sealed copy of the fields cannot be read").on(object.to_string());
    let backup = effect.backup.as_ref().ok_or_else(broken)?;
    let before: Value = serde_json::from_slice(backup.expose()).map_err(|_| broken())?;
    let unchanged = |now: &Value| -> Result<Value, PrimError> {
        let there = present(now, &before);
        if there != before && digest(&there) != effect.after {
            return Err(PrimError::new(Code::Conflict, "its fields were changed after this run had")
                .on(object.to_string())
                .expected(effect.after.clone(), digest(&there)));
        }
        let mut wanted = now.clone();
        json_patch::merge(&mut wanted, &before);
        Ok(wanted)
    };
    write(world, gate, &object, &unchanged).await.map(|_| ())
}
