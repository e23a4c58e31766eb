//! `host::root`: whether we act as root on hosts, asked before anything is planned.

use futures::future::join_all;
use serde_json::{Value, json};

use super::inventory::{Connection, Entry};
use super::port::Command;
use crate::error::{Code, PrimError};
use crate::world::World;

/// As whom we act there, by number; `forbidden` where that is not root.
async fn one(world: &World, entry: &Entry) -> Result<Value, PrimError> {
    let output = world.hosts.host(entry)?.run(Command::new(["id", "-u"])).await?;
    let text = output.text();
    match text.trim() {
        "0" => Ok(json!({ "host": entry.name, "uid": "0" })),
        uid if output.code == 0 && uid.parse::<u32>().is_ok() => {
            Err(PrimError::new(Code::Forbidden, "we do not act as root there")
                .on(entry.title())
                .expected("user 0", format!("user {uid}"))
                .hint(remedy(entry)))
        }
        _ => Err(PrimError::new(
            Code::Unavailable,
            format!("`id -u` does not tell who we are: {}", output.complaint()),
        )
        .on(entry.title())),
    }
}

/// What to type, by how the inventory has it.
fn remedy(entry: &Entry) -> String {
    match (&entry.r#become, entry.connection) {
        (Some(user), _) if user != "root" => {
            format!("the inventory has `ansible_become_user: {user}`: leave it out, and root is meant")
        }
        (_, Connection::Local) => {
            "it is this machine (`ansible_connection: local`): run rollover as root, or set `ansible_become: true` for it, once `sudo -n true` works".into()
        }
        _ => format!(
            "set `ansible_become: true` for it in the inventory, once `ssh {} sudo -n true` works; or log in as root (`ansible_user: root`)",
            entry.address
        ),
    }
}

/// `host::root(hosts)`: all are asked, and what each lacks is said at once.
pub(super) async fn root(world: &World, entries: &[Entry]) -> Result<Value, PrimError> {
    let asked = join_all(entries.iter().map(|entry| one(world, entry))).await;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for answer in asked {
        match answer {
            Ok(row) => rows.push(row),
            Err(error) => failed.push(error),
        }
    }
    let mut failed = failed.into_iter();
    let Some(first) = failed.next() else { return Ok(Value::Array(rows)) };
    let others: Vec<String> = failed.map(|error| error.to_string()).collect();
    if others.is_empty() {
        return Err(first);
    }
    let message = format!("{}; and {}", first.message, others.join("; and "));
    Err(PrimError { message, ..first })
}
