//! `host::run`: a command on a host, for what only the host itself shows.
//!
//! It is a proof, as `k8s::exec` is: whatever it runs must only look. What a command does cannot be known, announced, or put
//! back, so what changes the world has primitives of its own.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::calls::{entry_of, touch};
use super::inventory::Entry;
use super::port::{Command, Output};
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::args;
use crate::registry::Touch;
use crate::secret::{Secret, handle_id, not_a_key};
use crate::world::World;

/// How long a command may take, unless told otherwise.
const WITHIN: Duration = Duration::from_secs(30);
/// The most that is kept of what a command prints, on each stream.
const KEPT: usize = 8 << 10;
/// The most that a command is given to read.
const INPUT: usize = 1 << 20;
/// What is told of errors in an error.
const WORDS: usize = 300;
/// The fields of the options.
const OPTIONS: [&str; 4] = ["stdin", "within", "exit", "stdout"];

/// What is asked of a host.
struct Wanted {
    argv: Vec<String>,
    stdin: Option<Secret>,
    /// Whether that was given as a secret.
    secret: bool,
    within: Duration,
    exit: i64,
    stdout: Option<String>,
}

/// `host::run(host, command, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let wanted = wanted(world, args)?;
    gate.holds().await?;
    gate.progress(Progress { text: format!("{}: `{}` runs", entry.name, words(&wanted.argv)), done: None });
    let input = wanted.stdin.as_ref().map(|stdin| stdin.expose().to_vec()).unwrap_or_default();
    let command = Command::new(wanted.argv.clone()).stdin(input).within(wanted.within).most(KEPT);
    let ended = world.hosts.host(&entry)?.run(command).await?;
    judged(&entry, &wanted, &ended)
}

fn wanted(world: &World, args: &[Value]) -> Result<Wanted, PrimError> {
    let wrong = || {
        PrimError::argument("`command` is no list of texts")
            .expected("a program and its arguments, e.g. `[\"cat\", \"/etc/hostname\"]`", "something else")
            .hint("there is no shell; where one is wanted, it is the program: `[\"sh\", \"-c\", \"…\"]`")
    };
    let list = args.get(1).and_then(Value::as_array).ok_or_else(wrong)?;
    let argv: Option<Vec<String>> = list.iter().map(|word| word.as_str().map(str::to_owned)).collect();
    let argv =
        argv.filter(|argv| argv.first().is_some_and(|program| !program.is_empty())).ok_or_else(wrong)?;
    for word in &argv {
        not_a_key(word, "command")?;
        if word.contains('\0') {
            return Err(PrimError::argument("`command` has a zero byte, which no argument can have"));
        }
    }
    let none = Map::new();
    let options = match args.get(2) {
        None | Some(Value::Null) => &none,
        Some(_) => args::map(args, 2, "options")?,
    };
    if let Some(unknown) = options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        return Err(PrimError::argument(format!("`options` has an unknown field `{unknown}`"))
            .expected(format!("`{}`", OPTIONS.join("`, `")), format!("`{unknown}`")));
    }
    let stdin = match options.get("stdin") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => {
            not_a_key(text, "options.stdin")?;
            Some(Secret::new(text.clone().into_bytes(), "stdin"))
        }
        Some(handle) if handle_id(handle).is_some() => Some(world.secrets.get(handle)?),
        Some(_) => {
            return Err(PrimError::argument("`options.stdin` is neither a text nor the handle of a secret"));
        }
    };
    if stdin.as_ref().is_some_and(|stdin| stdin.expose().len() > INPUT) {
        return Err(PrimError::argument("`options.stdin` is too large").expected("at most 1 MiB", "more"));
    }
    let within = match options.get("within").and_then(Value::as_str) {
        None => WITHIN,
        Some(text) => crate::duration::parse(text).map_err(PrimError::argument)?,
    };
    Ok(Wanted {
        argv,
        secret: options.get("stdin").is_some_and(|stdin| handle_id(stdin).is_some()),
        stdin,
        within,
        exit: options.get("exit").and_then(Value::as_i64).unwrap_or(0),
        stdout: options.get("stdout").and_then(Value::as_str).map(str::to_owned),
    })
}

/// A command as a shell would be given it: what a manifest is compared with.
fn words(argv: &[String]) -> String {
    shlex::try_join(argv.iter().map(String::as_str)).unwrap_or_default()
}

/// The command that a call's arguments name. A word that is not known yet is an empty one.
pub(super) fn touches(args: &[Value]) -> Vec<Touch> {
    let list = args.get(1).and_then(Value::as_array).into_iter().flatten();
    let argv: Vec<String> = list.map(|word| word.as_str().unwrap_or_default().to_owned()).collect();
    vec![touch(args::hint(args, 0, super::calls::NAME_FIELD), &format!("command:{}", words(&argv)), false)]
}

/// Whether it is as it should be; what is told of it becomes part of the record.
fn judged(entry: &Entry, wanted: &Wanted, ended: &Output) -> Result<Value, PrimError> {
    let on = || entry.title();
    let out = ended.text();
    let cut = ended.cut || ended.stderr.len() > KEPT;
    let given = wanted.stdin.as_ref().filter(|_| wanted.secret).map(Secret::expose).unwrap_or_default();
    let given = given.trim_ascii();
    let repeats = |bytes: &[u8]| !given.is_empty() && bytes.windows(given.len()).any(|part| part == given);
    let key = |text: &str| not_a_key(text, "").is_err() || text.contains("PRIVATE KEY-----");
    if repeats(&ended.stdout) || repeats(ended.stderr.as_bytes()) || key(&out) || key(&ended.stderr) {
        return Err(PrimError::invalid("the command printed a secret; nothing of it is kept")
            .on(on())
            .hint("have it print a digest instead"));
    }
    let err: String = ended.stderr.chars().take(KEPT).collect();
    let first = |text: &str| -> String { text.trim().chars().take(WORDS).collect() };
    let command = words(&wanted.argv);
    if i64::from(ended.code) != wanted.exit {
        let said = if err.trim().is_empty() { &out } else { &err };
        return Err(PrimError::new(Code::Unproved, format!("`{command}` ended with another exit code"))
            .on(on())
            .expected(wanted.exit.to_string(), format!("{}: {}", ended.code, first(said))));
    }
    if let Some(wanted) = wanted.stdout.as_ref().filter(|wanted| !out.contains(wanted.as_str())) {
        return Err(PrimError::new(Code::Unproved, format!("`{command}` does not print what it should"))
            .on(on())
            .expected(format!("`{wanted}`"), format!("`{}`", first(&out))));
    }
    Ok(json!({ "host": entry.name, "exit": ended.code, "stdout": out, "stderr": err, "cut": cut }))
}
