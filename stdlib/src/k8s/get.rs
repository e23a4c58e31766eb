//! `k8s::get`: any object as it is, without what must not leave it.

use serde_json::{Value, json};

use crate::error::PrimError;
use crate::gate::Gate;
use crate::world::World;

use super::args;
use super::client::Objects;
use super::content::{self, Flavor};
use super::object::Ref;

/// `k8s::get(api_version, kind, namespace, name)`.
pub(super) async fn run(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let namespace = args.get(2).and_then(Value::as_str).unwrap_or_default();
    let object = Ref::new(
        args::text(args, 0, "api_version")?,
        args::text(args, 1, "kind")?,
        namespace,
        args::text(args, 3, "name")?,
    );
    let mut value = Objects::of(world)?.get(&object).await?;
    if object.kind == "Secret" && object.api_version == "v1" {
        let content = content::read(Flavor::Secret, &object, &value)?;
        let keys: Vec<String> = content.keys().cloned().collect();
        let public = content::summary(Flavor::Secret, &content, &keys, world.secrets.as_ref());
        if let Some(fields) = value.as_object_mut() {
            fields.insert("data".into(), public);
        }
        // `kubectl apply` keeps the whole object here, keys and all.
        if let Some(annotations) = value.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| key != "kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if value.is_null() {
        value = json!({});
    }
    Ok(value)
}
