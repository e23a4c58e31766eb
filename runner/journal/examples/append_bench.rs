//! How much the journal costs beside the disk itself: appends a second, against raw append and fdatasync of the same
//! bytes. `cargo run --release -p journal --example append_bench [RECORDS] [FOLDER]`.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::type_complexity
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{
    Direction, Effect, Event, Header, Intent, Journal, Outcome, OutcomeStatus, PhaseBegin, Session, Signer,
    Store, Tools, Why,
};
use serde_json::{Value, json};
use stdlib::files::SystemDisk;
use stdlib::gate::{EffectClass, Place};
use stdlib::world::{Clock as _, Disk as _, SystemClock};

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let records: usize = args.next().map_or(Ok(3000), |n| n.parse())?;
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(folder)?;
    let mut journal_best = Duration::MAX;
    let mut raw_best = Duration::MAX;
    let mut bytes = 0;
    // In turns, so that both meet the same moods of the disk.
    for round in 0..ROUNDS {
        let (took, lines) = journal(&dir.path().join(format!("journal-{round}")), records)?;
        journal_best = journal_best.min(took);
        bytes = lines.iter().map(Vec::len).sum::<usize>() / lines.len().max(1);
        raw_best = raw_best.min(raw(&dir.path().join(format!("raw-{round}")), &lines)?);
    }
    let rate = |took: Duration| records as f64 / took.as_secs_f64();
    println!("{records} records of {bytes} bytes on average, best of {ROUNDS} rounds");
    println!("journal          {:>8.0} appends/s", rate(journal_best));
    println!("raw + fdatasync  {:>8.0} appends/s", rate(raw_best));
    println!("ratio            {:>8.2}", journal_best.as_secs_f64() / raw_best.as_secs_f64());
    Ok(())
}

fn raw(path: &Path, lines: &[Vec<u8>]) -> Result<Duration, Box<dyn Error>> {
    let mut file = SystemDisk.append(path, 0, 0o600)?;
    let began = Instant::now();
    for line in lines {
        file.write_all(line)?;
        file.sync()?;
    }
    Ok(began.elapsed())
}

/// Writes a run of steps with one effect each, and gives the time and the lines.
fn journal(state: &Path, records: usize) -> Result<(Duration, Vec<Vec<u8>>), Box<dyn Error>> {
    let disk = Arc::new(SystemDisk);
    let store = Store::new(disk, state);
    let lock = store.create(SystemClock.now(), 1)?;
    let path = lock.dir().join("journal.jsonl");
    let signer = Arc::new(Signer::from_seed("bench", &[1; 32])?);
    let header = Header {
        format: 0,
        run_id: String::new(),
        workflow: "bench".into(),
        program: "bench".into(),
        host: "here".into(),
        user: "me".into(),
        plan: Value::Null,
        sources: std::collections::BTreeMap::new(),
        params: String::new(),
        target: None,
        world: None,
        signer: String::new(),
    };
    let mut journal = Journal::create(lock, header, Tools::new(Arc::new(SystemClock), signer))?;
    let session = Session {
        program: "bench".into(),
        host: "here".into(),
        user: "me".into(),
        pid: 1,
        why: Why::Start,
        signer: None,
    };
    journal.append(Event::Session(session))?;
    journal.append(Event::PhaseBegin(PhaseBegin { phase: "a".into(), direction: Direction::Forward }))?;
    let before = SystemDisk.read(&path)?.len();
    let events: Vec<Event> = (0..records).map(event).collect();
    let began = Instant::now();
    for event in events {
        journal.append(event)?;
    }
    let took = began.elapsed();
    let bytes = SystemDisk.read(&path)?;
    let lines = bytes.get(before..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n');
    Ok((took, lines.map(<[u8]>::to_vec).collect()))
}

fn event(n: usize) -> Event {
    let step = format!("a/change/{}", n / 3);
    let direction = Direction::Forward;
    let digest = format!("sha256:{n:064x}");
    match n % 3 {
        0 => Event::Intent(Intent { step, direction, attempt: 1, action: digest.clone(), inputs: digest }),
        1 => Event::Effect(Effect {
            place: Place(format!("file:/srv/{step}")),
            step,
            direction,
            n: 1,
            before: "absent".into(),
            after: digest,
            class: EffectClass::Restorable,
            primitive: "files::write".into(),
            backup: None,
            restores: None,
            summary: json!({ "before": null, "after": { "bytes": 12 } }),
        }),
        _ => Event::Outcome(Outcome {
            step,
            direction,
            status: OutcomeStatus::Done,
            output: json!({ "changed": true }),
            error: None,
        }),
    }
}
