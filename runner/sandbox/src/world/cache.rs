//! A local copy of all objects of a kind, kept by list and watch: what a controller reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use serde_json::Value;
use tokio::task::JoinSet;

use super::bell::Bell;
use super::json as js;
use super::kube::{Kind, Kube};

/// A name within a namespace.
pub type Key = (String, String);

#[derive(Default)]
struct Held {
    objects: BTreeMap<Key, Arc<Value>>,
    synced: bool,
}

/// The copy.
#[derive(Clone, Default)]
pub struct Cache(Arc<Mutex<Held>>);

fn key(object: &Value) -> Key {
    (js::namespace(object).to_owned(), js::name(object).to_owned())
}

impl Cache {
    /// Starts to follow a kind; the task belongs to `tasks`.
    pub fn follow(kube: &Kube, kind: Kind, bell: &Bell, tasks: &mut JoinSet<()>) -> Self {
        let cache = Self::default();
        tasks.spawn(follow(cache.clone(), kube.clone(), kind, bell.clone()));
        cache
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the first list has arrived.
    pub fn synced(&self) -> bool {
        self.held().synced
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.held().objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<Value>> {
        self.held().objects.values().cloned().collect()
    }

    /// All objects of one namespace that satisfy the test.
    pub fn within(&self, namespace: &str, test: impl Fn(&Value) -> bool) -> Vec<Arc<Value>> {
        let held = self.held();
        held.objects.values().filter(|o| js::namespace(o) == namespace && test(o)).cloned().collect()
    }

    fn put(&self, object: Value) {
        self.held().objects.insert(key(&object), Arc::new(object));
    }
}

const PAUSE: Duration = Duration::from_millis(200);

async fn follow(cache: Cache, kube: Kube, kind: Kind, bell: Bell) {
    loop {
        if let Err(e) = follow_once(&cache, &kube, kind, &bell).await {
            tracing::debug!(kind = kind.kind, "watch ended: {e}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(cache: &Cache, kube: &Kube, kind: Kind, bell: &Bell) -> kube::Result<()> {
    let (objects, mut version) = kube.list(kind, "").await?;
    {
        let mut held = cache.held();
        held.objects = objects.into_iter().map(|o| (key(&o), Arc::new(o))).collect();
        held.synced = true;
    }
    bell.ring();
    // A watch that ends in good order goes on from its last version; an error (or `Gone`) lists anew.
    loop {
        let mut events = std::pin::pin!(kube.watch(kind, &version).await?);
        while let Some(mut event) = events.try_next().await? {
            let object = event.get_mut("object").map(Value::take).unwrap_or_default();
            let next = js::text(&object, "/metadata/resourceVersion").to_owned();
            match js::text(&event, "/type") {
                "ADDED" | "MODIFIED" => cache.put(object),
                "DELETED" => {
                    cache.held().objects.remove(&key(&object));
                }
                "BOOKMARK" => {
                    version = next;
                    continue;
                }
                // `Gone`, and whatever else the server says: list anew.
                _ => return Ok(()),
            }
            version = next;
            bell.ring();
        }
        tokio::time::sleep(PAUSE).await;
    }
}
