//! Creating and changing objects: what every resource has in common.

use std::sync::Arc;

use serde_json::{Value, json};

use super::error::{ApiError, FieldError, Result, quoted};
use super::managed;
use super::object::{
    Object, as_map, drop_nulls, finalizers, meta, meta_field, meta_mut, meta_str, set_meta, timestamp,
};
use super::request::Call;
use super::resources::Gr;
use super::store::{Key, Store};
use super::{strategy, validate};

/// The outcome of a write.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) object: Arc<Object>,
    pub(crate) created: bool,
}

/// Parses a body as an object of the call's kind.
pub(crate) fn decode(call: &Call, body: &[u8]) -> Result<Value> {
    let mut value: Value = if call.content_type.contains("yaml") {
        serde_yaml::from_slice(body).map_err(|error| undecodable(call, &error.to_string()))?
    } else {
        serde_json::from_slice(body).map_err(|error| undecodable(call, &error.to_string()))?
    };
    if !value.is_object() {
        return Err(undecodable(call, "json: cannot unmarshal the body into an object"));
    }
    drop_nulls(&mut value);
    check_type(call, &value)?;
    Ok(value)
}

fn undecodable(call: &Call, why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: {why}",
        call.resource.kind, call.version.name, call.resource.kind
    ))
}

fn check_type(call: &Call, value: &Value) -> Result<()> {
    let expected = call.api_version();
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let api_version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if !call.resource.builtin && (kind.is_empty() || api_version.is_empty()) {
        let missing = if kind.is_empty() { "Kind" } else { "apiVersion" };
        return Err(ApiError::bad_request(format!("Object '{missing}' is missing in '{value}'")));
    }
    if !api_version.is_empty() && api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != call.resource.kind {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{}\" cannot be handled as a {}: converting (v1.{kind}) to (v1.{}): unknown conversion",
            call.version.name, call.resource.kind, call.resource.kind
        )));
    }
    Ok(())
}

fn stamp_type(call: &Call, value: &mut Value) {
    let map = as_map(value);
    map.insert("apiVersion".into(), Value::String(call.resource.api_version(&call.resource.storage)));
    map.insert("kind".into(), Value::String(call.resource.kind.clone()));
}

/// Makes an object.
pub(crate) fn create(
    store: &mut Store,
    call: &Call,
    mut value: Value,
    now: time::OffsetDateTime,
    how: How,
) -> Result<Written> {
    let gr = call.gr();
    stamp_type(call, &mut value);
    let namespace = namespace_of(call, &mut value)?;
    if !meta_str(&value, "resourceVersion").is_empty() && meta_str(&value, "resourceVersion") != "0" {
        return Err(ApiError::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    let generate = meta_str(&value, "generateName").to_owned();
    if meta_str(&value, "name").is_empty() && !generate.is_empty() {
        let cut: String = generate.chars().take(58).collect();
        let name = format!("{cut}{}", store.suffix());
        set_meta(&mut value, "name", Some(Value::String(name)));
    }
    let name = meta_str(&value, "name").to_owned();
    if !call.info.name.is_empty() && name != call.info.name {
        return Err(name_mismatch(&name, &call.info.name));
    }
    if call.resource.namespaced {
        require_namespace(store, call, &namespace, &name)?;
    }
    let key: Key = (namespace, name.clone());

    let map = meta_mut(&mut value);
    for system in
        ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        map.remove(system);
    }
    map.insert("uid".into(), Value::String(store.uuid()));
    map.insert("creationTimestamp".into(), Value::String(timestamp(now)));
    if call.version.status {
        as_map(&mut value).remove("status");
    }
    if strategy::has_generation(&call.resource) {
        set_meta(&mut value, "generation", Some(json!(1)));
    }
    strategy::prepare_create(call, &mut value)?;
    if how == How::Update {
        managed::record_update(call, &Value::Null, &mut value, now);
    }
    strategy::complete(store, call, &mut value, now);
    let mut errors = validate::metadata(&call.resource, &value);
    errors.extend(strategy::validate(call, &value, None));
    if !errors.is_empty() {
        return Err(call.invalid(&name, errors));
    }
    if store.get(gr, &key).is_some() {
        return Err(ApiError::already_exists(&gr.group, &gr.plural, &name));
    }
    if call.dry_run() {
        return Ok(Written { object: Arc::new(Object::new(value)), created: true });
    }
    let object = store.put(gr, &key, value);
    strategy::after_write(store, call, &object);
    Ok(Written { object, created: true })
}

fn name_mismatch(given: &str, expected: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({expected})"
    ))
}

