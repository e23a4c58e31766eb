//! Controllers that put their own version of an object back: who they are, how they are paused, and when it is proved
//! that they may go on.

mod argo;
mod find;
mod flux;
mod labelled;
mod pause;
mod resume;

pub(super) use find::{run as find, touches as find_touches};
pub(super) use labelled::{run as tracked, touches as tracked_touches};
pub(super) use pause::{restore, run as pause};
pub(super) use resume::{run as resume, touches as resume_touches};

use serde_json::{Map, Value, json};

use crate::error::PrimError;

use super::args;
use super::field::Field;
use super::object::{Ref, at, text};

/// What keeps an object as it is written down elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    /// An Application of Argo CD.
    Application,
    /// A Kustomization of Flux.
    Kustomization,
    /// A `HelmRelease` of Flux.
    HelmRelease,
}

impl Tool {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "Application" => Some(Self::Application),
            "Kustomization" => Some(Self::Kustomization),
            "HelmRelease" => Some(Self::HelmRelease),
            _ => None,
        }
    }

    /// The field by which it is paused.
    fn switch(self) -> &'static [&'static str] {
        match self {
            Self::Application => &["spec", "syncPolicy", "automated"],
            Self::Kustomization | Self::HelmRelease => &["spec", "suspend"],
        }
    }

    /// What that field is while it is paused.
    fn paused(self) -> Value {
        match self {
            Self::Application => Value::Null,
            Self::Kustomization | Self::HelmRelease => Value::Bool(true),
        }
    }

    /// Whether it does nothing by itself, with this in that field.
    fn rests(self, switch: &Value) -> bool {
        match self {
            Self::Application => switch.is_null() || switch.get("enabled") == Some(&Value::Bool(false)),
            Self::Kustomization | Self::HelmRelease => *switch == Value::Bool(true),
        }
    }

    /// What it is at; nothing where it is at nothing.
    fn busy(self, value: &Value) -> Option<String> {
        match self {
            Self::Application => argo::busy(value),
            Self::Kustomization | Self::HelmRelease => flux::busy(value),
        }
    }

    /// Whether it has compared or applied what it keeps after a time of the API server's clock.
    fn looked(self, value: &Value, since: &str) -> bool {
        match self {
            Self::Application => argo::looked(value, since),
            Self::Kustomization | Self::HelmRelease => flux::looked(value),
        }
    }

    /// What becomes of an object that this run has written when it goes on.
    fn verdict(self, value: &Value, was: &Value, object: &Ref, live: &Value, written: &str) -> Verdict {
        match self {
            Self::Application => argo::verdict(value, was, object, live, written),
            Self::Kustomization => flux::verdict(value, object, live),
            Self::HelmRelease => Verdict::Unproved("what its chart makes cannot be seen from outside".into()),
        }
    }
}

/// What becomes of an object when its manager goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It stays as it is.
    Stays,
    /// Not known yet: what is waited for.
    Soon(String),
    /// It is not proved that it stays: the reason.
    Unproved(String),
}

/// A manager, as `k8s::managers` gives it.
#[derive(Debug, Clone)]
struct Manager {
    tool: Tool,
    object: Ref,
    /// The objects that it keeps and whose content matters.
    keeps: Vec<Ref>,
}

impl Manager {
    fn read(args: &[Value]) -> Result<Self, PrimError> {
        let map = args::map(args, 0, "manager")?;
        let object = named(map, "manager")?;
        let tool = Tool::of(&object.kind).ok_or_else(|| {
            PrimError::argument(format!("a {} cannot be paused", object.kind))
                .expected("what `k8s::managers` gave", object.to_string())
        })?;
        let keeps = map.get("keeps").and_then(Value::as_array).into_iter().flatten();
        let keeps = keeps.filter_map(Value::as_object).map(|map| named(map, "manager.keeps"));
        Ok(Self { tool, object, keeps: keeps.collect::<Result<_, _>>()? })
    }

    fn switch(&self) -> Field {
        Field::new(&self.object, self.tool.switch())
    }
}

/// The object that a map names; a Secret where it says no kind.
fn named(map: &Map<String, Value>, name: &str) -> Result<Ref, PrimError> {
    let or = |field: &str, otherwise: &'static str| match map.get(field) {
        None | Some(Value::Null) => Ok(otherwise.to_owned()),
        Some(_) => args::field(map, field, name).map(str::to_owned),
    };
    let (api_version, kind) = (or("api_version", "v1")?, or("kind", "Secret")?);
    let namespace = args::field(map, "namespace", name)?;
    Ok(Ref::new(&api_version, &kind, namespace, args::field(map, "name", name)?))
}

/// The namespace of Applications that the options of a call say.
fn argocd(args: &[Value]) -> &str {
    let said = args::hint(args, 1, "argocd_namespace");
    if said.is_empty() { "argocd" } else { said }
}

/// An object as scripts have it.
fn described(object: &Ref) -> Value {
    json!({ "api_version": object.api_version, "kind": object.kind, "namespace": object.namespace, "name": object.name })
}

/// An annotation, or a label of that name.
fn marked<'a>(value: &'a Value, key: &str) -> &'a str {
    let at = |field: &str| text(value, &["metadata", field, key]);
    if at("annotations").is_empty() { at("labels") } else { at("annotations") }
}

/// The newest time at which one of these managers of fields, or anyone, wrote below a path.
fn last_write<'a>(value: &'a Value, path: &[&str], us: Option<&str>) -> Option<&'a str> {
    let names: Vec<String> = path.iter().map(|name| format!("f:{name}")).collect();
    let mut below = vec!["fieldsV1"];
    below.extend(names.iter().map(String::as_str));
    let entries = at(value, &["metadata", "managedFields"])?.as_array()?;
    let ours = |entry: &&Value| us.is_none_or(|us| text(entry, &["manager"]) == us);
    let wrote = entries.iter().filter(ours).filter(|entry| at(entry, &below).is_some());
    wrote.map(|entry| text(entry, &["time"])).filter(|time| !time.is_empty()).max()
}
