//! Restarts of a StatefulSet whose update partition keeps pods back, in the sandbox: the story of `tests::partitions`, and
//! runs that are stopped while the partition is lowered.

use std::sync::Arc;

use journal::{Event, Moment, Tripwire, Why};
use runner::events::EndState;
use sandbox::world::kube::STATEFUL_SETS;

use crate::lab::{Lab, virtual_time};
use tests::hands::Hands;

#[test]
fn a_partition_is_refused_or_lowered_and_put_back() {
    virtual_time(async { tests::partitions::story(&Lab::new(23).await).await });
}

/// Dies once the partition is lowered.
struct Lowered;

impl Tripwire for Lowered {
    fn stops(&self, _: u64, event: &Event, moment: Moment) -> bool {
        let told = serde_json::to_string(event).unwrap();
        moment == Moment::AfterSync && told.contains("its update partition is 0 instead of 2")
    }
}

#[test]
fn stopped_while_it_is_lowered_a_run_puts_it_back_whichever_way_it_goes() {
    for why in [Why::Resume, Why::Rollback] {
        virtual_time(async {
            let lab = Lab::new(24).await;
            let kube = lab.kube();
            tests::partitions::client(&lab, &kube).await;
            let partition = async || {
                let set = kube.get(STATEFUL_SETS, "tidb", "basic-batch").await.unwrap().unwrap();
                set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].clone()
            };
            let set = [("components", "client"), ("partitions", "lower")];
            let workflow = lab.workflow("tidb/cfssl-components");
            let stopped = lab.run(&workflow, &set, Arc::new(Lowered)).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
            assert_eq!(partition().await, 0);
            lab.die();
            let run = lab.open(why).unwrap();
            let ending = if why == Why::Resume { run.resume().await } else { run.back("test").await };
            let wanted = if why == Why::Resume { EndState::Done } else { EndState::RolledBack };
            assert_eq!(ending.state, wanted, "{:?}", ending.failure);
            assert_eq!(partition().await, 2, "{why:?}");
        });
    }
}
