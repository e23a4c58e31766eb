//! `k8s::apply`: an object as it shall be, by server-side apply under our field manager; taken back field by field, or
//! deleted where there was none.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

use super::args;
use super::client::Objects;
use super::data::ABSENT;
use super::fields::{difference, digest, present};
use super::object::{Ref, text};
use super::patch;

/// The part of a place that stands for an object that was not there.
const WHOLE: &str = "created";

/// The object that a manifest describes.
pub(super) fn named(manifest: &Value) -> Ref {
    Ref::new(
        text(manifest, &["apiVersion"]),
        text(manifest, &["kind"]),
        text(manifest, &["metadata", "namespace"]),
        text(manifest, &["metadata", "name"]),
    )
}

/// `k8s::apply(object, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let manifest = Value::Object(args::map(args, 0, "object")?.clone());
    let object = named(&manifest);
    for (field, value) in
        [("apiVersion", &object.api_version), ("kind", &object.kind), ("metadata.name", &object.name)]
    {
        if value.is_empty() {
            return Err(PrimError::argument(format!("`object` has no `{field}`")));
        }
    }
    patch::no_secret(&object)?;
    let force = match args.get(1).and_then(|options| options.get("force")) {
        None => false,
        Some(Value::Bool(force)) => *force,
        Some(other) => {
            return Err(PrimError::argument("`options.force` is neither true nor false")
                .expected("true or false", other.to_string()));
        }
    };
    let objects = Objects::behind(world, gate)?;
    let contested = |mut error: PrimError| {
        if let Some((_, said)) = error.message.split_once("Apply failed with ") {
            error.message = format!("others own fields of it: {said}");
            return error.hint("leave those fields out, or take them over with `#{ force: true }`");
        }
        error
    };
    let tried = objects.try_apply(&object, &manifest, force).await.map_err(contested)?;
    let found = objects.find(&object).await?;
    let effect = match &found {
        None => Effect {
            place: object.part(WHOLE),
            before: ABSENT.into(),
            after: digest(&present(&tried, &manifest)),
            class: EffectClass::Restorable,
            backup: Some(sealed(world, &manifest)?),
            summary: json!({ "before": {}, "after": manifest }),
        },
        Some(now) => {
            let Some(change) = difference(now, &tried) else { return Ok(json!({ "changed": false })) };
            let before = present(now, &change);
            patch::effect(world, &object, &before, &present(&tried, &before))?
        }
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(json!({ "changed": true }));
    }
    // What was looked at is what is changed: another version in between is a conflict.
    let version = found.as_ref().map(|now| text(now, &["metadata", "resourceVersion"]));
    objects.apply(&object, &manifest, version, force).await.map_err(contested)?;
    Ok(json!({ "changed": true }))
}

fn sealed(world: &World, manifest: &Value) -> Result<Secret, PrimError> {
    let bytes = serde_json::to_vec(manifest).map_err(|error| PrimError::internal(error.to_string()))?;
    let fingerprint = world.secrets.keyed_digest(&bytes);
    Ok(Secret::new(bytes, fingerprint))
}

/// Takes an object back as it was, or away where there was none and nobody has changed it since.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    if effect.before != ABSENT {
        return patch::restore(world, effect, gate).await;
    }
    let object = Ref::from_place(&effect.place)?;
    let broken =
        || PrimError::internal("the sealed copy of the object cannot be read").on(object.to_string());
    let backup = effect.backup.as_ref().ok_or_else(broken)?;
    let manifest: Value = serde_json::from_slice(backup.expose()).map_err(|_| broken())?;
    let objects = Objects::behind(world, gate)?;
    let Some(now) = objects.find(&object).await? else { return Ok(()) };
    let there = digest(&present(&now, &manifest));
    if there != effect.after {
        return Err(PrimError::new(Code::Conflict, "it was changed after this run had made it")
            .on(object.to_string())
            .expected(effect.after.clone(), there)
            .hint("delete it yourself, if nobody needs it, and resume"));
    }
    let (uid, version) = (text(&now, &["metadata", "uid"]), text(&now, &["metadata", "resourceVersion"]));
    objects.delete(&object, uid, version).await
}
