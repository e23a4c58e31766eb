//! `k8s::delete_secret`: a Secret that somebody else makes again, or nobody.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Past, Permit, Place, Progress, RecordedEffect};
use crate::secret::Secret;
use crate::world::World;

use super::args;
use super::client::{Deletion, Objects, Propagation};
use super::content::{self, Content, Flavor};
use super::data::{self, ABSENT};
use super::object::{Ref, at, text};
use super::patch::{ROUNDS, restless};
use super::sealed;

/// How often it is looked whether it has gone.
const PAUSE: Duration = Duration::from_millis(300);
/// What of a Secret's metadata is made again with it.
const KEPT: [&str; 4] = ["labels", "annotations", "ownerReferences", "finalizers"];

/// `k8s::delete_secret(secret, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let secret = args::map(args, 0, "secret")?;
    let object =
        Ref::secret(args::field(secret, "namespace", "secret")?, args::field(secret, "name", "secret")?);
    let propagation = propagation(args.get(1))?;
    let objects = Objects::behind(world, gate)?;
    // What this step has deleted already, and somebody has made again since, is done.
    let gone = announced(&gate.history(), &object, &gate.marker());
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let now = data::present(world, &objects, &object).await?;
        let uid = text(&now.value, &["metadata", "uid"]).to_owned();
        if now.value.is_null() || gone.iter().any(|known| *known != uid) {
            return Ok(told(&object, gone.first().map(String::as_str)));
        }
        let keys: Vec<String> = now.content.keys().cloned().collect();
        let effect = Effect {
            place: object.part(&format!("uid={uid}")),
            before: now.digest.clone(),
            after: ABSENT.into(),
            class: EffectClass::Restorable,
            backup: Some(seal(world, &now.value, &now.content)?),
            summary: json!({
                "before": content::summary(Flavor::Secret, &now.content, &keys, world.secrets.as_ref()),
                "after": {},
                "deleted": uid,
                "step": gate.marker(),
            }),
        };
        if gate.effect(effect).await? == Permit::AlreadyDone {
            return Ok(told(&object, Some(&uid)));
        }
        let version = text(&now.value, &["metadata", "resourceVersion"]);
        let deletion = Deletion { propagation, force: false };
        match objects.delete_as(&object, &uid, version, deletion).await {
            Ok(()) => {
                has_gone(world, &objects, &object, &uid, gate).await?;
                return Ok(told(&object, Some(&uid)));
            }
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

/// Makes it again as it was, where there is none now.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    let objects = Objects::behind(world, gate)?;
    let mut lost = None;
    for _ in 0..ROUNDS {
        let now = data::present(world, &objects, &object).await?;
        if now.digest == effect.before {
            return Ok(());
        }
        if !now.value.is_null() {
            let owner = content::last_foreign_writer(&now.value, &world.manager);
            let who = owner.map_or_else(|| "somebody else".to_owned(), |writer| format!("`{writer}`"));
            return Err(PrimError::new(Code::Conflict, format!("{who} has made it again since this run deleted it"))
                .on(object.to_string())
                .expected(ABSENT, now.digest)
                .hint("keep who makes it from doing so (stop the controller), delete it, then go on with `rollover rollback`"));
        }
        let sealed: Value = sealed::open(&object, effect)?;
        let content = effect.backup.as_ref().map(content::unseal).transpose()?.unwrap_or_default();
        let fresh = fresh(&object, &sealed, &content);
        let announced = Effect {
            place: effect.place.clone(),
            before: ABSENT.into(),
            after: effect.before.clone(),
            class: EffectClass::Restorable,
            backup: None,
            summary: json!({
                "before": {},
                "after": content::summary(Flavor::Secret, &content, &content.keys().cloned().collect::<Vec<_>>(), world.secrets.as_ref()),
            }),
        };
        if gate.effect(announced).await? == Permit::AlreadyDone {
            return Ok(());
        }
        match objects.create(&object, &fresh).await {
            // Somebody's, or our own whose answer was lost: that is seen when it is looked at.
            Err(error) if error.code == Code::Conflict => lost = Some(error),
            other => return other.map(|_| ()),
        }
    }
    Err(restless(&object, lost))
}

