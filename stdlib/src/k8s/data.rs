//! Changes of the `data` of a Secret or ConfigMap: read, decide, announce, write for the version read, compare.

use serde_json::{Map, Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::world::World;

use super::client::Objects;
use super::content::{self, Content, Flavor};
use super::object::{Ref, at, text};

/// How often a write that lost against somebody else's is decided anew.
const ROUNDS: usize = 6;
/// The digest of what is not there.
pub const ABSENT: &str = "absent";

/// What lies there now.
pub struct Present {
    /// The object as the API gave it; null where there is none.
    pub value: Value,
    /// Its data.
    pub content: Content,
    /// Its digest.
    pub digest: String,
}

/// Reads an object's data; an absent object has none.
pub async fn present(world: &World, objects: &Objects<'_>, object: &Ref) -> Result<Present, PrimError> {
    let flavor = Flavor::of(object)?;
    let Some(value) = objects.find(object).await? else {
        return Ok(Present { value: Value::Null, content: Content::new(), digest: ABSENT.into() });
    };
    let content = content::read(flavor, object, &value)?;
    let digest = content::digest(flavor, &content, world.secrets.as_ref());
    Ok(Present { value, content, digest })
}

/// What a change did.
pub struct Outcome {
    /// The object after it.
    pub value: Value,
    /// Whether anything had to be written.
    pub changed: bool,
}

/// Sets some keys. Keys that say the same already are left as they are, byte for byte.
///
/// `create` permits to make the object where there is none.
pub async fn set(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    keys: &Content,
    create: bool,
) -> Result<Outcome, PrimError> {
    let objects = Objects::behind(world, gate)?;
    let decide = |present: &Present| -> Result<Content, PrimError> {
        if present.value.is_null() && !create {
            return Err(PrimError::not_found("it does not exist").on(object.to_string()));
        }
        Ok(merged(&present.content, keys))
    };
    write(world, gate, &objects, object, decide).await
}

/// What lies there with some keys set. Keys that say the same already are left as they are.
pub(super) fn merged(content: &Content, keys: &Content) -> Content {
    let mut after = content.clone();
    for (key, bytes) in keys {
        if !after.get(key).is_some_and(|old| content::same(old, bytes)) {
            after.insert(key.clone(), bytes.clone());
        }
    }
    after
}

/// That the server has stored what was written.
pub(super) fn stored(world: &World, object: &Ref, value: &Value, digest: &str) -> Result<(), PrimError> {
    let flavor = Flavor::of(object)?;
    let found = content::digest(flavor, &content::read(flavor, object, value)?, world.secrets.as_ref());
    if found == digest {
        return Ok(());
    }
    let text = "the API server stored something else than we wrote: an admission webhook changes it";
    Err(PrimError::new(Code::Conflict, text).on(object.to_string()).expected(digest, found))
}

/// Puts back what one effect changed, where nobody else changed it since.
pub async fn restore(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    effect: &RecordedEffect,
) -> Result<(), PrimError> {
    let objects = Objects::behind(world, gate)?;
    let backup = effect.backup.as_ref().map(content::unseal).transpose()?;
    let now = present(world, &objects, object).await?;
    if now.digest == effect.before {
        return Ok(());
    }
    if now.digest != effect.after {
        return Err(foreign(object, &now, &effect.after, &world.manager));
    }
    match backup {
        Some(backup) => {
            let decide = |present: &Present| {
                if present.digest == effect.before || present.digest == effect.after {
                    Ok(backup.clone())
                } else {
                    Err(foreign(object, present, &effect.after, &world.manager))
                }
            };
            write(world, gate, &objects, object, decide).await.map(|_| ())
        }
        None => remove(world, gate, &objects, object, &now).await,
    }
}

async fn write<D>(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    object: &Ref,
    decide: D,
) -> Result<Outcome, PrimError>
where
    D: Fn(&Present) -> Result<Content, PrimError>,
{
    let flavor = Flavor::of(object)?;
    let mut announced: Option<(String, String)> = None;
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let now = present(world, objects, object).await?;
        let after = decide(&now)?;
        if now.content == after && !now.value.is_null() {
            return Ok(Outcome { value: now.value, changed: announced.is_some() });
        }
        if at(&now.value, &["immutable"]) == Some(&Value::Bool(true)) {
            return Err(PrimError::invalid("it is immutable, so its data cannot be changed in place")
                .on(object.to_string())
                .hint(frozen(object)));
        }
        let digest = content::digest(flavor, &after, world.secrets.as_ref());
        let keys = changed_keys(&now.content, &after);
        // A conflict about something else (an annotation) leaves what was announced true: it is not said twice.
        if announced.as_ref() != Some(&(now.digest.clone(), digest.clone())) {
            let effect = Effect {
                place: object.place(),
                before: now.digest.clone(),
                after: digest.clone(),
                class: EffectClass::Restorable,
                backup: (!now.value.is_null()).then(|| content::seal(&now.content, world.secrets.as_ref())),
                summary: json!({
                    "before": content::summary(flavor, &now.content, &keys, world.secrets.as_ref()),
                    "after": content::summary(flavor, &after, &keys, world.secrets.as_ref()),
                }),
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(Outcome { value: now.value, changed: true });
            }
            announced = Some((now.digest.clone(), digest.clone()));
        }
        let data: Map<String, Value> = keys
            .iter()
            .map(|key| {
                (key.clone(), after.get(key).map_or(Value::Null, |bytes| content::encode(flavor, bytes)))
            })
            .collect();
        let written = if now.value.is_null() {
            objects.create(object, &fresh(object, &data)).await
        } else {
            let version = text(&now.value, &["metadata", "resourceVersion"]);
            objects.merge(object, version, json!({ "data": data })).await
        };
        match written {
            Ok(value) => {
                stored(world, object, &value, &digest)?;
                return Ok(Outcome { value, changed: true });
            }
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

async fn remove(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    object: &Ref,
    now: &Present,
) -> Result<(), PrimError> {
    let flavor = Flavor::of(object)?;
    let keys: Vec<String> = now.content.keys().cloned().collect();
    let effect = Effect {
        place: object.place(),
        before: now.digest.clone(),
        after: ABSENT.into(),
        class: EffectClass::Restorable,
        backup: Some(content::seal(&now.content, world.secrets.as_ref())),
        summary: json!({
            "before": content::summary(flavor, &now.content, &keys, world.secrets.as_ref()),
            "after": {},
        }),
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(());
    }
    let uid = text(&now.value, &["metadata", "uid"]);
    let version = text(&now.value, &["metadata", "resourceVersion"]);
    objects.delete(object, uid, version).await
}

fn fresh(object: &Ref, data: &Map<String, Value>) -> Value {
    json!({
        "apiVersion": object.api_version,
        "kind": object.kind,
        "metadata": { "name": object.name, "namespace": object.namespace },
        "data": data,
    })
}

/// What to do about what is immutable.
fn frozen(object: &Ref) -> &'static str {
    if object.kind == "Secret" {
        "`k8s::patch_secret` with `#{ immutable: \"replace\" }` deletes it and makes it again; or make a mutable copy under a name of its own and let the workload use that one"
    } else {
        "make a mutable copy under a name of its own and let the workload use that one"
    }
}

pub(super) fn changed_keys(before: &Content, after: &Content) -> Vec<String> {
    let mut keys: Vec<String> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(*key) != after.get(*key))
        .cloned()
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

pub(super) fn foreign(object: &Ref, now: &Present, expected: &str, us: &str) -> PrimError {
    let writer = content::last_foreign_writer(&now.value, us)
        .map_or_else(|| "somebody else".to_owned(), |writer| format!("`{writer}`"));
    PrimError::new(Code::Conflict, format!("{writer} changed it after this run had; what is there now is not ours to replace"))
        .on(object.to_string())
        .expected(expected, &now.digest)
        .hint("compare both versions; put back what this run wrote, or restore by hand, then go on with `rollover rollback`")
}
