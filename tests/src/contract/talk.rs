//! Requests as they are sent, and answers as they are kept.

use std::fmt::Write as _;
use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::{Value, json};

/// The namespace of the talk.
pub(super) const NS: &str = "contract";
/// How often what takes a moment is looked at.
const LOOKS: usize = 600;

/// A talk with a server, written down.
#[allow(missing_debug_implementations, reason = "a client has nothing to show")]
pub struct Talk {
    client: Client,
    text: String,
}

/// How a body is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Json,
    Merge,
    JsonPatch,
    Strategic,
    Apply,
}

impl How {
    fn media(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Merge => "application/merge-patch+json",
            Self::JsonPatch => "application/json-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// The path of a namespaced thing below the talk's namespace.
pub(super) fn path(rest: &str) -> String {
    match rest.split_once(':') {
        Some((group, rest)) => format!("/apis/{group}/namespaces/{NS}/{rest}"),
        None => format!("/api/v1/namespaces/{NS}/{rest}"),
    }
}

impl Talk {
    pub(super) fn new(client: Client) -> Self {
        Self { client, text: String::new() }
    }

    pub(super) fn text(self) -> String {
        self.text
    }

    /// A heading.
    pub(super) fn about(&mut self, what: &str) {
        let _ = writeln!(self.text, "\n# {what}");
    }

    /// A line.
    pub(super) fn say(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.text, "{}", line.as_ref());
    }

    /// Sends a request without writing anything down: status and body.
    pub(super) async fn send(&self, method: &str, at: &str, how: How, body: &Value) -> (u16, Value) {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder()
            .method(method)
            .uri(at)
            .header("content-type", how.media())
            .body(kube::client::Body::from(bytes))
            .unwrap();
        let answer = self.client.send(request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect_bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Sends a request and writes down what came of it, with its words where it was refused.
    pub(super) async fn ask(&mut self, what: &str, method: &str, at: &str, how: How, body: Value) -> Value {
        let (status, value) = self.send(method, at, how, &body).await;
        let mut line = format!("{what}: {status}");
        if status >= 400 {
            let _ = write!(line, " {}: {}", word(&value, "/reason"), word(&value, "/message"));
        }
        self.say(line);
        value
    }

    /// The same, where the words differ from version to version.
    pub(super) async fn ask_code(
        &mut self,
        what: &str,
        method: &str,
        at: &str,
        how: How,
        body: Value,
    ) -> Value {
        let (status, value) = self.send(method, at, how, &body).await;
        let reason = if status >= 400 { format!(" {}", word(&value, "/reason")) } else { String::new() };
        self.say(format!("{what}: {status}{reason}"));
        value
    }

    pub(super) async fn get(&self, at: &str) -> Value {
        self.send("GET", at, How::Json, &Value::Null).await.1
    }

    /// Writes down some fields of an object.
    pub(super) fn show(&mut self, object: &Value, pointers: &[&str]) {
        let fields: Vec<String> = pointers
            .iter()
            .map(|pointer| format!("{pointer}={}", object.pointer(pointer).unwrap_or(&Value::Null)))
            .collect();
        self.say(format!("  {}", fields.join(" ")));
    }

    /// Writes down who manages an object.
    pub(super) fn managers(&mut self, object: &Value) {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let mut managers: Vec<String> = entries
            .into_iter()
            .flatten()
            .map(|entry| format!("{} {}", word(entry, "/manager"), word(entry, "/operation")))
            .collect();
        managers.sort();
        self.say(format!("  managers: {}", managers.join(", ")));
    }

    /// Looks until something holds, and gives the last look.
    pub(super) async fn until(&self, at: &str, holds: impl Fn(u16, &Value) -> bool) -> (u16, Value) {
        for _ in 0..LOOKS {
            let (status, value) = self.send("GET", at, How::Json, &Value::Null).await;
            if holds(status, &value) {
                return (status, value);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{at} does not come to what was waited for; so far: {}", self.text);
    }
}

/// A text of an object.
pub(super) fn word<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The version of an object.
pub(super) fn version(object: &Value) -> &str {
    word(object, "/metadata/resourceVersion")
}

/// A Secret.
pub(super) fn secret(name: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    merge(&mut object, more);
    object
}

/// A ConfigMap.
pub(super) fn config_map(name: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    merge(&mut object, more);
    object
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
