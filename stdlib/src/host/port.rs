//! The port to a host: what may be done there, whoever does it.

use std::time::Duration;

use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::timer::{Guard, State, Timer};
use crate::error::PrimError;
use crate::world::Clock;

/// The digest of a file that is not there.
pub const ABSENT: &str = "absent";

/// The digest by which a file on a host is compared before it is replaced: SHA-256 of its bytes, in hex. It never
/// reaches the record, which knows secrets by keyed digests.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A command to run: an argument vector, no shell.
#[derive(Clone)]
pub struct Command {
    /// The program and its arguments. Never a secret: every user of the host can see them.
    pub argv: Vec<String>,
    /// What it reads.
    pub stdin: Zeroizing<Vec<u8>>,
    /// How long it may take. What takes longer is ended on the host.
    pub within: Duration,
    /// How many bytes of its output are wanted; what is longer is cut, and said to be.
    pub most: usize,
    /// The hold on the host without which it is not run.
    pub fence: Option<Fence>,
}

impl Command {
    /// A command without input, for half a minute and 1 MiB at most.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            stdin: Zeroizing::default(),
            within: Duration::from_secs(30),
            most: 1 << 20,
            fence: None,
        }
    }
    /// What it reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Zeroizing::new(bytes.into());
        self
    }
    /// How long it may take.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
    /// How many bytes of its output are wanted.
    #[must_use]
    pub fn most(mut self, most: usize) -> Self {
        self.most = most;
        self
    }
    /// Runs only while this hold stands.
    #[must_use]
    pub fn fenced(mut self, fence: Option<Fence>) -> Self {
        self.fence = fence;
        self
    }
}

/// What a command came to.
#[derive(Clone)]
pub struct Output {
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// What it wrote, at most as much as was wanted.
    pub stdout: Zeroizing<Vec<u8>>,
    /// What it complained of, at most 16 KiB.
    pub stderr: String,
    /// Whether more was written than was wanted.
    pub cut: bool,
}

impl Output {
    /// Its output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
    /// The last line of its complaint, or its exit code where it made none.
    pub fn complaint(&self) -> String {
        let last = self.stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
        last.map_or_else(|| format!("exit code {}", self.code), str::to_owned)
    }
}

/// The token of a run's hold on a host: what changes the host first looks whether its mark still names this token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The token.
    pub token: String,
}

/// A file that was read.
#[derive(Clone)]
pub struct Found {
    /// Its bytes, at most as many as were wanted.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Its length.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// `uid:gid`.
    pub owner: String,
    /// The same by name, `user:group`, as far as the host knows names.
    pub owner_names: String,
    /// Where it lies after links are followed.
    pub real: String,
}

/// One file to replace or remove.
#[derive(Clone)]
pub struct Put {
    /// Absolute path. A link is followed: what it leads to is replaced.
    pub path: String,
    /// The digest that must be there, or [`ABSENT`].
    pub before: String,
    /// The new bytes; `None` removes it.
    pub bytes: Option<Zeroizing<Vec<u8>>>,
    /// The new permission bits; without them those that it has, or 0600 where it is new.
    pub mode: Option<u32>,
    /// The new owner, `user:group`; without it the one that it has.
    pub owner: Option<String>,
}

/// A file that lies beside its place, to be renamed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Where it lies: in the folder of its place.
    pub from: String,
    /// The digest that it must have.
    pub staged: String,
    /// Its place. A link is followed: what it leads to is replaced.
    pub to: String,
    /// The digest that must be there, or [`ABSENT`].
    pub before: String,
}

/// How far a host's clock is ahead of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Ahead, in milliseconds; negative where it is behind.
    pub millis: i64,
    /// How far that may be off, from the time that asking took.
    pub give_or_take: u64,
}

impl Offset {
    /// From the host's time, and ours before and after it was asked.
    pub fn between(before: OffsetDateTime, theirs: OffsetDateTime, after: OffsetDateTime) -> Self {
        let took = (after - before).max(time::Duration::ZERO);
        let millis = |span: time::Duration| i64::try_from(span.whole_milliseconds()).unwrap_or(i64::MAX);
        Self {
            millis: millis(theirs - (before + took / 2)),
            give_or_take: u64::try_from(millis(took / 2)).unwrap_or(0),
        }
    }
}

