//! Both disks keep the same contract; only one of them can crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::{Fault, SimDisk, SystemDisk};
use crate::world::{AppendFile, Disk};

/// What every disk does, below a folder that exists.
fn keeps_the_contract(disk: &dyn Disk, root: &Path) {
    let dir = root.join("a/b");
    disk.make_dir(&dir, 0o700).unwrap();
    disk.make_dir(&dir, 0o755).unwrap();
    assert_eq!(disk.mode(&dir).unwrap(), 0o700, "an existing folder keeps its mode");

    let file = dir.join("f");
    assert_eq!(disk.read(&file).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.mode(&file).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.list(&file).unwrap_err().kind(), ErrorKind::NotFound);
    disk.write_atomic(&file, b"one", 0o600).unwrap();
    disk.write_atomic(&file, b"two", 0o640).unwrap();
    assert_eq!((disk.read(&file).unwrap(), disk.mode(&file).unwrap()), (b"two".to_vec(), 0o640));
    let mut streamed = Vec::new();
    disk.open(&file).unwrap().read_to_end(&mut streamed).unwrap();
    assert_eq!(streamed, b"two");
    assert_eq!(disk.list(&file).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.write_atomic(&root.join("none/f"), b"", 0o600).unwrap_err().kind(), ErrorKind::NotFound);

    disk.write_atomic(&dir.join("e"), b"", 0o600).unwrap();
    assert_eq!(disk.list(&dir).unwrap(), ["e", "f"], "sorted, and no temporary file is left");
    assert_eq!(disk.list(&root.join("a")).unwrap(), ["b"]);

    let log = dir.join("log");
    let mut open = disk.append(&log, 0, 0o600).unwrap();
    open.write_all(b"first\ntor").unwrap();
    open.sync().unwrap();
    drop(open);
    let mut open = disk.append(&log, 6, 0o644).unwrap();
    open.write_all(b"second\n").unwrap();
    open.sync().unwrap();
    assert_eq!(disk.read(&log).unwrap(), b"first\nsecond\n");
    assert_eq!(disk.mode(&log).unwrap(), 0o600, "an existing file keeps its mode");

    let lock = dir.join("lock");
    let held = disk.lock(&lock).unwrap();
    assert_eq!(disk.lock(&lock).err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(held);
    drop(disk.lock(&lock).unwrap());

    disk.remove(&file).unwrap();
    disk.remove(&file).unwrap();
    assert!(!disk.exists(&file) && disk.exists(&dir));
}

/// A process that is killed between writing a file and renaming it leaves the file, with a key in it perhaps.
#[test]
fn what_a_killed_process_left_beside_a_file_goes_with_the_next_write_there() {
    let root = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let file = std::fs::File::create(root.path().join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(60)).unwrap();
        file
    };
    drop(made(".rollover-UOmr1H"));
    let held = made(".rollover-alive1");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    drop(made(".rollover-my-notes"));
    // Its writer is about to lock it.
    let young = made(".rollover-young1");
    young.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60)).unwrap();
    drop(young);
    SystemDisk.write_atomic(&root.path().join("ca.pem"), b"one", 0o644).unwrap();
    let there = SystemDisk.list(root.path()).unwrap();
    assert_eq!(there, [".rollover-alive1", ".rollover-my-notes", ".rollover-young1", "ca.pem"]);
    drop(held);
}

#[test]
fn a_link_stays_a_link_and_a_file_keeps_its_group() {
    use std::os::unix::fs::{MetadataExt as _, chown, symlink};
    let root = tempfile::tempdir().unwrap();
    let (real, link) = (root.path().join("real.pem"), root.path().join("ca.pem"));
    SystemDisk.write_atomic(&real, b"one", 0o600).unwrap();
    symlink("real.pem", &link).unwrap();
    // Only root may give a file away; whoever else tests keeps what it had anyway.
    let given = chown(&real, Some(12), Some(34)).is_ok();
    SystemDisk.write_atomic(&link, b"two", 0o640).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read(&real).unwrap(), b"two");
    if given {
        let now = std::fs::metadata(&real).unwrap();
        assert_eq!((now.uid(), now.gid(), now.mode() & 0o777), (12, 34, 0o640));
    }
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    keeps_the_contract(&SimDisk::new(), Path::new("/"));
}

#[test]
fn the_machines_disk_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    keeps_the_contract(&SystemDisk, root.path());
}

fn appended(disk: &SimDisk) -> (PathBuf, Box<dyn AppendFile>) {
    let path = PathBuf::from("/log");
    let mut file = disk.append(&path, 0, 0o600).unwrap();
    file.write_all(b"synced\n").unwrap();
    file.sync().unwrap();
    file.write_all(b"unsynced\n").unwrap();
    (path, file)
}

