//! What streams into pods lead to: each running pod, for as long as it is there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use super::logs::Logs;
use super::mount::Mount;
use crate::world::json as js;

/// A pod from within.
pub(crate) struct Inside {
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its containers' names.
    pub containers: Vec<String>,
    /// What is mounted in them.
    pub mounts: Vec<Mount>,
    logs: Mutex<Logs>,
    gone: watch::Receiver<()>,
}

impl Inside {
    /// What its containers have written: they write as one.
    pub(crate) fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the pod has gone.
    pub(crate) async fn gone(&self) {
        let mut gone = self.gone.clone();
        while gone.changed().await.is_ok() {}
    }
}

/// By namespace and name.
#[derive(Default)]
pub(crate) struct Pods(Mutex<BTreeMap<(String, String), Arc<Inside>>>);

/// Keeps a pod where streams find it. Dropping it ends them.
pub(crate) struct Kept<'a> {
    /// The pod from within.
    pub(crate) inside: Arc<Inside>,
    pods: &'a Pods,
    at: (String, String),
    uid: String,
    _alive: watch::Sender<()>,
}

impl Pods {
    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Arc<Inside>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets streams in.
    pub(crate) fn keep(&self, pod: &Value, ip: IpAddr, mounts: &[Mount]) -> Kept<'_> {
        let at = (js::namespace(pod).to_owned(), js::name(pod).to_owned());
        let uid = js::uid(pod).to_owned();
        let (alive, gone) = watch::channel(());
        let containers = js::items(pod, "/spec/containers");
        let inside = Inside {
            uid: uid.clone(),
            ip,
            containers: containers.iter().map(|one| js::text(one, "/name").to_owned()).collect(),
            mounts: mounts.to_vec(),
            logs: Mutex::default(),
            gone,
        };
        let inside = Arc::new(inside);
        self.held().insert(at.clone(), Arc::clone(&inside));
        Kept { inside, pods: self, at, uid, _alive: alive }
    }

    /// The pod of this name, if it runs.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Inside>> {
        self.held().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut held = self.pods.held();
        if held.get(&self.at).is_some_and(|inside| inside.uid == self.uid) {
            held.remove(&self.at);
        }
    }
}
