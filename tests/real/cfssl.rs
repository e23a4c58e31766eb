//! The parts of a rotation, each on real objects: stopped at records all over, resumed to the end, and taken back from the
//! end and from the end of each phase. Taken back, everything is as it was, object by object. `rotate.rs` has the whole.
//!
//! `ROLLOVER_STOPS` is how many records each part is stopped at: 2 where it is not said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use journal::{Direction, Event, Moment, NoTripwire, Tripwire, Why};
use kube::Client;
use runner::events::EndState;
use sandbox::world::Fault;
use serde_json::{Value, json};

use crate::bench::{Bench, multi};
use crate::rotate::{StopAt, served};

/// How long a loaded machine may take until everything stands.
const PATIENCE: Duration = Duration::from_secs(120);

/// Dies at the end of a phase.
struct AtEndOf(String);

impl Tripwire for AtEndOf {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let over = matches!(event, Event::PhaseEnd(end) if end.phase == self.0 && end.direction == Direction::Forward);
        over && moment == Moment::AfterSync
    }
}

/// Everything that a part may change, without restart markers and what the server writes.
#[derive(Debug, PartialEq)]
struct Objects {
    secrets: BTreeMap<String, Value>,
    workloads: Vec<Value>,
    files: BTreeMap<String, Vec<u8>>,
    served: BTreeMap<String, Vec<String>>,
}

async fn get(client: &Client, path: &str) -> Value {
    client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
}

/// Without restart markers and the head of the last record, and without the maps that only held them.
fn unmarked(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        let Some(fields) = value.as_object_mut() else { return };
        fields.remove("tidb.pingcap.com/restartedAt");
        fields.remove("kubectl.kubernetes.io/restartedAt");
        fields.remove(stdlib::lease::LAST);
        for field in fields.values_mut() {
            walk(field);
        }
        fields.retain(|key, field| key != "annotations" || field != &json!({}));
    }
    walk(&mut value);
    value
}

impl Objects {
    async fn look(bench: &Bench) -> Self {
        let begun = Instant::now();
        // A process may just be starting again by itself.
        let state = loop {
            bench.world.steady(PATIENCE).await.unwrap();
            let state = bench.world.end_state().await;
            if state.holds() {
                break state;
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}", state.broken);
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        let client = bench.world.client();
        let all = get(&client, "/api/v1/namespaces/tidb/secrets").await;
        let secrets = all["items"].as_array().unwrap().iter().map(|secret| {
            let (meta, name) = (&secret["metadata"], secret["metadata"]["name"].as_str().unwrap());
            let kept = json!([
                secret["type"],
                secret["data"],
                meta["labels"],
                meta["annotations"],
                meta["ownerReferences"]
            ]);
            (name.to_owned(), kept)
        });
        let secrets = secrets.collect();
        let cluster = get(&client, "/apis/pingcap.com/v1alpha1/namespaces/tidb/tidbclusters/basic").await;
        let deployment = get(&client, "/apis/apps/v1/namespaces/tidb/deployments/basic-client").await;
        let workloads =
            [&cluster["spec"], &cluster["metadata"]["annotations"], &deployment["spec"]["template"]];
        let files = std::fs::read_dir(bench.pki("")).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.is_file()).map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        });
        Self {
            secrets,
            workloads: workloads.into_iter().cloned().map(unmarked).collect(),
            files: files.collect(),
            served: served(&state),
        }
    }
}

async fn forward(bench: &Bench, workflow: &str, set: &[(&str, &str)]) -> u64 {
    let done = bench.run(workflow, set, Arc::new(NoTripwire)).await.unwrap();
    assert_eq!(done.state, EndState::Done, "{workflow}: {:?}", done.failure);
    done.head.size
}

async fn back(bench: &Bench, what: &str, before: &Objects) {
    let back = bench.open(Why::Rollback).back("test").await;
    assert_eq!(back.state, EndState::RolledBack, "{what}: {:?}", back.failure);
    let after = Objects::look(bench).await;
    assert!(after == *before, "{what}: taken back it is otherwise than before\n{before:#?}\n{after:#?}");
}

/// One part, begun after these others.
fn part(seed: u64, workflow: &str, set: &[(&str, &str)], after: &[&str]) {
    let stops = std::env::var("ROLLOVER_STOPS").map_or(2, |stops| stops.parse().unwrap());
    multi(async {
        let bench = Bench::new(seed).await;
        // A rotation does not begin while a process is down, and these begin often.
        bench.world.set_fault(Fault::NoRestarts);
        bench.world.steady(PATIENCE).await.unwrap();
        for earlier in after {
            forward(&bench, earlier, &[]).await;
        }
        let before = Objects::look(&bench).await;
        let records = forward(&bench, workflow, set).await;
        let whole = Objects::look(&bench).await;
        assert!(whole != before, "{workflow} changes something");
        back(&bench, workflow, &before).await;

        let plan = bench.plan(workflow, set, &bench.world.client()).await.unwrap();
        for phase in &plan.phases {
            let stopped = bench.run(workflow, set, Arc::new(AtEndOf(phase.name.clone()))).await.unwrap();
            assert_eq!(
                stopped.state,
                EndState::Killed,
                "{workflow} at {}: {:?}",
                phase.name,
                stopped.failure
            );
            back(&bench, &format!("{workflow} from the end of {}", phase.name), &before).await;
        }
        // Spread over the record, in places that differ from seed to seed.
        for n in 0..stops {
            let record = 6 + (n * (records - 8) / stops + seed * 7) % (records - 8);
            let what = format!("{workflow} stopped at record {record} of {records}");
            let stopped = bench.run(workflow, set, Arc::new(StopAt(record))).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{what}: {:?}", stopped.failure);
            let done = bench.open(Why::Resume).resume().await;
            assert_eq!(done.state, EndState::Done, "{what}: {:?}", done.failure);
            let after = Objects::look(&bench).await;
            let alike = |objects: &Objects| -> Vec<String> {
                objects.secrets.keys().chain(objects.files.keys()).cloned().collect()
            };
            assert_eq!(alike(&after), alike(&whole), "{what}: the same Secrets and files");
            assert_eq!(after.workloads, whole.workloads, "{what}");
            back(&bench, &what, &before).await;
        }
        assert_eq!(bench.world.counters().refused, 0, "{:#?}", bench.world.counters().refusals);
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_new_ca_is_trusted_and_taken_back() {
    part(11, "tidb/cfssl-ca", &[], &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn certificates_of_the_new_ca_are_switched_to_and_taken_back() {
    part(12, "tidb/cfssl-components", &[], &["tidb/cfssl-ca"]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn the_old_ca_is_removed_and_taken_back() {
    part(13, "tidb/cfssl-remove-old-ca", &[], &["tidb/cfssl-ca", "tidb/cfssl-components"]);
}
