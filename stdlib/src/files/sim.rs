//! A disk in memory that forgets, when it crashes, what was not synced.
//!
//! It keeps two views: what processes see now, and what would be there after a power cut. Bytes reach the second by
//! a sync of their file, names by a sync of their folder. Every write and every sync counts, and any of them can be
//! told to fail, so that a test can stop a program at each.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::world::{AppendFile, Disk};

/// What may go wrong on a [`SimDisk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The nth write from now (1 is the next) fails. A failed append leaves half of its bytes.
    Write(u64),
    /// The nth sync from now, of a file or of a folder, fails. As on Linux, what it should have made durable is lost
    /// at the next crash even if a later sync of the same file succeeds.
    Sync(u64),
    /// The disk holds this many bytes in all.
    Full(u64),
    /// Nothing at or below this path can be written.
    ReadOnly(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder { mode: u32 },
    File { inode: u64, mode: u32 },
}

#[derive(Debug, Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// How much of `bytes` survives a crash.
    synced: usize,
    /// A sync failed: the pages count as clean although they are not on disk, so no later sync saves them.
    doomed: bool,
}

#[derive(Debug, Default)]
struct Inner {
    seen: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locks: HashSet<PathBuf>,
    /// Counts crashes: handles from before one are dead.
    life: u64,
    halted: bool,
    writes: u64,
    syncs: u64,
    fail_write: Option<u64>,
    fail_sync: Option<u64>,
    capacity: Option<u64>,
    read_only: Vec<PathBuf>,
    /// The state of the generator of torn tails; `None` when every unsynced byte is lost.
    torn: Option<u64>,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    /// An empty disk on which a crash loses every byte that was not synced.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk on which a crash keeps some prefix of the bytes that were appended and not synced, chosen by the
    /// seed.
    pub fn with_torn_tails(seed: u64) -> Self {
        let disk = Self::default();
        disk.inner().torn = Some(seed);
        disk
    }

    /// A power cut and a reboot: what was not durable is gone, locks are free, handles of before are dead.
    pub fn crash(&self) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.seen = inner.durable.clone();
        let kept: HashSet<u64> = inner.seen.values().filter_map(Node::inode).collect();
        inner.inodes.retain(|id, _| kept.contains(id));
        for inode in inner.inodes.values_mut() {
            let unsynced = inode.bytes.len().saturating_sub(inode.synced);
            let kept = match &mut inner.torn {
                Some(state) if !inode.doomed => below(state, unsynced + 1),
                _ => 0,
            };
            inode.bytes.truncate(inode.synced + kept);
            inode.synced = inode.bytes.len();
            inode.doomed = false;
        }
        inner.locks.clear();
        inner.life += 1;
        inner.halted = false;
    }

    /// From now until [`SimDisk::crash`] every call fails: the process that used the disk is dead, whatever tasks of
    /// it still linger.
    pub fn halt(&self) {
        self.inner().halted = true;
    }

    /// The process died but the machine did not: unsynced bytes stay, locks are free, handles of before are dead.
    pub fn kill(&self) {
        let mut inner = self.inner();
        inner.locks.clear();
        inner.life += 1;
        inner.halted = false;
    }

    /// Makes something go wrong.
    pub fn inject(&self, fault: Fault) {
        let mut inner = self.inner();
        match fault {
            Fault::Write(nth) => inner.fail_write = Some(inner.writes + nth),
            Fault::Sync(nth) => inner.fail_sync = Some(inner.syncs + nth),
            Fault::Full(bytes) => inner.capacity = Some(bytes),
            Fault::ReadOnly(path) => inner.read_only.push(path),
        }
    }

    /// Takes back all faults that have not struck.
    pub fn heal(&self) {
        let mut inner = self.inner();
        inner.fail_write = None;
        inner.fail_sync = None;
        inner.capacity = None;
        inner.read_only.clear();
    }

    /// How many writes and syncs there were, failed ones included.
    pub fn counts(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.writes, inner.syncs)
    }

    /// All files with their contents, as processes see them now.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let inner = self.inner();
        let content = |id: u64| inner.inodes.get(&id).map(|i| i.bytes.clone()).unwrap_or_default();
        inner.seen.iter().filter_map(|(path, node)| Some((path.clone(), content(node.inode()?)))).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk of a process that lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.inner();
        if inner.halted {
            Err(io::Error::other("the process that used this disk is dead"))
        } else {
            Ok(inner)
        }
    }
}

