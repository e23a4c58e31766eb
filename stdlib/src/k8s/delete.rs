//! `k8s::delete`: any object, this very one at the version that was read, made again on the way back.

use serde_json::{Map, Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::world::World;

use super::client::{Deletion, Objects, Propagation};
use super::data::ABSENT;
use super::delete_secret::{announced, has_gone, propagation};
use super::fields::{SERVERS, digest};
use super::object::{Ref, at, text};
use super::patch::{ROUNDS, restless};
use super::{args, content, sealed};

/// Kinds with which goes what nobody can make again.
const FINAL: [(&str, &str); 4] = [
    ("Namespace", "everything that lies in it"),
    ("CustomResourceDefinition", "every object of its kind"),
    ("PersistentVolumeClaim", "the data of its volume"),
    ("PersistentVolume", "what knows where the data lie"),
];
/// What the server and its controllers write into the metadata of an object on its way out, or of each new one.
const LATER: [&str; 2] = ["deletionTimestamp", "deletionGracePeriodSeconds"];
/// Labels by which a Job's controller knows its pods, new for each Job.
const OF_JOB: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// How it is deleted.
#[derive(Debug, Clone, Copy)]
struct Manner {
    deletion: Deletion,
    /// Also a pod of a StatefulSet by force.
    stateful: bool,
    wait: bool,
}

impl Manner {
    fn of(options: Option<&Value>, object: &Ref) -> Result<Self, PrimError> {
        let option = |name: &str| options.and_then(|options| options.get(name));
        let (force, stateful) = match option("force") {
            None | Some(Value::Bool(false)) => (false, false),
            Some(Value::Bool(true)) => (true, false),
            Some(Value::String(which)) if which == "stateful" => (true, true),
            Some(other) => {
                return Err(PrimError::argument("`options.force` says neither yes nor no")
                    .expected("true, false or `stateful`", other.to_string()));
            }
        };
        if force && !(object.kind == "Pod" && object.api_version == "v1") {
            return Err(PrimError::argument(format!("a {} has no grace period that force could cut", object.kind))
                .on(object.to_string())
                .hint("leave `force` out; what holds an object that does not go are its finalizers, which their owner removes"));
        }
        let wait = match option("wait") {
            None => true,
            Some(Value::Bool(wait)) => *wait,
            Some(other) => {
                return Err(PrimError::argument("`options.wait` is neither true nor false")
                    .expected("true or false", other.to_string()));
            }
        };
        let deletion = Deletion { propagation: propagation(options)?, force };
        Ok(Self { deletion, stateful, wait })
    }
}

/// `k8s::delete(api_version, kind, namespace, name, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = args::object(args)?;
    deletable(&object)?;
    let manner = Manner::of(args.get(4), &object)?;
    let objects = Objects::behind(world, gate)?;
    // What this step has deleted already, and somebody has made again since, is done.
    let gone = announced(&gate.history(), &object, &gate.marker());
    let mut lost = None;
    for _ in 0..ROUNDS {
        let Some(now) = objects.find(&object).await? else {
            return Ok(told(&object, gone.first().map(String::as_str)));
        };
        let uid = text(&now, &["metadata", "uid"]).to_owned();
        if gone.iter().any(|known| *known != uid) {
            return Ok(told(&object, gone.first().map(String::as_str)));
        }
        let ours = gone.contains(&uid);
        if at(&now, &["metadata", "deletionTimestamp"]).is_some() && !manner.deletion.force {
            // Deleted by us before, or by somebody else, whose deletion is not ours to take back.
            if manner.wait {
                has_gone(world, &objects, &object, &uid, gate).await?;
            }
            return Ok(told(&object, ours.then_some(uid.as_str())));
        }
        allowed(&object, &now, manner)?;
        if gate.effect(effect(world, &object, &now, &gate.marker())?).await? == Permit::AlreadyDone {
            return Ok(told(&object, Some(&uid)));
        }
        let version = text(&now, &["metadata", "resourceVersion"]);
        match objects.delete_as(&object, &uid, version, manner.deletion).await {
            Ok(()) => {
                if manner.wait {
                    has_gone(world, &objects, &object, &uid, gate).await?;
                }
                return Ok(told(&object, Some(&uid)));
            }
            Err(error) if error.code == Code::Conflict => lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(restless(&object, lost))
}

/// What no run deletes, since there is no way back from it.
fn deletable(object: &Ref) -> Result<(), PrimError> {
    let refused = |message: String| PrimError::argument(message).on(object.to_string());
    if object.kind == "Secret" && object.api_version == "v1" {
        return Err(refused("a Secret is deleted by `k8s::delete_secret`".into())
            .hint("it keeps the Secret's data out of the record"));
    }
    match FINAL.iter().find(|(kind, _)| *kind == object.kind) {
        Some((kind, with)) => {
            Err(refused(format!("with a {kind} goes {with}, which no run could make again"))
                .hint("delete it by hand, where that is wanted"))
        }
        None => Ok(()),
    }
}

/// What of this object no run deletes.
fn allowed(object: &Ref, now: &Value, manner: Manner) -> Result<(), PrimError> {
    let refused = |message: &str| PrimError::new(Code::Refused, message).on(object.to_string());
    if manner.deletion.force && !manner.stateful && controller(now) == Some("StatefulSet") {
        return Err(refused("it is a pod of a StatefulSet: by force a second one of its name may run beside it, on the same data")
            .hint("leave `force` out; where its node has gone for good, say `#{ force: \"stateful\" }`"));
    }
    let claims = text(now, &["spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted"]);
    if object.kind == "StatefulSet"
        && claims == "Delete"
        && manner.deletion.propagation != Propagation::Orphan
    {
        return Err(refused("its volume claims go with it, and their data")
            .hint("set `persistentVolumeClaimRetentionPolicy.whenDeleted` to `Retain` first, or delete it with `#{ propagation: \"orphan\" }`"));
    }
    Ok(())
}

/// The kind of its controller.
fn controller(now: &Value) -> Option<&str> {
    let owners = at(now, &["metadata", "ownerReferences"]).and_then(Value::as_array);
    let owner = owners.into_iter().flatten().find(|one| one.get("controller") == Some(&Value::Bool(true)))?;
    owner.get("kind").and_then(Value::as_str)
}

/// What is announced. What a controller keeps is made again by it, so that nothing of it is put back.
fn effect(world: &World, object: &Ref, now: &Value, step: &str) -> Result<Effect, PrimError> {
    let uid = text(now, &["metadata", "uid"]);
    let copy = copy(object, now);
    let kept = controller(now).is_none();
    Ok(Effect {
        place: object.part(&format!("uid={uid}")),
        before: digest(&copy),
        after: ABSENT.into(),
        class: if kept { EffectClass::Restorable } else { EffectClass::Compensable },
        backup: kept.then(|| sealed::seal(world, &copy)).transpose()?,
        summary: json!({ "before": { "uid": uid }, "after": {}, "deleted": uid, "step": step }),
    })
}

/// An object without what the server and the controllers write into each new one by themselves.
fn copy(object: &Ref, now: &Value) -> Value {
    let mut copy = now.clone();
    let Some(fields) = copy.as_object_mut() else { return copy };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !SERVERS.contains(&key.as_str()) && !LATER.contains(&key.as_str()));
        without(metadata.get_mut("annotations"), &["deployment.kubernetes.io/revision"]);
    }
    let spec = fields.get_mut("spec").and_then(Value::as_object_mut);
    match (object.kind.as_str(), spec) {
        ("Pod", Some(spec)) => {
            spec.remove("nodeName");
        }
        ("Job", Some(spec)) if spec.get("manualSelector") != Some(&Value::Bool(true)) => {
            spec.remove("selector");
            without(spec.get_mut("template").and_then(|t| t.pointer_mut("/metadata/labels")), &OF_JOB);
            without(fields.get_mut("metadata").and_then(|metadata| metadata.get_mut("labels")), &OF_JOB);
        }
        _ => {}
    }
    copy
}

