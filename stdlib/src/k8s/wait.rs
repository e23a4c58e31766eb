//! `k8s::wait`: until objects are as they shall be. They are watched, not asked again and again.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::registry::Touch;
use crate::world::World;

use super::args;
use super::client::Objects;
use super::object::{Ref, at, number, text, touch};
use super::watch::{self, Watched};

/// How long it may take where nothing is said.
const WITHIN: Duration = Duration::from_secs(600);
/// How much of a value is shown.
const SHOWN: usize = 60;
const OPTIONS: [&str; 9] =
    ["name", "labels", "fields", "condition", "status", "field", "value", "count", "within"];

/// What each of the objects shall have.
enum Wanted {
    /// A condition with this status.
    Condition(String, String),
    /// A field with this value, or with any.
    Field(String, Option<Value>),
    /// To be there.
    There,
}

impl Wanted {
    fn of(options: &Map<String, Value>, kind: &str) -> Result<Self, PrimError> {
        let given = |name: &str| options.contains_key(name);
        if given("condition") && given("field") {
            return Err(PrimError::argument("`options` has both `condition` and `field`")
                .expected("one of them", "both"));
        }
        if given("condition") {
            let status = if given("status") { args::field(options, "status", "options")? } else { "True" };
            let condition = args::field(options, "condition", "options")?;
            return Ok(Self::Condition(condition.into(), status.into()));
        }
        if !given("field") {
            return Ok(Self::There);
        }
        let field = args::field(options, "field", "options")?;
        // What it holds would be told while it is waited for.
        if kind == "Secret"
            && field.split('.').next().is_some_and(|first| first.ends_with("ata") && first != "metadata")
        {
            return Err(PrimError::argument("what a Secret holds is not compared here")
                .hint("`k8s::secret` reads its certificates"));
        }
        Ok(Self::Field(field.into(), options.get("value").filter(|value| !value.is_null()).cloned()))
    }

    /// What is missing; nothing where it is as it shall be.
    fn lacks(&self, object: &Value) -> Option<String> {
        match self {
            Self::There => None,
            Self::Condition(condition, wanted) => {
                // A controller that has not looked yet speaks of what was.
                let looked = at(object, &["status", "observedGeneration"]).and_then(Value::as_i64);
                if looked.is_some_and(|looked| looked < number(object, &["metadata", "generation"])) {
                    return Some("its controller has not looked yet".into());
                }
                let all = at(object, &["status", "conditions"]).and_then(Value::as_array);
                let found = all.into_iter().flatten().find(|one| text(one, &["type"]) == condition);
                let status = found.map_or("unknown", |one| text(one, &["status"]));
                (status != wanted).then(|| {
                    let why = found.map_or("", |one| text(one, &["message"]));
                    let why = if why.is_empty() { String::new() } else { format!(": {}", short(why)) };
                    format!("{condition} is {status}, not {wanted}{why}")
                })
            }
            Self::Field(path, wanted) => {
                let found = at(object, &path.split('.').collect::<Vec<_>>()).filter(|found| !found.is_null());
                match (found, wanted) {
                    (None, _) => Some(format!("it has no {path}")),
                    (Some(found), Some(wanted)) if found != wanted => Some(format!(
                        "{path} is {}, not {}",
                        short(&found.to_string()),
                        short(&wanted.to_string())
                    )),
                    _ => None,
                }
            }
        }
    }
}

fn short(text: &str) -> String {
    let kept: String = text.chars().take(SHOWN).collect();
    if kept.len() < text.len() { format!("{kept}…") } else { kept }
}

