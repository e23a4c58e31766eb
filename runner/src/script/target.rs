//! `target(map)`: what the run locks and marks.

use rhai::{Dynamic, NativeCallContext};
use serde_json::Value;

use super::natives::Answer;
use super::state::Shared;
use super::surface::{concrete, refuse_twin};
use crate::diagnostic::Diagnostic;
use crate::plan::Target;

pub(super) fn declare(shared: &Shared, context: &NativeCallContext, map: &Dynamic) -> Answer<()> {
    shared.check_running(context)?;
    let fields = concrete(shared, context, map, "the target")?;
    let parsed = read_target(fields).map_err(|message| {
        shared.refuse(Diagnostic::error("script::target", message).hint(TARGET_HINT), context)
    })?;
    let at = shared.at(context);
    let mut state = shared.state();
    if let Some((_, first)) = &state.target {
        let first = first.clone();
        drop(state);
        let diagnostic = Diagnostic::error("script::twin", "a workflow has one target");
        return Err(refuse_twin(shared, context, diagnostic, &first));
    }
    state.target = Some((parsed, at));
    Ok(())
}

const TARGET_HINT: &str = "target(#{ api_version, kind, namespace, name, uid }), and if you like `title` and `lease`; or target(#{ hosts }) with a list of hosts";

fn read_target(fields: Value) -> Result<Target, String> {
    let Value::Object(mut fields) = fields else { return Err("the target must be a map".to_owned()) };
    if let Some(hosts) = fields.remove("hosts") {
        return hosts_target(hosts, fields);
    }
    let mut take = |name: &str| match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` of the target must be a text")),
    };
    let need = |name: &str, value: Option<String>| {
        value.filter(|text| !text.is_empty()).ok_or_else(|| format!("the target has no `{name}`"))
    };
    let kind = need("kind", take("kind")?)?;
    let name = need("name", take("name")?)?;
    let api_version = need("api_version", take("api_version")?)?;
    let uid = need("uid", take("uid")?)?;
    let namespace = need("namespace", take("namespace")?)?;
    let title = take("title")?.unwrap_or_else(|| format!("{kind} {namespace}/{name}"));
    let lease = take("lease")?.unwrap_or_else(|| format!("rollover-{}-{name}", kind.to_lowercase()));
    match fields.keys().next() {
        Some(extra) => Err(format!("the target has an unknown field `{extra}`")),
        None => Ok(Target { title, namespace, lease, api_version, kind, name, uid, hosts: Vec::new() }),
    }
}

/// `target(#{ hosts })`: each of them carries the mark.
fn hosts_target(hosts: Value, mut fields: serde_json::Map<String, Value>) -> Result<Target, String> {
    let title = fields.remove("title");
    if let Some(extra) = fields.keys().next() {
        return Err(format!("a target of hosts has an unknown field `{extra}`"));
    }
    let Value::Array(hosts) = hosts else { return Err("`hosts` of the target must be a list".to_owned()) };
    let named = |host: &Value| host.get("name").and_then(Value::as_str).map(str::to_owned);
    let names: Option<Vec<String>> = hosts.iter().map(named).collect();
    let names = names
        .filter(|names| !names.is_empty())
        .ok_or_else(|| "`hosts` of the target must be hosts, as `host::inventory` gives them".to_owned())?;
    let name = names.join(", ");
    let title = match title {
        Some(Value::String(title)) => title,
        None | Some(Value::Null) => format!("hosts {name}"),
        Some(_) => return Err("`title` of the target must be a text".to_owned()),
    };
    let empty = String::new;
    Ok(Target {
        title,
        namespace: empty(),
        lease: empty(),
        api_version: empty(),
        kind: "Hosts".into(),
        name,
        uid: empty(),
        hosts,
    })
}
