//! Putting back what cert-manager has replaced, so that it stays: a Secret whose key is not that of the newest
//! CertificateRequest is issued away, one without such a request is as valid as any. So the requests go first.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::k8s::client::{Deletion, Objects};
use crate::k8s::content::{self, Content, Flavor};
use crate::k8s::data::ABSENT;
use crate::k8s::delete_secret;
use crate::k8s::object::{Ref, at, number, text};
use crate::k8s::sealed;
use crate::secret::Secret;
use crate::world::World;

use super::API_VERSION;
use super::since;
use super::state::{PAUSE, State, later_requests, wait};

/// How often a Secret that cert-manager has issued away all the same is put back.
const ROUNDS: usize = 5;
/// For how many looks what was put back must stay.
const LOOKS: usize = 3;
/// How many looks cert-manager has to make a Secret again that is not there.
const PATIENCE: usize = 60;

/// Everything that is needed to put a Certificate's Secret back: its revision, and the Secret whole.
pub(super) fn seal(world: &World, state: &State) -> Result<Secret, PrimError> {
    let broken = |e: serde_json::Error| PrimError::internal(e.to_string());
    let kept = delete_secret::seal(world, &state.held.value, &state.held.content)?;
    let mut sealed: Map<String, Value> = serde_json::from_slice(kept.expose()).map_err(broken)?;
    sealed.insert("revision".into(), state.revision().into());
    sealed::seal(world, &sealed)
}

/// Everything that is needed to point a Certificate back at its Secret. `made`: there was none of the new name.
pub(super) fn seal_name(world: &World, state: &State, to: &str, made: bool) -> Result<Secret, PrimError> {
    let name = text(&state.certificate, &["spec", "secretName"]);
    let fields = json!({ "revision": state.revision(), "secretName": name, "to": to, "made": made });
    sealed::seal(world, &fields)
}

/// Puts back what one effect of an order changed.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    // What was found in the Secret is put back with the order that led to it.
    if object.kind == "Secret" {
        return Ok(());
    }
    let sealed: Value = sealed::open(&object, effect)?;
    let revision = number(&sealed, &["revision"]);
    let objects = Objects::behind(world, gate)?;
    if sealed.get("to").is_some() {
        return point_back(world, &objects, gate, &object, &sealed, revision).await;
    }
    let content = effect.backup.as_ref().map(content::unseal).transpose()?.unwrap_or_default();
    let wanted = content::digest(Flavor::Secret, &content, world.secrets.as_ref());
    for _ in 0..ROUNDS {
        let state = calm(world, &objects, gate, &object).await?;
        let together = gate.put_back_together()?;
        // Decided before anything is taken away.
        if let Some(since) = since::found(&objects, gate, &state, &together, &wanted).await? {
            since.note(gate, &state)?;
            gate.effect(since.effect(world, &state)).await?;
        }
        drop_later(world, &objects, gate, &state, revision).await?;
        put(world, &objects, gate, &state.secret(), &sealed, &content).await?;
        if stays(world, &objects, gate, &object, &content).await? {
            return Ok(());
        }
    }
    Err(PrimError::new(Code::Conflict, "cert-manager issues it again each time that it is put back")
        .on(object.to_string())
        .hint("stop its controller (scale it to 0), go on with `rollover rollback`, then start it again"))
}

/// Waits until cert-manager is not at work on it. A Secret that has been deleted is made again first; where nobody does,
/// that is no obstacle.
async fn calm(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
) -> Result<State, PrimError> {
    let mut looks = 0;
    loop {
        let state = State::read(world, objects, object).await?;
        let missing = state.held.value.is_null();
        if !state.issuing() && (!missing || looks >= PATIENCE) {
            return Ok(state);
        }
        looks += 1;
        let text = format!("{}: waits until cert-manager is done with it", object.name);
        gate.progress(crate::gate::Progress { text, done: None });
        world.clock.sleep(PAUSE).await;
    }
}

/// Deletes the CertificateRequests of later revisions.
async fn drop_later(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    state: &State,
    revision: i64,
) -> Result<(), PrimError> {
    let later = later_requests(objects, state, revision).await?;
    for request in &later {
        let field = |field: &str| text(request, &["metadata", field]);
        let object = Ref::new(API_VERSION, "CertificateRequest", field("namespace"), field("name"));
        let effect = Effect {
            place: object.part(&format!("uid={}", field("uid"))),
            before: format!("sha256:{}", hex::encode(Sha256::digest(field("uid")))),
            after: ABSENT.into(),
            class: EffectClass::Compensable,
            backup: None,
            summary: json!({ "before": { "uid": field("uid") }, "after": {} }),
        };
        if gate.effect(effect).await? == Permit::Apply {
            delete(world, objects, &object, field("uid")).await?;
        }
    }
    if !later.is_empty() {
        // Whoever watches both kinds may see them in either order; it should see this first.
        world.clock.sleep(PAUSE).await;
    }
    Ok(())
}

