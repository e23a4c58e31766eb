//! `k8s::create_secret`: a Secret that is not there yet, taken away again where it is still as it was made.

use serde_json::{Map, Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, RecordedEffect};
use crate::world::World;

use super::client::Objects;
use super::content::{self, Content, Flavor};
use super::data::{self, ABSENT, Present};
use super::delete_secret::has_gone;
use super::object::{Ref, at, text};
use super::patch::{ROUNDS, restless};
use super::{args, patch_secret};

/// The type of a Secret that says none.
const OPAQUE: &str = "Opaque";

/// What shall be made.
struct Wanted {
    content: Content,
    ty: String,
    immutable: bool,
    /// `labels` and `annotations`.
    metadata: Map<String, Value>,
}

impl Wanted {
    fn of(world: &World, args: &[Value], object: &Ref) -> Result<Self, PrimError> {
        let content = patch_secret::values(world, args::map(args, 2, "data")?, object)?;
        patch_secret::pair(object, &content)?;
        let none = Map::new();
        let options = match args.get(3) {
            None | Some(Value::Null) => &none,
            Some(_) => args::map(args, 3, "options")?,
        };
        let ty = match options.get("type") {
            None => OPAQUE,
            Some(_) => args::field(options, "type", "options")?,
        };
        let immutable = match options.get("immutable") {
            None => false,
            Some(Value::Bool(immutable)) => *immutable,
            Some(other) => {
                return Err(PrimError::argument("`options.immutable` is neither true nor false")
                    .expected("true or false", other.to_string()));
            }
        };
        let mut metadata = Map::new();
        for field in ["labels", "annotations"] {
            let Some(texts) = options.get(field) else { continue };
            if !texts.as_object().is_some_and(|texts| texts.values().all(Value::is_string)) {
                return Err(PrimError::argument(format!("`options.{field}` is no map of texts")));
            }
            metadata.insert(field.into(), texts.clone());
        }
        Ok(Self { content, ty: ty.into(), immutable, metadata })
    }

    /// Whether what lies there says the same, whatever else others have noted on it.
    fn is(&self, now: &Present) -> bool {
        let noted = |field: &str, key: &str| at(&now.value, &["metadata", field, key]);
        let texts = self.metadata.iter().flat_map(|(field, texts)| {
            texts.as_object().into_iter().flatten().map(move |(key, text)| (field.as_str(), key, text))
        });
        now.content.len() == self.content.len()
            && data::merged(&now.content, &self.content) == now.content
            && text(&now.value, &["type"]) == self.ty
            && (at(&now.value, &["immutable"]) == Some(&Value::Bool(true))) == self.immutable
            && texts.into_iter().all(|(field, key, text)| noted(field, key) == Some(text))
    }

    fn object(&self, object: &Ref) -> Value {
        let data: Map<String, Value> = self
            .content
            .iter()
            .map(|(key, bytes)| (key.clone(), content::encode(Flavor::Secret, bytes)))
            .collect();
        let mut metadata = self.metadata.clone();
        metadata.insert("name".into(), object.name.clone().into());
        metadata.insert("namespace".into(), object.namespace.clone().into());
        let mut fresh = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": self.ty, "data": data,
        });
        if let (true, Some(fields)) = (self.immutable, fresh.as_object_mut()) {
            fields.insert("immutable".into(), true.into());
        }
        fresh
    }
}

/// `k8s::create_secret(namespace, name, data, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = Ref::secret(args::text(args, 0, "namespace")?, args::text(args, 1, "name")?);
    let wanted = Wanted::of(world, args, &object)?;
    let digest = content::digest(Flavor::Secret, &wanted.content, world.secrets.as_ref());
    let objects = Objects::behind(world, gate)?;
    let (mut announced, mut lost) = (false, None);
    for _ in 0..ROUNDS {
        let now = data::present(world, &objects, &object).await?;
        if !now.value.is_null() {
            if wanted.is(&now) {
                return Ok(told(&object, &now.value, announced));
            }
            return Err(PrimError::new(
                Code::Conflict,
                "there is one of this name that is not as it should be",
            )
            .on(object.to_string())
            .expected(digest, now.digest)
            .hint("choose another name; `k8s::patch_secret` changes keys of one that is there"));
        }
        if !announced {
            let keys: Vec<String> = wanted.content.keys().cloned().collect();
            let effect = Effect {
                place: object.place(),
                before: ABSENT.into(),
                after: digest.clone(),
                class: EffectClass::Restorable,
                backup: None,
                summary: json!({
                    "before": {},
                    "after": content::summary(Flavor::Secret, &wanted.content, &keys, world.secrets.as_ref()),
                }),
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(told(&object, &now.value, true));
            }
            announced = true;
        }
        match objects.create(&object, &wanted.object(&object)).await {
            Ok(value) => {
                data::stored(world, &object, &value, &digest)?;
                return Ok(told(&object, &value, true));
            }
            // Somebody's, or our own whose answer was lost: that is seen when it is looked at.
            Err(error) if error.code == Code::Conflict => lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(restless(&object, lost))
}

/// Deletes what was made, where nobody has changed it since.
pub(super) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let object = Ref::from_place(&effect.place)?;
    let objects = Objects::behind(world, gate)?;
    let Some(now) = objects.find(&object).await? else { return Ok(()) };
    let uid = text(&now, &["metadata", "uid"]);
    // One that is on its way out is not deleted twice: it is waited for.
    if at(&now, &["metadata", "deletionTimestamp"]).is_none() {
        if let Some(other) = content::other_owner(&now, &world.manager) {
            return Err(PrimError::new(
                Code::Conflict,
                format!("`{other}` has fields of its own in what this run had made"),
            )
            .on(object.to_string())
            .hint("delete it yourself, if nobody needs it, and go on with `rollover rollback`"));
        }
        data::restore(world, gate, &object, effect).await?;
    }
    has_gone(world, &objects, &object, uid, gate).await
}

fn told(object: &Ref, value: &Value, changed: bool) -> Value {
    json!({
        "namespace": object.namespace,
        "name": object.name,
        "uid": text(value, &["metadata", "uid"]),
        "changed": changed,
    })
}
