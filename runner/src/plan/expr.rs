//! Promises as data: how an argument that is not yet known is written, read, projected and searched.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// An argument of an action: data, or a promise of data.
///
/// As JSON a promise is `{"$ref": STEP-KEY, "path": […]}`, a deferred pure or read call is `{"$call": NAME, "args": […],
/// "path": […]}`, the item of an `each` is `{"$item": […path]}`; everything else is itself. Data that happens to use one
/// of these keys is wrapped as `{"$lit": DATA}`. An empty `path` is left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Known now.
    Lit(Value),
    /// A field of what an earlier step produced.
    Ref {
        /// Key of the step.
        step: String,
        /// Field names and array indexes below its output.
        path: Vec<String>,
    },
    /// A pure or reading primitive, run when the value is needed, with a path below its answer.
    Call {
        /// Name of the primitive.
        primitive: String,
        /// Its arguments.
        args: Vec<Expr>,
        /// Projection of the answer.
        path: Vec<String>,
    },
    /// The item of the step's `each`, with a path below it.
    Item {
        /// Projection of the item.
        path: Vec<String>,
    },
    /// An array with promises inside.
    List(Vec<Expr>),
    /// A map with promises inside.
    Map(BTreeMap<String, Expr>),
}

/// The name of a primitive and its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Name of the primitive.
    pub primitive: String,
    /// Its arguments.
    pub args: Vec<Expr>,
}

const RESERVED: [&str; 4] = ["$ref", "$call", "$item", "$lit"];

impl Expr {
    /// An array; one without promises is plain data.
    pub fn list(items: Vec<Expr>) -> Self {
        if items.iter().all(|item| matches!(item, Expr::Lit(_))) {
            return Expr::Lit(Value::Array(items.into_iter().filter_map(Expr::into_literal).collect()));
        }
        Expr::List(items)
    }

    /// A map; one without promises is plain data.
    pub fn map(fields: BTreeMap<String, Expr>) -> Self {
        if fields.values().all(|item| matches!(item, Expr::Lit(_))) {
            let known = fields.into_iter().filter_map(|(name, item)| Some((name, item.into_literal()?)));
            return Expr::Lit(Value::Object(known.collect()));
        }
        Expr::Map(fields)
    }

    fn into_literal(self) -> Option<Value> {
        match self {
            Expr::Lit(value) => Some(value),
            _ => None,
        }
    }

    /// The value, where nothing about it is left to wait for.
    pub fn literal(&self) -> Option<&Value> {
        match self {
            Expr::Lit(value) => Some(value),
            _ => None,
        }
    }

    /// The same promise with one more field name or index; `None` for what is no promise.
    pub fn project(&self, field: &str) -> Option<Self> {
        let mut projected = self.clone();
        match &mut projected {
            Expr::Ref { path, .. } | Expr::Call { path, .. } | Expr::Item { path } => {
                path.push(field.to_owned());
            }
            Expr::Lit(_) | Expr::List(_) | Expr::Map(_) => return None,
        }
        Some(projected)
    }

    /// Calls `visit` for this expression and everything inside it.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        match self {
            Expr::Lit(_) | Expr::Ref { .. } | Expr::Item { .. } => {}
            Expr::Call { args, .. } => args.iter().for_each(|arg| arg.walk(visit)),
            Expr::List(items) => items.iter().for_each(|item| item.walk(visit)),
            Expr::Map(fields) => fields.values().for_each(|item| item.walk(visit)),
        }
    }

    /// Keys of the steps that this expression waits for.
    pub fn steps(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.walk(&mut |part| {
            if let Expr::Ref { step, .. } = part {
                found.push(step.as_str());
            }
        });
        found
    }

    /// Whether the item of an `each` is used.
    pub fn uses_item(&self) -> bool {
        let mut used = false;
        self.walk(&mut |part| used |= matches!(part, Expr::Item { .. }));
        used
    }

    /// Its JSON form.
    pub fn to_value(&self) -> Value {
        match self {
            Expr::Lit(value) if mentions_reserved(value) => json!({ "$lit": value }),
            Expr::Lit(value) => value.clone(),
            Expr::Ref { step, path } => with_path(json!({ "$ref": step }), path),
            Expr::Call { primitive, args, path } => {
                let args: Vec<Value> = args.iter().map(Expr::to_value).collect();
                with_path(json!({ "$call": primitive, "args": args }), path)
            }
            Expr::Item { path } => json!({ "$item": path }),
            Expr::List(items) => Value::Array(items.iter().map(Expr::to_value).collect()),
            Expr::Map(fields) => {
                Value::Object(fields.iter().map(|(name, item)| (name.clone(), item.to_value())).collect())
            }
        }
    }

    /// Reads its JSON form.
    ///
    /// # Errors
    /// A promise with a missing, unknown or ill-typed field, in words.
    pub fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => {
                Ok(Expr::list(items.into_iter().map(Expr::from_value).collect::<Result<_, _>>()?))
            }
            Value::Object(fields) => match RESERVED.iter().find(|key| fields.contains_key(**key)) {
                Some(key) => promise(key, fields),
                None => {
                    let fields = fields.into_iter().map(|(name, item)| Ok((name, Expr::from_value(item)?)));
                    Ok(Expr::map(fields.collect::<Result<_, String>>()?))
                }
            },
            other => Ok(Expr::Lit(other)),
        }
    }
}

