//! The machine's file system.

#![allow(clippy::disallowed_methods, reason = "the one place where files of this machine are touched")]

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::world::{AppendFile, Disk};

/// The machine's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemDisk;

#[expect(clippy::disallowed_methods, reason = "this is what the others go through")]
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// How names of files begin that are renamed as soon as they are on disk.
const TEMPORARY: &str = ".rollover-";
/// How many letters and digits follow.
const DRAWN: usize = 6;
/// So young a file may be one whose writer is just about to lock it.
const YOUNG: Duration = Duration::from_millis(100);

/// Removes what killed processes have left in a folder, keys perhaps: nobody holds its lock any more. What cannot be
/// removed stays.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let drawn = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY));
        if !drawn
            .is_some_and(|drawn| drawn.len() == DRAWN && drawn.bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            continue;
        }
        let Ok(found) = entry.metadata() else { continue };
        let age = found.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        if !found.is_file() || age < YOUNG {
            continue;
        }
        if let Ok(file) = fs::File::open(entry.path())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The bytes in a file of another name in the same folder, on disk.
fn staged(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sweep(folder);
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).rand_bytes(DRAWN).tempfile_in(folder)?;
    // Where a file system knows no locks, nobody sweeps either.
    let _ = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Gives a file the owner and group of the one that it replaces, as far as this user may.
fn keep_owner(file: &fs::File, old: &fs::Metadata) {
    if fchown(file, Some(old.uid()), Some(old.gid())).is_err() {
        let _ = fchown(file, None, Some(old.gid()));
    }
}

#[expect(clippy::disallowed_methods, reason = "this is what the others go through")]
impl Disk for SystemDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(fs::File::open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(dir)?
            .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn mode(&self, path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
    }

    fn make_dir(&self, dir: &Path, mode: u32) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.make_dir(parent, mode)?;
        }
        match fs::DirBuilder::new().mode(mode).create(dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            other => other?,
        }
        sync_folder_of(dir)
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        // A link stays one: what it names is replaced.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let file = staged(path, bytes, mode)?;
        if let Ok(old) = fs::metadata(path) {
            keep_owner(file.as_file(), &old);
        }
        file.persist(path).map_err(|e| e.error)?;
        sync_folder_of(path)
    }

    fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        staged(path, bytes, mode)?.persist_noclobber(path).map_err(|e| e.error)?;
        sync_folder_of(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => sync_folder_of(path),
        }
    }

    fn append(&self, path: &Path, len: u64, mode: u32) -> io::Result<Box<dyn AppendFile>> {
        let fresh = !path.exists();
        let file = fs::OpenOptions::new().create(true).append(true).mode(mode).open(path)?;
        file.set_len(len)?;
        file.sync_all()?;
        if fresh {
            sync_folder_of(path)?;
        }
        Ok(Box::new(SystemAppend(file)))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(file)),
            Err(e) => Err(e.into()),
        }
    }
}

struct SystemAppend(fs::File);

impl AppendFile for SystemAppend {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
