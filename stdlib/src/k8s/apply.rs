//! `k8s::apply`: an object as it shall be, by server-side apply under our field manager; taken back field by field, or
//! deleted where there was none.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::world::World;

use super::args;
use super::client::Objects;
use super::data::ABSENT;
use super::fields::{difference, digest, present};
use super::object::{Ref, text};
use super::patch::{self, ROUNDS, restless};
use super::{content, delete_secret, sealed};

/// The part of a place that stands for an object that was not there.
const WHOLE: &str = "created";
/// How the server begins to say who owns a field.
const CONTESTED: &str = "Apply failed with ";

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
    let (mut announced, mut lost) = (None, None);
    for _ in 0..ROUNDS {
        let tried = objects.try_apply(&object, &manifest, force).await.map_err(contested)?;
        let found = objects.find(&object).await?;
        let (before, after) = match &found {
            None => (Value::Null, present(&tried, &manifest)),
            Some(now) => {
                let Some(change) = difference(now, &tried) else {
                    return Ok(json!({ "changed": announced.is_some() }));
                };
                let before = present(now, &change);
                let after = present(&tried, &before);
                (before, after)
            }
        };
        if announced.as_ref() != Some(&(before.clone(), after.clone())) {
            let effect = match &found {
                None => making(world, &object, &manifest, &after)?,
                Some(_) => patch::effect(world, &object, &before, &after)?,
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(json!({ "changed": true }));
            }
            announced = Some((before, after));
        }
        // What was looked at is what is changed: another version in between is a conflict, and looked at anew.
        let version = found.as_ref().map(|now| text(now, &["metadata", "resourceVersion"]));
        match objects.apply(&object, &manifest, version, force).await {
            Ok(_) => return Ok(json!({ "changed": true })),
            Err(error) if error.code == Code::Conflict && !error.message.contains(CONTESTED) => {
                lost = Some(error);
            }
            Err(error) => return Err(contested(error)),
        }
    }
    Err(restless(&object, lost))
}

fn contested(mut error: PrimError) -> PrimError {
    if let Some((_, said)) = error.message.split_once(CONTESTED) {
        error.message = format!("others own fields of it: {said}");
        return error.hint("leave those fields out, or take them over with `#{ force: true }`");
    }
    error
}

/// What is announced of an object that is made.
fn making(world: &World, object: &Ref, manifest: &Value, made: &Value) -> Result<Effect, PrimError> {
    Ok(Effect {
        place: object.part(WHOLE),
        before: ABSENT.into(),
        after: digest(made),
        class: EffectClass::Restorable,
        // Not what was there, which is nothing, but which fields of it are ours.
        backup: Some(sealed::seal(world, manifest)?),
        summary: json!({ "before": {}, "after": made }),
    })
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
    let manifest: Value = sealed::open(&object, effect)?;
    let objects = Objects::behind(world, gate)?;
    let (mut announced, mut lost) = (false, None);
    for _ in 0..ROUNDS {
        let now = match objects.find(&object).await {
            // Its kind has gone, and it with it.
            Err(error) if error.code == Code::NotFound => None,
            other => other?,
        };
        let Some(now) = now else { return Ok(()) };
        let part = present(&now, &manifest);
        let there = digest(&part);
        let changed = |text: String| {
            PrimError::new(Code::Conflict, text)
                .on(object.to_string())
                .hint("delete it yourself, if nobody needs it, and go on with `rollover rollback`")
        };
        if there != effect.after {
            let text = "it was changed after this run had made it".to_owned();
            return Err(changed(text).expected(effect.after.clone(), there));
        }
        if let Some(other) = content::other_owner(&now, &world.manager) {
            return Err(changed(format!("`{other}` has fields of its own in what this run had made")));
        }
        if !announced {
            let effect = Effect {
                place: effect.place.clone(),
                before: there,
                after: ABSENT.into(),
                class: EffectClass::Restorable,
                backup: Some(sealed::seal(world, &part)?),
                summary: json!({ "before": part, "after": {} }),
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(());
            }
            announced = true;
        }
        let (uid, version) = (text(&now, &["metadata", "uid"]), text(&now, &["metadata", "resourceVersion"]));
        match objects.delete(&object, uid, version).await {
            Ok(()) => return delete_secret::has_gone(world, &objects, &object, uid, gate).await,
            Err(error) if error.code == Code::Conflict => lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(restless(&object, lost))
}
