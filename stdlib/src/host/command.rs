//! `host::run`: a command on a host, for what only the host itself shows.

use serde_json::Value;

use super::calls::{entry_of, touch};
use super::port::Command;
use crate::error::PrimError;
use crate::gate::{Gate, Progress};
use crate::k8s::args;
use crate::looking::{Ended, KEPT, Looking, words};
use crate::registry::Touch;
use crate::world::World;

/// `host::run(host, command, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let wanted = Looking::of(world, args, 1)?;
    gate.holds().await?;
    gate.progress(Progress { text: format!("{}: `{}` runs", entry.name, words(&wanted.argv)), done: None });
    let input = wanted.stdin.as_ref().map(|stdin| stdin.expose().to_vec()).unwrap_or_default();
    let command = Command::new(wanted.argv.clone()).stdin(input).within(wanted.within).most(KEPT);
    let ended = world.hosts.host(&entry)?.run(command).await?;
    let err = ended.stderr.as_bytes();
    let ended = Ended {
        exit: ended.code.into(),
        stdout: &ended.stdout,
        stderr: err.get(..KEPT).unwrap_or(err),
        cut: ended.cut || err.len() > KEPT,
    };
    wanted.judged(("host", &entry.name), &entry.title(), &ended)
}

/// The command that a call's arguments name, as a manifest is compared with it. A word that is not known yet is an empty one.
pub(super) fn touches(args: &[Value]) -> Vec<Touch> {
    let list = args.get(1).and_then(Value::as_array).into_iter().flatten();
    let argv: Vec<String> = list.map(|word| word.as_str().unwrap_or_default().to_owned()).collect();
    vec![touch(args::hint(args, 0, super::calls::NAME_FIELD), &format!("command:{}", words(&argv)), false)]
}
