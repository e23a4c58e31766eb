//! Get and list.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};

use super::error::{ApiError, Result};
use super::object::{Object, as_map};
use super::request::{Call, Form};
use super::selector::{Fields, Labels};
use super::store::{Key, Store};
use super::table;

/// The selectors of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: Labels,
    fields: Fields,
}

impl Selection {
    pub(crate) fn of(call: &Call) -> Result<Self> {
        Ok(Self {
            labels: Labels::parse(call.query.get("labelSelector").unwrap_or_default())?,
            fields: Fields::parse(
                call.query.get("fieldSelector").unwrap_or_default(),
                &call.gr().group,
                &call.gr().plural,
                &call.version.selectable,
            )?,
        })
    }

    /// The object of this name alone.
    pub(crate) fn named(name: &str) -> Self {
        Self { labels: Labels::default(), fields: Fields::named(name) }
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.name()
    }
}

/// An object in the version that the client asked for.
pub(crate) fn in_version(call: &Call, object: &Arc<Object>) -> Arc<Object> {
    if call.version.name == call.resource.storage {
        return object.clone();
    }
    let mut value = object.value().clone();
    as_map(&mut value).insert("apiVersion".into(), Value::String(call.api_version()));
    Arc::new(Object::new(value))
}

/// Metadata alone.
pub(crate) fn metadata_of(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// One object in the form that the client asked for.
pub(crate) fn render(call: &Call, object: &Arc<Object>, now: time::OffsetDateTime) -> Bytes {
    let object = in_version(call, object);
    match call.form {
        Form::Object => object.json(),
        Form::Metadata => Bytes::from(serde_json::to_vec(&metadata_of(object.value())).unwrap_or_default()),
        Form::Table => {
            let rv = super::object::meta_str(object.value(), "resourceVersion").to_owned();
            let table = table::table(call, &[object], now, &json!({"resourceVersion": rv}), true);
            Bytes::from(serde_json::to_vec(&table).unwrap_or_default())
        }
    }
}

/// Refuses a version that lies in the future, as the real server does when its cache does not reach it in time.
fn not_too_large(store: &Store, asked: u64) -> Result<()> {
    if asked > store.rv() {
        let message = format!("Too large resource version: {asked}, current: {}", store.rv());
        let mut error = ApiError::new(504, "Timeout", message.clone()).cause(
            "ResourceVersionTooLarge",
            "",
            "Too large resource version",
        );
        error.retry_after = Some(1);
        return Err(error);
    }
    Ok(())
}

pub(crate) fn get(store: &Store, call: &Call) -> Result<Arc<Object>> {
    if let Some(asked) = call.query.number("resourceVersion")? {
        not_too_large(store, asked)?;
    }
    store.get(call.gr(), &call.key()).ok_or_else(|| call.not_found(&call.info.name))
}

/// What a continue token holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Token {
    v: String,
    rv: u64,
    start: String,
}

fn encode(token: &Token) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(serde_json::to_vec(token).unwrap_or_default())
}

fn decode(text: &str) -> Result<Token> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| ApiError::bad_request("continue key is not valid: illegal base64 data"))
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Object>>,
    pub(crate) metadata: Value,
}

/// Lists with selectors, limit and continue; a list that is continued shows one moment.
pub(crate) fn list(store: &Store, call: &Call) -> Result<Page> {
    let selection = Selection::of(call)?;
    let limit = call.query.number("limit")?.unwrap_or(0);
    let token = call.query.get("continue").map(decode).transpose()?;
    let asked = call.query.number("resourceVersion")?.filter(|rv| *rv > 0);
    let exact = call.query.get("resourceVersionMatch") == Some("Exact");
    if let Some(asked) = asked {
        not_too_large(store, asked)?;
    }
    let at = match (&token, asked) {
        (Some(token), _) => Some(token.rv),
        (None, Some(asked)) if exact => Some(asked),
        _ => None,
    };
    let namespace = call.namespace();
    let (rv, objects) = match at {
        None => (store.rv(), one_or_all(store, call, &selection)),
        Some(rv) => {
            let objects = store.list_at(call.gr(), namespace, rv).ok_or_else(|| {
                if token.is_some() {
                    ApiError::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
                } else {
                    ApiError::expired(format!("The resourceVersion for the provided list is too old: {rv}"))
                }
            })?;
            (rv, objects)
        }
    };
    let start = token.map(|token| token.start).unwrap_or_default();
    let place = |key: &Key| format!("{}/{}", key.0, key.1);
    let mut items = Vec::new();
    let mut next = None;
    let mut left = 0_u64;
    for (key, object) in objects {
        if (!start.is_empty() && place(&key) < start) || !selection.matches(object.value()) {
            continue;
        }
        if limit > 0 && items.len() as u64 >= limit {
            next.get_or_insert_with(|| place(&key));
            left += 1;
            continue;
        }
        items.push(object);
    }
    let mut metadata = json!({"resourceVersion": rv.to_string()});
    if let Some(start) = next {
        let map = as_map(&mut metadata);
        let token = Token { v: "meta.k8s.io/v1".into(), rv, start };
        map.insert("continue".into(), Value::String(encode(&token)));
        if selection.is_everything() {
            map.insert("remainingItemCount".into(), json!(left));
        }
    }
    Ok(Page { items, metadata })
}

fn one_or_all(store: &Store, call: &Call, selection: &Selection) -> Vec<(Key, Arc<Object>)> {
    if let (Some(name), Some(namespace)) =
        (selection.name(), call.namespace().or((!call.resource.namespaced).then_some("")))
    {
        let key = (namespace.to_owned(), name.to_owned());
        return store.get(call.gr(), &key).map(|object| (key, object)).into_iter().collect();
    }
    store.list(call.gr(), call.namespace())
}

/// The text of a list, made of the texts of its objects.
pub(crate) fn render_list(call: &Call, page: &Page, now: time::OffsetDateTime) -> Bytes {
    let (kind, api_version) = match call.form {
        Form::Table => {
            let items: Vec<Arc<Object>> = page.items.iter().map(|object| in_version(call, object)).collect();
            let table = table::table(call, &items, now, &page.metadata, true);
            return Bytes::from(serde_json::to_vec(&table).unwrap_or_default());
        }
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        Form::Object => (call.resource.list_kind.clone(), call.api_version()),
    };
    let mut out = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{},\"items\":[",
        page.metadata
    )
    .into_bytes();
    for (n, object) in page.items.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        match call.form {
            Form::Metadata => {
                serde_json::to_writer(&mut out, &metadata_of(object.value())).ok();
            }
            _ if call.resource.builtin => out.extend_from_slice(&object.item()),
            _ => out.extend_from_slice(&in_version(call, object).json()),
        }
    }
    out.extend_from_slice(b"]}\n");
    Bytes::from(out)
}
