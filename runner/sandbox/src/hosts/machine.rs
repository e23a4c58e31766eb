//! One host of the sandbox.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::future::BoxFuture;
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::host::{Command, Fence, Found, Guard, Host, Move, Offset, Output, Put, Timer, TimerState};
use stdlib::world::Clock;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::commands;
use super::folder::{Node, Root};
use super::kept::Keeper;
use super::replace::{install, replace};
use super::timer::Armed;
use super::unit::Unit;

/// How much of a complaint is kept.
const COMPLAINT: usize = 16 << 10;
/// Room on a disk that is not full.
const ROOM: u64 = 8 << 30;

/// What goes wrong with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is off the network: nobody reaches it, and what it runs reaches nobody.
    Away,
    /// Its disk is full.
    Full,
    /// Its clock is so many seconds ahead.
    Ahead(i64),
}

#[derive(Default)]
pub(super) struct Inner {
    faults: Vec<Fault>,
    /// Owners that were asked for, where they are others than root.
    pub(super) owners: BTreeMap<String, String>,
    pub(super) timers: BTreeMap<String, Armed>,
}

/// A host.
pub struct Machine {
    me: Weak<Self>,
    name: String,
    root: Root,
    state: String,
    clock: Arc<dyn Clock>,
    /// Rings when a file was changed or a service was started or stopped.
    bell: watch::Sender<u64>,
    /// Also the lock that `flock` is on a real host: whoever reads a pair of files never sees half of a change.
    inner: Mutex<Inner>,
    units: Mutex<BTreeMap<String, (Keeper, Arc<Unit>)>>,
}

impl Machine {
    /// A host whose files lie below `folder`, with its state folder as itself has it.
    pub fn new(
        name: &str,
        folder: PathBuf,
        state: &str,
        clock: Arc<dyn Clock>,
        bell: watch::Sender<u64>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            name: name.to_owned(),
            root: Root::new(folder),
            state: state.to_owned(),
            clock,
            bell,
            inner: Mutex::default(),
            units: Mutex::default(),
        })
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn me(&self) -> Weak<Self> {
        self.me.clone()
    }

    pub(super) fn called(&self) -> &str {
        &self.name
    }

    pub(super) fn state(&self) -> &str {
        &self.state
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(super) fn rings(&self) {
        self.bell.send_modify(|rung| *rung = rung.wrapping_add(1));
    }

    /// Its own time.
    pub(super) fn now(&self) -> OffsetDateTime {
        let ahead: i64 =
            self.inner().faults.iter().map(|fault| if let Fault::Ahead(by) = fault { *by } else { 0 }).sum();
        self.clock.now() + time::Duration::seconds(ahead)
    }

    /// Puts a fault in force, or lifts it.
    pub fn fault(&self, fault: Fault, in_force: bool) {
        let mut inner = self.inner();
        inner.faults.retain(|known| *known != fault);
        if in_force {
            inner.faults.push(fault);
        }
        drop(inner);
        self.rings();
    }

    /// Whether this is wrong with it.
    pub fn has(&self, fault: Fault) -> bool {
        self.inner().faults.contains(&fault)
    }

    /// Gives it a service, and says who keeps it.
    pub fn add_unit(&self, keeper: Keeper, unit: Arc<Unit>) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.insert(unit.name().to_owned(), (keeper, unit));
    }

    /// Ends all its services, and forgets them.
    pub(super) fn forget_units(&self) {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A service by its name, whoever keeps it.
    pub fn unit(&self, name: &str) -> Option<Arc<Unit>> {
        self.kept(name).map(|(_, unit)| unit)
    }

    /// What one keeps here.
    pub(super) fn units_of(&self, keeper: Keeper) -> Vec<Arc<Unit>> {
        let units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        units.values().filter(|(kept, _)| *kept == keeper).map(|(_, unit)| Arc::clone(unit)).collect()
    }

    /// A service by its name, and who keeps it.
    pub(super) fn kept(&self, name: &str) -> Option<(Keeper, Arc<Unit>)> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Files of it at one moment: never some from before a change and some from after it.
    pub(super) fn files<const N: usize>(&self, paths: [&str; N]) -> Result<[Vec<u8>; N], String> {
        let _held = self.inner();
        let mut found = [const { Vec::new() }; N];
        for (slot, path) in found.iter_mut().zip(paths) {
            *slot = self.root.bytes(path).map_err(|error| format!("open {path}: {error}"))?;
        }
        Ok(found)
    }

    pub(super) fn touch(&self, path: &str) -> io::Result<()> {
        let held = self.inner();
        if matches!(self.root.node(path)?, Node::Nothing) {
            let spot = self.root.spot(path)?;
            Root::settle(&Root::stage(&spot, 0, b"", 0o644)?, &spot)?;
        }
        drop(held);
        self.rings();
        Ok(())
    }

    pub(super) fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        let held = self.inner();
        let (bytes, spot) = (self.root.bytes(from)?, self.root.spot(to)?);
        Root::settle(&Root::stage(&spot, 0, &bytes, 0o644)?, &spot)?;
        drop(held);
        self.rings();
        Ok(())
    }

    pub(super) fn reached(&self) -> Result<(), PrimError> {
        if self.has(Fault::Away) {
            return Err(PrimError::new(Code::Unavailable, "cannot be reached: no route to host")
                .on(self.name.clone()));
        }
        Ok(())
    }

    pub(super) fn checked(&self, path: &str) -> Result<(), PrimError> {
        self.reached()?;
        if path.starts_with('/') && !path.contains(['\n', '\0']) {
            return Ok(());
        }
        Err(PrimError::argument("is no absolute path").on(format!("{}:{}", self.name, path.escape_debug())))
    }

    pub(super) fn failed(&self, path: &str, error: &io::Error) -> PrimError {
        PrimError::new(Code::Unavailable, format!("the host could not do it: {error}"))
            .on(format!("{}:{path}", self.name))
    }

    /// That its mark names this token. The caller holds the lock.
    pub(super) fn guarded(&self, fence: Option<&Fence>) -> Result<(), PrimError> {
        let Some(fence) = fence else { return Ok(()) };
        let mark = self.root.bytes(&format!("{}/mark.json", self.state)).unwrap_or_default();
        if String::from_utf8_lossy(&mark).contains(&format!("\"{}\"", fence.token)) {
            return Ok(());
        }
        Err(PrimError::new(Code::Locked, "the hold on this host was lost: its mark names another process")
            .on(self.name.clone())
            .hint("`rollover status` tells who works on it"))
    }
}