fn mentions_reserved(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(mentions_reserved),
        Value::Object(fields) => {
            fields.iter().any(|(name, item)| RESERVED.contains(&name.as_str()) || mentions_reserved(item))
        }
        _ => false,
    }
}

fn with_path(mut promise: Value, path: &[String]) -> Value {
    if let (Some(fields), false) = (promise.as_object_mut(), path.is_empty()) {
        fields.insert("path".to_owned(), json!(path));
    }
    promise
}

fn promise(key: &str, mut fields: Map<String, Value>) -> Result<Expr, String> {
    let head = fields.remove(key).unwrap_or_default();
    let path = match fields.remove("path") {
        None => Vec::new(),
        Some(path) => texts(path).ok_or_else(|| format!("`path` of a `{key}` must be a list of texts"))?,
    };
    let args = fields.remove("args");
    if let Some(extra) = fields.keys().next() {
        return Err(format!("unknown field `{extra}` beside `{key}`"));
    }
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        _ => Err(format!("`{key}` must be a text")),
    };
    match (key, args) {
        ("$lit", None) if path.is_empty() => Ok(Expr::Lit(head)),
        ("$ref", None) => Ok(Expr::Ref { step: text(head)?, path }),
        ("$item", None) if path.is_empty() => {
            Ok(Expr::Item { path: texts(head).ok_or("`$item` must be a list of texts")? })
        }
        ("$call", Some(Value::Array(args))) => Ok(Expr::Call {
            primitive: text(head)?,
            args: args.into_iter().map(Expr::from_value).collect::<Result<_, _>>()?,
            path,
        }),
        ("$call", _) => Err("`$call` needs a list `args`".to_owned()),
        _ => Err(format!("unexpected field beside `{key}`")),
    }
}

fn texts(value: Value) -> Option<Vec<String>> {
    let Value::Array(items) = value else { return None };
    items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Some(text),
            _ => None,
        })
        .collect()
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Expr::from_value(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn promises_are_written_as_documented() {
        let expr = Expr::map(BTreeMap::from([
            ("ca".into(), Expr::Ref { step: "trust/stage/ca".into(), path: vec!["cert".into()] }),
            (
                "both".into(),
                Expr::Call {
                    primitive: "bundle::of".into(),
                    args: vec![Expr::list(vec![
                        Expr::Ref { step: "trust/stage/ca".into(), path: vec![] },
                        Expr::Lit(json!("PEM")),
                    ])],
                    path: vec![],
                },
            ),
            ("pod".into(), Expr::Item { path: vec!["name".into()] }),
        ]));
        assert_eq!(
            expr.to_value(),
            json!({
                "ca": {"$ref": "trust/stage/ca", "path": ["cert"]},
                "both": {"$call": "bundle::of", "args": [[{"$ref": "trust/stage/ca"}, "PEM"]]},
                "pod": {"$item": ["name"]},
            })
        );
        assert_eq!(expr.steps(), ["trust/stage/ca", "trust/stage/ca"]);
        assert!(expr.uses_item());
    }

    #[test]
    fn data_that_looks_like_a_promise_stays_data() {
        let schema = Expr::Lit(json!({"properties": {"$ref": "#/definitions/x"}}));
        let written = schema.to_value();
        assert_eq!(written, json!({"$lit": {"properties": {"$ref": "#/definitions/x"}}}));
        assert_eq!(Expr::from_value(written).unwrap(), schema);
    }

    #[test]
    fn a_secret_handle_passes_as_it_is() {
        let handle = json!({"$secret": "ab12", "fp": "spki:00"});
        assert_eq!(Expr::from_value(handle.clone()).unwrap(), Expr::Lit(handle));
    }

    #[test]
    fn a_malformed_promise_is_refused() {
        for bad in [
            json!({"$ref": 1}),
            json!({"$ref": "a", "paths": []}),
            json!({"$call": "x"}),
            json!({"$item": "x"}),
            json!({"$ref": "a", "path": [1]}),
        ] {
            assert!(Expr::from_value(bad.clone()).is_err(), "{bad}");
        }
    }

    fn data() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("$ref".to_owned()),
            Just("path".to_owned()),
            Just("$lit".to_owned()),
            "[a-c]{1,2}"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(key.clone(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn expr() -> impl Strategy<Value = Expr> {
        let path = prop::collection::vec("[a-z0-9]{1,3}", 0..3);
        let leaf = prop_oneof![
            data().prop_map(Expr::Lit),
            ("[a-z/]{1,8}", path.clone()).prop_map(|(step, path)| Expr::Ref { step, path }),
            path.prop_map(|path| Expr::Item { path }),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Expr::list),
                prop::collection::btree_map("[a-c]{1,2}", inner.clone(), 0..3).prop_map(Expr::map),
                prop::collection::vec(inner, 0..3).prop_map(|args| Expr::Call {
                    primitive: "a::b".into(),
                    args,
                    path: vec![]
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_expression_survives_json(expr in expr()) {
            let text = serde_json::to_string(&expr).unwrap();
            let read = serde_json::from_str::<Expr>(&text).unwrap();
            prop_assert_eq!(read.steps(), expr.steps());
            prop_assert_eq!(read, expr);
        }
    }
}
