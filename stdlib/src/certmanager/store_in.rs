//! `certmanager::store_in`: which Secret cert-manager keeps a certificate in.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit};
use crate::k8s::args;
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, text};
use crate::secret::Secret;
use crate::world::World;

use super::state::{CERTIFICATE_NAME, named, wait};
use super::undo;

const ROUNDS: usize = 10;
const PATH: &str = "spec.secretName";

/// `certmanager::store_in(certificate, secret)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let (object, _) = named(args)?;
    let to = args::text(args, 1, "secret")?;
    let objects = Objects::behind(world, gate)?;
    let before = wait(world, &objects, gate, &object, &|_| true).await?;
    let secret = Ref::secret(&object.namespace, to);
    let there = objects.find(&secret).await?;
    if let Some(there) = &there {
        let keeper = text(there, &["metadata", "annotations", CERTIFICATE_NAME]);
        if keeper != object.name {
            let who = if keeper.is_empty() { "nobody" } else { keeper };
            return Err(PrimError::new(Code::Conflict, "a Secret of this name is somebody else's")
                .on(secret.to_string())
                .expected(format!("none, or one of Certificate {}", object.name), format!("one of {who}")));
        }
    }
    let changed = text(&before.certificate, &["spec", "secretName"]) != to;
    let backup = undo::seal_name(world, &before, to, there.is_none())?;
    write(world, &objects, gate, &object, to, Some(backup)).await?;
    let after = wait(world, &objects, gate, &object, &|state| !state.held.value.is_null()).await?;
    let mut told = after.fact();
    if let Some(fields) = told.as_object_mut() {
        fields.insert("changed".into(), changed.into());
    }
    Ok(told)
}

/// Writes the name. With `backup` it is announced as a change, else as one taken back.
pub(super) async fn write(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
    to: &str,
    backup: Option<Secret>,
) -> Result<(), PrimError> {
    let digest = |name: &str| format!("sha256:{}", hex::encode(Sha256::digest(name)));
    let mut announced = String::new();
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let now = objects.get(object).await?;
        let from = text(&now, &["spec", "secretName"]).to_owned();
        if from == to {
            return Ok(());
        }
        if announced != from {
            let effect = Effect {
                place: object.part(PATH),
                before: digest(&from),
                after: digest(to),
                class: EffectClass::Restorable,
                backup: backup.clone(),
                summary: json!({ "before": { PATH: from }, "after": { PATH: to } }),
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(());
            }
            announced = from;
        }
        let patch = json!({ "spec": { "secretName": to } });
        match objects.merge(object, text(&now, &["metadata", "resourceVersion"]), patch).await {
            Ok(_) => return Ok(()),
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
        world.clock.sleep(super::state::PAUSE).await;
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}