/// Whose a file is, by number and by name: root's where nothing else was asked for. Its users beside root are known by name
/// alone.
fn owned(kept: Option<&String>) -> (String, String) {
    let kept = kept.map_or("0:0", String::as_str);
    let each = |from: &str, to: &str| {
        kept.split(':').map(|part| if part == from { to } else { part }).collect::<Vec<_>>().join(":")
    };
    (each("root", "0"), each("0", "root"))
}

/// What `chown` makes of an owner: who names no group changes none.
fn given(owner: &str, before: &str) -> String {
    match (owner.contains(':'), before.split_once(':')) {
        (false, Some((_, group))) => format!("{owner}:{group}"),
        _ => owner.to_owned(),
    }
}

impl Host for Machine {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&self, command: Command) -> BoxFuture<'_, Result<Output, PrimError>> {
        Box::pin(async move {
            self.reached()?;
            {
                let _held = self.inner();
                self.guarded(command.fence.as_ref())?;
            }
            let done = tokio::select! {
                done = commands::run(self, &command.argv, &command.stdin) => done,
                () = self.clock.sleep(command.within) => {
                    let text = format!("`{}` took longer than {:.0}s", command.argv.join(" "), command.within.as_secs_f64());
                    return Err(PrimError::new(Code::Timeout, text).on(self.name.clone()));
                }
            };
            let mut stdout = done.stdout;
            let cut = stdout.len() > command.most;
            stdout.truncate(command.most);
            let stderr = done.stderr.chars().take(COMPLAINT).collect();
            Ok(Output { code: done.code, stdout: stdout.into(), stderr, cut })
        })
    }

    fn read<'a>(&'a self, path: &'a str, most: usize) -> BoxFuture<'a, Result<Option<Found>, PrimError>> {
        Box::pin(async move {
            self.checked(path)?;
            let inner = self.inner();
            match self.root.node(path).map_err(|error| self.failed(path, &error))? {
                Node::Nothing => Ok(None),
                Node::Other => {
                    Err(PrimError::invalid("is no regular file").on(format!("{}:{path}", self.name)))
                }
                Node::File(file) => {
                    let size = file.bytes.len() as u64;
                    let mut bytes = file.bytes;
                    bytes.truncate(most);
                    let (owner, owner_names) = owned(inner.owners.get(&file.spot.path));
                    Ok(Some(Found {
                        bytes: bytes.into(),
                        size,
                        mode: file.mode,
                        owner,
                        owner_names,
                        real: file.spot.path,
                    }))
                }
            }
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, PrimError>> {
        Box::pin(async move {
            self.checked(folder)?;
            self.root.list(folder).map_err(|error| self.failed(folder, &error))
        })
    }

    fn replace<'a>(
        &'a self,
        puts: &'a [Put],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            for put in puts {
                self.checked(&put.path)?;
            }
            let mut inner = self.inner();
            self.guarded(fence)?;
            if inner.faults.contains(&Fault::Full) && puts.iter().any(|put| put.bytes.is_some()) {
                let path = puts.first().map(|put| put.path.clone()).unwrap_or_default();
                return Err(PrimError::new(
                    Code::Unavailable,
                    "the host could not do it: No space left on device",
                )
                .on(format!("{}:{path}", self.name))
                .hint("make room there, then resume"));
            }
            let changed = replace(&self.root, &self.name, puts)?;
            for (spot, put) in changed.into_iter().zip(puts) {
                match (&put.bytes, &put.owner) {
                    (Some(_), Some(owner)) => {
                        let (before, _) = owned(inner.owners.get(&spot.path));
                        drop(inner.owners.insert(spot.path, given(owner, &before)));
                    }
                    (None, _) => drop(inner.owners.remove(&spot.path)),
                    _ => {}
                }
            }
            drop(inner);
            self.rings();
            Ok(())
        })
    }

    fn install<'a>(
        &'a self,
        moves: &'a [Move],
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move {
            for one in moves {
                self.checked(&one.from)?;
                self.checked(&one.to)?;
            }
            let mut inner = self.inner();
            self.guarded(fence)?;
            for (from, to) in install(&self.root, &self.name, moves)? {
                // A renamed file keeps whose it is.
                match inner.owners.remove(&from.path) {
                    Some(owner) => drop(inner.owners.insert(to.path, owner)),
                    None => drop(inner.owners.remove(&to.path)),
                }
            }
            drop(inner);
            self.rings();
            Ok(())
        })
    }

    fn clock<'a>(&'a self, ours: &'a dyn Clock) -> BoxFuture<'a, Result<Offset, PrimError>> {
        Box::pin(async move {
            self.reached()?;
            let before = ours.now();
            let theirs = self.now();
            Ok(Offset::between(before, theirs, ours.now()))
        })
    }

    fn free<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<u64, PrimError>> {
        Box::pin(async move {
            self.checked(path)?;
            match self.root.node(path).map_err(|error| self.failed(path, &error))? {
                Node::Nothing => Err(PrimError::new(
                    Code::Unavailable,
                    format!("the host could not do it: df: {path}: No such file or directory"),
                )
                .on(format!("{}:{path}", self.name))),
                _ if self.has(Fault::Full) => Ok(0),
                _ => Ok(ROOM),
            }
        })
    }

    fn arm<'a>(&'a self, guard: &'a Guard, fence: Option<&'a Fence>) -> BoxFuture<'a, Result<(), PrimError>> {
        Box::pin(async move { self.arm_timer(guard, fence) })
    }

    fn timers(&self) -> BoxFuture<'_, Result<Vec<Timer>, PrimError>> {
        Box::pin(async move { self.look_at_timers() })
    }

    fn disarm<'a>(
        &'a self,
        key: &'a str,
        id: &'a str,
        state: TimerState,
        fence: Option<&'a Fence>,
    ) -> BoxFuture<'a, Result<bool, PrimError>> {
        Box::pin(async move { self.disarm_timer(key, id, state, fence) })
    }
}
