//! New data for an immutable Secret: it is deleted and made again under its name, as one effect.
//!
//! Between the two there is none. Whoever was killed there finds what it had announced on record, with all that is needed to
//! make it: the sealed copy of what was there, and the arguments of the step.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

use super::client::{Deletion, Objects};
use super::content::{self, Content, Flavor};
use super::data::{self, Outcome, Present};
use super::delete_secret::{fresh, has_gone, seal};
use super::object::{Ref, at, text};
use super::patch::{ROUNDS, restless};
use super::sealed;

/// What is replaced: as it lies there, or as it was when this step announced to replace it.
struct Old {
    digest: String,
    content: Content,
    backup: Secret,
}

/// Sets some keys of a Secret that is immutable; nothing is done, and nothing returned, where it is not.
pub(super) async fn set(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    keys: &Content,
) -> Result<Option<Outcome>, PrimError> {
    let objects = Objects::behind(world, gate)?;
    let (mut announced, mut lost) = (None, None);
    for _ in 0..ROUNDS {
        let now = data::present(world, &objects, object).await?;
        let Some(old) = old(world, gate, object, &now)? else { return Ok(None) };
        let after = data::merged(&old.content, keys);
        if !now.value.is_null() && after == now.content {
            return Ok(Some(Outcome { value: now.value, changed: announced.is_some() }));
        }
        let digest = content::digest(Flavor::Secret, &after, world.secrets.as_ref());
        let copy: Value = serde_json::from_slice(old.backup.expose()).map_err(broken)?;
        if announced.as_ref() != Some(&(old.digest.clone(), digest.clone())) {
            let effect = Effect {
                place: object.place(),
                before: old.digest.clone(),
                after: digest.clone(),
                class: EffectClass::Restorable,
                backup: Some(old.backup),
                summary: summary(world, &old.content, &after),
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(Some(Outcome { value: now.value, changed: true }));
            }
            announced = Some((old.digest, digest.clone()));
        }
        match swap(world, gate, &objects, object, &now, &fresh(object, &copy, &after)).await {
            Ok(value) => {
                data::stored(world, object, &value, &digest)?;
                return Ok(Some(Outcome { value, changed: true }));
            }
            Err(error) if error.code == Code::Conflict => lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(restless(object, lost))
}

/// What is to be replaced, if the Secret is immutable or was when this step deleted it.
fn old(world: &World, gate: &dyn Gate, object: &Ref, now: &Present) -> Result<Option<Old>, PrimError> {
    if !now.value.is_null() {
        if at(&now.value, &["immutable"]) != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let backup = seal(world, &now.value, &now.content)?;
        return Ok(Some(Old { digest: now.digest.clone(), content: now.content.clone(), backup }));
    }
    let Some(begun) = gate.replaced(&object.place())?.filter(replaces) else { return Ok(None) };
    let Some(backup) = begun.backup else { return Ok(None) };
    let content = content::unseal(&backup)?;
    Ok(Some(Old { digest: begun.before, content, backup }))
}

/// Whether an effect deletes and makes again, as only its sealed copy tells.
pub(super) fn replaces(effect: &RecordedEffect) -> bool {
    let copy = effect.backup.as_ref().map(|backup| serde_json::from_slice::<Value>(backup.expose()));
    matches!(copy, Some(Ok(copy)) if copy.get("immutable") == Some(&Value::Bool(true)))
}

/// Puts back what was replaced, in the same way. That there is none means that one of the two ways was left half-way.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    let objects = Objects::behind(world, gate)?;
    let copy: Value = sealed::open(&object, effect)?;
    let content = effect.backup.as_ref().map(content::unseal).transpose()?.unwrap_or_default();
    let mut lost = None;
    for _ in 0..ROUNDS {
        let now = data::present(world, &objects, &object).await?;
        if now.digest == effect.before {
            return Ok(());
        }
        if !now.value.is_null() && now.digest != effect.after {
            return Err(data::foreign(&object, &now, &effect.after, &world.manager));
        }
        let there = (!now.value.is_null()).then(|| seal(world, &now.value, &now.content)).transpose()?;
        let announced = Effect {
            place: effect.place.clone(),
            before: effect.after.clone(),
            after: effect.before.clone(),
            class: EffectClass::Restorable,
            backup: there,
            summary: summary(world, &now.content, &content),
        };
        if gate.effect(announced).await? == Permit::AlreadyDone {
            return Ok(());
        }
        match swap(world, gate, &objects, &object, &now, &fresh(&object, &copy, &content)).await {
            Err(error) if error.code == Code::Conflict => lost = Some(error),
            other => return other.map(|_| ()),
        }
    }
    Err(restless(&object, lost))
}

/// Deletes what is there, this very one at this version, and makes another.
async fn swap(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    object: &Ref,
    now: &Present,
    fresh: &Value,
) -> Result<Value, PrimError> {
    if !now.value.is_null() {
        let uid = text(&now.value, &["metadata", "uid"]);
        let version = text(&now.value, &["metadata", "resourceVersion"]);
        objects.delete_as(object, uid, version, Deletion::default()).await?;
        has_gone(world, objects, object, uid, gate).await?;
    }
    objects.create(object, fresh).await
}

fn summary(world: &World, before: &Content, after: &Content) -> Value {
    let keys = data::changed_keys(before, after);
    let public = |content| content::summary(Flavor::Secret, content, &keys, world.secrets.as_ref());
    json!({ "before": public(before), "after": public(after), "replaced": true })
}

fn broken(error: serde_json::Error) -> PrimError {
    PrimError::internal(format!("the sealed copy cannot be read: {error}"))
}
