//! `k8s::annotate`: annotations of any object, put back key by key.

use serde_json::{Value, json};

use crate::error::PrimError;
use crate::gate::Gate;
use crate::world::World;

use super::{args, patch};

/// `k8s::annotate(api_version, kind, namespace, name, annotations)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = args::object(args)?;
    let wanted = args::map(args, 4, "annotations")?;
    if let Some((key, _)) = wanted.iter().find(|(_, value)| !value.is_string() && !value.is_null()) {
        return Err(PrimError::argument(format!("`annotations.{key}` is neither a text nor empty")));
    }
    let wish = json!({ "metadata": { "annotations": wanted } });
    let changed = patch::write(world, gate, &object, &|now| Ok(patch::merged(now, &wish))).await?;
    Ok(json!({ "changed": changed }))
}
