//! The one table of primitives: name, parameters, kind, effect class, capability, documentation, example.
//!
//! Registration in the script engine, argument checks, `check`, the reference, the editor's definitions and the least
//! RBAC all come from it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::PrimError;
use crate::gate::{Gate, RecordedEffect};
use crate::near::nearest;
use crate::trust;
use crate::world::World;

/// What calling a primitive means, in a script and in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Computes from its arguments alone. Now, or when a promise among them is resolved.
    Pure,
    /// Reads the world. While a script is evaluated its answer is a recorded fact.
    Read,
    /// Makes something random (a key, a certificate). Only in `.stage`; staged durably before its intent.
    Make,
    /// Changes the world through the gate. Only in `.change` and `.back`.
    Change,
    /// Makes running parties load what was changed; never restored, run again on the way back. Only in `.settle`.
    Settle,
    /// Observes that something holds, or fails with [`crate::error::Code::Unproved`]. Only in `.prove`.
    Prove,
}

/// The type of a parameter, as documentation and checks name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Text,
    /// An integer.
    Int,
    /// True or false.
    Bool,
    /// A duration such as `45m`.
    Duration,
    /// A map; the primitive checks its fields.
    Map,
    /// An array.
    List,
    /// A secret handle.
    Secret,
    /// Anything.
    Any,
}

impl Type {
    /// The word for it in signatures.
    pub fn word(self) -> &'static str {
        match self {
            Type::Text => "text",
            Type::Int => "int",
            Type::Bool => "bool",
            Type::Duration => "duration",
            Type::Map => "map",
            Type::List => "list",
            Type::Secret => "secret",
            Type::Any => "any",
        }
    }
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name in the documentation.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Whether it may be left out. Optional parameters come last.
    pub optional: bool,
    /// What it is, with unit and range.
    pub doc: &'static str,
}

impl Param {
    /// One that every call names.
    pub const fn required(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self { name, ty, optional: false, doc }
    }
    /// One that may be left out.
    pub const fn optional(name: &'static str, ty: Type, doc: &'static str) -> Self {
        Self { name, ty, optional: true, doc }
    }
}

/// Something that a call reads or changes, for capabilities, plans and least RBAC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "kebab-case")]
pub enum Touch {
    /// A Kubernetes object.
    Kube {
        /// API group, empty for core.
        group: String,
        /// Plural resource name, e.g. `secrets`.
        resource: String,
        /// Namespace, empty for cluster-scoped.
        namespace: String,
        /// Object name, empty for all.
        name: String,
        /// RBAC verbs.
        verbs: Vec<String>,
    },
    /// A file or folder of this machine.
    File {
        /// Absolute path.
        path: String,
        /// Whether it is written.
        write: bool,
    },
    /// A file, folder, service or command of a host.
    Host {
        /// Its name in the inventory, empty for any.
        host: String,
        /// Absolute path, `service:NAME`, or `command:` and its words as a shell would be given them; empty for any.
        what: String,
        /// Whether it is written or restarted.
        write: bool,
    },
    /// A network endpoint that is dialled.
    Net {
        /// Host name or pattern.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A primitive's implementation.
pub type Run = for<'a> fn(&'a World, &'a [Value], &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>>;
/// Puts one recorded effect back, through the gate.
pub type Restore =
    for<'a> fn(&'a World, &'a RecordedEffect, &'a dyn Gate) -> BoxFuture<'a, Result<(), PrimError>>;
/// What stands in the way of putting the effects of one step back (the last first), before anything is: a
/// [`crate::error::Code::Conflict`].
pub type Obstacle =
    for<'a> fn(&'a World, &'a [RecordedEffect], &'a dyn Gate) -> BoxFuture<'a, Result<(), PrimError>>;
/// What a change with these (resolved) arguments would make parties load, for the forecast.
pub type Forecast = fn(&World, &[Value]) -> Result<Vec<trust::Write>, PrimError>;
/// What a call with these arguments touches. Arguments may still hold unresolved promises (`{"$ref": …}`). The answer of
/// a read follows its arguments where it is known: what was touched may be less than what might have been.
pub type Touches = fn(&[Value]) -> Vec<Touch>;

/// One primitive.
#[derive(Clone, Copy)]
pub struct Primitive {
    /// `namespace::name`.
    pub name: &'static str,
    /// What calling it means.
    pub kind: Kind,
    /// Parameters in order.
    pub params: &'static [Param],
    /// What it returns, in words and fields.
    pub returns: &'static str,
    /// Documentation: summary line first, then errors and effects.
    pub doc: &'static str,
    /// A script example.
    pub example: &'static str,
    /// The implementation.
    pub run: Run,
    /// For changes: how an effect is put back.
    pub restore: Option<Restore>,
    /// For changes of key material: what parties will load.
    pub forecast: Option<Forecast>,
    /// What it touches.
    pub touches: Touches,
}

impl Primitive {
    /// `k8s::config_map(namespace: text, name: text, data: map)`; what may be left out stands in brackets.
    pub fn signature(&self) -> String {
        let shown = |param: &Param| {
            let shown = format!("{}: {}", param.name, param.ty.word());
            if param.optional { format!("[{shown}]") } else { shown }
        };
        let params: Vec<_> = self.params.iter().map(shown).collect();
        format!("{}({})", self.name, params.join(", "))
    }
}

/// All primitives by name.
pub struct Registry {
    by_name: BTreeMap<&'static str, Primitive>,
}

impl Registry {
    /// Builds a table. A later primitive of the same name replaces an earlier one, which a test forbids for ours.
    pub fn new(primitives: impl IntoIterator<Item = Primitive>) -> Self {
        Self { by_name: primitives.into_iter().map(|p| (p.name, p)).collect() }
    }
    /// The primitive of this name.
    pub fn get(&self, name: &str) -> Option<&Primitive> {
        self.by_name.get(name)
    }
    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Primitive> {
        self.by_name.values()
    }
    /// For changes that can tell it beforehand: what stands in the way of putting them back.
    pub fn obstacle(&self, name: &str) -> Option<Obstacle> {
        let (known, obstacle) = crate::certmanager::OBSTACLE;
        (known == name).then_some(obstacle)
    }
    /// The known name nearest to a misspelt one, if any is near.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.by_name.keys().copied())
    }
}

/// The shipped primitives.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        Registry::new(
            [
                crate::bundle::PRIMITIVES,
                crate::ca::PRIMITIVES,
                crate::cert::PRIMITIVES,
                crate::certmanager::PRIMITIVES,
                crate::cfssl::PRIMITIVES,
                crate::etcd::PRIMITIVES,
                crate::files::PRIMITIVES,
                crate::flow::PRIMITIVES,
                crate::host::PRIMITIVES,
                crate::k8s::PRIMITIVES,
                crate::mysql::PRIMITIVES,
                crate::pem::PRIMITIVES,
                crate::tidb::PRIMITIVES,
                crate::tls::PRIMITIVES,
            ]
            .into_iter()
            .flatten()
            .copied(),
        )
    })
}
