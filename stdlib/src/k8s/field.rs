//! One field of an object: set, and what was there put back, each announced and for the version that was read.

use serde_json::{Map, Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Past, Permit, Place, RecordedEffect};
use crate::world::World;

use super::client::Objects;
use super::data::ABSENT;
use super::object::{Ref, at, text};
use super::patch::{ROUNDS, restless};
use super::{fields, sealed};

/// A field of an object. None of its names has a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// The object.
    pub object: Ref,
    /// From the object down to it.
    pub path: Vec<String>,
}

impl Field {
    pub(crate) fn new(object: &Ref, path: &[&str]) -> Self {
        Self { object: object.clone(), path: path.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn from_place(place: &Place) -> Result<Self, PrimError> {
        let path = place.0.split_once('#').map(|(_, path)| path.split('.').map(str::to_owned).collect());
        let path = path.ok_or_else(|| PrimError::internal(format!("`{}` names no field", place.0)))?;
        Ok(Self { object: Ref::from_place(place)?, path })
    }

    pub(crate) fn place(&self) -> Place {
        self.object.part(&self.path.join("."))
    }

    /// What it is in the object; null where it is not there.
    pub(crate) fn of<'v>(&self, value: &'v Value) -> &'v Value {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        at(value, &path).unwrap_or(&Value::Null)
    }

    /// A merge patch that makes `now` of it into this. A map takes the place of another, whatever that has.
    fn patch(&self, now: &Value, wanted: &Value) -> Value {
        let mut inner = wanted.clone();
        if let (Some(fields), Some(now)) = (inner.as_object_mut(), now.as_object()) {
            for gone in now.keys() {
                fields.entry(gone).or_insert(Value::Null);
            }
        }
        self.path
            .iter()
            .rev()
            .fold(inner, |inner, name| Value::Object(Map::from_iter([(name.clone(), inner)])))
    }

    /// What the newest effect of this run upon it says, which are the values before and after.
    pub(crate) fn last(&self, gate: &dyn Gate) -> Option<(Value, Value)> {
        let ours = self.place();
        gate.history().into_iter().rev().find_map(|past| match past {
            Past::Wrote { place, summary } if place == ours => {
                let half =
                    |which: &str| summary.get(which).and_then(|half| half.get(self.path.join("."))).cloned();
                Some((half("before").unwrap_or_default(), half("after").unwrap_or_default()))
            }
            _ => None,
        })
    }

    /// Sets it, unless it is so already. `class` says whether the run puts back what was there, or the step itself does.
    /// Returns what this phase found there: now, or when it was begun before.
    pub(crate) async fn set(
        &self,
        world: &World,
        gate: &dyn Gate,
        wanted: &Value,
        class: EffectClass,
    ) -> Result<Option<Value>, PrimError> {
        let (mut announced, mut lost) = (None, None);
        let objects = Objects::behind(world, gate)?;
        for _ in 0..ROUNDS {
            let now = objects.get(&self.object).await?;
            let before = self.of(&now).clone();
            if before == *wanted {
                return match gate.replaced(&self.place())? {
                    Some(effect) => sealed::open(&self.object, &effect).map(Some),
                    None => Ok(announced),
                };
            }
            if announced.as_ref() != Some(&before) {
                if gate.effect(self.effect(world, &before, wanted, class)?).await? == Permit::AlreadyDone {
                    return Ok(Some(before));
                }
                announced = Some(before.clone());
            }
            let version = text(&now, &["metadata", "resourceVersion"]).to_owned();
            match objects.merge(&self.object, &version, self.patch(&before, wanted)).await {
                Ok(_) => return Ok(Some(before)),
                Err(error) if error.code == Code::Conflict => lost = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(restless(&self.object, lost))
    }

    fn effect(
        &self,
        world: &World,
        before: &Value,
        after: &Value,
        class: EffectClass,
    ) -> Result<Effect, PrimError> {
        let path = self.path.join(".");
        let backup = (class == EffectClass::Restorable).then(|| sealed::seal(world, before)).transpose()?;
        Ok(Effect {
            place: self.place(),
            before: digest(before),
            after: digest(after),
            class,
            backup,
            summary: json!({ "before": { &path: before }, "after": { &path: after } }),
        })
    }
}

fn digest(value: &Value) -> String {
    if value.is_null() { ABSENT.into() } else { fields::digest(value) }
}

/// Puts back what one effect changed, where it is still as the effect left it.
pub(crate) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let field = Field::from_place(&effect.place)?;
    let before: Value = sealed::open(&field.object, effect)?;
    let now = Objects::of(world)?.get(&field.object).await?;
    let there = digest(field.of(&now));
    if there != effect.after && there != effect.before {
        return Err(PrimError::new(Code::Conflict, "it was changed after this run had")
            .on(effect.place.0.clone())
            .expected(effect.after.clone(), there)
            .hint("put back what this run wrote or what it found, then go on with `rollover rollback`"));
    }
    field.set(world, gate, &before, EffectClass::Restorable).await.map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_back_from_its_place_and_a_map_takes_the_place_of_another() {
        let object = Ref::new("argoproj.io/v1alpha1", "Application", "argocd", "shop");
        let field = Field::new(&object, &["spec", "syncPolicy", "automated"]);
        assert_eq!(Field::from_place(&field.place()).unwrap(), field);
        assert!(Field::from_place(&object.place()).is_err());
        let mut value =
            json!({"spec": {"syncPolicy": {"automated": {"prune": true, "selfHeal": true}, "retry": {}}}});
        let now = field.of(&value).clone();
        json_patch::merge(&mut value, &field.patch(&now, &json!({"prune": true})));
        assert_eq!(value, json!({"spec": {"syncPolicy": {"automated": {"prune": true}, "retry": {}}}}));
        json_patch::merge(&mut value, &field.patch(&json!({"prune": true}), &Value::Null));
        assert_eq!(value, json!({"spec": {"syncPolicy": {"retry": {}}}}));
        assert_eq!(*field.of(&value), Value::Null);
    }
}
