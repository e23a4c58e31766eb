//! What the server calls things: how it serves a kind, the preferred version of a group, the kind behind a plural name.

use serde_json::Value;

use super::client::Objects;
use super::kinds::{self, Served};
use super::object::{Ref, text};
use crate::error::{Code, PrimError};
use crate::near::nearest;
use crate::registry::Touch;

/// How many names an error lists.
const LISTED: usize = 12;

/// How the server serves the kind of an object. It is asked once for each group and version, and again where it had no such
/// kind before.
///
/// # Errors
/// It has no such kind: what it has instead. It does not answer, or does not let us ask.
pub(super) async fn served(objects: &Objects<'_>, object: &Ref) -> Result<Served, PrimError> {
    let (api_version, kind) = (object.api_version.as_str(), object.kind.as_str());
    if let Some(served) = kinds::known(api_version, kind).or_else(|| objects.kinds().of(api_version, kind)) {
        return Ok(served);
    }
    let Some(answer) = found(objects.path(&root(api_version)).await)? else {
        return Err(no_version(objects, api_version).await?.on(object.to_string()));
    };
    let listed = kinds::listed(&answer);
    objects.kinds().keep(api_version, listed.clone());
    let names: Vec<&str> = listed.iter().map(|served| served.kind.as_str()).collect();
    let unknown = || {
        PrimError::not_found(format!("the server has no kind `{kind}` in `{api_version}`"))
            .on(object.to_string())
            .hint(instead(kind, &names))
    };
    listed.iter().find(|served| served.kind == kind).cloned().ok_or_else(unknown)
}

fn root(api_version: &str) -> String {
    let root = if api_version.contains('/') { "/apis" } else { "/api" };
    format!("{root}/{api_version}")
}

/// That the server does not serve a group and version.
async fn no_version(objects: &Objects<'_>, api_version: &str) -> Result<PrimError, PrimError> {
    let missing = PrimError::not_found(format!("the server has no `{api_version}`"));
    let Some((group, _)) = api_version.split_once('/') else {
        return Ok(missing
            .hint("`v1` has the kinds without a group; others are named `GROUP/VERSION`, e.g. `apps/v1`"));
    };
    let (one, name) = (found(objects.path(&format!("/apis/{group}")).await)?, api_version);
    let (all, field, name) = match &one {
        Some(known) => (known.get("versions"), "groupVersion", name),
        None => (None, "name", group),
    };
    let groups = if all.is_none() { found(objects.path("/apis").await)? } else { None };
    let all = all.or_else(|| groups.as_ref()?.get("groups")).and_then(Value::as_array);
    let names: Vec<&str> = all.into_iter().flatten().map(|entry| text(entry, &[field])).collect();
    Ok(missing.hint(instead(name, &names)))
}

/// What to name instead.
fn instead(name: &str, there: &[&str]) -> String {
    if let Some(near) = nearest(name, there.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if there.is_empty() {
        return "`kubectl api-resources` lists what it has".into();
    }
    let more = if there.len() > LISTED { ", …" } else { "" };
    let shown: Vec<&str> = there.iter().copied().take(LISTED).collect();
    format!("it has: {}{more}", shown.join(", "))
}

/// That this can be asked of an object so named.
pub(super) fn askable(object: &Ref, served: &Served, verb: &str) -> Result<(), PrimError> {
    let wrong = |message: String| PrimError::argument(message).on(object.to_string());
    if !served.namespaced && !object.namespace.is_empty() {
        return Err(wrong(format!("a {} lies in no namespace", object.kind))
            .expected("an empty namespace", format!("`{}`", object.namespace)));
    }
    if served.namespaced && object.namespace.is_empty() && !matches!(verb, "list" | "watch") {
        return Err(
            wrong(format!("a {} lies in a namespace", object.kind)).expected("its namespace", "an empty one")
        );
    }
    if !served.verbs.is_empty() && !served.verbs.iter().any(|known| known == verb) {
        return Err(wrong(format!("the server does not take `{verb}` for a {}", object.kind))
            .expected(format!("one of {}", served.verbs.join(", ")), format!("`{verb}`")));
    }
    Ok(())
}

/// The `apiVersion` and the kind of a plural name, be it the server's or what the API conventions make of the kind; none
/// where the server has no such thing.
///
/// # Errors
/// The server does not answer, or does not let us ask.
pub async fn kind_of(
    objects: &Objects<'_>,
    group: &str,
    plural: &str,
) -> Result<Option<(String, String)>, PrimError> {
    Ok(behind(objects, group, plural).await?.map(|(version, served)| (version, served.kind)))
}

async fn behind(
    objects: &Objects<'_>,
    group: &str,
    plural: &str,
) -> Result<Option<(String, Served)>, PrimError> {
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        match found(objects.path(&format!("/apis/{group}")).await)? {
            Some(known) => text(&known, &["preferredVersion", "groupVersion"]).to_owned(),
            None => return Ok(None),
        }
    };
    let Some(answer) = found(objects.path(&root(&version)).await)? else { return Ok(None) };
    let listed = kinds::listed(&answer);
    objects.kinds().keep(&version, listed.clone());
    let by_kind = |served: &&Served| kinds::conventional(&served.kind) == plural;
    let found = listed.iter().find(by_kind).or_else(|| listed.iter().find(|served| served.plural == plural));
    Ok(found.cloned().map(|served| (version, served)))
}

/// What calls touch, with the plurals that the server has for their kinds; and, as `RESOURCE.GROUP`, those that it does not
/// have, which stay what the API conventions make of the kind.
///
/// # Errors
/// The server does not answer, or does not let us ask.
pub async fn named(
    objects: &Objects<'_>,
    touched: Vec<Touch>,
) -> Result<(Vec<Touch>, Vec<String>), PrimError> {
    let (mut named, mut unknown) = (touched, Vec::new());
    for guess in guessed(&named) {
        let (plural, group) = guess.split_once('.').unwrap_or((&guess, ""));
        match behind(objects, group, plural).await? {
            None => unknown.push(guess),
            Some((_, served)) => {
                for touch in &mut named {
                    if let Touch::Kube { group: of, resource, .. } = touch
                        && of == group
                        && part(resource).0 == plural
                    {
                        *resource = format!("{}{}", served.plural, part(resource).1);
                    }
                }
            }
        }
    }
    Ok((named, unknown))
}

/// The plurals among what calls touch that the API conventions have made of kinds which we do not know.
pub fn guessed(touched: &[Touch]) -> Vec<String> {
    let mut guessed: Vec<String> = touched
        .iter()
        .filter_map(|touch| match touch {
            Touch::Kube { group, resource, .. } if !kinds::knows_plural(group, part(resource).0) => {
                Some(format!("{}.{group}", part(resource).0))
            }
            _ => None,
        })
        .collect();
    guessed.sort();
    guessed.dedup();
    guessed
}

/// A plural, and the part of the objects with its slash.
fn part(resource: &str) -> (&str, &str) {
    resource.split_at(resource.find('/').unwrap_or(resource.len()))
}

fn found(answer: Result<Value, PrimError>) -> Result<Option<Value>, PrimError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