fn namespace_of(call: &Call, value: &mut Value) -> Result<String> {
    let given = meta_str(value, "namespace").to_owned();
    if !call.resource.namespaced {
        if !given.is_empty() {
            set_meta(value, "namespace", None);
        }
        return Ok(String::new());
    }
    let Some(expected) = call.namespace() else {
        return Err(ApiError::method_not_allowed());
    };
    if given.is_empty() {
        set_meta(value, "namespace", Some(Value::String(expected.to_owned())));
    } else if given != expected {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(expected.to_owned())
}

fn require_namespace(store: &Store, call: &Call, namespace: &str, name: &str) -> Result<()> {
    let key = (String::new(), namespace.to_owned());
    let Some(found) = store.get(&Gr::new("", "namespaces"), &key) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if meta_field(found.value(), "deletionTimestamp").is_some() {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        return Err(ApiError::forbidden(&call.gr().group, &call.gr().plural, name, &why).cause(
            "NamespaceTerminating",
            "metadata.namespace",
            format!("namespace {namespace} is being terminated"),
        ));
    }
    Ok(())
}

/// How a changed object comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// A create, an update or a patch.
    Update,
    /// A server-side apply, which has recorded the managers itself.
    Apply,
}

/// Replaces an object with `change` of it, under the rules that hold for every update.
pub(crate) fn update(
    store: &mut Store,
    call: &Call,
    now: time::OffsetDateTime,
    how: How,
    change: impl FnOnce(&Value) -> Result<Value>,
) -> Result<Written> {
    let gr = call.gr();
    let key = call.key();
    let existing = store.get(gr, &key).ok_or_else(|| call.not_found(&call.info.name))?;
    let old = existing.value();
    let mut new = change(old)?;
    drop_nulls(&mut new);
    check_type_after(call, &new)?;
    stamp_type(call, &mut new);
    let name = meta_str(&new, "name").to_owned();
    if name.is_empty() {
        set_meta(&mut new, "name", Some(Value::String(key.1.clone())));
    } else if name != key.1 {
        return Err(name_mismatch(&name, &key.1));
    }
    namespace_of(call, &mut new)?;
    check_preconditions(call, old, &new)?;
    keep_system_fields(old, &mut new);
    strategy::prepare_update(call, old, &mut new)?;

    let mut errors = validate::metadata(&call.resource, &new);
    errors.extend(validate::metadata_update(old, &new));
    errors.extend(strategy::validate(call, &new, Some(old)));
    if !errors.is_empty() {
        return Err(call.invalid(&key.1, errors));
    }
    if strategy::has_generation(&call.resource) && strategy::spec_differs(call, old, &new) {
        let generation = meta(old).get("generation").and_then(Value::as_i64).unwrap_or(0);
        set_meta(&mut new, "generation", Some(json!(generation + 1)));
    }
    if how == How::Update {
        managed::record_update(call, old, &mut new, now);
    }
    if managed::same_but_times(old, &new) {
        return Ok(Written { object: existing, created: false });
    }
    if call.dry_run() {
        return Ok(Written { object: Arc::new(Object::new(new)), created: false });
    }
    let released = meta_field(&new, "deletionTimestamp").is_some()
        && finalizers(&new).is_empty()
        && meta(&new).get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0
        && strategy::finalized(&call.resource, &new);
    let object = store.put(gr, &key, new);
    strategy::after_write(store, call, &object);
    if released {
        let gone = store.remove(gr, &key).unwrap_or(object);
        strategy::after_delete(store, &call.resource, &gone);
        return Ok(Written { object: gone, created: false });
    }
    Ok(Written { object, created: false })
}

fn check_type_after(call: &Call, new: &Value) -> Result<()> {
    if call.content_type.contains("patch") {
        let kind = new.get("kind").and_then(Value::as_str).unwrap_or(&call.resource.kind);
        if kind != call.resource.kind {
            return Err(ApiError::bad_request(format!(
                "{kind} in version \"{}\" cannot be handled as a {}",
                call.version.name, call.resource.kind
            )));
        }
    }
    Ok(())
}

fn check_preconditions(call: &Call, old: &Value, new: &Value) -> Result<()> {
    let gr = call.gr();
    let name = &call.info.name;
    let uid = meta_str(new, "uid");
    if !uid.is_empty() && uid != meta_str(old, "uid") {
        if call.info.verb == "patch" && !call.content_type.contains("apply") {
            let error = FieldError::invalid("metadata.uid", quoted(uid), "field is immutable");
            return Err(call.invalid(name, vec![error]));
        }
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta_str(old, "uid")
        );
        return Err(ApiError::conflict(&gr.group, &gr.plural, name, &why));
    }
    let rv = meta_str(new, "resourceVersion");
    if rv.is_empty() || rv == "0" {
        if call.info.verb == "update" && strategy::needs_version(&call.resource) {
            let error =
                FieldError::invalid("metadata.resourceVersion", "0", "must be specified for an update");
            return Err(call.invalid(name, vec![error]));
        }
        return Ok(());
    }
    if rv.parse::<u64>().is_err() {
        let error = FieldError::invalid(
            "metadata.resourceVersion",
            quoted(rv),
            "strconv.ParseUint: parsing: invalid syntax",
        );
        return Err(call.invalid(name, vec![error]));
    }
    if rv != meta_str(old, "resourceVersion") {
        return Err(ApiError::modified(&gr.group, &gr.plural, name));
    }
    Ok(())
}

fn keep_system_fields(old: &Value, new: &mut Value) {
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "selfLink",
        "generateName",
    ] {
        set_meta(new, key, meta_field(old, key).cloned());
    }
}