#[test]
fn a_crash_loses_unsynced_bytes_and_a_kill_does_not() {
    let disk = SimDisk::new();
    let (path, _) = appended(&disk);
    disk.kill();
    assert_eq!(disk.read(&path).unwrap(), b"synced\nunsynced\n");
    disk.crash();
    assert_eq!(disk.read(&path).unwrap(), b"synced\n");
}

#[test]
fn torn_tails_have_every_length_and_follow_the_seed() {
    let tail = |seed| {
        let disk = SimDisk::with_torn_tails(seed);
        let (path, _) = appended(&disk);
        disk.crash();
        disk.read(&path).unwrap()
    };
    let lengths: std::collections::BTreeSet<usize> = (0..200).map(|seed| tail(seed).len()).collect();
    assert_eq!(lengths, (7..=16).collect());
    assert!((0..50).all(|seed| tail(seed) == tail(seed) && b"synced\nunsynced\n".starts_with(&tail(seed))));
}

#[test]
fn what_a_dead_process_still_holds_is_dead() {
    let disk = SimDisk::new();
    let (path, mut file) = appended(&disk);
    let old = disk.lock(Path::new("/lock")).unwrap();
    disk.halt();
    assert!(disk.read(&path).is_err() && file.sync().is_err());
    disk.crash();
    assert!(file.write_all(b"from beyond").is_err());
    let new = disk.lock(Path::new("/lock")).unwrap();
    drop(old);
    assert!(disk.lock(Path::new("/lock")).is_err(), "the old guard does not release the new lock");
    drop(new);
    disk.lock(Path::new("/lock")).unwrap();
}

#[test]
fn a_name_is_durable_only_when_its_folder_was_synced() {
    let disk = SimDisk::new();
    let path = Path::new("/f");
    disk.write_atomic(path, b"old", 0o600).unwrap();
    // The first sync is the file's, the second the folder's.
    disk.inject(Fault::Sync(2));
    assert!(disk.write_atomic(path, b"new", 0o600).is_err());
    assert_eq!(disk.read(path).unwrap(), b"new", "the rename is seen");
    disk.crash();
    assert_eq!(disk.read(path).unwrap(), b"old", "and was never on disk");

    disk.inject(Fault::Sync(1));
    assert!(disk.remove(path).is_err());
    assert!(!disk.exists(path));
    disk.crash();
    assert!(disk.exists(path), "removing is a change of the folder too");
    disk.inject(Fault::Sync(1));
    assert!(disk.make_dir(Path::new("/d"), 0o700).is_err());
    disk.crash();
    assert!(!disk.exists(Path::new("/d")));
}

#[test]
fn an_atomic_write_that_fails_leaves_the_old_file() {
    for fault in [Fault::Write(1), Fault::Sync(1), Fault::Full(3), Fault::ReadOnly("/f".into())] {
        let disk = SimDisk::new();
        disk.write_atomic(Path::new("/f"), b"old", 0o600).unwrap();
        disk.inject(fault.clone());
        assert!(disk.write_atomic(Path::new("/f"), b"new", 0o600).is_err(), "{fault:?}");
        disk.heal();
        assert_eq!(disk.read(Path::new("/f")).unwrap(), b"old", "{fault:?}");
        disk.write_atomic(Path::new("/f"), b"new", 0o600).unwrap();
        disk.crash();
        assert_eq!(disk.read(Path::new("/f")).unwrap(), b"new", "{fault:?}");
    }
}

#[test]
fn a_full_disk_and_a_read_only_path_say_so() {
    let disk = SimDisk::new();
    disk.inject(Fault::Full(10));
    disk.write_atomic(Path::new("/f"), b"12345", 0o600).unwrap();
    disk.write_atomic(Path::new("/f"), b"54321", 0o600).unwrap();
    let full = disk.write_atomic(Path::new("/g"), b"123456", 0o600).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    disk.inject(Fault::ReadOnly("/ro".into()));
    assert_eq!(disk.make_dir(Path::new("/ro/x"), 0o700).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(disk.counts().0, 3, "a path that is read-only is no write");
}

#[test]
fn a_lock_of_the_machine_ends_with_its_process() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("lock");
    let held = SystemDisk.lock(&path).unwrap();
    // Another process cannot take it, as flock(1) shows.
    let flock = |wanted: bool| {
        let status = std::process::Command::new("flock").arg("-n").arg(&path).arg("true").status().unwrap();
        assert_eq!(status.success(), wanted);
    };
    flock(false);
    drop(held);
    flock(true);
}
