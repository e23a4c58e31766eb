//! TiDB's MySQL side on a real API server: its certificates and their CA replaced by the statement, stopped at records all over
//! and gone on, taken back from the end of each phase.
//!
//! `ROLLOVER_STOPS` is how many records a run is stopped at: 4 where it is not said. `kills` kills the program itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use journal::{Direction, Event, Moment, NoTripwire, Tripwire, Why};
use runner::events::EndState;
use sandbox::world::kube::{Kube, SECRETS};
use sandbox::world::{Fault, Scenario, json as js};
use serde_json::Value;

use crate::bench::{Bench, multi};
use crate::rotate::StopAt;

const WORKFLOW: &str = "tidb/server-tls";
const PATIENCE: Duration = Duration::from_secs(120);

/// Dies at the end of a phase.
struct AtEndOf(String);

impl Tripwire for AtEndOf {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let over = matches!(event, Event::PhaseEnd(end) if end.phase == self.0 && end.direction == Direction::Forward);
        over && moment == Moment::AfterSync
    }
}

/// What Secrets and folder hold, and what each server presents and trusts.
#[derive(Debug, PartialEq)]
struct Held {
    secrets: BTreeMap<String, Value>,
    files: BTreeMap<String, Vec<u8>>,
    served: BTreeMap<String, (Vec<String>, Vec<String>)>,
}

async fn held(bench: &Bench) -> Held {
    bench.world.steady(PATIENCE).await.unwrap();
    let end = bench.world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let secrets = Kube::new(bench.world.client()).list(SECRETS, "tidb").await.unwrap().0;
    let ours = secrets.iter().filter(|secret| js::name(secret).starts_with("basic-"));
    let folder = std::fs::read_dir(bench.dir.path().join("sql-pki")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    Held {
        secrets: ours.map(|secret| (js::name(secret).to_owned(), secret["data"].clone())).collect(),
        files: files
            .map(|path| {
                (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
            })
            .collect(),
        served: end
            .pods
            .iter()
            .filter(|(_, served)| served.component == "tidb-sql")
            .map(|(pod, served)| (pod.clone(), (served.chain.clone(), served.anchors.clone())))
            .collect(),
    }
}

fn there_and_back(seed: u64, set: &[(&str, &str)], phases: &[&str]) {
    let stops: u64 = std::env::var("ROLLOVER_STOPS").map_or(4, |stops| stops.parse().unwrap());
    multi(async {
        let bench = Bench::of(seed, Scenario { sql_tls: true, ..Scenario::default() }).await;
        bench.world.set_fault(Fault::NoRestarts);
        let before = held(&bench).await;
        let back = async |what: &str| {
            let back = bench.open(Why::Rollback).back("test").await;
            assert_eq!(back.state, EndState::RolledBack, "{what}: {:?}", back.failure);
            assert!(held(&bench).await == before, "{what}: taken back it is otherwise than before");
        };
        let replaced = async |what: &str| {
            let now = held(&bench).await;
            assert_eq!(now.served.len(), 2);
            for (pod, (chain, anchors)) in &now.served {
                assert_ne!(*chain, before.served[pod].0, "{what}: {pod} presents another certificate");
                let kept = *anchors == before.served[pod].1;
                assert!(anchors.len() == 1 && kept == set.is_empty(), "{what}: {pod} {anchors:?}");
            }
            assert_eq!(now.secrets.keys().collect::<Vec<_>>(), before.secrets.keys().collect::<Vec<_>>());
        };
        let done = bench.run(WORKFLOW, set, Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        replaced("forward").await;
        let records = done.head.size;
        back("from the end").await;
        for phase in phases {
            let stopped = bench.run(WORKFLOW, set, Arc::new(AtEndOf((*phase).to_owned()))).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{phase}: {:?}", stopped.failure);
            back(phase).await;
        }
        for n in 0..stops {
            let record = 6 + (n * (records - 8) / stops + seed * 7) % (records - 8);
            let what = format!("stopped at record {record} of {records}");
            let stopped = bench.run(WORKFLOW, set, Arc::new(StopAt(record))).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{what}: {:?}", stopped.failure);
            let done = bench.open(Why::Resume).resume().await;
            assert_eq!(done.state, EndState::Done, "{what}: {:?}", done.failure);
            replaced(&what).await;
            back(&what).await;
        }
        let counters = bench.world.counters();
        assert!(counters.links["sql-client -> tidb"].made > 0);
        assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn certificates_of_the_mysql_side_are_renewed_on_a_real_server_and_taken_back() {
    there_and_back(71, &[], &["inventory", "switch-leaves", "finish"]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn the_ca_of_the_mysql_side_is_replaced_on_a_real_server_and_taken_back() {
    let phases = ["inventory", "trust-both", "switch-leaves", "distrust-old", "finish"];
    there_and_back(72, &[("remove_old_ca", "true")], &phases);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn by_a_rolling_restart_the_ca_of_the_mysql_side_is_replaced_on_a_real_server() {
    multi(async {
        let bench = Bench::of(73, Scenario { sql_tls: true, ..Scenario::default() }).await;
        bench.world.set_fault(Fault::NoRestarts);
        let before = held(&bench).await;
        let set = [("remove_old_ca", "true"), ("reload", "restart"), ("login_secret", "")];
        let done = bench.run(WORKFLOW, &set, Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        let back = bench.open(Why::Rollback).back("test").await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        assert_eq!(held(&bench).await, before);
        assert_eq!(bench.world.counters().refused, 0, "{:#?}", bench.world.counters().refusals);
    });
}
