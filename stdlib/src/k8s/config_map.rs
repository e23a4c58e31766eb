//! `k8s::config_map`: keys of a ConfigMap, made where it is not there.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::error::PrimError;
use crate::gate::Gate;
use crate::secret::not_a_key;
use crate::world::World;

use super::content::Content;
use super::object::{Ref, text};
use super::{args, data, owner};

/// `k8s::config_map(namespace, name, data)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = Ref::new("v1", "ConfigMap", args::text(args, 0, "namespace")?, args::text(args, 1, "name")?);
    let keys = args::map(args, 2, "data")?
        .iter()
        .map(|(key, value)| match value {
            Value::String(text) => {
                not_a_key(text, &format!("data.{key}")).map_err(|e| e.on(object.to_string()))?;
                Ok((key.clone(), Zeroizing::new(text.as_bytes().to_vec())))
            }
            _ => Err(PrimError::argument(format!("`data.{key}` is not a text")).on(object.to_string())),
        })
        .collect::<Result<Content, PrimError>>()?;
    let outcome = data::set(world, gate, &object, &keys, true).await?;
    Ok(json!({
        "namespace": object.namespace,
        "name": object.name,
        "uid": text(&outcome.value, &["metadata", "uid"]),
        "changed": outcome.changed,
        "warnings": owner::warning(&object, &outcome.value).into_iter().collect::<Vec<_>>(),
    }))
}
