//! `k8s::get` and `k8s::list`: any objects as they are, without what must not leave them.

use serde_json::{Value, json};

use crate::error::PrimError;
use crate::gate::Gate;
use crate::world::World;

use super::args;
use super::client::Objects;
use super::content::{self, Flavor};
use super::object::{Ref, text};

/// `k8s::get(api_version, kind, namespace, name)`.
pub(super) async fn run(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let object = args::object(args)?;
    let value = Objects::of(world)?.get(&object).await?;
    shown(world, &object, value)
}

/// `k8s::list(api_version, kind, namespace, options)`.
pub(super) async fn list(world: &World, args: &[Value], _gate: &dyn Gate) -> Result<Value, PrimError> {
    let (api_version, kind) = (args::text(args, 0, "api_version")?, args::text(args, 1, "kind")?);
    let namespace = args.get(2).and_then(Value::as_str).unwrap_or_default();
    let option = |name: &str| match args.get(3).and_then(|options| options.get(name)) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(PrimError::argument(format!("`options.{name}` is no text"))
            .expected("a selector such as `app=db,tier!=test`", other.to_string())),
    };
    let (labels, fields) = (option("labels")?, option("fields")?);
    let found = Objects::of(world)?.list_where(api_version, kind, namespace, labels, fields).await?;
    let mut all = Vec::with_capacity(found.len());
    for mut value in found {
        let meta = |field| text(&value, &["metadata", field]);
        let object = Ref::new(api_version, kind, meta("namespace"), meta("name"));
        // The items of a list do not say what they are.
        if let Some(item) = value.as_object_mut() {
            item.insert("apiVersion".into(), api_version.into());
            item.insert("kind".into(), kind.into());
        }
        all.push(shown(world, &object, value)?);
    }
    Ok(Value::Array(all))
}

/// An object without keys, and without the server's own notes.
fn shown(world: &World, object: &Ref, mut value: Value) -> Result<Value, PrimError> {
    if object.kind == "Secret" && object.api_version == "v1" {
        let content = content::read(Flavor::Secret, object, &value)?;
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
