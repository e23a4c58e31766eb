//! Restart markers: an annotation with a value that is unique to run, phase and direction, so that every restart is one.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit};
use crate::world::World;

use super::client::Objects;
use super::data::ABSENT;
use super::object::{Ref, at, text};

/// How often a marker that lost against another write is tried again.
const ROUNDS: usize = 6;

/// Where a kind of object carries the marker.
#[derive(Debug, Clone)]
pub struct Spot {
    /// Path of the annotations, e.g. `["spec", "pd", "annotations"]`.
    pub path: Vec<String>,
    /// The annotation.
    pub key: &'static str,
}

impl Spot {
    /// Of the pod template of a Deployment, StatefulSet or DaemonSet, as `kubectl rollout restart` does it.
    pub fn template() -> Self {
        Self {
            path: ["spec", "template", "metadata", "annotations"].map(str::to_owned).to_vec(),
            key: "kubectl.kubernetes.io/restartedAt",
        }
    }

    /// What is there now.
    pub fn value<'a>(&self, object: &'a Value) -> &'a str {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        at(object, &path)
            .and_then(|annotations| annotations.get(self.key))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The place of the effect.
    pub fn place(&self, object: &Ref) -> crate::gate::Place {
        object.part(&self.path.join("."))
    }

    fn patch(&self, marker: &str) -> Value {
        self.path
            .iter()
            .rev()
            .fold(json!({ self.key: marker }), |inner, field| json!({ field.as_str(): inner }))
    }
}

/// Writes the marker of this step, unless it is there already. Returns it.
pub async fn put(world: &World, gate: &dyn Gate, object: &Ref, spot: &Spot) -> Result<String, PrimError> {
    let objects = Objects::behind(world, gate)?;
    let marker = gate.marker();
    if marker.is_empty() {
        return Err(
            PrimError::new(Code::Refused, "only a step of a run may restart this").on(object.to_string())
        );
    }
    let mut announced = String::new();
    let mut conflict = None;
    for _ in 0..ROUNDS {
        let now = objects.get(object).await?;
        let present = spot.value(&now);
        if present == marker {
            return Ok(marker);
        }
        let before = digest(present);
        if announced != before {
            let effect = Effect {
                place: spot.place(object),
                before: before.clone(),
                after: digest(&marker),
                class: EffectClass::Compensable,
                backup: None,
                summary: json!({ "marker": marker, "before": present }),
            };
            if gate.effect(effect).await? == Permit::AlreadyDone {
                return Ok(marker);
            }
            announced = before;
        }
        match objects.merge(object, text(&now, &["metadata", "resourceVersion"]), spot.patch(&marker)).await {
            Ok(_) => return Ok(marker),
            Err(error) if error.code == Code::Conflict => conflict = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(conflict
        .unwrap_or_else(|| PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string())))
}

fn digest(marker: &str) -> String {
    if marker.is_empty() { ABSENT.into() } else { format!("sha256:{}", hex::encode(Sha256::digest(marker))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_lands_in_the_pod_template_and_is_found_there() {
        let spot = Spot::template();
        let patch = spot.patch("r1-trust-both");
        assert_eq!(
            patch,
            json!({"spec": {"template": {"metadata": {"annotations":
                {"kubectl.kubernetes.io/restartedAt": "r1-trust-both"}}}}})
        );
        assert_eq!(spot.value(&patch), "r1-trust-both");
        assert_eq!(spot.value(&json!({})), "");
        let object = Ref::new("apps/v1", "Deployment", "tidb", "basic-client");
        assert_eq!(
            spot.place(&object).0,
            "k8s:apps/v1/Deployment/tidb/basic-client#spec.template.metadata.annotations"
        );
    }
}
