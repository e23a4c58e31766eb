//! How lists and maps merge: by which key, as a set, or only as a whole. One table for the built-in types, the
//! structural schema for custom ones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::request::Call;

/// How a value merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// Field by field.
    Map,
    /// Items told apart by these keys.
    Keyed(Vec<Cow<'a, str>>),
    /// Items are values, each at most once.
    Set,
    /// As a whole.
    Atomic,
}

/// Maps of the built-in types that only change as a whole.
const ATOMIC_MAPS: &[&str] = &[
    "selector",
    "labelSelector",
    "namespaceSelector",
    "nodeSelector",
    "secretKeyRef",
    "configMapKeyRef",
    "fieldRef",
    "resourceFieldRef",
    "involvedObject",
    "claimRef",
    "roleRef",
    "targetRef",
];

/// Maps with free keys, whose own path is owned too.
const DICTIONARIES: &[&str] = &[
    "labels",
    "annotations",
    "data",
    "binaryData",
    "matchLabels",
    "limits",
    "requests",
    "capacity",
    "allocatable",
];

/// The key of a built-in list; the first is also the key of strategic merge patches.
pub(crate) fn builtin_keys(field: &str, list: &Value) -> Option<&'static [&'static str]> {
    Some(match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "secrets"
        | "resourceClaims" => &["name"],
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "conditions" | "addresses" => &["type"],
        "ownerReferences" => &["uid"],
        "hostAliases" | "podIPs" | "hostIPs" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "taints" => &["key", "effect"],
        "ports" => {
            let has = |key: &str| list.as_array().into_iter().flatten().any(|item| item.get(key).is_some());
            if has("containerPort") {
                &["containerPort", "protocol"]
            } else if has("port") {
                &["port", "protocol"]
            } else {
                return None;
            }
        }
        _ => return None,
    })
}

/// A place in an object, with what is known of its type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    builtin: bool,
    schema: Option<&'a Value>,
    field: &'a str,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// The root of an object of the call's resource.
    pub(crate) fn root(call: &'a Call) -> Self {
        Self { builtin: call.resource.builtin, schema: call.version.schema.as_ref(), field: "", depth: 0 }
    }

    pub(crate) fn field<'b>(self, name: &'b str) -> Cursor<'b>
    where
        'a: 'b,
    {
        let builtin = self.builtin || (self.depth == 0 && name == "metadata");
        let schema = self.schema.and_then(|schema| {
            schema
                .get("properties")
                .and_then(|all| all.get(name))
                .or_else(|| schema.get("additionalProperties"))
        });
        Cursor { builtin, schema, field: name, depth: self.depth + 1 }
    }

    pub(crate) fn item(self) -> Self {
        Self {
            builtin: self.builtin,
            schema: self.schema.and_then(|schema| schema.get("items")),
            field: "",
            depth: self.depth + 1,
        }
    }

    pub(crate) fn is_dictionary(self) -> bool {
        self.builtin && DICTIONARIES.contains(&self.field)
    }

    pub(crate) fn kind(self, value: &Value) -> Kind<'a> {
        match value {
            Value::Object(_) if self.builtin => {
                if ATOMIC_MAPS.contains(&self.field) {
                    Kind::Atomic
                } else {
                    Kind::Map
                }
            }
            Value::Array(_) if self.builtin => match builtin_keys(self.field, value) {
                Some(keys) => Kind::Keyed(keys.iter().map(|key| Cow::Borrowed(*key)).collect()),
                None if self.field == "finalizers" => Kind::Set,
                None => Kind::Atomic,
            },
            Value::Object(_) => {
                let atomic = self.schema_word("x-kubernetes-map-type") == Some("atomic");
                if atomic { Kind::Atomic } else { Kind::Map }
            }
            Value::Array(_) => match self.schema_word("x-kubernetes-list-type") {
                Some("set") => Kind::Set,
                Some("map") => {
                    let keys = self.schema.and_then(|schema| schema.get("x-kubernetes-list-map-keys"));
                    let keys = keys.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
                    Kind::Keyed(keys.map(Cow::Borrowed).collect())
                }
                _ => Kind::Atomic,
            },
            _ => Kind::Atomic,
        }
    }

    fn schema_word(self, key: &str) -> Option<&'a str> {
        self.schema.and_then(|schema| schema.get(key)).and_then(Value::as_str)
    }

    /// The path element of an item of a keyed list.
    pub(crate) fn key_of(self, item: &Value, keys: &[Cow<'_, str>]) -> String {
        let mut parts = BTreeMap::new();
        for key in keys {
            let value = item.get(key.as_ref()).cloned().or_else(|| {
                let default = self
                    .schema
                    .and_then(|schema| schema.get("items"))
                    .and_then(|items| items.get("properties"))
                    .and_then(|all| all.get(key.as_ref()))
                    .and_then(|one| one.get("default"));
                default.cloned().or_else(|| (self.builtin && key == "protocol").then(|| json!("TCP")))
            });
            if let Some(value) = value {
                parts.insert(key.as_ref(), value);
            }
        }
        format!("k:{}", serde_json::to_string(&parts).unwrap_or_default())
    }
}
