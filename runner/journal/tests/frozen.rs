//! Records that older programs wrote. The folders below `journals/` are never made anew: a change of the format is a
//! new format, with a new folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use std::path::{Path, PathBuf};

use journal::{Direction, Event, FORMAT, Head, Journal, Lifecycle, VerifierKey, load, verify};
use stdlib::files::{SimDisk, SystemDisk};
use support::*;

type Story = fn(&SimDisk) -> Journal;

const STORIES: [(&str, Story); 2] = [("closed", closed_run), ("rolled-back", told_run)];

fn frozen(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals/v1").join(name)
}

/// Everything of a run but the vault and the lock, by its path in the run folder.
fn record(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let run = run_dir(disk);
    let files = disk.files().into_iter().filter_map(|(path, bytes)| {
        let path = path.strip_prefix(&run).ok()?.to_owned();
        (path.starts_with("bodies") || path == Path::new("journal.jsonl")).then_some((path, bytes))
    });
    files.collect()
}

#[test]
fn a_frozen_record_is_understood_and_verified() {
    for (name, story) in STORIES {
        let dir = frozen(name);
        let text = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
        let key: VerifierKey = text("vkey").parse().unwrap();
        let head: Head = text("head").parse().unwrap();
        let audit = verify(&SystemDisk, &dir, &[key], Some(head)).unwrap();
        assert!(audit.holds(), "{name}: {audit:#?}");
        let disk = SimDisk::new();
        assert_eq!(&load(&SystemDisk, &dir).unwrap().state, story(&disk).state(), "{name}");
    }
}

#[test]
fn today_s_program_still_writes_the_frozen_bytes() {
    assert_eq!(FORMAT, 1, "a new format needs a new folder of frozen records");
    for (name, story) in STORIES {
        let disk = SimDisk::new();
        story(&disk);
        for (path, bytes) in record(&disk) {
            let old = std::fs::read(frozen(name).join(&path)).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&bytes),
                String::from_utf8_lossy(&old),
                "{name}: {}",
                path.display()
            );
        }
    }
}

#[test]
fn the_frozen_records_hold_every_event() {
    let records = STORIES.iter().flat_map(|(name, _)| load(&SystemDisk, &frozen(name)).unwrap().records);
    let met: std::collections::BTreeSet<String> =
        records.map(|record| record.event.name().to_owned()).collect();
    let all = [
        "approval",
        "checkpoint",
        "effect",
        "end",
        "expanded",
        "forecast",
        "intent",
        "note",
        "outcome",
        "phase-begin",
        "phase-end",
        "run",
        "session",
        "stuck",
        "turn",
    ];
    assert_eq!(met.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn the_rolled_back_record_tells_its_story() {
    let loaded = load(&SystemDisk, &frozen("rolled-back")).unwrap();
    assert!(
        matches!(loaded.state.lifecycle(), Lifecycle::Ended(end) if end.state == journal::EndState::RolledBack)
    );
    assert_eq!(loaded.state.direction(), Direction::Back);
    assert_eq!(loaded.state.sessions().len(), 2);
    assert_eq!(loaded.state.notes(), ["the host was brought back by hand"]);
    let bodies = loaded
        .records
        .iter()
        .filter(|record| matches!(&record.event, Event::Outcome(e) if e.output.get("$body").is_some()));
    assert_eq!(bodies.count(), 1);
}

/// Freezes the stories of a new format, once.
#[test]
#[ignore = "writes the frozen records of a format that has none yet"]
fn freeze() {
    for (name, story) in STORIES {
        let dir = frozen(name);
        assert!(!dir.exists(), "{} is frozen", dir.display());
        let disk = SimDisk::new();
        let journal = story(&disk);
        std::fs::create_dir_all(dir.join("bodies")).unwrap();
        for (path, bytes) in record(&disk) {
            std::fs::write(dir.join(path), bytes).unwrap();
        }
        std::fs::write(dir.join("head"), format!("{}\n", journal.head())).unwrap();
        std::fs::write(dir.join("vkey"), format!("{}\n", signer().public())).unwrap();
    }
}