async fn delete(world: &World, objects: &Objects<'_>, object: &Ref, uid: &str) -> Result<(), PrimError> {
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let Some(value) = objects.find(object).await? else { return Ok(()) };
        if text(&value, &["metadata", "uid"]) != uid {
            return Ok(());
        }
        let version = text(&value, &["metadata", "resourceVersion"]);
        match objects.delete_as(object, uid, version, Deletion::default()).await {
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            other => return other,
        }
        world.clock.sleep(PAUSE).await;
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

/// Writes the content back into the Secret, or makes it again.
async fn put(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    secret: &Ref,
    sealed: &Value,
    content: &Content,
) -> Result<(), PrimError> {
    let secrets = world.secrets.as_ref();
    let wanted = content::digest(Flavor::Secret, content, secrets);
    let place = secret.place();
    let mut left = gate.put_back_together()?;
    left.retain(|effect| effect.place == place);
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let now = crate::k8s::data::present(world, objects, secret).await?;
        if now.digest == wanted {
            return Ok(());
        }
        let keys = |content: &Content| content.keys().cloned().collect::<Vec<_>>();
        // What the run itself had issued can be issued again; of what came later there is one copy, this.
        let later = !left.is_empty() && !now.value.is_null() && left.iter().all(|e| e.after != now.digest);
        let effect = Effect {
            place: place.clone(),
            before: now.digest.clone(),
            after: wanted.clone(),
            // Where cert-manager issues it away it is put back once more, over whatever lies there then.
            class: EffectClass::Compensable,
            backup: later.then(|| content::seal(&now.content, secrets)),
            summary: json!({
                "before": content::summary(Flavor::Secret, &now.content, &keys(&now.content), secrets),
                "after": content::summary(Flavor::Secret, content, &keys(content), secrets),
            }),
        };
        if gate.effect(effect).await? == Permit::AlreadyDone {
            return Ok(());
        }
        let written = if now.value.is_null() {
            objects.create(secret, &delete_secret::fresh(secret, sealed, content)).await
        } else {
            let old =
                content.iter().map(|(key, bytes)| (key.clone(), content::encode(Flavor::Secret, bytes)));
            let mut data: Map<String, Value> = old.collect();
            for gone in now.content.keys().filter(|key| !content.contains_key(*key)) {
                data.insert(gone.clone(), Value::Null);
            }
            let version = text(&now.value, &["metadata", "resourceVersion"]);
            objects.merge(secret, version, json!({ "data": data })).await
        };
        match written {
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            other => return other.map(|_| ()),
        }
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(secret.to_string())))
}

/// Whether cert-manager takes what was put back for valid: it has looked, and left it.
async fn stays(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
    content: &Content,
) -> Result<bool, PrimError> {
    let wanted = content::digest(Flavor::Secret, content, world.secrets.as_ref());
    let mut kept = 0;
    for _ in 0..PATIENCE {
        let state = State::read(world, objects, object).await?;
        if state.held.digest != wanted || state.issuing() {
            return Ok(false);
        }
        kept = if state.open().is_none() { kept + 1 } else { 0 };
        if kept >= LOOKS {
            return Ok(true);
        }
        world.clock.sleep(PAUSE).await;
    }
    // Nobody looks at all: the controller is stopped, and what was put back is there.
    let text = format!(
        "{}: cert-manager has not looked at what was put back; is its controller stopped?",
        object.name
    );
    gate.progress(crate::gate::Progress { text, done: None });
    Ok(true)
}

/// Points the Certificate at its former Secret again.
async fn point_back(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
    sealed: &Value,
    revision: i64,
) -> Result<(), PrimError> {
    let (from, to) = (text(sealed, &["secretName"]), text(sealed, &["to"]));
    let state = calm(world, objects, gate, object).await?;
    let now = text(&state.certificate, &["spec", "secretName"]);
    if now != from {
        if now != to {
            return Err(PrimError::new(Code::Conflict, "somebody else has pointed it at another Secret")
                .on(object.to_string())
                .expected(to, now));
        }
        drop_later(world, objects, gate, &state, revision).await?;
        super::store_in::write(world, objects, gate, object, from, None).await?;
    }
    wait(world, objects, gate, object, &|_| true).await?;
    let left = Ref::secret(&object.namespace, to);
    let value = objects.find(&left).await?.unwrap_or_default();
    let ours = text(&value, &["metadata", "annotations", super::state::CERTIFICATE_NAME]) == object.name;
    if at(sealed, &["made"]) == Some(&Value::Bool(true)) && ours {
        delete_secret::forget(world, objects, gate, &left).await?;
    }
    Ok(())
}
