//! Deletion: preconditions, grace, finalizers, propagation; and the collection of what nobody owns any more.

use std::sync::Arc;

use serde_json::{Value, json};
use time::Duration;

use super::error::{ApiError, Result};
use super::object::{
    Object, as_map, child, finalizers, meta, meta_field, meta_mut, meta_str, set_meta, timestamp,
};
use super::reading::{self, Page};
use super::request::Call;
use super::resources::{Gr, Resource};
use super::store::{Key, Store};
use super::strategy;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// `DeleteOptions`, from the body and the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    grace: Option<i64>,
    propagation: Option<String>,
    uid: Option<String>,
    rv: Option<String>,
    dry_run: bool,
}

impl Options {
    pub(crate) fn of(call: &Call) -> Result<Self> {
        let body: Value = if call.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&call.body).map_err(|error| {
                ApiError::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
            })?
        };
        Self::from_body(call, &body)
    }

    fn from_body(call: &Call, body: &Value) -> Result<Self> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(ToOwned::to_owned);
        let preconditions = body.get("preconditions");
        let grace = match call.query.get("gracePeriodSeconds") {
            Some(text) => text.parse().ok(),
            None => body.get("gracePeriodSeconds").and_then(Value::as_i64),
        };
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let propagation = text(body.get("propagationPolicy"))
            .or_else(|| call.query.get("propagationPolicy").map(ToOwned::to_owned))
            .or_else(|| orphan.map(|orphan| if orphan { "Orphan" } else { "Background" }.to_owned()));
        if let Some(policy) = &propagation
            && !matches!(policy.as_str(), "Orphan" | "Background" | "Foreground")
        {
            let detail = "Unsupported value: supported values: \"Foreground\", \"Background\", \"Orphan\"";
            return Err(ApiError::new(
                422,
                "Invalid",
                format!("DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: {detail}"),
            ));
        }
        Ok(Self {
            grace,
            propagation,
            uid: text(preconditions.and_then(|p| p.get("uid"))),
            rv: text(preconditions.and_then(|p| p.get("resourceVersion"))),
            dry_run: call.dry_run()
                || body.get("dryRun").and_then(Value::as_array).is_some_and(|list| !list.is_empty()),
        })
    }
}

/// The outcome of a deletion.
pub(crate) struct Deleted {
    pub(crate) object: Arc<Object>,
    /// It is gone, and not only marked.
    pub(crate) gone: bool,
}

/// Deletes one object.
pub(crate) fn delete(store: &mut Store, call: &Call, now: time::OffsetDateTime) -> Result<Deleted> {
    let options = Options::of(call)?;
    delete_object(store, &call.resource, &call.key(), &options, now)
}

/// Deletes the pod of an eviction.
pub(crate) fn evict(
    store: &mut Store,
    call: &Call,
    options: &Value,
    now: time::OffsetDateTime,
) -> Result<()> {
    let options = Options::from_body(call, options)?;
    delete_object(store, &call.resource, &call.key(), &options, now).map(|_| ())
}

