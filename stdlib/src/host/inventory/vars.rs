//! How a host is reached, from its variables.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Connection, Entry, default_state};
use crate::error::PrimError;

/// Names by which older inventories say the same.
const ALIASES: [(&str, &str); 3] = [
    ("ansible_ssh_host", "ansible_host"),
    ("ansible_ssh_port", "ansible_port"),
    ("ansible_ssh_user", "ansible_user"),
];
/// Variables that say something of Ansible's own workings, which are not ours.
const OTHERS: [&str; 3] = ["ansible_python_interpreter", "ansible_shell_type", "ansible_become_method"];

/// The host that variables make, and what they say beside that.
pub(super) fn entry(name: &str, mut vars: Map<String, Value>) -> Result<Entry, PrimError> {
    let on = |error: PrimError| error.on(format!("host `{name}`"));
    for (old, new) in ALIASES {
        if let Some(value) = vars.remove(old) {
            vars.entry(new).or_insert(value);
        }
    }
    if vars.get("ansible_become_method").is_some_and(|method| method != "sudo") {
        return Err(on(
            PrimError::invalid("`ansible_become_method` is not known").expected("`sudo`", "another one")
        ));
    }
    let mut text = |key: &str| -> Result<Option<String>, PrimError> {
        match vars.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.contains("{{") => {
                Err(on(PrimError::invalid(format!("`{key}` is a template, which only Ansible can fill in"))
                    .expected("a plain value", format!("`{text}`"))
                    .hint("`ansible-inventory --list --yaml` prints the inventory with values filled in")))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(yes)) => Ok(Some(yes.to_string())),
            Some(other) => Err(on(
                PrimError::invalid(format!("`{key}` must be a text")).expected("a text", word(&other))
            )),
        }
    };
    let address = text("ansible_host")?.unwrap_or_else(|| name.to_owned());
    let user = text("ansible_user")?;
    let port = text("ansible_port")?;
    let key_file = text("ansible_ssh_private_key_file")?;
    let state = text("rollover_state")?.unwrap_or_else(default_state);
    let connection = text("ansible_connection")?;
    let becomes = text("ansible_become")?;
    let become_user = text("ansible_become_user")?;
    let mut args = Vec::new();
    for key in ["ansible_ssh_common_args", "ansible_ssh_extra_args"] {
        if let Some(line) = text(key)? {
            args.extend(shlex::split(&line).ok_or_else(|| {
                on(PrimError::invalid(format!("`{key}` has a quote without its end"))
                    .expected("words", format!("`{line}`")))
            })?);
        }
    }
    for (what, value) in [("ansible_host", Some(&address)), ("ansible_user", user.as_ref())] {
        if value.is_some_and(|value| {
            value.is_empty() || value.starts_with('-') || value.contains(char::is_whitespace)
        }) {
            return Err(on(PrimError::invalid(format!("`{what}` cannot be a name"))
                .expected("a name or an address", format!("`{}`", value.map_or("", String::as_str)))));
        }
    }
    if !state.starts_with('/') {
        return Err(on(PrimError::invalid("`rollover_state` is no absolute path")
            .expected("e.g. `/var/lib/rollover`", format!("`{state}`"))));
    }
    let port = port
        .map(|text| {
            text.parse().ok().filter(|port| *port > 0_u16).ok_or_else(|| {
                on(PrimError::invalid("`ansible_port` is no port")
                    .expected("1 to 65535", format!("`{text}`")))
            })
        })
        .transpose()?;
    let connection = match connection.as_deref() {
        None | Some("ssh" | "smart") => Connection::Ssh,
        Some("local") => Connection::Local,
        Some(other) => {
            return Err(on(PrimError::invalid("`ansible_connection` is not known")
                .expected("`ssh` or `local`", format!("`{other}`"))));
        }
    };
    let becomes = match becomes.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("false" | "no" | "off" | "0") => false,
        Some("true" | "yes" | "on" | "1") => true,
        Some(other) => {
            return Err(on(PrimError::invalid("`ansible_become` is neither true nor false")
                .expected("`true` or `false`", format!("`{other}`"))));
        }
    };
    let unknown: BTreeSet<&String> =
        vars.keys().filter(|key| key.starts_with("ansible_") && !OTHERS.contains(&key.as_str())).collect();
    if let Some(first) = unknown.first() {
        let error = PrimError::invalid(format!(
            "`{first}` would change how the host is reached, and is not supported"
        ));
        let hint = if first.contains("pass") {
            "use a key or an agent in place of a password, and `sudo` with NOPASSWD"
        } else {
            "say it in `~/.ssh/config`, or in `ansible_ssh_common_args`"
        };
        return Err(on(error.hint(hint)));
    }
    vars.retain(|key, _| !key.starts_with("ansible_"));
    let r#become = becomes.then(|| become_user.unwrap_or_else(|| "root".into()));
    Ok(Entry {
        name: name.to_owned(),
        address,
        connection,
        port,
        user,
        key_file,
        args,
        r#become,
        state,
        vars,
    })
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
        _ => "something else",
    }
}
