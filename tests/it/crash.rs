//! Stopped dead before and after every record of `cfssl-rotate`: resume ends as an uninterrupted run does, rollback ends
//! where it began, and at no moment is a handshake between two components refused.
//!
//! The bounded tier takes every n-th point, another offset for each kind of stop; `ROLLOVER_TEST_TIER=all` takes all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use journal::{Moment, Why};
use runner::events::EndState;
use sandbox::world::EndState as WorldState;
use stdlib::world::Disk as _;

use crate::lab::{Lab, PKI, StopAt, virtual_time};

const WORKFLOW: &str = "tidb/cfssl-rotate";
const SET: &[(&str, &str)] = &[("remove_old_ca", "true")];

/// What an end state says apart from fingerprints, which differ from run to run: how many different leaves and anchor
/// sets there are, and how many certificates each has.
fn shape(state: &WorldState) -> BTreeMap<String, (usize, usize)> {
    let mut shapes = BTreeMap::new();
    for served in state.pods.values() {
        shapes.insert(served.component.clone(), (served.chain.len(), served.anchors.len()));
    }
    shapes
}

/// Every pod's certificates, by component: a Deployment's pods change their names.
fn served(state: &WorldState) -> BTreeMap<String, Vec<String>> {
    state.pods.values().map(|served| (served.component.clone(), served.chain.clone())).collect()
}

fn tier_all() -> bool {
    std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all")
}

/// How many records an uninterrupted run has.
fn records() -> u64 {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let ending = lab.forward(WORKFLOW, SET).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        ending.head.size
    })
}

/// Which records of so many to stop at.
fn points(all: u64, offset: u64) -> Vec<u64> {
    let step = if tier_all() { 1 } else { 37 };
    (1..=all).filter(|seq| seq % step == offset % step).collect()
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Resume,
    Rollback,
}

/// One life and death, and what comes after.
fn once(seq: u64, moment: Moment, then: Then) {
    let context = format!("stopped {moment:?} of record {seq}, then {then:?}");
    virtual_time(async {
        let lab = Lab::new(seq).await;
        let before = lab.world.end_state().await;
        let workflow = lab.workflow(WORKFLOW);
        let pki = |name: &str| lab.disk.read(&Path::new(PKI).join(name)).ok();
        let old_ca = pki("ca.pem");
        let first = lab.run(&workflow, SET, Arc::new(StopAt(seq, moment))).await;
        let killed = match &first {
            Ok(ending) => ending.state == EndState::Killed,
            // Stopped within the first records: the run never came to be.
            Err(_) => true,
        };
        assert!(killed, "{context}: {first:?}");
        lab.die();
        let Ok(run) = lab.open(match then {
            Then::Resume => Why::Resume,
            Then::Rollback => Why::Rollback,
        }) else {
            assert!(seq <= 2, "{context}: a run that began can be opened again");
            return;
        };
        match then {
            Then::Resume => {
                let ending = run.resume().await;
                assert_eq!(ending.state, EndState::Done, "{context}: {:?}", ending.failure);
                let after = lab.world.end_state().await;
                assert!(after.holds(), "{context}: {:?}", after.broken);
                assert_eq!(shape(&after), shape(&before), "{context}: one leaf, one anchor each");
                for (component, chain) in served(&after) {
                    assert_ne!(
                        Some(&chain),
                        served(&before).get(&component),
                        "{context}: {component} presents a new certificate"
                    );
                }
                assert_ne!(pki("ca.pem"), old_ca, "{context}: the folder holds the new CA");
            }
            Then::Rollback => {
                let ending = run.back("test").await;
                assert_eq!(ending.state, EndState::RolledBack, "{context}: {:?}", ending.failure);
                let after = lab.world.end_state().await;
                assert!(after.holds(), "{context}: {:?}", after.broken);
                assert_eq!(
                    served(&after),
                    served(&before),
                    "{context}: the original certificates are served"
                );
                assert_eq!(pki("ca.pem"), old_ca, "{context}: the folder holds the old CA");
            }
        }
        let counters = lab.world.counters();
        assert_eq!(counters.refused, 0, "{context}: {:#?}", counters.refusals);
    });
}

/// Runs the points on both cores.
fn every(moment: Moment, then: Then, offset: u64) {
    let all = records();
    let points = points(all, offset);
    assert!(!points.is_empty());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(seq) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    once(*seq, moment, then);
                }
            });
        }
    });
    eprintln!("{} of {all} records, {moment:?}, {then:?}", points.len());
}

#[test]
fn stopped_before_a_record_a_run_can_be_resumed() {
    every(Moment::BeforeWrite, Then::Resume, 5);
}

#[test]
fn stopped_with_a_record_written_but_not_synced_a_run_can_be_resumed() {
    every(Moment::AfterWrite, Then::Resume, 13);
}

#[test]
fn stopped_after_a_record_a_run_can_be_resumed() {
    every(Moment::AfterSync, Then::Resume, 21);
}

#[test]
fn stopped_before_a_record_a_run_can_be_taken_back() {
    every(Moment::BeforeWrite, Then::Rollback, 29);
}

#[test]
fn stopped_after_a_record_a_run_can_be_taken_back() {
    every(Moment::AfterSync, Then::Rollback, 33);
}
