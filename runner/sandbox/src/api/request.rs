//! What a request asks for: the path, the query and the headers, taken apart.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::error::{ApiError, Result};
use super::resources::{Catalog, Gr, Resource, Version};
use super::store::Key;

/// Who asks for what, as RBAC, the audit hook and the faults see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// The user's name.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the HTTP method in small
    /// letters for paths that are no resource.
    pub verb: String,
    /// The API group; empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural resource; empty for paths that are no resource.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The name of the object, or empty.
    pub name: String,
    /// The path.
    pub path: String,
    /// The `User-Agent`.
    pub agent: String,
}

/// Query parameters, decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    /// A parameter that is present and not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter that may be given more than once.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0.iter().any(|(name, value)| name == key && matches!(value.as_str(), "" | "true" | "1"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>> {
        self.get(key)
            .map(|text| {
                text.parse().map_err(|_| {
                    ApiError::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
                })
            })
            .transpose()
    }
}

/// Percent-decoding, with `+` as a space.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .flatten();
        match escaped {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The form of the answer that the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table,
    Metadata,
}

/// The parts of a resource path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) sub: Option<String>,
}

impl Path {
    /// Takes a path apart; none where it is no path of a resource (discovery, health).
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/').map(|part| decode(&part.replace('+', "%2B")));
        let (group, version) = match parts.next()?.as_str() {
            "api" => (String::new(), parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<String> = parts.collect();
        let mut at = Self { group, version, ..Self::default() };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        match rest.as_slice() {
            [] => return None,
            ["namespaces", name] => {
                at.plural = "namespaces".into();
                at.name = Some((*name).into());
                at.namespace = Some((*name).into());
            }
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                at.plural = "namespaces".into();
                at.name = Some((*name).into());
                at.namespace = Some((*name).into());
                at.sub = Some((*sub).into());
            }
            ["namespaces", namespace, tail @ ..] => {
                at.namespace = Some((*namespace).into());
                at.tail(tail)?;
            }
            tail => at.tail(tail)?,
        }
        Some(at)
    }

    fn tail(&mut self, tail: &[&str]) -> Option<()> {
        let (plural, rest) = tail.split_first()?;
        (*plural).clone_into(&mut self.plural);
        self.name = rest.first().map(ToString::to_string);
        self.sub = rest.get(1).map(ToString::to_string);
        Some(())
    }
}

/// A request for a resource.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) info: RequestInfo,
    pub(crate) resource: Arc<Resource>,
    pub(crate) version: Version,
    pub(crate) query: Query,
    pub(crate) form: Form,
    /// Whether a Table should hold whole objects.
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(
        catalog: &Catalog,
        path: &Path,
        info: RequestInfo,
        query: Query,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Self> {
        let resource =
            catalog.find(&path.group, &path.version, &path.plural).ok_or_else(ApiError::no_such_path)?;
        let version = resource.version(&path.version).cloned().unwrap_or_default();
        // A namespaced collection is reached over all namespaces for reading alone; cluster objects never lie in one.
        if !resource.namespaced && path.namespace.is_some() && !resource.is("", "namespaces") {
            return Err(ApiError::no_such_path());
        }
        if resource.namespaced && path.namespace.is_none() && path.name.is_some() {
            return Err(ApiError::no_such_path());
        }
        let header = |name: http::HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let accept = header(http::header::ACCEPT);
        let form = accept
            .split(',')
            .find_map(|one| {
                let one = one.replace(' ', "");
                if one.contains("as=Table") {
                    Some(Form::Table)
                } else if one.contains("as=PartialObjectMetadata") {
                    Some(Form::Metadata)
                } else if one.starts_with("application/json") || one.starts_with("*/*") {
                    Some(Form::Object)
                } else {
                    None
                }
            })
            .unwrap_or(Form::Object);
        Ok(Self {
            info,
            resource,
            version,
            query,
            form,
            content_type: header(http::header::CONTENT_TYPE),
            body,
        })
    }

    pub(crate) fn gr(&self) -> &Gr {
        &self.resource.gr
    }

    /// The namespace that the request is limited to; none over all of them and for cluster objects.
    pub(crate) fn namespace(&self) -> Option<&str> {
        (self.resource.namespaced && !self.info.namespace.is_empty()).then_some(self.info.namespace.as_str())
    }

    pub(crate) fn key(&self) -> Key {
        (self.namespace().unwrap_or_default().to_owned(), self.info.name.clone())
    }

    pub(crate) fn api_version(&self) -> String {
        self.resource.api_version(&self.version.name)
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.query.get("dryRun") == Some("All")
    }

    pub(crate) fn sub(&self) -> &str {
        &self.info.subresource
    }

    /// The manager that the change is recorded under.
    pub(crate) fn manager(&self) -> String {
        self.query.get("fieldManager").map_or_else(
            || {
                let agent = self.info.agent.split('/').next().unwrap_or_default();
                if agent.is_empty() { "unknown".into() } else { agent.to_owned() }
            },
            ToOwned::to_owned,
        )
    }

    pub(crate) fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.gr().group, &self.gr().plural, name)
    }

    pub(crate) fn invalid(&self, name: &str, errors: Vec<super::error::FieldError>) -> ApiError {
        ApiError::invalid(&self.gr().group, &self.resource.kind, name, errors)
    }
}

/// The verb of a method on a path.
pub(crate) fn verb(method: &Method, path: &Path, query: &Query) -> Option<&'static str> {
    let named = path.name.is_some();
    Some(match method.as_str() {
        "GET" | "HEAD" if named => "get",
        "GET" | "HEAD" if query.flag("watch") => "watch",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" if named => "update",
        "PATCH" if named => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_every_shape() {
        let path = Path::parse("/api/v1/namespaces/tidb/secrets/a").unwrap();
        assert_eq!(
            (path.plural.as_str(), path.name.as_deref(), path.namespace.as_deref()),
            ("secrets", Some("a"), Some("tidb"))
        );
        let path = Path::parse("/api/v1/namespaces/tidb").unwrap();
        assert_eq!((path.plural.as_str(), path.name.as_deref()), ("namespaces", Some("tidb")));
        let path = Path::parse("/apis/apps/v1/namespaces/n/statefulsets/a/status").unwrap();
        assert_eq!((path.group.as_str(), path.sub.as_deref()), ("apps", Some("status")));
        assert_eq!(Path::parse("/api/v1/namespaces/n/status").unwrap().plural, "namespaces");
        assert!(Path::parse("/apis/apps/v1").is_none());
        assert!(Path::parse("/healthz").is_none());
        assert_eq!(decode("a%3Db+c%2"), "a=b c%2");
    }
}
