//! Runs on a simulated disk, and random legal walks through the grammar.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use journal::{
    Approval, Direction, Effect, End, EndState, Event, Expanded, Failure, Forecast, Header, Intent, Journal,
    Note, Outcome, OutcomeStatus, PhaseBegin, PhaseEnd, RunLock, Session, Signer, State, Store, Stuck, Tools,
    Turn, Why,
};
use serde_json::{Value, json};
use stdlib::files::SimDisk;
use stdlib::gate::{EffectClass, Place};
use stdlib::world::{Clock, Disk};
use time::OffsetDateTime;
use time::macros::datetime;

/// A clock that shows a later millisecond whenever it is read.
#[derive(Default)]
pub struct Ticking(AtomicI64);

pub const BEGAN: OffsetDateTime = datetime!(2026-11-22 06:15:03 UTC);

impl Clock for Ticking {
    fn now(&self) -> OffsetDateTime {
        BEGAN + time::Duration::milliseconds(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub fn signer() -> Arc<Signer> {
    Arc::new(Signer::from_seed("rollover/test", &[7; 32]).unwrap())
}

pub fn tools() -> Tools {
    Tools::new(Arc::new(Ticking::default()), signer())
}

pub fn store(disk: &SimDisk) -> Store {
    disk.make_dir(Path::new("/state"), 0o700).unwrap();
    Store::new(Arc::new(disk.clone()), Path::new("/state"))
}

pub fn header(lock: &RunLock) -> Header {
    let bodies = lock.bodies();
    let sources = BTreeMap::from([("main.rhai".to_owned(), b"// a workflow\n".to_vec())]);
    Header {
        format: 0,
        run_id: String::new(),
        workflow: "tidb/cfssl-rotate".into(),
        program: "rollover 0.1.0".into(),
        host: "bastion".into(),
        user: "ops".into(),
        plan: bodies.put_value(&json!({ "phases": ["a", "b"] })).unwrap(),
        sources: bodies.pin(&sources).unwrap(),
        params: "sha256:00".into(),
        target: Some(json!({ "kind": "TidbCluster", "name": "basic" })),
        world: None,
        signer: String::new(),
    }
}

/// A run that was created and has no session yet.
pub fn begin(disk: &SimDisk) -> Journal {
    let lock = store(disk).create(BEGAN, 0x5EED).unwrap();
    let header = header(&lock);
    Journal::create(lock, header, tools()).unwrap()
}

pub fn reopen(disk: &SimDisk) -> Journal {
    let store = store(disk);
    let id = store.list().unwrap().pop().unwrap();
    Journal::open(store.lock(&id).unwrap(), tools()).unwrap()
}

pub fn run_dir(disk: &SimDisk) -> PathBuf {
    let store = store(disk);
    store.dir(&store.list().unwrap()[0])
}

pub fn session(why: Why) -> Event {
    Event::Session(Session {
        program: "rollover 0.1.0".into(),
        host: "bastion".into(),
        user: "ops".into(),
        pid: 4711,
        why,
        signer: None,
    })
}

pub fn phase_begin(phase: &str, direction: Direction) -> Event {
    Event::PhaseBegin(PhaseBegin { phase: phase.into(), direction })
}

pub fn phase_end(phase: &str, direction: Direction) -> Event {
    Event::PhaseEnd(PhaseEnd { phase: phase.into(), direction, matrix: Some(json!({ "cells": [] })) })
}

pub fn intent(step: &str, direction: Direction, attempt: u32) -> Event {
    Event::Intent(Intent {
        step: step.into(),
        direction,
        attempt,
        action: "sha256:aa".into(),
        inputs: "sha256:bb".into(),
    })
}

pub fn effect(step: &str, n: u32, place: &str, from: &str, to: &str, class: EffectClass) -> Event {
    let summary = match class {
        EffectClass::Compensable => json!({ "marker": format!("m-{step}-{n}") }),
        _ => json!({ "before": { "ca.crt": from }, "after": { "ca.crt": to } }),
    };
    Event::Effect(Effect {
        step: step.into(),
        direction: Direction::Forward,
        n,
        place: Place(place.into()),
        before: from.into(),
        after: to.into(),
        class,
        primitive: "k8s::patch_secret".into(),
        backup: Some(json!({ "$secret": "00112233445566778899aabbccddeeff", "fp": "hmac:00" })),
        restores: None,
        summary,
    })
}

pub fn outcome(step: &str, direction: Direction, status: OutcomeStatus) -> Event {
    let error = (status == OutcomeStatus::Failed).then(|| Failure {
        code: "unavailable".into(),
        object: "Secret tidb/basic".into(),
        message: "no answer".into(),
        expected: None,
        found: None,
        hint: Some("resume the run".into()),
    });
    let output = if status == OutcomeStatus::Done { json!({ "of": step }) } else { Value::Null };
    Event::Outcome(Outcome { step: step.into(), direction, status, output, error })
}

pub fn end(state: EndState) -> Event {
    Event::End(End { state, why: String::new() })
}

pub fn turn() -> Event {
    Event::Turn(Turn { direction: Direction::Back, why: "the operator said so".into() })
}

pub fn note(text: &str) -> Event {
    Event::Note(Note { text: text.into() })
}

/// Every event of a small vocabulary that could be tried next; most are illegal.
pub fn vocabulary(state: &State) -> Vec<Event> {
    let mut all =
        vec![note("by hand"), turn(), Event::Stuck(Stuck { step: "a/1".into(), repair: "mend it".into() })];
    all.extend([Why::Start, Why::Resume, Why::Rollback, Why::Abort].map(session));
    all.extend([EndState::Done, EndState::RolledBack, EndState::Aborted].map(end));
    all.push(Event::Approval(Approval { what: "plan".into(), by: "ops".into(), how: "--yes".into() }));
    for direction in [Direction::Forward, Direction::Back] {
        for phase in ["a", "b", "c"] {
            all.push(phase_begin(phase, direction));
            all.push(phase_end(phase, direction));
            all.push(Event::Forecast(Forecast { phase: phase.into(), direction, summary: json!("holds") }));
        }
        let open = state.open_phase().unwrap_or("a").to_owned();
        for n in ["1", "2", "3", "3[0]", "3[1]"] {
            let step = format!("{open}/{n}");
            let known = state.step(&open, direction, &step);
            let attempt = known.map_or(1, |step| step.attempt + 1);
            all.push(intent(&step, direction, attempt));
            let items = n == "3";
            all.push(Event::Expanded(Expanded {
                step: step.clone(),
                direction,
                when: Some(n != "2"),
                items: items.then(|| json!(["x", "y"])),
                count: items.then_some(2),
            }));
            let had = u32::try_from(known.map_or(0, |step| step.effects.len())).unwrap();
            let class = if n == "1" { EffectClass::Restorable } else { EffectClass::Compensable };
            let mut forward = effect(&step, had + 1, &format!("file:/{step}"), "absent", "sha256:01", class);
            if let Event::Effect(e) = &mut forward {
                e.direction = direction;
                if direction == Direction::Back {
                    let owed = state.owed(&open);
                    let Some(original) = owed.iter().find(|owed| owed.effect.step == step) else { continue };
                    e.restores = Some(original.seq);
                    e.before.clone_from(&original.effect.after);
                    e.after.clone_from(&original.effect.before);
                }
            }
            all.push(forward);
            for status in [OutcomeStatus::Done, OutcomeStatus::Failed, OutcomeStatus::Skipped] {
                all.push(outcome(&step, direction, status));
            }
        }
    }
    all
}

/// The next event of a legal walk: `choice` picks among what the grammar admits, and leans towards progress.
pub fn choose(state: &State, choice: u16) -> Option<Event> {
    let seq = state.seq() + 1;
    let mut legal = vocabulary(state);
    legal.retain(|event| state.admits(seq, event).is_ok());
    let progress = |event: &Event| {
        matches!(
            event,
            Event::PhaseBegin(_)
                | Event::Intent(_)
                | Event::Effect(_)
                | Event::Outcome(_)
                | Event::PhaseEnd(_)
                | Event::Expanded(_)
        )
    };
    if !choice.is_multiple_of(8) && legal.iter().any(progress) {
        legal.retain(progress);
    }
    let at = usize::from(choice / 8) % legal.len().max(1);
    legal.into_iter().nth(at)
}

/// Appends a walk; every ninth record or so is a checkpoint.
pub fn walk(journal: &mut Journal, choices: &[u16]) {
    for choice in choices {
        if choice % 9 == 3 {
            let own = Some(signer().public().to_string());
            if journal.state().signer() == own.as_deref() {
                journal.checkpoint().unwrap();
            }
        }
        match choose(journal.state(), *choice) {
            Some(event) => journal.append(event).map(|_| ()).unwrap(),
            None => break,
        }
    }
}

/// A small run that was done and closed, told from its first record to its last checkpoint.
pub fn closed_run(disk: &SimDisk) -> Journal {
    use Direction::Forward;
    let mut journal = begin(disk);
    let story = [
        session(Why::Start),
        Event::Approval(Approval { what: "plan".into(), by: "ops".into(), how: "--yes".into() }),
        phase_begin("trust-both", Forward),
        intent("trust-both/change/pd", Forward, 1),
        effect(
            "trust-both/change/pd",
            1,
            "k8s:v1/Secret/tidb/pd",
            "sha256:01",
            "sha256:02",
            EffectClass::Restorable,
        ),
        outcome("trust-both/change/pd", Forward, OutcomeStatus::Done),
        intent("trust-both/settle/pd", Forward, 1),
        effect("trust-both/settle/pd", 1, "k8s:TidbCluster/basic", "a", "b", EffectClass::Compensable),
        outcome("trust-both/settle/pd", Forward, OutcomeStatus::Done),
        phase_end("trust-both", Forward),
    ];
    for event in story {
        journal.append(event).unwrap();
    }
    journal.checkpoint().unwrap();
    journal.append(end(EndState::Done)).unwrap();
    journal.checkpoint().unwrap();
    journal
}

/// A run with every event and every status in it: two phases forward, stuck, and rolled back by a second session.
pub fn told_run(disk: &SimDisk) -> Journal {
    use Direction::{Back, Forward};
    let mut journal = begin(disk);
    let file = "file:/srv/pki/ca.pem";
    let expanded = |when, items: Option<u64>| {
        Event::Expanded(Expanded {
            step: "switch/change/leaf".into(),
            direction: Forward,
            when,
            items: items.map(|_| json!(["pd", "tikv"])),
            count: items,
        })
    };
    let restore = |event: Event, seq| match event {
        Event::Effect(e) => Event::Effect(Effect {
            direction: Back,
            before: e.after,
            after: e.before,
            restores: Some(seq),
            ..e
        }),
        other => other,
    };
    let first = effect("trust/change/ca", 1, file, "absent", "sha256:01", EffectClass::Restorable);
    let second = effect("trust/change/ca", 2, file, "sha256:01", "sha256:02", EffectClass::Restorable);
    let mut large = outcome("trust/stage/ca", Forward, OutcomeStatus::Done);
    if let Event::Outcome(e) = &mut large {
        e.output = json!({ "cert": "-----BEGIN CERTIFICATE-----\n".repeat(2500), "serial": u64::MAX, "share": 0.25 });
    }
    let story = [
        session(Why::Start),
        Event::Approval(Approval { what: "plan".into(), by: "ops".into(), how: "typed yes".into() }),
        Event::Forecast(Forecast {
            phase: "trust".into(),
            direction: Forward,
            summary: json!({ "gap_free": true }),
        }),
        phase_begin("trust", Forward),
        intent("trust/stage/ca", Forward, 1),
        large,
        intent("trust/change/ca", Forward, 1),
        first.clone(),
        outcome("trust/change/ca", Forward, OutcomeStatus::Failed),
        intent("trust/change/ca", Forward, 2),
        second.clone(),
        outcome("trust/change/ca", Forward, OutcomeStatus::Done),
        intent("trust/settle/pd", Forward, 1),
        effect("trust/settle/pd", 1, "k8s:TidbCluster/basic", "a", "b", EffectClass::Compensable),
        outcome("trust/settle/pd", Forward, OutcomeStatus::Done),
        phase_end("trust", Forward),
    ];
    for event in story {
        journal.append(event).unwrap();
    }
    journal.checkpoint().unwrap();
    let story = [
        phase_begin("switch", Forward),
        expanded(Some(true), Some(2)),
        intent("switch/change/leaf[0]", Forward, 1),
        intent("switch/change/leaf[1]", Forward, 1),
        outcome("switch/change/leaf[1]", Forward, OutcomeStatus::Done),
        outcome("switch/change/leaf[0]", Forward, OutcomeStatus::Failed),
        outcome("switch/prove/pd", Forward, OutcomeStatus::Skipped),
        Event::Stuck(Stuck { step: "switch/change/leaf[0]".into(), repair: "bring the host back".into() }),
        note("the host was brought back by hand"),
        session(Why::Rollback),
        turn(),
        phase_begin("switch", Back),
        phase_end("switch", Back),
        phase_begin("trust", Back),
        intent("trust/change/ca", Back, 1),
    ];
    for event in story {
        journal.append(event).unwrap();
    }
    let owed: Vec<u64> = journal.state().owed("trust").iter().map(|effect| effect.seq).collect();
    let numbered = |event, n| match restore(event, owed[usize::try_from(n - 1).unwrap()]) {
        Event::Effect(e) => Event::Effect(Effect { n, ..e }),
        other => other,
    };
    let story = [
        numbered(second, 1),
        numbered(first, 2),
        outcome("trust/change/ca", Back, OutcomeStatus::Done),
        phase_end("trust", Back),
        end(EndState::RolledBack),
    ];
    for event in story {
        journal.append(event).unwrap();
    }
    journal.checkpoint().unwrap();
    journal
}
