//! A command that only looks, wherever it runs: what a call says of it, and whether it ended as it should.
//!
//! What a command does cannot be known, announced, or put back, so it is a proof and nothing else. What it prints becomes part
//! of the record: secrets are given by standard input alone, and a command that prints one fails.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::error::{Code, PrimError};
use crate::k8s::args;
use crate::secret::{Secret, handle_id, not_a_key};
use crate::world::World;

/// How long a command may take, unless told otherwise.
const WITHIN: Duration = Duration::from_secs(30);
/// The most that is kept of what a command prints, on each stream, in bytes.
pub(crate) const KEPT: usize = 8 << 10;
/// The most that a command is given to read.
const INPUT: usize = 1 << 20;
/// What is told of a text in an error.
const WORDS: usize = 300;
/// The fields of the options.
const OPTIONS: [&str; 4] = ["stdin", "within", "exit", "stdout"];

/// A command, and how it should end.
pub(crate) struct Looking {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// What it is given to read.
    pub(crate) stdin: Option<Secret>,
    /// How long it may take.
    pub(crate) within: Duration,
    /// Whether its input was given as a secret.
    secret: bool,
    exit: i64,
    stdout: Option<String>,
}

/// How a command ended.
pub(crate) struct Ended<'a> {
    /// Its exit code.
    pub(crate) exit: i64,
    /// What it printed, as far as it is kept.
    pub(crate) stdout: &'a [u8],
    /// What it said of errors, as far as it is kept.
    pub(crate) stderr: &'a [u8],
    /// Whether it printed more than is kept.
    pub(crate) cut: bool,
}

impl Looking {
    /// Reads the command that stands at `index` among the arguments of a call, with its options behind it.
    pub(crate) fn of(world: &World, call: &[Value], index: usize) -> Result<Self, PrimError> {
        let wrong = || {
            PrimError::argument("`command` is no list of texts")
                .expected("a program and its arguments, e.g. `[\"cat\", \"/etc/hosts\"]`", "something else")
                .hint("there is no shell; where one is wanted, it is the program: `[\"sh\", \"-c\", \"…\"]`")
        };
        let list = call.get(index).and_then(Value::as_array).ok_or_else(wrong)?;
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
        let options = match call.get(index + 1) {
            None | Some(Value::Null) => &none,
            Some(_) => args::map(call, index + 1, "options")?,
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
                return Err(PrimError::argument(
                    "`options.stdin` is neither a text nor the handle of a secret",
                ));
            }
        };
        if stdin.as_ref().is_some_and(|stdin| stdin.expose().len() > INPUT) {
            return Err(PrimError::argument("`options.stdin` is too large").expected("at most 1 MiB", "more"));
        }
        let within = match options.get("within").and_then(Value::as_str) {
            None => WITHIN,
            Some(text) => crate::duration::parse(text).map_err(PrimError::argument)?,
        };
        Ok(Self {
            argv,
            secret: options.get("stdin").is_some_and(|stdin| handle_id(stdin).is_some()),
            stdin,
            within,
            exit: options.get("exit").and_then(Value::as_i64).unwrap_or(0),
            stdout: options.get("stdout").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Whether it is as it should be. `on` is where it ran, under the name of that field; what is told becomes part of the
    /// record.
    pub(crate) fn judged(
        &self,
        (field, name): (&str, &str),
        on: &str,
        ended: &Ended<'_>,
    ) -> Result<Value, PrimError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(ended.stdout), text(ended.stderr));
        let given = self.stdin.as_ref().filter(|_| self.secret).map(Secret::expose).unwrap_or_default();
        let given = given.trim_ascii();
        let repeats =
            |bytes: &[u8]| !given.is_empty() && bytes.windows(given.len()).any(|part| part == given);
        let key = |text: &str| not_a_key(text, "").is_err() || text.contains("PRIVATE KEY-----");
        if repeats(ended.stdout) || repeats(ended.stderr) || key(&out) || key(&err) {
            return Err(PrimError::invalid("the command printed a secret; nothing of it is kept")
                .on(on)
                .hint("have it print a digest instead"));
        }
        let first = |text: &str| -> String { text.trim().chars().take(WORDS).collect() };
        let command = words(&self.argv);
        if ended.exit != self.exit {
            let said = if err.trim().is_empty() { &out } else { &err };
            return Err(PrimError::new(Code::Unproved, format!("`{command}` ended with another exit code"))
                .on(on)
                .expected(self.exit.to_string(), format!("{}: {}", ended.exit, first(said))));
        }
        if let Some(wanted) = self.stdout.as_ref().filter(|wanted| !out.contains(wanted.as_str())) {
            return Err(PrimError::new(Code::Unproved, format!("`{command}` does not print what it should"))
                .on(on)
                .expected(format!("`{wanted}`"), format!("`{}`", first(&out))));
        }
        Ok(json!({ field: name, "exit": ended.exit, "stdout": out, "stderr": err, "cut": ended.cut }))
    }
}

/// A command as a shell would be given it.
pub(crate) fn words(argv: &[String]) -> String {
    shlex::try_join(argv.iter().map(String::as_str)).unwrap_or_default()
}
