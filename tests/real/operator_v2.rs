//! A cluster of TiDB operator v2, by its own definitions, on a real server: the stories of `tests::operator_v2`.

use std::sync::Arc;

use journal::Why;
use runner::events::EndState;
use sandbox::world::Scenario;
use sandbox::world::kube::Kube;
use tests::operator_v2::{self as stories, SET, WORKFLOW, files, renewed, scenario, served, sound};

use crate::bench::{Bench, multi};
use crate::rotate::StopAt;

async fn bench(seed: u64) -> Bench {
    bench_of(seed, scenario()).await
}

/// The same with another beginning.
pub(crate) async fn bench_of(seed: u64, scenario: Scenario) -> Bench {
    let mut bench = Bench::calm(seed, scenario).await;
    bench.outage = true;
    bench
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_the_ca_is_replaced_there_and_back_and_no_handshake_is_refused() {
    multi(async {
        let bench = bench(61).await;
        tests::definitions::groups(&Kube::new(bench.world.client())).await;
        tests::operator_v2::there_and_back(&bench).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_a_rotation_that_was_stopped_goes_on_or_back() {
    multi(async {
        let bench = bench(62).await;
        let (before, files_before) = (sound(&bench).await, files(&bench).await);
        for at in [60, 120] {
            let stopped = bench.run(WORKFLOW, SET, Arc::new(StopAt(at))).await.unwrap();
            assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
            let back = bench.open(Why::Rollback).back("test").await;
            assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
            assert_eq!(served(&sound(&bench).await), served(&before), "stopped at {at}");
            assert_eq!(files(&bench).await, files_before, "stopped at {at}");
        }
        let stopped = bench.run(WORKFLOW, SET, Arc::new(StopAt(90))).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        let done = bench.open(Why::Resume).resume().await;
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        renewed(&before, &sound(&bench).await);
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_cluster_that_its_schema_does_not_allow_is_refused() {
    multi(async {
        let bench = Bench::new(63).await;
        tests::definitions::clusters(&Kube::new(bench.world.client())).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_what_has_expired_is_brought_back_and_goes_on_where_it_was_stopped() {
    multi(async {
        let records = stories::brought_back(&bench_of(64, stories::expired()).await).await;
        for part in [1, 2, 3] {
            let bench = bench_of(64, stories::expired()).await;
            stories::brought_back_after(&bench, records * part / 4).await;
        }
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_leaves_of_cert_manager_are_renewed_and_taken_back() {
    multi(async {
        let bench = bench_of(65, stories::with_cert_manager()).await;
        stories::issued_there_and_back(&bench, "tidb/cert-manager-components", false).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_a_ca_of_cert_manager_is_replaced_without_a_gap_and_taken_back() {
    multi(async {
        let bench = bench_of(66, stories::with_cert_manager()).await;
        stories::issued_there_and_back(&bench, "tidb/cert-manager-ca-gapless", false).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_the_documented_way_to_a_ca_of_cert_manager_goes_and_is_taken_back() {
    multi(async {
        let bench = bench_of(67, stories::with_cert_manager()).await;
        stories::issued_there_and_back(&bench, "tidb/cert-manager-ca", true).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_the_mysql_side_gets_a_new_ca_and_is_taken_back() {
    multi(async { stories::sql_there_and_back(&bench_of(68, stories::with_sql()).await).await });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_the_mysql_side_is_renewed_by_a_rolling_restart() {
    multi(async { stories::sql_by_restart(&bench_of(69, stories::with_sql()).await).await });
}
