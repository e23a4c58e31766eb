//! JSON as Go reads it, where that is harmless: field names without regard to case, unknown fields ignored; strict
//! where it is not: a field given twice is refused.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::PrimError;

/// More than any request or configuration needs.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Parses a JSON text; errors name line and column.
///
/// # Errors
/// Malformed or too large, or a field given twice.
pub fn parse(text: &[u8], what: &str) -> Result<Value, PrimError> {
    if text.len() > MAX_BYTES {
        return Err(PrimError::invalid("is too large")
            .on(what)
            .expected(format!("at most {} MiB of JSON", MAX_BYTES >> 20), "more")
            .hint("name the request or configuration itself"));
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    serde_json::from_slice::<Strict>(text)
        .map(|strict| strict.0)
        .map_err(|error| malformed(text, what, &error))
}

fn malformed(text: &[u8], what: &str, error: &serde_json::Error) -> PrimError {
    let (line, column) = (error.line(), error.column());
    let reason = error.to_string();
    let reason = reason.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&reason);
    // One character and no more: what stands there may be a secret.
    let found = || {
        let line = text.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
        let next = String::from_utf8_lossy(line.get(column.saturating_sub(1)..).unwrap_or_default());
        next.chars().next().map_or("the end of the line".to_owned(), |c| match c {
            c if c.is_control() => format!("`{}`", c.escape_default()),
            c => format!("`{c}`"),
        })
    };
    let (message, expected, found) = match reason {
        _ if error.is_eof() => {
            ("it ends too early", "the rest of the JSON", "the end of the file".to_owned())
        }
        "recursion limit exceeded" => {
            ("too many lists and objects in each other", "at most 127", "more".into())
        }
        "trailing characters" => ("more follows", "the end of the file", found()),
        _ if reason.ends_with("is given twice") => (reason, "one of them", "two".into()),
        _ => match reason.strip_prefix("expected ") {
            Some(expected) => ("malformed JSON", expected, found()),
            None => (reason, "JSON", found()),
        },
    };
    PrimError::invalid(format!("line {line}, column {column}: {message}"))
        .on(what)
        .expected(expected, found)
        .hint(format!("correct the JSON of {what}"))
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format!("the field `{}` is given twice", name.escape_debug())));
            }
            let Strict(value) = access.next_value()?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// A JSON object under its place in a file.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    what: &'a str,
    path: String,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(value: &'a Value, what: &'a str, path: &str) -> Result<Self, PrimError> {
        match value {
            Value::Object(map) => Ok(Self { map, what, path: path.to_owned() }),
            other => Err(wrong(what, if path.is_empty() { "the file" } else { path }, "an object", other)),
        }
    }

    /// The place of a field, as `signing.profiles.internal.expiry`.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field by its name in any case; `null` counts as absent, as in Go.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&'a Value>, PrimError> {
        let mut found = self.map.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let first = found.next();
        if let (Some((one, _)), Some((two, _))) = (first, found.next()) {
            return Err(PrimError::invalid(format!("{}: the field is given twice", self.path(name)))
                .on(self.what)
                .expected("one of them", format!("`{one}` and `{two}`"))
                .hint("remove one of them; upper and lower case mean the same to cfssl"));
        }
        Ok(first.map(|(_, value)| value).filter(|value| !value.is_null()))
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str, PrimError> {
        match self.get(name)? {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong(name, "a text", other)),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, PrimError> {
        match self.get(name)? {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, PrimError> {
        match self.get(name)? {
            None => Ok(None),
            Some(value) => match value.as_u64().map(u32::try_from) {
                Some(Ok(number)) => Ok(Some(number)),
                _ => Err(self.wrong(name, "a whole number from 0 on", value)),
            },
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<&'a [Value], PrimError> {
        match self.get(name)? {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(self.wrong(name, "a list", other)),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<&'a str>, PrimError> {
        let one = |(index, value): (usize, &'a Value)| {
            value.as_str().ok_or_else(|| self.wrong(&format!("{name}[{index}]"), "a text", value))
        };
        self.list(name)?.iter().enumerate().map(one).collect()
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, PrimError> {
        self.get(name)?.map(|value| Fields::new(value, self.what, &self.path(name))).transpose()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    pub(crate) fn what(&self) -> &'a str {
        self.what
    }

    pub(crate) fn wrong(&self, name: &str, expected: &str, found: &Value) -> PrimError {
        wrong(self.what, &self.path(name), expected, found)
    }

    /// An error about a field.
    pub(crate) fn invalid(&self, name: &str, message: impl std::fmt::Display) -> PrimError {
        PrimError::invalid(format!("{}: {message}", self.path(name))).on(self.what)
    }
}

fn wrong(what: &str, path: &str, expected: &str, found: &Value) -> PrimError {
    let kind = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let hint = match expected {
        "an object" => "write `{ … }` there".to_owned(),
        "a list" => "write `[ … ]` there, also around a single entry".to_owned(),
        "a text" => "write it in double quotes".to_owned(),
        other => format!("write {other} there, without quotes"),
    };
    PrimError::invalid(format!("{path}: has the wrong type")).on(what).expected(expected, kind).hint(hint)
}
