//! Keys, vault and run folders: what is kept, where, and from whom.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use journal::{JournalError, RunId, Signer, Store, VerifierKey, Why};
use serde_json::json;
use stdlib::Secret;
use stdlib::error::Code;
use stdlib::files::{Fault, SimDisk, SystemDisk};
use stdlib::secret::SecretStore as _;
use stdlib::world::Disk;
use support::*;

fn vault_files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.files().into_keys().filter(|path| path.to_string_lossy().contains("/vault/")).collect()
}

#[test]
fn a_secret_survives_a_crash_as_soon_as_it_is_put() {
    let disk = SimDisk::new();
    let lock = store(&disk).create(BEGAN, 1).unwrap();
    let vault = lock.vault().unwrap();
    let handle = vault.put(&Secret::new("line one\nline two\n", "spki:aa")).unwrap();
    assert_eq!(handle, vault.put(&Secret::new("line one\nline two\n", "spki:aa")).unwrap());
    let digest = vault.keyed_digest(b"guess");
    let run = lock.dir().to_owned();
    drop((vault, lock));
    disk.crash();

    let store = store(&disk);
    let lock = store.lock(&store.list().unwrap()[0]).unwrap();
    let vault = lock.vault().unwrap();
    let secret = vault.get(&handle).unwrap();
    assert_eq!((secret.expose(), secret.fingerprint()), (b"line one\nline two\n".as_slice(), "spki:aa"));
    assert_eq!(vault.keyed_digest(b"guess"), digest, "the vault's key is the same");
    assert_eq!(vault.secrets().unwrap().len(), 1);
    assert_eq!(disk.mode(&run.join("vault")).unwrap(), 0o700);
    assert!(vault_files(&disk).iter().all(|path| disk.mode(path).unwrap() == 0o600));
}

#[test]
fn ids_and_digests_tell_nothing_without_the_vaults_key() {
    let disk = SimDisk::new();
    let store = store(&disk);
    let [one, two] = [1, 2].map(|n| store.create(BEGAN, n).unwrap().vault().unwrap());
    let secret = Secret::new("hunter2", "hmac:00");
    assert_ne!(one.put(&secret).unwrap(), two.put(&secret).unwrap());
    assert_ne!(one.keyed_digest(b"hunter2"), two.keyed_digest(b"hunter2"));
    assert!(one.keyed_digest(b"hunter2").starts_with("hmac:"));
}

#[test]
fn what_a_step_staged_is_reused_and_never_replaced() {
    let disk = SimDisk::new();
    let lock = store(&disk).create(BEGAN, 1).unwrap();
    let vault = lock.vault().unwrap();
    assert_eq!(vault.staged("trust-both/stage/new CA").unwrap(), None);
    let first = json!({ "cert": "one" });
    assert_eq!(vault.stage("trust-both/stage/new CA", &first).unwrap(), first);
    drop((vault, lock));
    disk.crash();
    let store = store(&disk);
    let lock = store.lock(&store.list().unwrap()[0]).unwrap();
    let vault = lock.vault().unwrap();
    assert_eq!(vault.staged("trust-both/stage/new CA").unwrap(), Some(first.clone()));
    assert_eq!(vault.stage("trust-both/stage/new CA", &json!({ "cert": "two" })).unwrap(), first);
    assert_eq!(vault.staged("other").unwrap(), None);
}

#[test]
fn a_vault_that_cannot_be_written_says_so_and_gives_no_handle() {
    for fault in [Fault::Write(1), Fault::Sync(1), Fault::Sync(2)] {
        let disk = SimDisk::new();
        let lock = store(&disk).create(BEGAN, 1).unwrap();
        let vault = lock.vault().unwrap();
        disk.inject(fault.clone());
        let error = vault.put(&Secret::new("abcdefgh", "hmac:00")).unwrap_err();
        assert_eq!(error.code, Code::Refused, "{fault:?}: {error}");
        assert!(!error.to_string().contains("abcdefgh"));
        // Once more, and now it must be durable even if its name was seen before.
        let handle = vault.put(&Secret::new("abcdefgh", "hmac:00")).unwrap();
        disk.crash();
        let store = store(&disk);
        let lock = store.lock(&store.list().unwrap()[0]).unwrap();
        assert_eq!(lock.vault().unwrap().get(&handle).unwrap().expose(), b"abcdefgh", "{fault:?}");
    }
}