/// Deletes a Secret that a step of the run had somebody make, and that nobody uses any more; nothing is kept of it.
pub(crate) async fn forget(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
) -> Result<(), PrimError> {
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let now = data::present(world, objects, object).await?;
        let uid = text(&now.value, &["metadata", "uid"]);
        if now.value.is_null() {
            return Ok(());
        }
        let effect = Effect {
            place: object.part(&format!("uid={uid}")),
            before: now.digest.clone(),
            after: ABSENT.into(),
            class: EffectClass::Compensable,
            backup: None,
            summary: json!({ "before": { "uid": uid }, "after": {} }),
        };
        if gate.effect(effect).await? == Permit::AlreadyDone {
            return Ok(());
        }
        let version = text(&now.value, &["metadata", "resourceVersion"]);
        match objects.delete_as(object, uid, version, Deletion::default()).await {
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            other => return other,
        }
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

pub(super) fn propagation(options: Option<&Value>) -> Result<Propagation, PrimError> {
    match options.and_then(|options| options.get("propagation")).and_then(Value::as_str) {
        None | Some("background") => Ok(Propagation::Background),
        Some("foreground") => Ok(Propagation::Foreground),
        Some("orphan") => Ok(Propagation::Orphan),
        Some(other) => Err(PrimError::argument(format!("`options.propagation` is `{other}`"))
            .expected("`background`, `foreground` or `orphan`", format!("`{other}`"))),
    }
}

/// The uids of this object that this step has announced to delete.
pub(super) fn announced(history: &[Past], object: &Ref, marker: &str) -> Vec<String> {
    let ours = |past: &Past| match past {
        Past::Wrote { place: Place(place), summary }
            if place.starts_with(&format!("{}#uid=", object.place().0))
                && text(summary, &["step"]) == marker
                && at(summary, &["before"]).is_some_and(|before| before != &json!({})) =>
        {
            Some(text(summary, &["deleted"]).to_owned())
        }
        _ => None,
    };
    history.iter().filter_map(ours).collect()
}

fn told(object: &Ref, uid: Option<&str>) -> Value {
    json!({ "namespace": object.namespace, "name": object.name, "deleted": uid })
}

/// Waits until nothing with this uid is there: a finalizer may hold it.
pub(super) async fn has_gone(
    world: &World,
    objects: &Objects<'_>,
    object: &Ref,
    uid: &str,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    loop {
        let now = objects.find(object).await?;
        let Some(value) = now.filter(|value| text(value, &["metadata", "uid"]) == uid) else { return Ok(()) };
        let held = at(&value, &["metadata", "finalizers"]).map_or(String::new(), Value::to_string);
        gate.progress(Progress { text: format!("{object}: waits for its finalizers {held}"), done: None });
        world.clock.sleep(PAUSE).await;
    }
}

/// Everything that is needed to make it again.
pub(crate) fn seal(world: &World, value: &Value, content: &Content) -> Result<Secret, PrimError> {
    let mut sealed: Map<String, Value> =
        serde_json::from_slice(content::seal(content, world.secrets.as_ref()).expose())
            .map_err(|e| PrimError::internal(e.to_string()))?;
    for field in ["type", "immutable"] {
        sealed.insert(field.into(), value.get(field).cloned().unwrap_or_default());
    }
    let metadata = KEPT.iter().filter_map(|field| {
        Some(((*field).to_owned(), at(value, &["metadata", field]).filter(|kept| !kept.is_null())?.clone()))
    });
    sealed.insert("metadata".into(), Value::Object(metadata.collect()));
    sealed::seal(world, &sealed)
}

/// The object to create, of what was sealed.
pub(crate) fn fresh(object: &Ref, sealed: &Value, content: &Content) -> Value {
    let data: Map<String, Value> =
        content.iter().map(|(key, bytes)| (key.clone(), content::encode(Flavor::Secret, bytes))).collect();
    let mut metadata = sealed.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    metadata.insert("name".into(), object.name.clone().into());
    metadata.insert("namespace".into(), object.namespace.clone().into());
    let mut fresh = json!({
        "apiVersion": object.api_version, "kind": object.kind, "metadata": metadata, "data": data,
    });
    for field in ["type", "immutable"] {
        if let (Some(map), Some(kept)) = (fresh.as_object_mut(), sealed.get(field).filter(|v| !v.is_null())) {
            map.insert(field.into(), kept.clone());
        }
    }
    fresh
}
