//! Label and field selectors.

use serde_json::Value;

use super::error::{ApiError, Result};

/// One requirement of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Greater(String, i64),
    Less(String, i64),
}

/// A parsed `labelSelector`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<Requirement>);

impl Labels {
    /// Parses the whole syntax: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, `a>1`, `a<1`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut requirements = Vec::new();
        for part in split_outside_parens(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    break;
                }
                return Err(unparsable(text, "found ',', expected: identifier"));
            }
            requirements.push(parse_requirement(part, text)?);
        }
        Ok(Self(requirements))
    }

    /// The selector of a `LabelSelector` object: `matchLabels` and `matchExpressions`.
    pub(crate) fn of_object(selector: &Value) -> Self {
        let mut requirements = Vec::new();
        if let Some(map) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in map {
                requirements
                    .push(Requirement::In(key.clone(), vec![value.as_str().unwrap_or_default().to_owned()]));
            }
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let key = expression.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
            let values = expression.get("values").and_then(Value::as_array).map_or_else(Vec::new, |list| {
                list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
            });
            requirements.push(match expression.get("operator").and_then(Value::as_str) {
                Some("NotIn") => Requirement::NotIn(key, values),
                Some("Exists") => Requirement::Exists(key),
                Some("DoesNotExist") => Requirement::Missing(key),
                _ => Requirement::In(key, values),
            });
        }
        Self(requirements)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the object's labels satisfy every requirement.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let labels = object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object);
        let get = |key: &str| labels.and_then(|map| map.get(key)).and_then(Value::as_str);
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|v| values.iter().any(|w| w == v)),
            Requirement::NotIn(key, values) => get(key).is_none_or(|v| values.iter().all(|w| w != v)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::Missing(key) => get(key).is_none(),
            Requirement::Greater(key, bound) => {
                get(key).and_then(|v| v.parse().ok()).is_some_and(|n: i64| n > *bound)
            }
            Requirement::Less(key, bound) => {
                get(key).and_then(|v| v.parse().ok()).is_some_and(|n: i64| n < *bound)
            }
        })
    }
}

fn unparsable(text: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: {why} (in \"{text}\")"))
}

fn split_outside_parens(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_usize, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn parse_requirement(part: &str, whole: &str) -> Result<Requirement> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::Missing(label_key(key, whole)?));
    }
    if let Some((head, tail)) = part.split_once('(') {
        let Some(inner) = tail.trim_end().strip_suffix(')') else {
            return Err(unparsable(whole, "found '', expected: ',' or ')'"));
        };
        let values = inner.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        let key = label_key(words.next().unwrap_or_default(), whole)?;
        return match (words.next(), words.next()) {
            (Some("in"), None) => Ok(Requirement::In(key, values)),
            (Some("notin"), None) => Ok(Requirement::NotIn(key, values)),
            _ => Err(unparsable(whole, "expected: in, notin, =, ==, !=, gt, lt")),
        };
    }
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = part.split_once(operator) {
            let key = label_key(key, whole)?;
            let values = vec![value.trim().to_owned()];
            return Ok(if negated { Requirement::NotIn(key, values) } else { Requirement::In(key, values) });
        }
    }
    for operator in ['>', '<'] {
        if let Some((key, value)) = part.split_once(operator) {
            let key = label_key(key, whole)?;
            let bound = value
                .trim()
                .parse()
                .map_err(|_| unparsable(whole, "for 'Gt', 'Lt' operators, the value must be an integer"))?;
            return Ok(if operator == '>' {
                Requirement::Greater(key, bound)
            } else {
                Requirement::Less(key, bound)
            });
        }
    }
    Ok(Requirement::Exists(label_key(part, whole)?))
}

fn label_key(text: &str, whole: &str) -> Result<String> {
    let key = text.trim();
    if super::names::qualified_name(key).is_some() {
        return Err(unparsable(whole, &format!("invalid label key \"{key}\"")));
    }
    Ok(key.to_owned())
}

/// A parsed `fieldSelector`: paths, values, whether they must be equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String, bool)>);

impl Fields {
    /// Parses `a=b,c!=d` and refuses fields that the resource does not select by, as the real server does.
    pub(crate) fn parse(text: &str, group: &str, plural: &str, extra: &[String]) -> Result<Self> {
        let mut terms = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (path, value, true)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            if !selectable(group, plural, path) && !extra.iter().any(|field| field == path) {
                return Err(ApiError::bad_request(format!("field label not supported: {path}")));
            }
            terms.push((path.to_owned(), value.to_owned(), equal));
        }
        Ok(Self(terms))
    }

    /// The object of this name alone.
    pub(crate) fn named(name: &str) -> Self {
        Self(vec![("metadata.name".into(), name.into(), true)])
    }

    /// The name that `metadata.name=` asks for.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0
            .iter()
            .find(|(path, _, equal)| path == "metadata.name" && *equal)
            .map(|(_, name, _)| name.as_str())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, value, equal)| (field(object, path) == *value) == *equal)
    }
}

fn selectable(group: &str, plural: &str, path: &str) -> bool {
    if matches!(path, "metadata.name" | "metadata.namespace") {
        return true;
    }
    match (group, plural) {
        ("", "pods") => matches!(
            path,
            "spec.nodeName"
                | "spec.restartPolicy"
                | "spec.schedulerName"
                | "spec.serviceAccountName"
                | "status.phase"
                | "status.podIP"
        ),
        ("", "secrets") => path == "type",
        ("", "namespaces") => path == "status.phase",
        ("", "nodes") => path == "spec.unschedulable",
        ("", "services") => matches!(path, "spec.clusterIP" | "spec.type"),
        ("", "events") => {
            path.starts_with("involvedObject.")
                || matches!(path, "reason" | "reportingComponent" | "source" | "type")
        }
        ("apps", "replicasets") => path == "status.replicas",
        _ => false,
    }
}

fn field(object: &Value, path: &str) -> String {
    let mut at = object;
    for part in path.split('.') {
        match at.get(part) {
            Some(next) => at = next,
            None => return String::new(),
        }
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labelled(labels: Value) -> Value {
        json!({"metadata": {"labels": labels, "name": "a", "namespace": "n"}, "status": {"phase": "Running"}})
    }

    #[test]
    fn label_selectors_of_every_form() {
        let object = labelled(json!({"app": "tidb", "tier": "db", "n": "5"}));
        for (text, holds) in [
            ("app=tidb", true),
            ("app==tidb,tier=db", true),
            ("app!=tidb", false),
            ("gone!=x", true),
            ("app in (tikv, tidb)", true),
            ("app notin (tikv,pd),tier", true),
            ("!app", false),
            ("!gone", true),
            ("n>4", true),
            ("n<5", false),
            ("", true),
        ] {
            assert_eq!(Labels::parse(text).unwrap().matches(&object), holds, "{text}");
        }
        assert!(Labels::parse("a in (b").is_err());
        assert!(Labels::parse("a b").is_err());
        assert!(Labels::parse("a=b,,c").is_err());
    }

    #[test]
    fn field_selectors_know_their_resource() {
        let object = labelled(json!({}));
        let pods = Fields::parse("metadata.name=a,status.phase!=Failed", "", "pods", &[]).unwrap();
        assert!(pods.matches(&object));
        assert_eq!(pods.name(), Some("a"));
        assert!(!Fields::parse("status.phase=Failed", "", "pods", &[]).unwrap().matches(&object));
        let refused = Fields::parse("status.phase=Failed", "", "secrets", &[]).unwrap_err();
        assert_eq!(refused.message, "field label not supported: status.phase");
    }
}