#[test]
fn an_open_or_altered_vault_is_refused() {
    let disk = SimDisk::new();
    let lock = store(&disk).create(BEGAN, 1).unwrap();
    let vault = lock.vault().unwrap();
    let handle = vault.put(&Secret::new("abcdefgh", "hmac:00")).unwrap();
    let foreign = json!({ "$secret": "../../key", "fp": "" });
    assert_eq!(vault.get(&foreign).unwrap_err().code, Code::NotFound);
    assert_eq!(vault.get(&json!("no handle")).unwrap_err().code, Code::Argument);

    let path =
        vault_files(&disk).into_iter().find(|path| path.to_string_lossy().contains("/secret/")).unwrap();
    let sealed = disk.read(&path).unwrap();
    disk.write_atomic(&path, &sealed, 0o644).unwrap();
    let error = vault.get(&handle).unwrap_err();
    assert!(error.to_string().contains("mode 0644 lets others in; type `chmod -R go= "), "{error}");
    let mut altered = sealed.clone();
    *altered.last_mut().unwrap() ^= 1;
    disk.write_atomic(&path, &altered, 0o600).unwrap();
    let error = vault.get(&handle).unwrap_err();
    assert!(error.to_string().contains("a secret of the vault was altered"), "{error}");
    let newer =
        [b"age-encrypted 1".as_slice(), &sealed[sealed.iter().position(|b| *b == b'\n').unwrap()..]].concat();
    disk.write_atomic(&path, &newer, 0o600).unwrap();
    assert!(vault.get(&handle).unwrap_err().to_string().contains("does not know"));
}

#[test]
fn the_signing_key_is_made_once_and_is_private() {
    let disk = SimDisk::new();
    let dir = Path::new("/state/keys");
    let first = Signer::load_or_create(&disk, dir, "rollover/bastion 1").unwrap();
    assert_eq!(first.public().name(), "rollover/bastion-1", "names have no spaces");
    disk.crash();
    let second = Signer::load_or_create(&disk, dir, "another").unwrap();
    assert_eq!(first.public(), second.public());
    assert_eq!(disk.mode(dir).unwrap(), 0o700);
    assert_eq!(disk.mode(&dir.join("signing.key")).unwrap(), 0o600);
    let text = String::from_utf8(disk.read(&dir.join("signing.vkey")).unwrap()).unwrap();
    assert_eq!(&text.parse::<VerifierKey>().unwrap(), first.public());

    let private = disk.read(&dir.join("signing.key")).unwrap();
    let refused = String::from_utf8(private.clone()).unwrap().parse::<VerifierKey>().unwrap_err();
    assert_eq!(refused, "this is a private key; the verifier key lies beside it, in `signing.vkey`");
    disk.write_atomic(&dir.join("signing.key"), &private, 0o640).unwrap();
    assert!(matches!(
        Signer::load_or_create(&disk, dir, "x"),
        Err(JournalError::Exposed { mode: 0o640, .. })
    ));
    disk.write_atomic(&dir.join("signing.key"), b"rubbish", 0o600).unwrap();
    assert!(matches!(Signer::load_or_create(&disk, dir, "x"), Err(JournalError::BadKey { .. })));
}

#[test]
fn the_go_projects_own_verifier_key_is_read() {
    // From the documentation of golang.org/x/mod/sumdb/note.
    let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let key: VerifierKey = text.parse().unwrap();
    assert_eq!((key.name(), key.to_string().as_str()), ("PeterNeumann", text));
    let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let signature =
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, signature).unwrap();
    assert_eq!(bytes[..4], key.id());
    assert!(key.verifies(note.as_bytes(), &bytes[4..]));
    assert!(!key.verifies(&note.as_bytes()[1..], &bytes[4..]));
    for bad in
        ["", "a+b", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "a b+00000000+AQ=="]
    {
        assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
    }
}

