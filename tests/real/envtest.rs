//! A folder of programs as envtest has it, without controllers: the sandbox's own work in their place.

use std::sync::Arc;

use journal::{NoTripwire, Why};
use runner::events::EndState;
use sandbox::world::{Fault, Scenario};
use tests::control_plane::assets;

use crate::bench::{Bench, multi};
use crate::rotate::served;

const WORKFLOW: &str = "tidb/cfssl-ca";

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn without_kube_controller_manager_the_sandboxs_controllers_restart_what_a_rotation_restarts() {
    multi(async {
        let (all, folder) =
            (assets().expect("tests/control-plane makes the programs"), tempfile::tempdir().unwrap());
        for program in ["etcd", "kube-apiserver"] {
            std::os::unix::fs::symlink(all.join(program), folder.path().join(program)).unwrap();
        }
        let mut bench = Bench::with(folder.path(), 92, Scenario::default()).await;
        assert!(!bench.plane.has_controllers() && bench.plane.runs());
        bench.world.set_fault(Fault::NoRestarts);
        let before = bench.world.end_state().await;
        assert!(before.holds(), "{:?}", before.broken);
        let done = bench.run(WORKFLOW, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        let after = bench.world.end_state().await;
        assert!(after.holds(), "{:?}", after.broken);
        let trusted = |end: &sandbox::world::EndState| {
            end.pods.values().map(|served| served.anchors.len()).collect::<Vec<_>>()
        };
        assert!(trusted(&after).iter().zip(trusted(&before)).all(|(now, then)| *now == then + 1), "both CAs");
        let back = bench.open(Why::Rollback).back("test").await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        let end = bench.world.end_state().await;
        assert!(end.holds(), "{:?}", end.broken);
        assert_eq!((served(&end), trusted(&end)), (served(&before), trusted(&before)));
        let counters = bench.world.counters();
        assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    });
}
