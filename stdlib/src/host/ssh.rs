//! A host over the operator's own OpenSSH: one connection a host, and few shells on it that stay.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::inventory::Entry;
use super::local::spawn;
use super::port::Output;
use super::posix::{Job, TIMED_OUT, Transport};
use super::shell::{self, Lost, Shell};
use crate::error::{Code, PrimError};

/// How long connecting may take, key exchange and jump hosts included.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a connection outlives its last command, ours being dead or not.
const PERSIST: &str = "ControlPersist=30";
/// How many commands run beside each other: a server's `MaxSessions` is 10 unless it says otherwise.
const SHELLS: usize = 4;
/// What always holds, before whatever the inventory says: OpenSSH takes the first value of each option.
const ALWAYS: [&str; 6] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
];

/// A connection to a host.
pub struct Ssh {
    entry: Entry,
    socket: PathBuf,
    log: PathBuf,
    connecting: tokio::sync::Mutex<()>,
    /// Shells that wait for a command, and how many may be at work at one time.
    waiting: Mutex<Vec<Shell>>,
    shells: Semaphore,
    /// The login leads to none: each command has a session of its own.
    no_shell: AtomicBool,
    /// Kept for as long as somebody may connect.
    _folder: Arc<TempDir>,
}

impl Ssh {
    /// To this host, with the control socket in this folder, which must be ours alone.
    pub fn new(entry: Entry, folder: Arc<TempDir>) -> Self {
        // A socket's path is short; names are not.
        let stem: String = super::port::digest(entry.name.as_bytes()).chars().take(12).collect();
        let (socket, log) = (folder.path().join(&stem), folder.path().join(format!("{stem}.log")));
        Self {
            entry,
            socket,
            log,
            connecting: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            shells: Semaphore::new(SHELLS),
            no_shell: AtomicBool::new(false),
            _folder: folder,
        }
    }

    fn ssh(&self, more: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-T").arg("-o").arg(format!("ControlPath={}", self.socket.display()));
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
        command.args(&entry.args);
        command
    }

    /// Connects where no connection stands.
    #[expect(clippy::disallowed_methods, reason = "OpenSSH's own files: its log and its socket")]
    async fn connect(&self) -> Result<(), PrimError> {
        let _alone = self.connecting.lock().await;
        if self.socket.exists() {
            return Ok(());
        }
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
        let entry = &self.entry;
        let port = entry.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        if said.contains("HOST IDENTIFICATION HAS CHANGED") {
            let shown =
                said.lines().skip_while(|line| !line.contains("fingerprint for")).nth(1).unwrap_or_default();
            return PrimError::new(Code::Forbidden, "its host key is another than the one that is known")
                .on(entry.title())
                .expected("the key in known_hosts", shown.trim().trim_end_matches('.'))
                .hint("find out why before anything else; if the host was set up anew, `ssh-keygen -R` its name and add the new key");
        }
        if said.contains("Host key verification failed") || said.contains("host key is known for") {
            let shown = self.shown_key().await.unwrap_or_else(|| "a key that could not be read".into());
            return PrimError::new(Code::Forbidden, "its host key is not known")
                .on(entry.title())
                .expected("a key in known_hosts", shown)
                .hint(format!(
                    "compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host; if it is the same, `ssh-keyscan {port}{} >> ~/.ssh/known_hosts`",
                    entry.address
                ));
        }
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("ssh failed");
        if said.contains("Permission denied") {
            return PrimError::new(Code::Forbidden, format!("refuses us: {last}"))
                .on(entry.title())
                .hint(format!("try `ssh {port}{}`; name the key with `ansible_ssh_private_key_file`, or add it to your agent", entry.address));
        }
        self.unreachable(last)
    }

    fn unreachable(&self, why: &str) -> PrimError {
        PrimError::new(Code::Unavailable, format!("cannot be reached: {why}")).on(self.entry.title())
    }

    /// The key that it shows: asked for as a connection does, so that jump hosts are no obstacle.
    async fn shown_key(&self) -> Option<String> {
        let mut command = self.ssh(&["ControlMaster=no"]);
        command.arg("-v").arg("--").arg(&self.entry.address).arg("true");
        let output = spawn(command, b"", CONNECT, 1024).await.ok()?;
        let line = output.stderr.lines().rfind(|line| line.contains("Server host key:"))?;
        Some(line.split("Server host key:").nth(1)?.trim().to_owned())
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
