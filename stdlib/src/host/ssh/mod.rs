//! A host over the operator's own OpenSSH: one connection a host, and few shells on it that stay.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Semaphore;

mod told;
mod way;

use super::inventory::Entry;
use super::local::spawn;
use super::port::Output;
use super::posix::{Job, TIMED_OUT, Transport};
use super::shell::{self, Lost, Shell};
use crate::error::{Code, PrimError};
use way::{ALWAYS, HOPS, Hop, Resolved};

/// How long connecting may take, key exchange and jump hosts included.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a connection outlives its last command, ours being dead or not.
const PERSIST: &str = "ControlPersist=30";
/// How many commands run beside each other: a server's `MaxSessions` is 10 unless it says otherwise.
const SHELLS: usize = 4;
/// A connection to a host.
pub struct Ssh {
    entry: Entry,
    socket: PathBuf,
    log: PathBuf,
    /// `-F` of the inventory, and its other arguments.
    given: Option<String>,
    args: Vec<String>,
    /// How OpenSSH is to go, once that is known.
    way: tokio::sync::OnceCell<Way>,
    connecting: tokio::sync::Mutex<()>,
    /// Shells that wait for a command, and how many may be at work at one time.
    waiting: Mutex<Vec<Shell>>,
    shells: Semaphore,
    /// The login leads to none: each command has a session of its own.
    no_shell: AtomicBool,
    /// Kept for as long as somebody may connect.
    _folder: Arc<TempDir>,
}

/// What OpenSSH says of a connection that it does not make.
#[derive(Default)]
struct Again {
    said: String,
    shown: Option<String>,
}

/// How OpenSSH is to go to a host.
struct Way {
    /// The configuration that holds for the host and all on the way to it.
    config: PathBuf,
    /// A ProxyCommand in place of the operator's, where that is an `ssh`.
    command: Option<String>,
}

impl Ssh {
    /// To this host, with the control socket in this folder, which must be ours alone.
    pub fn new(entry: Entry, folder: Arc<TempDir>) -> Self {
        // A socket's path is short; names are not.
        let stem: String = super::port::digest(entry.name.as_bytes()).chars().take(12).collect();
        let (socket, log) = (folder.path().join(&stem), folder.path().join(format!("{stem}.log")));
        let (given, args) = way::without_config(&entry.args);
        Self {
            entry,
            socket,
            log,
            given,
            args,
            way: tokio::sync::OnceCell::new(),
            connecting: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            shells: Semaphore::new(SHELLS),
            no_shell: AtomicBool::new(false),
            _folder: folder,
        }
    }

    fn ssh(&self, more: &[&str]) -> Command {
        let through = self.way.get().and_then(|way| way.command.as_deref());
        self.through(through.unwrap_or_default(), more)
    }

    /// By this ProxyCommand, or by what the configuration says where it is empty.
    fn through(&self, proxy: &str, more: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-T").arg("-o").arg(format!("ControlPath={}", self.socket.display()));
        if let Some(way) = self.way.get() {
            command.arg("-F").arg(&way.config);
        }
        if !proxy.is_empty() {
            command.arg("-o").arg(format!("ProxyCommand={proxy}"));
        }
        self.options(&mut command, more);
        command
    }

    fn options(&self, command: &mut Command, more: &[&str]) {
        for option in ALWAYS.iter().chain(more) {
            command.arg("-o").arg(option);
        }
        let entry = &self.entry;
        if let Some(port) = entry.port {
            command.arg("-p").arg(port.to_string());
        }
        if let Some(user) = &entry.user {
            command.arg("-l").arg(user);
        }
        if let Some(key) = &entry.key_file {
            command.arg("-i").arg(key).arg("-o").arg("IdentitiesOnly=yes");
        }
        command.args(&self.args);
    }

    /// Writes the configurations that hold on the way, and asks OpenSSH which way it would go.
    async fn find_way(&self) -> Result<Way, PrimError> {
        let given = self.given.as_deref().map(|file| self.config_file(file)).transpose()?;
        let config = self.socket.with_extension("config");
        Self::write_config(&config, given.as_deref())?;
        let mut found = Way { config, command: None };
        let target = self.resolved(&found.config).await?;
        let Some(command) = target.command else { return Ok(found) };
        // Its `ssh` reads what ssh reads, whatever `-F` ours has.
        let others = self.socket.with_extension("others");
        Self::write_config(&others, None)?;
        found.command = way::held(&command, &others.display().to_string());
        Ok(found)
    }

    #[expect(clippy::disallowed_methods, reason = "OpenSSH's own files: its configuration")]
    fn write_config(path: &Path, given: Option<&str>) -> Result<(), PrimError> {
        std::fs::write(path, way::config(given)).map_err(|error| {
            PrimError::new(Code::Unavailable, format!("cannot write {}: {error}", path.display()))
        })
    }

