//! What an auditor finds when a record was tampered with.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};

use journal::{Audit, Event, Head, JournalError, Record, Signer, VerifierKey, Why, verify};
use serde_json::json;
use stdlib::files::SimDisk;
use stdlib::world::Disk;
use support::*;

struct Case {
    disk: SimDisk,
    run: PathBuf,
    lines: Vec<Vec<u8>>,
    head: Head,
}

impl Case {
    fn new() -> Self {
        let disk = SimDisk::new();
        let head = closed_run(&disk).head();
        let run = run_dir(&disk);
        let bytes = disk.read(&run.join("journal.jsonl")).unwrap();
        let lines =
            bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        Self { disk, run, lines, head }
    }

    fn audit_bytes(&self, bytes: &[u8], head: Option<Head>) -> Audit {
        self.disk.write_atomic(&self.run.join("journal.jsonl"), bytes, 0o600).unwrap();
        verify(&self.disk, &self.run, &[signer().public().clone()], head).unwrap()
    }

    fn audit(&self, lines: &[Vec<u8>], head: Option<Head>) -> Audit {
        let mut bytes = lines.join(&b'\n');
        bytes.push(b'\n');
        self.audit_bytes(&bytes, head)
    }
}

#[test]
fn an_untouched_record_passes_all_three() {
    let case = Case::new();
    let audit = case.audit(&case.lines, Some(case.head));
    assert!(audit.holds(), "{audit:#?}");
    assert_eq!((audit.records, audit.signed, audit.unsigned_tail(), audit.head), (14, 14, 0, case.head));
    assert!(audit.authenticity.why.contains("confirms the first 14"), "{audit:#?}");
    let audit = case.audit(&case.lines, None);
    assert!(audit.holds(), "{audit:#?}");
    assert!(audit.authenticity.why.contains("without a head kept outside"), "{audit:#?}");
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_its_record_named() {
    let case = Case::new();
    let mut wrong = Vec::new();
    for (n, line) in case.lines.iter().enumerate() {
        for at in 0..line.len() {
            // Every byte of the header, of a middle record and of the last checkpoint; a sample of the others.
            if !matches!(n, 0 | 5 | 13) && at % 7 != 0 {
                continue;
            }
            let mut lines = case.lines.clone();
            lines[n][at] ^= 1;
            if lines[n].contains(&b'\n') {
                continue;
            }
            let audit = case.audit(&lines, None);
            let seq = Some(n as u64 + 1);
            let named = audit.integrity.at == seq || (audit.integrity.holds && audit.authenticity.at == seq);
            if audit.holds() || !named {
                wrong.push((n + 1, at, String::from_utf8_lossy(&lines[n]).into_owned(), audit));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them, first: {:#?}", wrong.len(), wrong.first());
}

#[test]
fn a_dropped_record_is_missed_where_it_was() {
    let case = Case::new();
    for n in 0..case.lines.len() - 1 {
        let mut lines = case.lines.clone();
        lines.remove(n);
        let audit = case.audit(&lines, None);
        assert_eq!(
            (audit.integrity.holds, audit.integrity.at),
            (false, Some(n as u64 + 1)),
            "{n}: {audit:#?}"
        );
    }
}

#[test]
fn two_swapped_records_do_not_pass() {
    let case = Case::new();
    for n in 0..case.lines.len() - 1 {
        let mut lines = case.lines.clone();
        lines.swap(n, n + 1);
        assert_eq!(case.audit(&lines, None).integrity.at, Some(n as u64 + 1));
    }
}

#[test]
fn a_cut_end_is_incomplete_and_a_cut_at_a_checkpoint_is_found_by_the_head() {
    let case = Case::new();
    for keep in 1..case.lines.len() {
        let audit = case.audit(&case.lines[..keep], None);
        assert!(audit.integrity.holds, "{keep}: {audit:#?}");
        assert!(!audit.completeness.holds, "{keep}: {audit:#?}");
        assert_eq!(audit.unsigned_tail(), if keep < 12 { keep as u64 } else { keep as u64 - 12 }, "{keep}");
        assert_eq!(audit.authenticity.holds, keep >= 12, "{keep}: nothing is signed before record 12");
    }
    // Cut right after a checkpoint of a run that went on: nothing in the record betrays it.
    let disk = SimDisk::new();
    let mut journal = closed_run(&disk);
    let early = journal.head();
    journal.append(session(Why::Rollback)).unwrap();
    journal.append(turn()).unwrap();
    let late = journal.checkpoint().unwrap();
    let path = run_dir(&disk).join("journal.jsonl");
    let whole = disk.read(&path).unwrap();
    let cut: usize = whole.split_inclusive(|byte| *byte == b'\n').take(14).map(<[u8]>::len).sum();
    disk.write_atomic(&path, &whole[..cut], 0o600).unwrap();
    let keys = [signer().public().clone()];
    assert!(verify(&disk, &run_dir(&disk), &keys, None).unwrap().holds());
    assert!(verify(&disk, &run_dir(&disk), &keys, Some(early)).unwrap().holds());
    let audit = verify(&disk, &run_dir(&disk), &keys, Some(late)).unwrap();
    assert_eq!(audit.completeness.why, "cut off: the expected head names 17 records, here are 14");
    assert!(audit.integrity.holds);
}

#[test]
fn an_unfinished_line_and_an_open_run_are_told_apart() {
    let case = Case::new();
    let mut bytes = case.lines.join(&b'\n');
    let audit = case.audit_bytes(&bytes, None);
    assert!(audit.completeness.why.starts_with("the last line is unfinished"), "{audit:#?}");
    assert_eq!((audit.records, audit.torn), (13, case.lines[13].len() as u64));
    bytes.truncate(0);
    let audit = case.audit_bytes(&bytes, None);
    assert!(!audit.integrity.holds && !audit.completeness.holds && !audit.authenticity.holds, "{audit:#?}");
    let audit = case.audit(&case.lines[..12], None);
    assert_eq!(
        audit.completeness.why,
        "not closed: the run is open; 0 records after the last checkpoint are unsigned"
    );
}

/// Rewrites the record from line `from` on, links and checkpoints made anew with the given key.
fn rewrite(case: &Case, edit: impl Fn(&mut Record), key: Option<&Signer>) -> Vec<Vec<u8>> {
    let mut tree = journal::Tree::default();
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in &case.lines {
        let mut record = Record::decode(line).unwrap();
        edit(&mut record);
        record.prev = lines.last().map(|line| hex::encode(journal::leaf_hash(line))).unwrap_or_default();
        if let (Event::Checkpoint(checkpoint), Some(key)) = (&mut record.event, key) {
            let run = case.run.file_name().unwrap().to_string_lossy();
            checkpoint.note = journal::CheckpointNote::sign(&run, &tree.head(), &record.t, key);
        }
        let line = record.encode().unwrap();
        tree.push(&line);
        lines.push(line);
    }
    lines
}

fn put_another_digest(record: &mut Record) {
    if let Event::Effect(effect) = &mut record.event {
        effect.after = "sha256:ff".into();
    }
}

#[test]
fn relinked_records_are_betrayed_by_the_next_genuine_checkpoint() {
    let case = Case::new();
    let audit = case.audit(&rewrite(&case, put_another_digest, None), None);
    assert!(!audit.integrity.holds, "{audit:#?}");
    assert_eq!(
        audit.integrity.why,
        "line 1 or a later one before line 12 was altered: the checkpoint there is genuine"
    );
}

#[test]
fn a_record_rewritten_with_another_key_is_not_authentic() {
    let case = Case::new();
    let thief = Signer::from_seed("rollover/test", &[9; 32]).unwrap();
    let forge = |record: &mut Record| {
        put_another_digest(record);
        if let Event::Run(header) = &mut record.event {
            header.signer = thief.public().to_string();
        }
    };
    let audit = case.audit(&rewrite(&case, forge, Some(&thief)), None);
    assert!(audit.integrity.holds && audit.completeness.holds, "it is whole in itself: {audit:#?}");
    assert!(!audit.authenticity.holds);
    assert_eq!(audit.authenticity.at, Some(12));
    assert!(audit.authenticity.why.contains("none of the given keys"), "{audit:#?}");
}

#[test]
fn a_record_rewritten_with_the_stolen_key_is_found_by_a_head_kept_outside() {
    let case = Case::new();
    let forged = rewrite(&case, put_another_digest, Some(&signer()));
    assert!(case.audit(&forged, None).holds(), "the signature alone cannot tell");
    let audit = case.audit(&forged, Some(case.head));
    assert!(!audit.integrity.holds && !audit.authenticity.holds, "{audit:#?}");
}

#[test]
fn a_missing_signature_fails() {
    let case = Case::new();
    let strip = |record: &mut Record| {
        if let Event::Checkpoint(checkpoint) = &mut record.event {
            let end = checkpoint.note.find("\n\n").unwrap() + 2;
            checkpoint.note.truncate(end);
        }
    };
    let audit = case.audit(&rewrite(&case, strip, None), None);
    assert!(!audit.authenticity.holds, "{audit:#?}");
    assert_eq!(audit.authenticity.at, Some(12));
    assert!(audit.authenticity.why.contains("has no signature"), "{audit:#?}");

    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    journal.append(session(Why::Start)).unwrap();
    let audit = verify(&disk, &run_dir(&disk), &[signer().public().clone()], None).unwrap();
    assert_eq!(audit.authenticity.why, "nothing is signed: there is no checkpoint that fits");
}

#[test]
fn without_a_key_nothing_is_authentic() {
    let case = Case::new();
    let audit = verify(&case.disk, &case.run, &[], None).unwrap();
    assert!(!audit.authenticity.holds && audit.integrity.holds, "{audit:#?}");
    assert!(audit.authenticity.why.contains(&signer().public().to_string()), "it says whose it claims to be");
}

#[test]
fn an_altered_or_missing_body_is_named() {
    let case = Case::new();
    let bodies = case.disk.list(&case.run.join("bodies")).unwrap();
    assert_eq!(bodies.len(), 2, "the plan and the pinned script");
    for body in bodies {
        let path = case.run.join("bodies").join(body);
        let whole = case.disk.read(&path).unwrap();
        case.disk.write_atomic(&path, b"other", 0o600).unwrap();
        let audit = case.audit(&case.lines, None);
        assert_eq!((audit.integrity.holds, audit.integrity.at), (false, Some(1)), "{audit:#?}");
        assert!(audit.integrity.why.contains("which was altered"), "{audit:#?}");
        case.disk.remove(&path).unwrap();
        assert!(case.audit(&case.lines, None).integrity.why.contains("cannot be read"));
        case.disk.write_atomic(&path, &whole, 0o600).unwrap();
    }
    assert!(case.audit(&case.lines, None).holds());
}

#[test]
fn a_run_with_an_altered_pinned_copy_is_not_resumed() {
    let case = Case::new();
    let digest = Record::decode(&case.lines[0]).unwrap();
    let Event::Run(header) = digest.event else { panic!() };
    let hex = header.sources["main.rhai"].strip_prefix("sha256:").unwrap().to_owned();
    case.disk.write_atomic(&case.run.join("bodies").join(hex), b"// another workflow\n", 0o600).unwrap();
    let store = store(&case.disk);
    let id = store.list().unwrap().pop().unwrap();
    let error = journal::Journal::open(store.lock(&id).unwrap(), tools()).unwrap_err();
    assert!(matches!(error, JournalError::Altered { .. }));
    assert!(error.to_string().starts_with("the pinned copy of main.rhai was altered"), "{error}");
}

#[test]
fn rubbish_is_judged_without_a_panic() {
    let case = Case::new();
    let deep = [b"[".repeat(60_000), b"\n".to_vec()].concat();
    let long = b"x".repeat(200_000);
    let newer = json!({ "seq": 1, "t": "2026-11-22T06:15:03.123Z", "prev": "", "event": { "type": "run", "format": 9 } });
    let newer = [serde_json_canonicalizer::to_vec(&newer).unwrap(), b"\n".to_vec()].concat();
    let rubbish: [&[u8]; 7] = [b"\n", b"\n\n\n", b"{}\n", b"\xff\xfe\n", &deep, &long, &newer];
    for bytes in rubbish {
        let audit = case.audit_bytes(bytes, Some(case.head));
        assert!(!audit.integrity.holds || !audit.completeness.holds, "{audit:#?}");
        assert!(!audit.authenticity.holds, "{audit:#?}");
    }
    assert!(case.audit_bytes(&newer, None).integrity.why.contains("newer than this program's"));
}

#[test]
fn a_run_that_moved_carries_both_keys() {
    let disk = SimDisk::new();
    let mut journal = begin(&disk);
    journal.append(session(Why::Start)).unwrap();
    journal.checkpoint().unwrap();
    drop(journal);
    let store = store(&disk);
    let id = store.list().unwrap().pop().unwrap();
    let second = std::sync::Arc::new(Signer::from_seed("rollover/other", &[8; 32]).unwrap());
    let moved = journal::Tools { signer: second.clone(), ..tools() };
    let mut journal = journal::Journal::open(store.lock(&id).unwrap(), moved).unwrap();
    assert!(journal.checkpoint().is_err(), "its session has not begun");
    journal.append(session(Why::Resume)).unwrap();
    journal.append(end(journal::EndState::Done)).unwrap();
    journal.checkpoint().unwrap();

    let both: Vec<VerifierKey> = vec![signer().public().clone(), second.public().clone()];
    let audit = verify(&disk, &run_dir(&disk), &both, None).unwrap();
    assert!(audit.holds(), "{audit:#?}");
    assert_eq!(audit.signers.len(), 2);
    let audit = verify(&disk, &run_dir(&disk), &both[..1], None).unwrap();
    assert!(!audit.authenticity.holds, "the second key was not given: {audit:#?}");
}

#[test]
fn there_is_nothing_to_verify_where_there_is_no_record() {
    let disk = SimDisk::new();
    assert!(matches!(verify(&disk, Path::new("/none"), &[], None), Err(JournalError::Empty { .. })));
}