/// Deletes what a list selects; answers with the list.
pub(crate) fn delete_collection(store: &mut Store, call: &Call, now: time::OffsetDateTime) -> Result<Page> {
    let options = Options::of(call)?;
    let page = reading::list(store, call)?;
    let mut items = Vec::new();
    for object in &page.items {
        let key =
            (meta_str(object.value(), "namespace").to_owned(), meta_str(object.value(), "name").to_owned());
        match delete_object(store, &call.resource, &key, &options, now) {
            Ok(deleted) => items.push(deleted.object),
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Page { items, metadata: json!({"resourceVersion": store.rv().to_string()}) })
}

fn delete_object(
    store: &mut Store,
    resource: &Arc<Resource>,
    key: &Key,
    options: &Options,
    now: time::OffsetDateTime,
) -> Result<Deleted> {
    let gr = &resource.gr;
    let object = store.get(gr, key).ok_or_else(|| ApiError::not_found(&gr.group, &gr.plural, &key.1))?;
    let old = object.value();
    let refuse = |what: &str, asked: &str, found: &str| {
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record ({found}). The object might have been deleted and then recreated"
        );
        Err(ApiError::conflict(&gr.group, &gr.plural, &key.1, &why))
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta_str(old, "uid")) {
        return refuse("UID", uid, meta_str(old, "uid"));
    }
    if let Some(rv) = options.rv.as_deref().filter(|rv| *rv != meta_str(old, "resourceVersion")) {
        return refuse("ResourceVersion", rv, meta_str(old, "resourceVersion"));
    }
    let grace = grace_period(resource, old, options.grace);
    let mut new = old.clone();
    let already = meta_field(old, "deletionTimestamp").is_some();
    match options.propagation.as_deref() {
        Some("Foreground") => set_finalizer(&mut new, FOREGROUND, ORPHAN),
        Some("Orphan") => set_finalizer(&mut new, ORPHAN, FOREGROUND),
        Some(_) => {
            remove_finalizer(&mut new, FOREGROUND);
            remove_finalizer(&mut new, ORPHAN);
        }
        None => {}
    }
    let waits = !finalizers(&new).is_empty() || !namespace_is_final(resource, &new);
    if grace == 0 && !waits {
        if options.dry_run {
            return Ok(Deleted { object, gone: true });
        }
        if already && meta(old).get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) > 0 {
            set_meta(&mut new, "deletionGracePeriodSeconds", Some(json!(0)));
        }
        let gone = store.remove(gr, key).unwrap_or(object);
        strategy::after_delete(store, resource, &gone);
        return Ok(Deleted { object: gone, gone: true });
    }
    let before = meta(old).get("deletionGracePeriodSeconds").and_then(Value::as_i64);
    // A grace period that is running can be shortened, never lengthened.
    if !already || before.is_some_and(|before| grace < before) {
        let at = if already {
            let set = meta_str(old, "deletionTimestamp");
            let set = time::OffsetDateTime::parse(set, &time::format_description::well_known::Rfc3339)
                .unwrap_or(now);
            set - Duration::seconds(before.unwrap_or(0)) + Duration::seconds(grace)
        } else {
            now + Duration::seconds(grace)
        };
        set_meta(&mut new, "deletionTimestamp", Some(Value::String(timestamp(at))));
        set_meta(&mut new, "deletionGracePeriodSeconds", Some(json!(grace)));
        if strategy::has_generation(resource) && !already {
            let generation = meta(old).get("generation").and_then(Value::as_i64).unwrap_or(0);
            set_meta(&mut new, "generation", Some(json!(generation + 1)));
        }
    }
    if resource.is("", "namespaces") {
        child(&mut new, "status").insert("phase".into(), json!("Terminating"));
    }
    if new == *old || options.dry_run {
        return Ok(Deleted {
            object: if options.dry_run { Arc::new(Object::new(new)) } else { object },
            gone: false,
        });
    }
    let object = store.put(gr, key, new);
    Ok(Deleted { object, gone: false })
}

fn namespace_is_final(resource: &Resource, object: &Value) -> bool {
    strategy::finalized(resource, object)
}

/// Pods end gracefully, unless nothing runs them; everything else ends at once.
fn grace_period(resource: &Resource, object: &Value, asked: Option<i64>) -> i64 {
    if !resource.is("", "pods") {
        return 0;
    }
    let spec = object.get("spec");
    let phase = object.get("status").and_then(|status| status.get("phase")).and_then(Value::as_str);
    let scheduled = spec
        .and_then(|spec| spec.get("nodeName"))
        .and_then(Value::as_str)
        .is_some_and(|node| !node.is_empty());
    if !scheduled || matches!(phase, Some("Succeeded" | "Failed")) {
        return 0;
    }
    let own =
        spec.and_then(|spec| spec.get("terminationGracePeriodSeconds")).and_then(Value::as_i64).unwrap_or(30);
    let running = meta(object).get("deletionGracePeriodSeconds").and_then(Value::as_i64);
    asked.or(running).unwrap_or(own).max(0)
}

fn set_finalizer(object: &mut Value, add: &str, drop: &str) {
    remove_finalizer(object, drop);
    let list = meta_mut(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|one| one == add)
    {
        list.push(json!(add));
    }
}

fn remove_finalizer(object: &mut Value, name: &str) {
    let map = meta_mut(object);
    let empty = match map.get_mut("finalizers").and_then(Value::as_array_mut) {
        Some(list) => {
            list.retain(|one| one != name);
            list.is_empty()
        }
        None => false,
    };
    if empty {
        map.remove("finalizers");
    }
}

/// One round of the collector and of the end of namespaces, over what has changed since the last.
pub(crate) fn collect(store: &mut Store, now: time::OffsetDateTime) {
    for (gr, key) in store.take_pending() {
        let (Some(resource), Some(object)) = (store.catalog.get(&gr), store.get(&gr, &key)) else { continue };
        if meta_field(object.value(), "deletionTimestamp").is_some() {
            finish(store, &resource, &key, &object, now);
        } else if meta_field(object.value(), "ownerReferences").is_some() {
            disown(store, &resource, &key, &object, now);
        }
    }
}

