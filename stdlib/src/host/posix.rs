//! A host that has a POSIX shell and GNU coreutils, over whatever runs an argument vector there.

use std::time::Duration;

use base64::Engine as _;
use futures::future::BoxFuture;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::port::{Command, Fence, Found, Host, Move, Offset, Output, Put};
use super::scripts;
use super::timer::{Guard, State, Timer};
use crate::error::{Code, PrimError};
use crate::world::Clock;

/// What a transport is to run.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// What it reads.
    pub stdin: &'a [u8],
    /// When it is ended by us.
    pub within: Duration,
    /// How many bytes of its output are kept.
    pub most: usize,
    /// It may leave something running that keeps its output open, as a restart does: nothing runs after it in its shell.
    pub alone: bool,
}

/// Runs argument vectors somewhere.
pub trait Transport: Send + Sync {
    /// Runs one, ended by us after `within`.
    ///
    /// # Errors
    /// The host cannot be reached or refuses us, or `within` has passed ([`Code::Timeout`]).
    fn exec<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Result<Output, PrimError>>;
}

/// How much longer we wait for a host than it waits for its own command.
const GRACE: Duration = Duration::from_secs(10);
/// The exit code with which `timeout` says that it ended a command.
pub(super) const TIMED_OUT: i32 = 124;

/// A host over a transport.
pub struct Posix<T> {
    pub(super) name: String,
    pub(super) state: String,
    r#become: Option<String>,
    transport: T,
}

impl<T: Transport> Posix<T> {
    /// A host by its name, with the folder for our lock and mark on it, and the user to become by `sudo`.
    pub fn new(name: &str, state: &str, r#become: Option<String>, transport: T) -> Self {
        Self { name: name.to_owned(), state: state.to_owned(), r#become, transport }
    }

    async fn exec(
        &self,
        argv: &[String],
        stdin: &[u8],
        within: Duration,
        most: usize,
        alone: bool,
    ) -> Result<Output, PrimError> {
        let mut full: Vec<String> = Vec::with_capacity(argv.len() + 9);
        if let Some(user) = &self.r#become {
            full.extend(["sudo", "-n", "-u", user, "--"].map(str::to_owned));
        }
        // It ends there too when nobody waits for it any more.
        let seconds = within.as_secs_f64().max(0.1);
        full.extend(["timeout".to_owned(), "-k".into(), "5".into(), format!("{seconds:.1}")]);
        full.extend(argv.iter().cloned());
        tracing::debug!(host = self.name, "runs `{}`", shown(argv));
        let output =
            self.transport.exec(Job { argv: &full, stdin, within: within + GRACE, most, alone }).await?;
        if output.code == TIMED_OUT {
            return Err(self.fail(Code::Timeout, format!("`{}` took longer than {seconds:.0}s", shown(argv))));
        }
        if output.stderr.contains("sudo: a password is required")
            || output.stderr.contains("is not in the sudoers file")
        {
            let user = self.r#become.as_deref().unwrap_or("root");
            return Err(self
                .fail(Code::Forbidden, format!("may not become `{user}`: {}", output.complaint()))
                .hint(format!("`ssh` there and try `sudo -n -u {user} true`; allow it in sudoers with NOPASSWD, or leave `ansible_become` out")));
        }
        Ok(output)
    }

    pub(super) async fn script(
        &self,
        text: &str,
        args: &[&str],
        stdin: &[u8],
        most: usize,
    ) -> Result<Output, PrimError> {
        let mut argv: Vec<String> = ["sh", "-c", text, "rollover"].map(str::to_owned).into();
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.exec(&argv, stdin, Duration::from_secs(60), most, false).await
    }

    fn fail(&self, code: Code, message: impl Into<String>) -> PrimError {
        PrimError::new(code, message).on(self.name.clone())
    }

    /// A failure at a path, in the operator's words.
    fn failed(&self, path: &str, output: &Output) -> PrimError {
        let text = output.complaint();
        let on = format!("{}:{path}", self.name);
        let denied = ["Permission denied", "Read-only file system", "Operation not permitted"];
        if denied.iter().any(|word| text.contains(word)) {
            return PrimError::new(Code::Forbidden, format!("the host refuses it: {text}"))
                .on(on)
                .hint("set `ansible_become: true` in the inventory, or mount the file system for writing");
        }
        let error = PrimError::new(Code::Unavailable, format!("the host could not do it: {text}")).on(on);
        if text.contains("No space left") {
            return error.hint("make room there, then resume");
        }
        if text.contains("Device or resource busy") {
            return error.hint(
                "`findmnt` there shows the mount in its place: unmount it, or name the file that is mounted",
            );
        }
        error
    }

    /// What a script that holds the lock came to; `first` is what it is about where it does not say.
    pub(super) fn judged(&self, first: &str, output: &Output) -> Result<(), PrimError> {
        match output.code {
            0 => Ok(()),
            scripts::FENCED => Err(self.lost()),
            scripts::BUSY => Err(self.fail(Code::Unavailable, output.complaint())),
            scripts::SHORT => {
                Err(self.fail(Code::Unavailable, "the connection broke off while a file was sent"))
            }
            scripts::CONFLICT => {
                Err(PrimError::new(Code::Conflict, "somebody else has changed the file just now")
                    .on(format!("{}:{}", self.name, output.complaint())))
            }
            _ => Err(self.failed(first, output)),
        }
    }