fn without(map: Option<&mut Value>, keys: &[&str]) {
    if let Some(map) = map.and_then(Value::as_object_mut) {
        map.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// Makes it again as it was, where there is none now.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    let (_, deleted) = effect.place.0.rsplit_once("#uid=").unwrap_or_default();
    let sealed: Value = sealed::open(&object, effect)?;
    let objects = Objects::behind(world, gate)?;
    let (mut tried, mut lost) = (false, None);
    for _ in 0..ROUNDS {
        let Some(now) = objects.find(&object).await? else {
            let announced = Effect {
                place: effect.place.clone(),
                before: ABSENT.into(),
                after: effect.before.clone(),
                class: EffectClass::Restorable,
                backup: None,
                summary: json!({ "before": {}, "after": { "made again": object.to_string() } }),
            };
            if gate.effect(announced).await? == Permit::AlreadyDone {
                return Ok(());
            }
            tried = true;
            match objects.create(&object, &sealed).await {
                Ok(_) => return Ok(()),
                Err(error) if error.code == Code::Conflict => lost = Some(error),
                Err(error) => return Err(error),
            }
            continue;
        };
        let uid = text(&now, &["metadata", "uid"]);
        if uid == deleted && at(&now, &["metadata", "deletionTimestamp"]).is_some() {
            has_gone(world, &objects, &object, uid, gate).await?;
            continue;
        }
        let found = digest(&copy(&object, &now));
        // It never went, it is as it was, or it is the one that was made again and controllers have written to since.
        if uid == deleted
            || found == effect.before
            || ((tried || began(gate, effect)) && made_by(&now, &world.manager))
        {
            return Ok(());
        }
        let owner = content::other_owner(&now, &world.manager).unwrap_or("somebody else");
        return Err(PrimError::new(Code::Conflict, format!("`{owner}` has made it again since this run deleted it"))
            .on(object.to_string())
            .expected(ABSENT, found)
            .hint("keep who makes it from doing so (stop the controller), delete it, then go on with `rollover rollback`"));
    }
    Err(restless(&object, lost))
}

/// Whether this way back has announced to make it again before.
fn began(gate: &dyn Gate, effect: &RecordedEffect) -> bool {
    let replaced = gate.replaced(&effect.place).ok().flatten();
    replaced.is_some_and(|announced| announced.before == ABSENT && announced.after == effect.before)
}

/// Whether its content was written as a whole under our name.
fn made_by(now: &Value, us: &str) -> bool {
    let entries = at(now, &["metadata", "managedFields"]).and_then(Value::as_array);
    let mut ours = entries
        .into_iter()
        .flatten()
        .filter(|entry| text(entry, &["manager"]) == us && text(entry, &["operation"]) == "Update");
    let fields: Map<String, Value> = now.as_object().cloned().unwrap_or_default();
    let content: Vec<String> = fields
        .keys()
        .filter(|key| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"))
        .map(|key| format!("f:{key}"))
        .collect();
    ours.any(|entry| content.iter().all(|field| at(entry, &["fieldsV1", field]).is_some()))
}

fn told(object: &Ref, uid: Option<&str>) -> Value {
    json!({ "namespace": object.namespace, "name": object.name, "deleted": uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_nothing_that_is_new_in_each_object() {
        let job = Ref::new("batch/v1", "Job", "tidb", "j");
        let one = |uid: &str| {
            json!({
                "metadata": {"name": "j", "uid": uid, "resourceVersion": uid, "creationTimestamp": uid,
                    "labels": {"app": "a", "controller-uid": uid}},
                "spec": {"selector": {"matchLabels": {"controller-uid": uid}},
                    "template": {"metadata": {"labels": {"controller-uid": uid, "job-name": "j", "app": "a"}}}},
                "status": {"active": uid},
            })
        };
        assert_eq!(copy(&job, &one("1")), copy(&job, &one("2")));
        assert_eq!(copy(&job, &one("1"))["metadata"]["labels"], json!({"app": "a"}));
        let pod = Ref::new("v1", "Pod", "tidb", "p");
        assert_eq!(copy(&pod, &json!({"spec": {"nodeName": "n", "a": 1}})), json!({"spec": {"a": 1}}));
    }

    #[test]
    fn what_cannot_be_made_again_is_not_deleted() {
        for (api_version, kind) in [
            ("v1", "Secret"),
            ("v1", "Namespace"),
            ("v1", "PersistentVolumeClaim"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ] {
            assert!(deletable(&Ref::new(api_version, kind, "", "x")).is_err(), "{kind}");
        }
        let pod = Ref::new("v1", "Pod", "tidb", "basic-tikv-0");
        assert!(deletable(&pod).is_ok());
        let member = json!({"metadata": {"ownerReferences": [{"kind": "StatefulSet", "controller": true}]}});
        let by = |force: Value| Manner::of(Some(&json!({ "force": force })), &pod);
        let refused = |force: Value| by(force).and_then(|manner| allowed(&pod, &member, manner)).is_err();
        assert!(refused(json!(true)) && !refused(json!("stateful")) && !refused(json!(false)));
        let set = Ref::new("apps/v1", "StatefulSet", "tidb", "web");
        assert!(Manner::of(Some(&json!({"force": true})), &set).is_err(), "it has no grace period");
        let with_claims =
            json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}});
        let how = |propagation: &str| Manner::of(Some(&json!({ "propagation": propagation })), &set);
        let refused = |word: &str| how(word).and_then(|manner| allowed(&set, &with_claims, manner)).is_err();
        assert!(refused("background") && !refused("orphan"));
    }
}