/// Carries on with the deletion of an object that waits for its dependents or contents.
fn finish(
    store: &mut Store,
    resource: &Arc<Resource>,
    key: &Key,
    object: &Arc<Object>,
    now: time::OffsetDateTime,
) {
    let value = object.value();
    let uid = meta_str(value, "uid");
    let held = finalizers(value);
    if held.contains(&ORPHAN) {
        for (gr, dependent) in store.dependents(uid) {
            drop_owners(store, &gr, &dependent, |owner| owner == uid);
        }
        release(store, resource, key, object, ORPHAN);
        return;
    }
    if held.contains(&FOREGROUND) {
        let mut blocked = false;
        for (gr, dependent) in store.dependents(uid) {
            let Some(found) = store.get(&gr, &dependent) else { continue };
            let blocks = meta(found.value())
                .get("ownerReferences")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .any(|owner| {
                    owner.get("uid").and_then(Value::as_str) == Some(uid)
                        && owner.get("blockOwnerDeletion") == Some(&json!(true))
                });
            blocked |= blocks;
            if meta_field(found.value(), "deletionTimestamp").is_none()
                && let Some(of) = store.catalog.get(&gr)
            {
                let options = Options { propagation: Some("Foreground".into()), ..Options::default() };
                try_delete(store, &of, &dependent, &options, now);
            }
        }
        if !blocked || store.dependents(uid).is_empty() {
            release(store, resource, key, object, FOREGROUND);
        }
        return;
    }
    if resource.is("", "namespaces") && !strategy::finalized(resource, value) {
        end_namespace(store, resource, key, object, now);
    }
}

/// Deletes what may be gone already.
fn try_delete(
    store: &mut Store,
    resource: &Arc<Resource>,
    key: &Key,
    options: &Options,
    now: time::OffsetDateTime,
) {
    if let Err(error) = delete_object(store, resource, key, options, now) {
        tracing::debug!(name = key.1, error = error.message, "not collected");
    }
}

fn end_namespace(
    store: &mut Store,
    resource: &Arc<Resource>,
    key: &Key,
    object: &Arc<Object>,
    now: time::OffsetDateTime,
) {
    let contents = store.in_namespace(&key.1);
    for (gr, inner) in &contents {
        let (Some(of), Some(found)) = (store.catalog.get(gr), store.get(gr, inner)) else { continue };
        if meta_field(found.value(), "deletionTimestamp").is_none() {
            let options = Options { propagation: Some("Background".into()), ..Options::default() };
            try_delete(store, &of, inner, &options, now);
        }
    }
    if contents.is_empty() {
        let mut new = object.value().clone();
        as_map(&mut new).entry("spec").or_insert_with(|| json!({}));
        child(&mut new, "spec").remove("finalizers");
        let empty = finalizers(&new).is_empty();
        store.put(&resource.gr, key, new);
        if empty {
            store.remove(&resource.gr, key);
        }
    }
}

/// Takes a finalizer of the collector off, which may end the object.
fn release(store: &mut Store, resource: &Arc<Resource>, key: &Key, object: &Arc<Object>, finalizer: &str) {
    let mut new = object.value().clone();
    remove_finalizer(&mut new, finalizer);
    let done = finalizers(&new).is_empty()
        && meta(&new).get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0
        && strategy::finalized(resource, &new);
    store.put(&resource.gr, key, new);
    if done && let Some(gone) = store.remove(&resource.gr, key) {
        strategy::after_delete(store, resource, &gone);
    }
}

/// Deletes an object all of whose owners are gone; forgets owners that are gone where another is left.
fn disown(
    store: &mut Store,
    resource: &Arc<Resource>,
    key: &Key,
    object: &Arc<Object>,
    now: time::OffsetDateTime,
) {
    let owners = super::object::owner_uids(object.value());
    let gone: Vec<String> = owners.iter().filter(|uid| !owner_lives(store, uid, &key.0)).cloned().collect();
    if gone.is_empty() {
        return;
    }
    if gone.len() == owners.len() {
        let options = Options { propagation: Some("Background".into()), ..Options::default() };
        let uid = meta_str(object.value(), "uid").to_owned();
        let options = Options { uid: Some(uid), ..options };
        try_delete(store, resource, key, &options, now);
        return;
    }
    drop_owners(store, &resource.gr, key, |owner| gone.iter().any(|uid| uid == owner));
}

/// An owner counts where it exists in the same namespace or is a cluster object.
fn owner_lives(store: &Store, uid: &str, namespace: &str) -> bool {
    store.locate(uid).is_some_and(|(_, key)| key.0.is_empty() || key.0 == namespace)
}

fn drop_owners(store: &mut Store, gr: &Gr, key: &Key, gone: impl Fn(&str) -> bool) {
    let Some(object) = store.get(gr, key) else { return };
    let mut new = object.value().clone();
    let map = meta_mut(&mut new);
    if let Some(list) = map.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        list.retain(|owner| !owner.get("uid").and_then(Value::as_str).is_some_and(&gone));
        if list.is_empty() {
            map.remove("ownerReferences");
        }
    }
    store.put(gr, key, new);
}
