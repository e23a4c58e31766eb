//! YAML as it stands: keys in their order, each once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A node of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Nothing.
    Null,
    /// A scalar.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Vec<(String, Node)>),
}

/// Reads a document.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else { return Ok(Node::Null) };
    let node = Node::deserialize(first).map_err(|error| error.to_string())?;
    if documents.next().is_some() {
        return Err("has several documents, where one is expected".into());
    }
    Ok(node)
}

impl Node {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Scalar(_) => "a single value",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }

    pub(super) fn into_value(self) -> Value {
        match self {
            Node::Null => Value::Null,
            Node::Scalar(value) => value,
            Node::List(items) => items.into_iter().map(Node::into_value).collect(),
            Node::Map(pairs) => {
                let map: Map<String, Value> =
                    pairs.into_iter().map(|(key, node)| (key, node.into_value())).collect();
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut pairs: Vec<(String, Node)> = Vec::new();
        while let Some(key) = entries.next_key::<Node>()? {
            let key = match key {
                Node::Scalar(Value::String(text)) => text,
                Node::Scalar(other) => other.to_string(),
                other => return Err(A::Error::custom(format!("a key must be a text, not {}", other.word()))),
            };
            if pairs.iter().any(|(seen, _)| *seen == key) {
                return Err(A::Error::custom(format!("`{key}` stands there twice")));
            }
            pairs.push((key, entries.next_value()?));
        }
        Ok(Node::Map(pairs))
    }
    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        use serde::de::VariantAccess as _;
        // A tag: `!vault` is the one that people write.
        let (tag, content) = data.variant::<String>()?;
        let _: Node = content.newtype_variant()?;
        Err(A::Error::custom(format!("`!{}` cannot be read here", tag.trim_start_matches('!'))))
    }
}