impl Node {
    fn inode(&self) -> Option<u64> {
        match self {
            Node::File { inode, .. } => Some(*inode),
            Node::Folder { .. } => None,
        }
    }
}

/// SplitMix64, cut to `0..bound`: enough randomness for the length of a torn tail, and no dependency.
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    usize::try_from(z % u64::try_from(bound.max(1)).unwrap_or(u64::MAX)).unwrap_or(0)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("{}: no such file or folder", path.display()))
}

impl Inner {
    fn node(&self, path: &Path) -> io::Result<Node> {
        if path == Path::new("/") || path.as_os_str().is_empty() || path == Path::new(".") {
            return Ok(Node::Folder { mode: 0o755 });
        }
        self.seen.get(path).copied().ok_or_else(|| not_found(path))
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent().map(|parent| self.node(parent)) {
            None | Some(Ok(Node::Folder { .. })) => Ok(()),
            Some(Ok(Node::File { .. })) => Err(io::Error::new(ErrorKind::NotADirectory, "not a folder")),
            Some(Err(e)) => Err(e),
        }
    }

    fn writable(&self, path: &Path) -> io::Result<()> {
        if self.read_only.iter().any(|root| path.starts_with(root)) {
            let text = format!("{}: read-only file system", path.display());
            return Err(io::Error::new(ErrorKind::ReadOnlyFilesystem, text));
        }
        Ok(())
    }

    /// Counts one write of so many bytes.
    fn write(&mut self, bytes: usize) -> io::Result<()> {
        self.writes += 1;
        if self.fail_write == Some(self.writes) {
            self.fail_write = None;
            return Err(io::Error::other("input/output error (injected write failure)"));
        }
        if let Some(capacity) = self.capacity {
            let held: usize = self.inodes.values().map(|inode| inode.bytes.len()).sum();
            if u64::try_from(held + bytes).unwrap_or(u64::MAX) > capacity {
                return Err(io::Error::new(ErrorKind::StorageFull, "no space left on device"));
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        if self.fail_sync == Some(self.syncs) {
            self.fail_sync = None;
            return Err(io::Error::other("input/output error (injected sync failure)"));
        }
        Ok(())
    }

    fn sync_inode(&mut self, id: u64) -> io::Result<()> {
        let result = self.sync();
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.doomed |= result.is_err();
            if !inode.doomed {
                inode.synced = inode.bytes.len();
            }
        }
        result
    }

    /// fsync of the folder of `path`: its names become durable as they are seen now.
    fn sync_folder_of(&mut self, path: &Path) -> io::Result<()> {
        self.sync()?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.durable.retain(|entry, _| entry.parent() != Some(&folder));
        let entries = self.seen.iter().filter(|(entry, _)| entry.parent() == Some(&folder));
        self.durable.extend(entries.map(|(entry, node)| (entry.clone(), *node)));
        let named: HashSet<u64> =
            self.seen.values().chain(self.durable.values()).filter_map(Node::inode).collect();
        self.inodes.retain(|id, _| named.contains(id));
        Ok(())
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::default());
        self.next_inode
    }
}