    /// The configuration that the inventory names, as OpenSSH takes it wherever it is named.
    #[expect(clippy::disallowed_methods, reason = "OpenSSH's own files: its configuration")]
    fn config_file(&self, file: &str) -> Result<String, PrimError> {
        if file == "none" {
            return Ok(file.to_owned());
        }
        let invalid = |message: String| PrimError::invalid(message).on(self.entry.title());
        let path = std::path::absolute(file)
            .map_err(|error| invalid(format!("`-F {file}` names no file: {error}")))?;
        std::fs::File::open(&path)
            .map_err(|error| invalid(format!("`-F {file}` names a file that cannot be read: {error}")))?;
        let path = path.display().to_string();
        if way::plain(&path) {
            return Ok(path);
        }
        Err(invalid("`-F` names a file with a character that means something to OpenSSH".into())
            .expected("none of `* ? [ \" \\ % $`", format!("`{path}`")))
    }

    /// The host as OpenSSH would reach it.
    async fn resolved(&self, config: &Path) -> Result<Resolved, PrimError> {
        let mut command = Command::new("ssh");
        command.arg("-G").arg("-F").arg(config);
        self.options(&mut command, &[]);
        self.asked(command, &self.entry.address).await
    }

    async fn asked(&self, mut command: Command, address: &str) -> Result<Resolved, PrimError> {
        command.arg("--").arg(address);
        let output = spawn(command, b"", CONNECT, 256 << 10)
            .await
            .map_err(|error| self.unreachable(&error.message).hint("install the OpenSSH client"))?;
        if output.code != 0 {
            return Err(self.unreachable(&output.complaint()).hint(
                "OpenSSH does not take its configuration, or the arguments of the inventory: `ssh -G` with the same tells why",
            ));
        }
        Ok(Resolved::parse(address, &output.text()))
    }

    /// Every jump host on the way, the nearest to us first.
    async fn hops(&self, config: &Path, target: &Resolved) -> Vec<Resolved> {
        let mut hops: Vec<Resolved> = Vec::new();
        let mut open: Vec<Hop> = target.jumps.clone();
        while !open.is_empty() && hops.len() < HOPS {
            let mut found = Vec::new();
            for hop in &open {
                let mut command = Command::new("ssh");
                command.arg("-G").arg("-F").arg(config);
                for (flag, value) in [("-l", &hop.user), ("-p", &hop.port)] {
                    if let Some(value) = value {
                        command.arg(flag).arg(value);
                    }
                }
                let Ok(hop) = self.asked(command, &hop.host).await else { return hops };
                found.push(hop);
            }
            // Only the nearest may have a way of its own: the others are reached by the one before.
            open = found.first().map(|hop| hop.jumps.clone()).unwrap_or_default();
            if open.len() == 1
                && found.first().is_some_and(|hop| open.first().is_some_and(|own| own.host == hop.asked))
            {
                open.clear();
            }
            found.append(&mut hops);
            hops = found;
        }
        hops
    }

    /// Connects where no connection stands.
    #[expect(clippy::disallowed_methods, reason = "OpenSSH's own files: its log and its socket")]
    async fn connect(&self) -> Result<(), PrimError> {
        let _alone = self.connecting.lock().await;
        if self.socket.exists() {
            return Ok(());
        }
        self.way.get_or_try_init(|| self.find_way()).await?;
        let mut command = self.ssh(&["ControlMaster=yes", PERSIST]);
        command.arg("--").arg(&self.entry.address).arg("true");
        // The connection that stays behind keeps its stderr open: a file, or we would wait for it.
        let log = std::fs::File::create(&self.log).map_err(|error| {
            PrimError::new(Code::Unavailable, format!("cannot write {}: {error}", self.log.display()))
        })?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let status = tokio::time::timeout(CONNECT, async { command.spawn()?.wait().await })
            .await
            .map_err(|_| self.unreachable("it does not answer"))?
            .map_err(|error| {
                self.unreachable(&format!("cannot run `ssh`: {error}")).hint("install the OpenSSH client")
            })?;
        if status.success() {
            return Ok(());
        }
        let said = std::fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        self.forget();
        Err(self.refused(&said).await)
    }