/// OpenSSL recomputes root and signature of a checkpoint from the files alone.
#[test]
fn openssl_agrees_with_a_checkpoint() {
    let disk = SimDisk::new();
    closed_run(&disk);
    let run = run_dir(&disk);
    let text = String::from_utf8(disk.read(&run.join("journal.jsonl")).unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let last: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let note = last["event"]["note"].as_str().unwrap();
    let (body, signature) = note.split_once("\n\n").unwrap();
    let signed = format!("{body}\n");
    let fields: Vec<&str> = body.split('\n').collect();
    assert_eq!(fields[0], format!("rollover/run/{}", run.file_name().unwrap().to_string_lossy()));
    assert_eq!(fields[1], "13");
    assert_eq!(fields[3], format!("time {}", last["t"].as_str().unwrap()));

    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let sha256 = |bytes: &[u8]| {
        let path = file("hashed", bytes);
        let out = Command::new("openssl").args(["dgst", "-sha256", "-binary"]).arg(path).output().unwrap();
        assert!(out.status.success());
        out.stdout
    };
    fn root(leaves: &[Vec<u8>], sha256: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        if let [one] = leaves {
            return one.clone();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        sha256(&[&[1], root(left, sha256).as_slice(), root(right, sha256).as_slice()].concat())
    }
    let leaves: Vec<Vec<u8>> =
        lines[..13].iter().map(|line| sha256(&[&[0], line.as_bytes()].concat())).collect();
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    assert_eq!(fields[2], encode(&root(&leaves, &sha256)));

    let bytes = signature.strip_prefix("\u{2014} rollover/test ").unwrap().trim_end();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bytes).unwrap();
    // SubjectPublicKeyInfo of an Ed25519 key is a constant and the key.
    let spki =
        [hex::decode("302a300506032b6570032100").unwrap(), signer().public().public().to_vec()].concat();
    let status = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-keyform", "DER", "-inkey"])
        .arg(file("key", &spki))
        .arg("-in")
        .arg(file("note", signed.as_bytes()))
        .arg("-sigfile")
        .arg(file("signature", &bytes[4..]))
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
}

#[test]
fn runs_sort_by_time_and_are_found_by_a_short_prefix() {
    let disk = SimDisk::new();
    let store = store(&disk);
    assert!(store.list().unwrap().is_empty());
    let ids: Vec<RunId> = (0..3i64)
        .map(|n| {
            store.create(BEGAN + time::Duration::minutes(n), 7 + u32::try_from(n).unwrap() * 23).unwrap()
        })
        .map(|lock| lock.id().clone())
        .collect();
    assert_eq!(ids[0].as_str(), "20261122-061503-haaa");
    assert_eq!(store.list().unwrap(), ids);
    for id in &ids {
        assert_eq!(&store.find(id.as_str()).unwrap(), id);
        assert_eq!(&store.find(id.tail()).unwrap(), id);
        assert_eq!(&store.find(&store.short(id).unwrap()).unwrap(), id);
    }
    assert_eq!(store.short(&ids[1]).unwrap(), "hb");
    assert_eq!(store.find("20261122-0616").unwrap(), ids[1]);
    let error = store.find("h").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`h` is ambiguous: 20261122-061503-haaa, 20261122-061603-hbaa, 20261122-061703-hcaa"
    );
    assert!(matches!(store.find("zzzz"), Err(JournalError::NoRun(_))));
    assert!(matches!(store.find(""), Err(JournalError::NoRun(_))));
    assert!("../escape".parse::<RunId>().is_err() && "".parse::<RunId>().is_err());
    let twin = store.create(BEGAN, 7).unwrap();
    assert_ne!(twin.id(), &ids[0], "the same moment and the same luck give another id");
}

#[test]
fn a_held_run_names_who_holds_it() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    journal.append(session(Why::Start)).unwrap();
    let store = store(&disk);
    let id = store.list().unwrap().pop().unwrap();
    let error = store.lock(&id).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("run {id} is worked on by another process (pid 4711 of ops on bastion)")
    );
    assert_eq!(store.load(&id).unwrap().records.len(), 2, "it can be read meanwhile");
    drop(journal);
    store.lock(&id).unwrap();
}

#[test]
fn a_run_whose_first_record_was_lost_never_began() {
    let disk = SimDisk::new();
    let store = store(&disk);
    drop(store.create(BEGAN, 1).unwrap());
    disk.crash();
    let id = store.list().unwrap().pop().unwrap();
    let lock = store.lock(&id).unwrap();
    assert!(matches!(journal::Journal::open(lock, tools()), Err(JournalError::Empty { .. })));
    // Its folder can still take the record, once.
    let lock = store.lock(&id).unwrap();
    let header = header(&lock);
    drop(journal::Journal::create(lock, header.clone(), tools()).unwrap());
    assert!(journal::Journal::create(store.lock(&id).unwrap(), header, tools()).is_err());
}

#[test]
fn a_run_folder_works_on_another_machine() {
    let here = tempfile::tempdir().unwrap();
    let there = tempfile::tempdir().unwrap();
    let store = Store::new(Arc::new(SystemDisk), here.path());
    let lock = store.create(BEGAN, 1).unwrap();
    let id = lock.id().clone();
    let handle = lock.vault().unwrap().put(&Secret::new("abcdefgh", "hmac:00")).unwrap();
    let header = header(&lock);
    let mut journal = journal::Journal::create(lock, header, tools()).unwrap();
    journal.append(session(Why::Start)).unwrap();
    journal.append(note("by hand")).unwrap();
    let state = journal.state().clone();
    drop(journal);
    let status =
        Command::new("cp").arg("-a").arg(here.path().join("runs")).arg(there.path()).status().unwrap();
    assert!(status.success());

    let store = Store::new(Arc::new(SystemDisk), there.path());
    let lock = store.lock(&store.find(id.tail()).unwrap()).unwrap();
    assert_eq!(lock.vault().unwrap().get(&handle).unwrap().expose(), b"abcdefgh");
    let journal = journal::Journal::open(lock, tools()).unwrap();
    assert_eq!(journal.state(), &state);
}
