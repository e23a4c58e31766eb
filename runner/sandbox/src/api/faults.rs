//! Faults on purpose: errors, delays, lost answers, broken connections.

use std::sync::Mutex;
use std::time::Duration;

use super::error::ApiError;
use super::request::RequestInfo;

/// What happens to a request that a fault matches.
#[derive(Debug, Clone)]
pub enum Effect {
    /// The request is answered with this HTTP status and does nothing. 429 and 503 carry `Retry-After: 1`.
    Status(u16, String),
    /// The request is answered with this error and does nothing.
    Error(ApiError),
    /// The request waits first.
    Delay(Duration),
    /// The connection breaks before anything is done.
    Abort,
    /// The request is carried out, and the connection breaks before the answer.
    LoseAnswer,
    /// The request never ends.
    Hang,
}

/// A fault: which requests it meets, how often, and what it does.
#[derive(Debug, Clone)]
pub struct Fault {
    user: Option<String>,
    verb: Option<String>,
    resource: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    skip: u64,
    times: Option<u64>,
    effect: Effect,
}

impl Fault {
    /// A fault that meets every request for a resource, until narrowed.
    pub fn new(effect: Effect) -> Self {
        Self {
            user: None,
            verb: None,
            resource: None,
            subresource: None,
            namespace: None,
            name: None,
            skip: 0,
            times: None,
            effect,
        }
    }

    /// Only requests of this user.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Only this verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`).
    pub fn verb(mut self, verb: &str) -> Self {
        self.verb = Some(verb.into());
        self
    }

    /// Only this plural resource.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only this subresource; the empty string for the object itself.
    pub fn subresource(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.into());
        self
    }

    /// Only this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Only objects of this name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets the first requests that match pass.
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Ends after this many hits.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    fn meets(&self, info: &RequestInfo) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        !info.resource.is_empty()
            && is(&self.user, &info.user)
            && is(&self.verb, &info.verb)
            && is(&self.resource, &info.resource)
            && is(&self.subresource, &info.subresource)
            && is(&self.namespace, &info.namespace)
            && is(&self.name, &info.name)
    }
}

/// Names a fault that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(usize);

#[derive(Debug)]
struct Entry {
    fault: Fault,
    seen: u64,
    hits: u64,
    active: bool,
}

/// The faults of a server, or of a way to one.
#[derive(Debug, Default)]
pub struct Faults {
    entries: Mutex<Vec<Entry>>,
}

impl Faults {
    /// Adds one.
    pub fn add(&self, fault: Fault) -> FaultId {
        let mut entries = super::server::locked(&self.entries);
        entries.push(Entry { fault, seen: 0, hits: 0, active: true });
        FaultId(entries.len() - 1)
    }

    /// Ends one.
    pub fn remove(&self, id: FaultId) {
        if let Some(entry) = super::server::locked(&self.entries).get_mut(id.0) {
            entry.active = false;
        }
    }

    pub(crate) fn clear(&self) {
        for entry in super::server::locked(&self.entries).iter_mut() {
            entry.active = false;
        }
    }

    /// How often one has struck.
    pub fn hits(&self, id: FaultId) -> u64 {
        super::server::locked(&self.entries).get(id.0).map_or(0, |entry| entry.hits)
    }

    /// The effects that meet a request, counted.
    pub fn strike(&self, info: &RequestInfo) -> Vec<Effect> {
        let mut effects = Vec::new();
        for entry in super::server::locked(&self.entries).iter_mut() {
            if !entry.active || !entry.fault.meets(info) {
                continue;
            }
            entry.seen += 1;
            if entry.seen <= entry.fault.skip || entry.fault.times.is_some_and(|times| entry.hits >= times) {
                continue;
            }
            entry.hits += 1;
            effects.push(entry.fault.effect.clone());
        }
        effects
    }
}

/// The error of an injected status.
pub(crate) fn injected(code: u16, message: &str) -> ApiError {
    let mut error = ApiError::of_code(code, message);
    if matches!(code, 429 | 503) {
        error.retry_after = Some(1);
    }
    error
}