    /// Lets go of a connection that is of no use.
    #[expect(clippy::disallowed_methods, reason = "OpenSSH's own file: its socket")]
    fn forget(&self) {
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Why it did not connect, in the operator's words.
    async fn refused(&self, said: &str) -> PrimError {
        let (target, hops) = match self.way.get() {
            None => (None, Vec::new()),
            Some(way) => match self.resolved(&way.config).await {
                Ok(target) => {
                    let hops = self.hops(&way.config, &target).await;
                    (Some(target), hops)
                }
                Err(_) => (None, Vec::new()),
            },
        };
        let on_the_way = !hops.is_empty() || target.as_ref().is_some_and(|target| target.command.is_some());
        let again =
            if on_the_way || told::wants_key(said) { self.asked_again().await } else { Again::default() };
        // A connection that is to stay keeps to itself what an `ssh` on the way to it says.
        let said = if on_the_way && !again.said.is_empty() { &again.said } else { said };
        told::refused(&self.entry, target.as_ref(), &hops, said, again.shown)
    }

    fn unreachable(&self, why: &str) -> PrimError {
        told::unreachable(&self.entry, why)
    }

    /// What it says when it is asked again, as a connection does that does not stay, and the last key that was shown then, by
    /// the host or by one on the way to it.
    async fn asked_again(&self) -> Again {
        let mut command = self.ssh(&["ControlMaster=no"]);
        if let Some(through) = self.way.get().and_then(|way| way.command.as_ref()) {
            command = self.through(&through.replacen(" -F ", " -v -F ", 1), &["ControlMaster=no"]);
        }
        command.arg("-v").arg("--").arg(&self.entry.address).arg("true");
        let Ok(output) = spawn(command, b"", CONNECT, 1024).await else { return Again::default() };
        if output.code == 0 {
            return Again::default();
        }
        let lines = || output.stderr.lines().map(str::trim_end);
        let shown = lines().rfind(|line| line.contains("Server host key:"));
        Again {
            said: lines().filter(|line| !line.starts_with("debug")).collect::<Vec<_>>().join("\n"),
            shown: shown.and_then(|line| Some(line.split("Server host key:").nth(1)?.trim().to_owned())),
        }
    }
}

impl Ssh {
    fn line(argv: &[String]) -> String {
        let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
        words.join(" ")
    }

    /// A session of the connection, for a command line of the login shell's.
    fn session(&self, line: String) -> Command {
        let mut command = self.ssh(&["ControlMaster=no", "LogLevel=ERROR"]);
        command.arg("--").arg(&self.entry.address).arg(line);
        command
    }

    /// Runs a command in a session of its own.
    async fn by_itself(&self, job: Job<'_>) -> Result<Output, PrimError> {
        let output = spawn(self.session(Self::line(job.argv)), job.stdin, job.within, job.most)
            .await
            .map_err(|error| error.on(self.entry.title()))?;
        if output.code == 255 {
            // ssh itself; the next command connects anew.
            self.forget();
            return Err(self.refused(&output.stderr).await);
        }
        Ok(output)
    }

    /// A shell that waits; nothing where the login leads to none.
    async fn shell(&self) -> Result<Option<Shell>, PrimError> {
        while let Some(mut shell) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            if shell.lives() {
                return Ok(Some(shell));
            }
        }
        let word = shell::word();
        let started = Shell::start(self.session(Self::line(&shell::argv(&word))), &word);
        match tokio::time::timeout(CONNECT, started).await {
            Ok(Ok(shell)) => Ok(Some(shell)),
            Ok(Err(Lost { code: Some(255), said })) => {
                self.forget();
                Err(self.refused(&said).await)
            }
            Ok(Err(_)) | Err(_) => {
                self.no_shell.store(true, Ordering::Relaxed);
                Ok(None)
            }
        }
    }
}

impl Transport for Ssh {
    fn exec<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Result<Output, PrimError>> {
        Box::pin(async move {
            if !self.socket.exists() {
                self.connect().await?;
            }
            if self.no_shell.load(Ordering::Relaxed) {
                return self.by_itself(job).await;
            }
            let _one_of_few =
                self.shells.acquire().await.map_err(|error| PrimError::internal(error.to_string()))?;
            let Some(mut shell) = self.shell().await? else { return self.by_itself(job).await };
            let ran =
                tokio::time::timeout(job.within, shell.run(&Self::line(job.argv), job.stdin, job.most)).await;
            match ran {
                Ok(Ok(output)) => {
                    // Something may have been left behind that still writes.
                    if !job.alone && output.code != TIMED_OUT {
                        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(shell);
                    }
                    Ok(output)
                }
                Ok(Err(lost)) => {
                    self.forget();
                    Err(self.refused(&lost.said).await)
                }
                Err(_) => {
                    let text = format!("it did not answer within {}s", job.within.as_secs());
                    Err(PrimError::new(Code::Timeout, text).on(self.entry.title()))
                }
            }
        })
    }
}

/// A word that the login shell on the host takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::quoted;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        #[allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a shell judges")]
        fn a_shell_takes_every_word_as_it_is(words in proptest::collection::vec("[^\0]{0,12}", 1..4)) {
            let line: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            let script = format!("printf '%s\\0' {}", line.join(" "));
            let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
            let expected: String = words.join("\0") + "\0";
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        }
    }
}
