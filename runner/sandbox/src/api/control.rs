//! What a test or a world does to a server from outside the API: faults, rules, hooks, counters.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use super::access::{Access, Rule};
use super::faults::{Fault, FaultId};
use super::request::RequestInfo;
use super::resources::Gr;
use super::server::{Server, locked};
use super::store::Store;
use super::streams::PodStreams;

/// Hears of every request before it is carried out.
pub type RequestHook = Arc<dyn Fn(&RequestInfo) + Send + Sync>;
/// Gives the log of a container: namespace, pod, container, whether of its life before; or says why there is none.
pub type LogSource = Arc<dyn Fn(&str, &str, &str, bool) -> Result<String, String> + Send + Sync>;

/// How often which user asked for what.
pub type Counters = BTreeMap<(String, String, String), u64>;

impl Server {
    /// Limits what a user may do; `None` makes the user an administrator again.
    pub fn set_rules(&self, user: &str, rules: Option<Vec<Rule>>) {
        locked(&self.access).set(user, rules);
    }

    pub(crate) fn access(&self) -> MutexGuard<'_, Access> {
        locked(&self.access)
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.faults.add(fault)
    }

    /// Ends a fault.
    pub fn heal(&self, fault: FaultId) {
        self.faults.remove(fault);
    }

    /// Ends every fault.
    pub fn heal_all(&self) {
        self.faults.clear();
    }

    /// How often a fault has struck.
    pub fn hits(&self, fault: FaultId) -> u64 {
        self.faults.hits(fault)
    }

    /// While down, every connection breaks at once, and every watch is cut.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        if down {
            self.with_store(|store| store.drop_watches(None, None, true));
        }
    }

    /// Ends the watches of a resource (plural and group) and of a user, or of all; `abort` breaks the connection
    /// instead of closing it. Returns how many.
    pub fn drop_watches(&self, resource: Option<&Gr>, user: Option<&str>, abort: bool) -> usize {
        self.with_store(|store| store.drop_watches(resource, user, abort))
    }

    /// Forgets the history, so that watches and lists from earlier versions get 410.
    pub fn compact(&self) {
        self.with_store(Store::compact);
    }

    /// Calls this for every request.
    pub fn on_request(&self, hook: RequestHook) {
        locked(&self.hooks).push(hook);
    }

    /// Where `pods/log` gets its text from.
    pub fn set_log_source(&self, source: LogSource) {
        *locked(&self.logs) = Some(source);
    }

    /// Who serves `pods/exec` and `pods/portforward`.
    pub(crate) fn set_pod_streams(&self, streams: PodStreams) {
        *locked(&self.streams) = Some(streams);
    }

    pub(crate) fn pod_streams(&self) -> Option<PodStreams> {
        locked(&self.streams).clone()
    }

    pub(crate) fn log_source(&self) -> Option<LogSource> {
        locked(&self.logs).clone()
    }

    /// The requests so far: (user, verb, resource) and how many.
    pub fn counters(&self) -> Counters {
        locked(&self.counters).clone()
    }

    /// The version of the last change.
    pub fn resource_version(&self) -> u64 {
        self.with_store(|store| store.rv())
    }
}