    fn lost(&self) -> PrimError {
        self.fail(Code::Locked, "the hold on this host was lost: its mark names another process")
            .hint("`rollover status` tells who works on it")
    }
}

/// Files to replace as the scripts take them: four arguments each; the digests, then the contents on standard input.
pub(super) fn parcel(name: &str, puts: &[Put]) -> Result<(Vec<String>, Zeroizing<Vec<u8>>), PrimError> {
    let mut args = Vec::with_capacity(puts.len() * 4);
    let mut stdin = Zeroizing::new(Vec::new());
    for put in puts {
        checked(name, &put.path)?;
        let mode = put.mode.map_or_else(|| "-".to_owned(), |mode| format!("{mode:04o}"));
        let size = put.bytes.as_ref().map_or_else(|| "-".to_owned(), |bytes| bytes.len().to_string());
        args.extend([put.path.clone(), mode, put.owner.clone().unwrap_or_else(|| "-".into()), size]);
        stdin.extend_from_slice(put.before.as_bytes());
        stdin.push(b'\n');
    }
    for bytes in puts.iter().filter_map(|put| put.bytes.as_ref()) {
        stdin.extend_from_slice(bytes);
    }
    Ok((args, stdin))
}

/// A command for people.
fn shown(argv: &[String]) -> String {
    match argv {
        [shell, flag, ..] if shell == "sh" && flag == "-c" => "a script of ours".to_owned(),
        _ => argv.join(" "),
    }
}

/// A path as scripts on hosts take it.
fn checked(name: &str, path: &str) -> Result<(), PrimError> {
    if path.starts_with('/') && !path.contains(['\n', '\0']) {
        return Ok(());
    }
    Err(PrimError::argument("is no absolute path").on(format!("{name}:{}", path.escape_debug())))
}

impl<T: Transport> Host for Posix<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, PrimError>> {
        Box::pin(async move {
            let Some(fence) = &command.fence else {
                return self.exec(&command.argv, &command.stdin, command.within, command.most, false).await;
            };
            let mut argv: Vec<String> = ["sh", "-c", scripts::GUARD, "rollover"].map(str::to_owned).into();
            argv.extend([self.state.clone(), fence.token.clone()]);
            argv.extend(command.argv);
            let output = self.exec(&argv, &command.stdin, command.within, command.most, true).await?;
            if output.code == scripts::FENCED { Err(self.lost()) } else { Ok(output) }
        })
    }

    fn read<'a>(&'a self, path: &'a str, most: usize) -> BoxFuture<'a, Result<Option<Found>, PrimError>> {
        Box::pin(async move {
            checked(&self.name, path)?;
            let output = self.script(scripts::READ, &[path, &most.to_string()], b"", most + 8192).await?;
            if output.code != 0 {
                return Err(self.failed(path, &output));
            }
            parse_found(&output.stdout)
                .map_err(|message| PrimError::invalid(message).on(format!("{}:{path}", self.name)))
        })
    }

    fn read_all<'a>(
        &'a self,
        paths: &'a [String],
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Found>>, PrimError>> {
        Box::pin(async move {
            if let [path] = paths {
                return Ok(vec![self.read(path, most).await?]);
            }
            if paths.is_empty() {
                return Ok(Vec::new());
            }
            for path in paths {
                checked(&self.name, path)?;
            }
            let most_text = most.to_string();
            let args: Vec<&str> =
                std::iter::once(most_text.as_str()).chain(paths.iter().map(String::as_str)).collect();
            let room = (most / 3 * 4 + 8192).saturating_mul(paths.len());
            let output = self.script(scripts::READ_ALL, &args, b"", room).await?;
            let mut rest = output.stdout.as_slice();
            let mut all = Vec::with_capacity(paths.len());
            for path in paths {
                // The first of which nothing is told is the one at which it ended.
                if rest.is_empty() {
                    return Err(self.failed(path, &output));
                }
                let (found, next) = parse_coded(rest)
                    .map_err(|message| PrimError::invalid(message).on(format!("{}:{path}", self.name)))?;
                all.push(found);
                rest = next;
            }
            Ok(all)
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, PrimError>> {
        Box::pin(async move {
            checked(&self.name, folder)?;
            let output = self.script(scripts::LIST, &[folder], b"", 1 << 20).await?;
            if output.code != 0 {
                return Err(self.failed(folder, &output));
            }
            let text = output.text();
            let mut parts = text.split('\0').filter(|part| !part.is_empty());
            if parts.next() == Some("absent") {
                return Ok(None);
            }
            let mut names: Vec<String> = parts.map(str::to_owned).collect();
            names.sort();
            Ok(Some(names))
        })
    }

    fn replace<'a>(
        &'a self,
        puts: &'a [Put],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            let token = fence.map_or("-", |fence| fence.token.as_str());
            let (files, stdin) = parcel(&self.name, puts)?;
            let mut args = vec![self.state.as_str(), token];
            args.extend(files.iter().map(String::as_str));
            let output = self.script(scripts::REPLACE, &args, &stdin, 4096).await?;
            self.judged(puts.first().map_or("", |put| put.path.as_str()), &output)
        })
    }

    fn install<'a>(
        &'a self,
        moves: &'a [Move],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            let token = fence.map_or("-", |fence| fence.token.as_str());
            let mut args = vec![self.state.as_str(), token];
            let mut stdin = String::new();
            for one in moves {
                checked(&self.name, &one.from)?;
                checked(&self.name, &one.to)?;
                args.extend([one.from.as_str(), one.to.as_str()]);
                stdin += &format!("{}\n{}\n", one.staged, one.before);
            }
            let output = self.script(scripts::INSTALL, &args, stdin.as_bytes(), 4096).await?;
            self.judged(moves.first().map_or("", |one| one.to.as_str()), &output)
        })
    }

    fn clock<'a>(&'a self, ours: &'a dyn Clock) -> BoxFuture<'a, Result<Offset, PrimError>> {
        Box::pin(async move {
            // The first question may have to connect; the second one is the measurement.
            let ask = || self.run(Command::new(["date", "+%s%N"]));
            ask().await?;
            let before = ours.now();
            let output = ask().await?;
            let after = ours.now();
            let theirs = output
                .text()
                .trim()
                .parse()
                .ok()
                .and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok())
                .ok_or_else(|| self.fail(Code::Invalid, "`date` does not tell the time"))?;
            Ok(Offset::between(before, theirs, after))
        })
    }

    fn free<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<u64, PrimError>> {
        Box::pin(async move {
            checked(&self.name, path)?;
            let output = self.run(Command::new(["df", "-Pk", "--", path])).await?;
            if output.code != 0 {
                return Err(self.failed(path, &output));
            }
            let kib: Option<u64> = output
                .text()
                .lines()
                .nth(1)
                .and_then(|line| line.split_whitespace().nth(3))
                .and_then(|word| word.parse().ok());
            kib.map(|kib| kib.saturating_mul(1024))
                .ok_or_else(|| self.fail(Code::Invalid, "`df` does not tell how much is free"))
        })
    }

    fn arm<'a>(&'a self, guard: &'a Guard, fence: Option<&'a Fence>) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(self.arm_timer(guard, fence))
    }

    fn timers(&self) -> BoxFuture<'_, Result<Vec<Timer>, PrimError>> {
        Box::pin(self.look_at_timers())
    }

    fn disarm<'a>(
        &'a self,
        key: &'a str,
        id: &'a str,
        state: State,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<bool, PrimError>> {
        Box::pin(self.disarm_timer(key, id, state, fence))
    }
}