/// A host. What it says of itself it says now; nothing is kept.
pub trait Host: Send + Sync {
    /// Its name in the inventory.
    fn name(&self) -> &str;

    /// Runs a command and waits for its end.
    ///
    /// # Errors
    /// The host cannot be reached, refuses us, or the command took too long. An exit code is no error.
    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, PrimError>>;

    /// Reads a file of which at most `most` bytes are wanted.
    ///
    /// # Errors
    /// It is no file, or may not be read. A file that is not there is no error.
    fn read<'a>(&'a self, path: &'a str, most: usize) -> BoxFuture<'a, Result<Option<Found>, PrimError>>;

    /// Reads several files, in one exchange where it can.
    ///
    /// # Errors
    /// As [`Host::read`], of the first that has one.
    fn read_all<'a>(
        &'a self,
        paths: &'a [String],
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Found>>, PrimError>> {
        Box::pin(async move {
            let mut found = Vec::with_capacity(paths.len());
            for path in paths {
                found.push(self.read(path, most).await?);
            }
            Ok(found)
        })
    }

    /// Names of the entries of a folder, sorted; `None` where there is no such folder.
    ///
    /// # Errors
    /// It is no folder, or may not be read.
    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, PrimError>>;

    /// Replaces files: all are compared, then all are staged beside their places and synced, then all are renamed, then
    /// the folders are synced. A reader sees each old or new, never half, and a failure before the first rename leaves
    /// all as they were.
    ///
    /// # Errors
    /// [`crate::error::Code::Conflict`] where a file is not what it must be, [`crate::error::Code::Locked`] where the
    /// hold is lost; nothing was changed then.
    fn replace<'a>(
        &'a self,
        puts: &'a [Put],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>>;

    /// Renames files that lie beside their places: all are compared, then all are renamed, then the folders are synced. It
    /// needs no room. What was renamed before a failure stays so.
    ///
    /// # Errors
    /// As [`Host::replace`].
    fn install<'a>(
        &'a self,
        moves: &'a [Move],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>>;

    /// Its clock beside ours.
    ///
    /// # Errors
    /// It cannot be asked.
    fn clock<'a>(&'a self, ours: &'a dyn Clock) -> BoxFuture<'a, Result<Offset, PrimError>>;

    /// Bytes that are free where a path lies.
    ///
    /// # Errors
    /// There is no such path.
    fn free<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<u64, PrimError>>;

    /// Arms a timer on the host itself: unless it is disarmed in time, the host makes these puts and runs this command,
    /// whether anybody is connected or not. It takes the place of an earlier one of the same key. When this returns the
    /// timer runs. Its copies lie in the state folder, nobody else's to read, until it is disarmed. It does not survive a
    /// reboot.
    ///
    /// # Errors
    /// As [`Host::replace`]; no timer was armed then, and an earlier one waits as before.
    fn arm<'a>(&'a self, guard: &'a Guard, fence: Option<&'a Fence>) -> BoxFuture<'a, Result<(), PrimError>>;

    /// The timers on this host, and what became of them.
    ///
    /// # Errors
    /// The host cannot be asked.
    fn timers(&self) -> BoxFuture<'_, Result<Vec<Timer>, PrimError>>;

    /// Removes a timer that is in this state, with its copies: `Armed` confirms the change. Returns whether it did; `false`
    /// where there is no such timer, or it is in another state.
    ///
    /// # Errors
    /// [`crate::error::Code::Locked`] where the hold is lost; the host cannot be asked.
    fn disarm<'a>(
        &'a self,
        key: &'a str,
        id: &'a str,
        state: State,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<bool, PrimError>>;
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_offset_is_taken_from_the_middle_of_the_question() {
        let before = datetime!(2026-06-01 12:00:00 UTC);
        let after = datetime!(2026-06-01 12:00:02 UTC);
        let theirs = datetime!(2026-06-01 12:10:01 UTC);
        assert_eq!(Offset::between(before, theirs, after), Offset { millis: 600_000, give_or_take: 1_000 });
        // Our own clock was put back meanwhile: no negative spans.
        assert_eq!(Offset::between(after, theirs, before).give_or_take, 0);
    }
}
