//! The store: every object, one version counter, a bounded history for each resource, and those who watch it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::object::{Object, meta_field, meta_str, owner_uids, set_meta};
use super::resources::{Catalog, Gr};

/// Namespace (empty for cluster scope) and name.
pub(crate) type Key = (String, String);

/// One change of one object.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) rv: u64,
    pub(crate) key: Key,
    /// The object after; on a deletion the last state, with the version of the deletion.
    pub(crate) object: Arc<Object>,
    /// The object before; none for a new one.
    pub(crate) before: Option<Arc<Object>>,
    pub(crate) deleted: bool,
}

/// What a watcher hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Change(Arc<Change>),
    /// The stream ends, as when the server closes it.
    End,
    /// The connection breaks.
    Abort,
}

#[derive(Debug)]
struct Watcher {
    namespace: Option<String>,
    user: String,
    tx: UnboundedSender<Heard>,
}

/// The objects of one resource.
#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<Key, Arc<Object>>,
    history: VecDeque<Arc<Change>>,
    /// Versions up to this one are no longer in the history.
    floor: u64,
    watchers: Vec<Watcher>,
}

/// The whole state behind the lock.
#[derive(Debug)]
pub(crate) struct Store {
    rv: u64,
    tables: BTreeMap<Gr, Table>,
    live: HashMap<String, (Gr, Key)>,
    dependents: HashMap<String, BTreeSet<(Gr, Key)>>,
    /// What the collector has to look at: objects that are being deleted, that name owners, whose dependents changed.
    pending: BTreeSet<(Gr, Key)>,
    history: usize,
    rng: StdRng,
    pub(crate) catalog: Catalog,
}

impl Store {
    pub(crate) fn new(seed: u64, history: usize) -> Self {
        Self {
            rv: 1,
            tables: BTreeMap::new(),
            live: HashMap::new(),
            dependents: HashMap::new(),
            pending: BTreeSet::new(),
            history,
            rng: StdRng::seed_from_u64(seed),
            catalog: Catalog::builtin(),
        }
    }

    /// The version of the last change.
    pub(crate) fn rv(&self) -> u64 {
        self.rv
    }

    /// A random UUID (version 4).
    pub(crate) fn uuid(&mut self) -> String {
        let mut bytes: [u8; 16] = self.rng.random();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let text = hex::encode(bytes);
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }

    /// The five letters that complete a generated name.
    pub(crate) fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..5)
            .map(|_| LETTERS.get(self.rng.random_range(0..LETTERS.len())).copied().map_or('x', char::from))
            .collect()
    }

    /// A random number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.rng.random_range(0..bound.max(1))
    }

    pub(crate) fn get(&self, gr: &Gr, key: &Key) -> Option<Arc<Object>> {
        self.tables.get(gr)?.objects.get(key).cloned()
    }

    /// The objects of a resource, in the order of the keys.
    pub(crate) fn list(&self, gr: &Gr, namespace: Option<&str>) -> Vec<(Key, Arc<Object>)> {
        let Some(table) = self.tables.get(gr) else { return Vec::new() };
        let pair = |(key, object): (&Key, &Arc<Object>)| (key.clone(), object.clone());
        match namespace {
            None => table.objects.iter().map(pair).collect(),
            Some(namespace) => table
                .objects
                .range((namespace.to_owned(), String::new())..)
                .take_while(|((ns, _), _)| ns == namespace)
                .map(pair)
                .collect(),
        }
    }

    /// The objects as they were at an earlier version, while the history reaches back to it.
    pub(crate) fn list_at(
        &self,
        gr: &Gr,
        namespace: Option<&str>,
        rv: u64,
    ) -> Option<Vec<(Key, Arc<Object>)>> {
        let Some(table) = self.tables.get(gr) else { return Some(Vec::new()) };
        if rv < table.floor {
            return None;
        }
        let mut objects: BTreeMap<Key, Arc<Object>> = self.list(gr, namespace).into_iter().collect();
        for change in table.history.iter().rev().take_while(|change| change.rv > rv) {
            if namespace.is_some_and(|namespace| namespace != change.key.0) {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), before.clone()),
                None => objects.remove(&change.key),
            };
        }
        Some(objects.into_iter().collect())
    }

    /// Writes a version of an object and tells those who watch.
    pub(crate) fn put(&mut self, gr: &Gr, key: &Key, mut value: Value) -> Arc<Object> {
        self.rv += 1;
        let rv = self.rv;
        set_meta(&mut value, "resourceVersion", Some(Value::String(rv.to_string())));
        let object = Arc::new(Object::new(value));
        let before = self.tables.entry(gr.clone()).or_default().objects.insert(key.clone(), object.clone());
        if let Some(before) = &before {
            self.unindex(gr, key, before);
        }
        let uid = meta_str(object.value(), "uid").to_owned();
        self.live.insert(uid, (gr.clone(), key.clone()));
        let owners = owner_uids(object.value());
        let deleting = meta_field(object.value(), "deletionTimestamp").is_some();
        let adopted =
            !owners.is_empty() && before.as_ref().is_none_or(|before| owner_uids(before.value()) != owners);
        if deleting || adopted {
            self.pending.insert((gr.clone(), key.clone()));
        }
        for owner in owners {
            self.dependents.entry(owner).or_default().insert((gr.clone(), key.clone()));
        }
        self.record(gr, Change { rv, key: key.clone(), object: object.clone(), before, deleted: false });
        object
    }

    /// Removes an object; returns its last state with the version of the deletion.
    pub(crate) fn remove(&mut self, gr: &Gr, key: &Key) -> Option<Arc<Object>> {
        let before = self.tables.get_mut(gr)?.objects.remove(key)?;
        self.unindex(gr, key, &before);
        self.pending.extend(self.dependents(meta_str(before.value(), "uid")));
        for owner in owner_uids(before.value()) {
            if let Some(place) = self.live.get(&owner) {
                self.pending.insert(place.clone());
            }
        }
        if !key.0.is_empty() {
            self.pending.insert((Gr::new("", "namespaces"), (String::new(), key.0.clone())));
        }
        self.rv += 1;
        let rv = self.rv;
        let mut value = before.value().clone();
        set_meta(&mut value, "resourceVersion", Some(Value::String(rv.to_string())));
        let object = Arc::new(Object::new(value));
        self.record(
            gr,
            Change { rv, key: key.clone(), object: object.clone(), before: Some(before), deleted: true },
        );
        Some(object)
    }

    fn unindex(&mut self, gr: &Gr, key: &Key, object: &Object) {
        self.live.remove(meta_str(object.value(), "uid"));
        for owner in owner_uids(object.value()) {
            if let Some(set) = self.dependents.get_mut(&owner) {
                set.remove(&(gr.clone(), key.clone()));
                if set.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
        }
    }

    fn record(&mut self, gr: &Gr, change: Change) {
        let limit = self.history;
        let table = self.tables.entry(gr.clone()).or_default();
        let change = Arc::new(change);
        table.watchers.retain(|watcher| {
            if watcher.namespace.as_ref().is_some_and(|namespace| *namespace != change.key.0) {
                return !watcher.tx.is_closed();
            }
            watcher.tx.send(Heard::Change(change.clone())).is_ok()
        });
        table.history.push_back(change);
        while table.history.len() > limit {
            if let Some(old) = table.history.pop_front() {
                table.floor = old.rv;
            }
        }
    }

    /// The changes after a version, and a channel with all later ones. None when the history no longer has them.
    pub(crate) fn watch(
        &mut self,
        gr: &Gr,
        namespace: Option<&str>,
        user: &str,
        after: u64,
    ) -> Option<(Vec<Arc<Change>>, UnboundedReceiver<Heard>)> {
        let table = self.tables.entry(gr.clone()).or_default();
        if after < table.floor {
            return None;
        }
        let mut missed: Vec<Arc<Change>> = table
            .history
            .iter()
            .rev()
            .take_while(|change| change.rv > after)
            .filter(|change| namespace.is_none_or(|namespace| namespace == change.key.0))
            .cloned()
            .collect();
        missed.reverse();
        let (tx, rx) = unbounded_channel();
        table.watchers.push(Watcher { namespace: namespace.map(ToOwned::to_owned), user: user.into(), tx });
        Some((missed, rx))
    }

    /// Ends watches: of one resource or all, of one user or all. Returns how many.
    pub(crate) fn drop_watches(&mut self, gr: Option<&Gr>, user: Option<&str>, abort: bool) -> usize {
        let mut dropped = 0;
        for (of, table) in &mut self.tables {
            if gr.is_some_and(|gr| gr != of) {
                continue;
            }
            table.watchers.retain(|watcher| {
                if user.is_some_and(|user| user != watcher.user) {
                    return true;
                }
                if watcher.tx.send(if abort { Heard::Abort } else { Heard::End }).is_ok() {
                    dropped += 1;
                }
                false
            });
        }
        dropped
    }

    /// Forgets the history, as etcd's compaction does: watches from earlier versions get 410.
    pub(crate) fn compact(&mut self) {
        for table in self.tables.values_mut() {
            table.history.clear();
            table.floor = self.rv;
        }
    }

    /// Where the object with this uid lies, while it exists.
    pub(crate) fn locate(&self, uid: &str) -> Option<&(Gr, Key)> {
        self.live.get(uid)
    }

    /// The objects that name this uid as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<(Gr, Key)> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Whether the collector has anything to look at.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What the collector has to look at now.
    pub(crate) fn take_pending(&mut self) -> BTreeSet<(Gr, Key)> {
        std::mem::take(&mut self.pending)
    }

    /// Every object of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<(Gr, Key)> {
        let mut found = Vec::new();
        for gr in self.tables.keys() {
            found.extend(self.list(gr, Some(namespace)).into_iter().map(|(key, _)| (gr.clone(), key)));
        }
        found
    }
}