const BROKEN: &str = "the host does not tell what the file is";

/// A line, and what follows it.
fn line(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = from.iter().position(|byte| *byte == b'\n')?;
    Some((from.get(..end)?, from.get(end + 1..)?))
}

/// Reads what [`scripts::READ`] writes.
fn parse_found(bytes: &[u8]) -> Result<Option<Found>, &'static str> {
    let (found, rest) = parse_facts(bytes)?;
    Ok(found.map(|found| Found { bytes: Zeroizing::new(rest.to_vec()), ..found }))
}

/// Reads what [`scripts::READ_ALL`] writes of one file, and what follows it.
fn parse_coded(bytes: &[u8]) -> Result<(Option<Found>, &[u8]), &'static str> {
    let (found, rest) = parse_facts(bytes)?;
    let Some(found) = found else { return Ok((None, rest)) };
    let (coded, rest) = line(rest).ok_or(BROKEN)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(coded).map_err(|_| BROKEN)?;
    Ok((Some(Found { bytes: Zeroizing::new(bytes), ..found }), rest))
}

/// What a file is, without its bytes, and what follows.
fn parse_facts(bytes: &[u8]) -> Result<(Option<Found>, &[u8]), &'static str> {
    let broken = BROKEN;
    let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    let (facts, rest) = line(bytes).ok_or(broken)?;
    let facts = text(facts);
    if facts == "absent" {
        return Ok((None, rest));
    }
    if facts.starts_with("other ") {
        return Err("is no regular file");
    }
    let (names, rest) = line(rest).ok_or(broken)?;
    let (real, rest) = line(rest).ok_or(broken)?;
    let mut words = facts.strip_prefix("file ").ok_or(broken)?.split(' ');
    let mode = words.next().and_then(|word| u32::from_str_radix(word, 8).ok()).ok_or(broken)?;
    let owner = words.next().ok_or(broken)?.to_owned();
    let size = words.next().and_then(|word| word.parse().ok()).ok_or(broken)?;
    let (owner_names, real) = (text(names), text(real));
    Ok((Some(Found { bytes: Zeroizing::default(), size, mode, owner, owner_names, real }), rest))
}
