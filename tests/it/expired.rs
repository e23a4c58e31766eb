//! Everything has expired: the stories of `tests::expired` in the sandbox.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use journal::Tripwire;
use runner::events::EndState;
use sandbox::world::{Expired, Fault, Options as WorldOptions};
use tests::expired::{self as stories, PodsAreBack, WORKFLOW, scenario};
use tests::stage::AtRecord;

use crate::lab::{Lab, START, virtual_time};
use crate::program::{Program, says};

async fn lab(seed: u64, expired: Expired) -> Lab {
    let scenario = scenario(expired);
    let lab =
        Lab::with(WorldOptions { scenario, start: Some(START), ..WorldOptions::in_process(seed) }).await;
    lab.world.set_fault(Fault::NoRestarts);
    lab
}

/// How often the run deletes each pod.
fn deletions(lab: &Lab) -> Arc<Mutex<BTreeMap<String, usize>>> {
    let counted = Arc::<Mutex<BTreeMap<String, usize>>>::default();
    let log = Arc::clone(&counted);
    lab.world.server().unwrap().on_request(Arc::new(move |asked| {
        if asked.user == "system:admin" && asked.verb == "delete" && asked.resource == "pods" {
            *log.lock().unwrap().entry(asked.name.clone()).or_default() += 1;
        }
    }));
    counted
}

#[test]
fn a_cluster_in_which_everything_has_expired_is_brought_back() {
    virtual_time(async { stories::brought_back(&lab(1, Expired::Everything).await).await });
}

#[test]
fn where_only_certificates_have_expired_the_ca_stays() {
    virtual_time(async { stories::the_ca_stays(&lab(2, Expired::Leaves).await).await });
}

#[test]
fn stopped_anywhere_it_goes_on_and_deletes_no_pod_twice() {
    let records = virtual_time(async {
        let lab = lab(3, Expired::Everything).await;
        let deleted = deletions(&lab);
        let ending = lab.forward(WORKFLOW, &[]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let deleted = deleted.lock().unwrap().clone();
        assert!(deleted.len() == 8 && deleted.values().all(|times| *times == 1), "{deleted:?}");
        ending.head.size
    });
    let all = std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all");
    // Each pod is one record; among these are places before, between and after them.
    for stop in (5..records - 3).step_by(if all { 1 } else { 12 }) {
        virtual_time(goes_on(AtRecord(stop)));
    }
    virtual_time(goes_on(PodsAreBack));
}

async fn goes_on(tripwire: impl Tripwire + Debug + 'static) {
    let lab = lab(3, Expired::Everything).await;
    let (deleted, place) = (deletions(&lab), format!("{tripwire:?}"));
    stories::goes_on(&lab, tripwire).await;
    let deleted = deleted.lock().unwrap().clone();
    assert!(deleted.len() == 8 && deleted.values().all(|times| *times == 1), "{place}: {deleted:?}");
}

#[test]
fn there_is_nothing_to_go_back_to_and_nothing_to_do_where_nothing_has_expired() {
    virtual_time(async { stories::nothing_to_go_back_to(&lab(4, Expired::Everything).await).await });
    virtual_time(async { stories::nothing_to_do(&Lab::new(5).await).await });
}

#[test]
fn one_after_the_other_they_wait_for_ever() {
    virtual_time(async {
        let hour = Duration::from_secs(3600);
        stories::one_after_the_other_they_wait(&lab(6, Expired::Everything).await, hour).await;
    });
}

#[test]
fn one_command_shows_it() {
    let person = Program::new();
    let said = person.types(&["run", WORKFLOW, "--sandbox", "--yes", "--accept-outage"]);
    says(&said, 0, &["expired", "the outage of phase `replace` lasted", "Done."]);
    says(&person.types(&["sandbox", "stop"]), 0, &[]);
}