/// `k8s::wait(api_version, kind, namespace, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let (api_version, kind) = (args::text(args, 0, "api_version")?, args::text(args, 1, "kind")?);
    let namespace = args.get(2).and_then(Value::as_str).unwrap_or_default();
    let options = args::map(args, 3, "options")?;
    if let Some(unknown) = options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        return Err(PrimError::argument(format!("`options` has no `{unknown}`"))
            .expected(format!("some of {}", OPTIONS.join(", ")), format!("`{unknown}`")));
    }
    let option =
        |name: &str| if options.contains_key(name) { args::field(options, name, "options") } else { Ok("") };
    let (name, labels) = (option("name")?, option("labels")?);
    let mut fields = option("fields")?.to_owned();
    if !name.is_empty() {
        let only = format!("metadata.name={name}");
        fields = if fields.is_empty() { only } else { format!("{only},{fields}") };
    }
    let wanted = Wanted::of(options, kind)?;
    let count = match options.get("count") {
        None => 1,
        Some(count) => count.as_u64().ok_or_else(|| PrimError::argument("`options.count` is no number"))?,
    };
    let within = match option("within")? {
        "" => WITHIN,
        text => crate::duration::parse(text).map_err(PrimError::argument)?,
    };
    let objects = Objects::of(world)?;
    let all = Ref::new(api_version, kind, namespace, "");
    let watched = Watched { all: &all, labels, fields: &fields };
    let title = Ref::new(api_version, kind, namespace, if name.is_empty() { labels } else { name });
    let so_far = std::sync::Mutex::new(String::new());
    let waiting = watch::until(world, &objects, &watched, |seen| {
        let lacking: Vec<(&str, String)> = seen
            .iter()
            .filter_map(|((_, name), object)| Some((name.as_str(), wanted.lacks(object)?)))
            .collect();
        let (there, well) = (seen.len() as u64, (seen.len() - lacking.len()) as u64);
        if lacking.is_empty() && there >= count {
            return Some(seen.keys().map(|(_, name)| name.clone()).collect::<Vec<_>>());
        }
        let first = lacking.first().map_or_else(
            || format!("{there} of {count} are there"),
            |(name, lacks)| format!("{name}: {lacks}"),
        );
        first.clone_into(&mut so_far.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let done = Some((well, count.max(there)));
        gate.progress(Progress { text: format!("{title}: {first}"), done });
        None
    });
    tokio::select! {
        biased;
        found = waiting => Ok(json!({ "objects": found? })),
        () = world.clock.sleep(within) => {
            let so_far = so_far.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            Err(PrimError::new(Code::Unproved, format!("it did not come to what was waited for within {within:?}: {so_far}"))
                .on(title.to_string())
                .hint("see why it does not, or give it longer with `within`"))
        }
    }
}

/// What a call needs. A server grants `list` and `watch` of one name like those of all.
pub(super) fn touches(args: &[Value]) -> Vec<Touch> {
    let hint = |n| args::hint(args, n, "");
    vec![touch(hint(0), hint(1), hint(2), args::hint(args, 3, "name"), &["list", "watch"])]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(options: Value) -> Result<Wanted, PrimError> {
        Wanted::of(options.as_object().unwrap(), "Secret")
    }

    #[test]
    fn what_an_object_lacks_is_said() {
        let object = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "phase": "Failed",
            "conditions": [{"type": "Ready", "status": "False", "message": "no CA"}]}});
        let lacks = |options: Value| of(options).unwrap().lacks(&object);
        assert_eq!(lacks(json!({"condition": "Ready"})).unwrap(), "Ready is False, not True: no CA");
        assert_eq!(lacks(json!({"condition": "Ready", "status": "False"})), None);
        assert_eq!(lacks(json!({"condition": "Other"})).unwrap(), "Other is unknown, not True");
        assert_eq!(
            lacks(json!({"field": "status.phase", "value": "Running"})).unwrap(),
            "status.phase is \"Failed\", not \"Running\""
        );
        assert_eq!(lacks(json!({"field": "status.phase"})), None);
        assert_eq!(lacks(json!({"field": "status.none"})).unwrap(), "it has no status.none");
        assert_eq!(lacks(json!({})), None);
        let mut late = object.clone();
        late["metadata"]["generation"] = json!(3);
        assert!(of(json!({"condition": "Ready", "status": "False"})).unwrap().lacks(&late).is_some());
        assert!(of(json!({"condition": "Ready", "field": "a"})).is_err());
        assert!(
            of(json!({"field": "data.password"})).is_err() && of(json!({"field": "metadata.uid"})).is_ok()
        );
    }
}