impl Disk for SimDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.alive()?;
        match inner.node(path)?.inode().and_then(|id| inner.inodes.get(&id)) {
            Some(inode) => Ok(inode.bytes.clone()),
            None => Err(io::Error::new(ErrorKind::IsADirectory, format!("{}: is a folder", path.display()))),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.alive()?;
        if inner.node(dir)?.inode().is_some() {
            return Err(io::Error::new(ErrorKind::NotADirectory, format!("{}: not a folder", dir.display())));
        }
        let names = inner.seen.keys().filter(|entry| entry.parent() == Some(dir));
        Ok(names.filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn exists(&self, path: &Path) -> bool {
        self.alive().is_ok_and(|inner| inner.node(path).is_ok())
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        match self.alive()?.node(path)? {
            Node::Folder { mode } | Node::File { mode, .. } => Ok(mode),
        }
    }

    fn make_dir(&self, dir: &Path, mode: u32) -> io::Result<()> {
        let mut inner = self.alive()?;
        let mut missing: Vec<&Path> = Vec::new();
        for folder in dir.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            match inner.node(folder) {
                Ok(Node::Folder { .. }) => break,
                Ok(Node::File { .. }) => {
                    return Err(io::Error::new(ErrorKind::AlreadyExists, "a file of this name exists"));
                }
                Err(_) => missing.push(folder),
            }
        }
        for folder in missing.into_iter().rev() {
            inner.writable(folder)?;
            inner.write(0)?;
            inner.seen.insert(folder.to_owned(), Node::Folder { mode });
            inner.sync_folder_of(folder)?;
        }
        Ok(())
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let mut inner = self.alive()?;
        inner.parent_exists(path)?;
        if matches!(inner.node(path), Ok(Node::Folder { .. })) {
            return Err(io::Error::new(ErrorKind::IsADirectory, format!("{}: is a folder", path.display())));
        }
        inner.writable(path)?;
        inner.write(bytes.len())?;
        let inode = inner.new_inode();
        if let Some(fresh) = inner.inodes.get_mut(&inode) {
            bytes.clone_into(&mut fresh.bytes);
        }
        inner.sync_inode(inode)?;
        inner.seen.insert(path.to_owned(), Node::File { inode, mode });
        inner.sync_folder_of(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.alive()?;
        match inner.node(path) {
            Err(_) => Ok(()),
            Ok(Node::Folder { .. }) => {
                Err(io::Error::new(ErrorKind::IsADirectory, format!("{}: is a folder", path.display())))
            }
            Ok(Node::File { .. }) => {
                inner.writable(path)?;
                inner.write(0)?;
                inner.seen.remove(path);
                inner.sync_folder_of(path)
            }
        }
    }

    fn append(&self, path: &Path, len: u64, mode: u32) -> io::Result<Box<dyn AppendFile>> {
        let mut inner = self.alive()?;
        inner.parent_exists(path)?;
        inner.writable(path)?;
        let (inode, fresh) = match inner.node(path) {
            Ok(Node::File { inode, .. }) => (inode, false),
            Ok(Node::Folder { .. }) => {
                return Err(io::Error::new(
                    ErrorKind::IsADirectory,
                    format!("{}: is a folder", path.display()),
                ));
            }
            Err(_) => {
                inner.write(0)?;
                let inode = inner.new_inode();
                inner.seen.insert(path.to_owned(), Node::File { inode, mode });
                (inode, true)
            }
        };
        if let (Some(file), Ok(len)) = (inner.inodes.get_mut(&inode), usize::try_from(len)) {
            file.bytes.resize(len, 0);
            file.synced = file.synced.min(len);
        }
        inner.sync_inode(inode)?;
        if fresh {
            inner.sync_folder_of(path)?;
        }
        let life = inner.life;
        Ok(Box::new(SimAppend { disk: self.clone(), path: path.to_owned(), inode, life }))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut inner = self.alive()?;
        inner.parent_exists(path)?;
        if inner.node(path).is_err() {
            inner.writable(path)?;
            inner.write(0)?;
            let inode = inner.new_inode();
            inner.seen.insert(path.to_owned(), Node::File { inode, mode: 0o600 });
        }
        if !inner.locks.insert(path.to_owned()) {
            return Err(io::Error::new(ErrorKind::WouldBlock, "held by another process"));
        }
        let life = inner.life;
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), life }))
    }
}

struct SimAppend {
    disk: SimDisk,
    path: PathBuf,
    inode: u64,
    life: u64,
}

impl SimAppend {
    fn alive(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.alive()?;
        if inner.life == self.life {
            Ok(inner)
        } else {
            Err(io::Error::other("this file was opened before the crash"))
        }
    }
}

impl AppendFile for SimAppend {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.alive()?;
        inner.writable(&self.path)?;
        let result = inner.write(bytes.len());
        let written = if result.is_ok() { bytes } else { bytes.get(..bytes.len() / 2).unwrap_or_default() };
        if let Some(inode) = inner.inodes.get_mut(&self.inode) {
            inode.bytes.extend_from_slice(written);
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.alive()?.sync_inode(self.inode)
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.life == self.life {
            inner.locks.remove(&self.path);
        }
    }
}
