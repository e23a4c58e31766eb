//! `k8s::patch`: fields of any object, by a merge patch (RFC 7386) or a JSON patch (RFC 6902), put back as they were.
//!
//! The server is asked first, without effect, what the patch would make of the object: its defaults are part of what is
//! announced, and an admission rule that says no does so before anything is.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::world::World;

use super::args;
use super::client::Objects;
use super::fields::{difference, digest, paths, present};
use super::object::{Ref, text};
use super::sealed;

/// How often a write that lost against somebody else's is decided anew.
pub(super) const ROUNDS: usize = 6;
/// What an object shall be, of what it is.
pub(super) type Wish<'a> = &'a (dyn Fn(&Value) -> Result<Value, PrimError> + Send + Sync);

/// `k8s::patch(api_version, kind, namespace, name, patch)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = args::object(args)?;
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
        let Some(operations) = &operations else { return Ok(merged(now, &patch)) };
        let mut wanted = now.clone();
        json_patch::patch(&mut wanted, operations).map_err(|error| {
            PrimError::new(Code::Conflict, format!("the patch does not fit what is there: {error}"))
                .on(object.to_string())
        })?;
        Ok(wanted)
    };
    let changed = write(world, gate, &object, &wish).await?;
    Ok(json!({ "changed": changed }))
}

/// An object with a merge patch applied.
pub(super) fn merged(now: &Value, patch: &Value) -> Value {
    let mut wanted = now.clone();
    json_patch::merge(&mut wanted, patch);
    wanted
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

/// It lost against others' writes as often as it was decided anew.
pub(super) fn restless(object: &Ref, lost: Option<PrimError>) -> PrimError {
    lost.unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string()))
        .hint("find out who writes it (`kubectl get -o yaml --show-managed-fields`), stop them for as long as the run takes, then run `rollover resume`")
}

/// Makes an object what is wished for, and announces the parts that differ. Whether anything was to be done.
pub(super) async fn write(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    wish: Wish<'_>,
) -> Result<bool, PrimError> {
    write_parts(world, gate, object, wish, None).await
}

/// The same; the parts of an effect on record are announced whole, although fewer may differ by now.
async fn write_parts(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    wish: Wish<'_>,
    recorded: Option<&Value>,
) -> Result<bool, PrimError> {
    let objects = Objects::behind(world, gate)?;
    let (mut announced, mut lost) = (None, None);
    for _ in 0..ROUNDS {
        let now = objects.get(object).await?;
        let Some(patch) = difference(&now, &wish(&now)?) else { return Ok(announced.is_some()) };
        let version = text(&now, &["metadata", "resourceVersion"]).to_owned();
        let tried = match objects.try_merge(object, &version, patch.clone()).await {
            Err(error) if error.code == Code::Conflict => {
                lost = Some(error);
                continue;
            }
            other => other?,
        };
        let before = present(&now, recorded.unwrap_or(&patch));
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
            Err(error) if error.code == Code::Conflict => lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(restless(object, lost))
}

/// What is announced: the parts that differ, before and after. The place names them, so that a step that changes other
/// parts of the object has nothing to do with this one.
pub(super) fn effect(
    world: &World,
    object: &Ref,
    before: &Value,
    after: &Value,
) -> Result<Effect, PrimError> {
    Ok(Effect {
        place: object.part(&paths(before)),
        before: digest(before),
        after: digest(after),
        class: EffectClass::Restorable,
        backup: Some(sealed::seal(world, before)?),
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
    let before: Value = sealed::open(&object, effect)?;
    let unchanged = |now: &Value| -> Result<Value, PrimError> {
        let there = present(now, &before);
        if there != before && digest(&there) != effect.after {
            return Err(PrimError::new(Code::Conflict, "its fields were changed after this run had")
                .on(object.to_string())
                .expected(effect.after.clone(), digest(&there))
                .hint("compare them with the record (`rollover audit show`), put back what this run wrote or what it found, then go on with `rollover rollback`"));
        }
        Ok(merged(now, &before))
    };
    write_parts(world, gate, &object, &unchanged, Some(&before)).await.map(|_| ())
}
