//! The main job on real objects: forward, stopped dead and resumed, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use journal::{Event, Moment, NoTripwire, Tripwire, Why};
use runner::events::EndState;
use sandbox::world::EndState as WorldState;

use crate::bench::{Bench, multi};

const WORKFLOW: &str = "tidb/cfssl-rotate";
const SET: &[(&str, &str)] = &[("remove_old_ca", "true")];

/// Dies at a record.
pub(crate) struct StopAt(pub(crate) u64);

impl Tripwire for StopAt {
    fn stops(&self, seq: u64, _: &Event, moment: Moment) -> bool {
        seq == self.0 && moment == Moment::AfterSync
    }
}

/// What the pods of each component serve.
pub(crate) fn served(state: &WorldState) -> BTreeMap<String, Vec<String>> {
    state.pods.values().map(|served| (served.component.clone(), served.chain.clone())).collect()
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_rotation_runs_on_a_real_api_server_and_one_that_was_stopped_goes_on_or_back() {
    multi(async {
        let bench = Bench::new(1).await;
        let before = bench.world.end_state().await;
        assert!(before.holds(), "{:?}", before.broken);
        let old_ca = bench.read(&bench.pki("ca.pem"));

        let stopped = bench.run(WORKFLOW, SET, Arc::new(StopAt(60))).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        let back = bench.open(Why::Rollback).back("test").await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        let after = bench.world.end_state().await;
        assert!(after.holds(), "{:?}", after.broken);
        assert_eq!(served(&after), served(&before), "the original certificates are served");
        assert_eq!(bench.read(&bench.pki("ca.pem")), old_ca);

        let stopped = bench.run(WORKFLOW, SET, Arc::new(StopAt(60))).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        let done = bench.open(Why::Resume).resume().await;
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);

        let done = bench.run(WORKFLOW, SET, Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        let after = bench.world.end_state().await;
        assert!(after.holds(), "{:?}", after.broken);
        for (component, chain) in served(&after) {
            assert_ne!(
                Some(&chain),
                served(&before).get(&component),
                "{component} presents a new certificate"
            );
        }
        let counters = bench.world.counters();
        assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    });
}
