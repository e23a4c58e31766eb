//! The partition of a StatefulSet's rolling update: its pods below it are kept back on purpose.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{EffectClass, Gate};
use crate::world::World;

use super::field::Field;
use super::object::{Ref, number, text};

/// Below which number pods stay as they are; 0 where none do, or nobody restarts them by itself.
pub fn partition(workload: &Value) -> i64 {
    if text(workload, &["spec", "updateStrategy", "type"]) == "OnDelete" {
        return 0;
    }
    number(workload, &["spec", "updateStrategy", "rollingUpdate", "partition"])
}

fn field(object: &Ref) -> Field {
    Field::new(object, &["spec", "updateStrategy", "rollingUpdate", "partition"])
}

/// That a restart would reach no pod below the partition.
pub fn refused(object: &Ref, partition: i64) -> PrimError {
    PrimError::new(
        Code::Refused,
        format!("its update partition keeps the pods below {partition} back: a restart would leave them with what they have loaded"),
    )
    .on(object.to_string())
    .hint("set `spec.updateStrategy.rollingUpdate.partition` to 0, if what the template says may be rolled out to all; or give `#{ partition: \"lower\" }` to `k8s::rollout_restart` (`--set partitions=lower` where a workflow has it): then it is 0 as long as the restart takes")
}

/// Lowers it for a restart. Gives what is to be put back at its end, also where an earlier attempt has lowered it.
pub async fn lower(
    world: &World,
    gate: &dyn Gate,
    object: &Ref,
    now: &Value,
) -> Result<Option<Value>, PrimError> {
    let field = field(object);
    if partition(now) > 0 {
        let was = field.set(world, gate, &json!(0), EffectClass::Compensable).await?;
        if let Some(was) = &was {
            gate.note(&format!(
                "{object}: its update partition is 0 instead of {was} as long as the restart takes"
            ))?;
        }
        return Ok(was);
    }
    // Lowered by this run, in this attempt or another, and not put back since.
    let last = field.last(gate).filter(|(_, after)| *after == json!(0));
    Ok(last.map(|(before, _)| before).filter(|_| *field.of(now) == json!(0)))
}

/// Puts it back.
pub async fn put_back(world: &World, gate: &dyn Gate, object: &Ref, was: &Value) -> Result<(), PrimError> {
    field(object).set(world, gate, was, EffectClass::Compensable).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_kept_back_by_a_rolling_update_alone() {
        let set = |strategy: Value| json!({"spec": {"updateStrategy": strategy}});
        assert_eq!(partition(&set(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}))), 2);
        assert_eq!(partition(&set(json!({"rollingUpdate": {"partition": 2}}))), 2);
        assert_eq!(partition(&set(json!({"type": "OnDelete", "rollingUpdate": {"partition": 2}}))), 0);
        assert_eq!(partition(&set(json!({"type": "RollingUpdate"}))), 0);
    }
}
