//! Certificates that an issuer keeps as cert-manager does, on a real API server: replaced, stopped and gone on, taken back.
//!
//! The definitions are cert-manager's own, cut so that servers of old take them. `ROLLOVER_CRDS` may name a folder with the
//! whole ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use journal::{NoTripwire, Why};
use runner::events::EndState;
use sandbox::world::kube::{Kube, SECRETS};
use sandbox::world::{Fault, IssuedBy, RotationPolicy, Scenario, json as js};
use serde_json::Value;

use crate::bench::{Bench, multi};
use crate::rotate::{StopAt, served};

const FORCED: &str = "tidb/cert-manager-ca";
const GAPLESS: &str = "tidb/cert-manager-ca-gapless";
const LEAVES: &str = "tidb/cert-manager-components";
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn bench(seed: u64, rotation_policy: RotationPolicy) -> Bench {
    let scenario = Scenario { issued_by: IssuedBy::CertManager, rotation_policy, ..Scenario::default() };
    let mut bench = Bench::of(seed, scenario).await;
    bench.outage = true;
    bench.world.set_fault(Fault::NoRestarts);
    // What has restarted before that may still be away, and then no run begins.
    bench.world.steady(PATIENCE).await.unwrap();
    bench
}

/// What the cluster's Secrets hold.
async fn kept(bench: &Bench) -> BTreeMap<String, Value> {
    let all = Kube::new(bench.world.client()).list(SECRETS, "tidb").await.unwrap().0;
    let ours = all.into_iter().filter(|secret| js::name(secret).starts_with("basic-"));
    ours.map(|secret| (js::name(&secret).to_owned(), secret["data"].clone())).collect()
}

/// Forward, back, forward and stopped and gone on, stopped and back; what was there before is there in the end.
fn there_and_back(seed: u64, workflow: &str, policy: RotationPolicy) {
    multi(async {
        let bench = bench(seed, policy).await;
        let before = kept(&bench).await;
        let at_first = served(&bench.world.end_state().await);
        let well = async |what: &str| {
            bench.world.steady(PATIENCE).await.unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
            let end = bench.world.end_state().await;
            assert!(end.holds(), "{what}: {:?}", end.broken);
            served(&end)
        };
        let back = async |what: &str| {
            let back = bench.open(Why::Rollback).back("test").await;
            assert_eq!(back.state, EndState::RolledBack, "{what}: {:?}", back.failure);
            assert_eq!(well(what).await, at_first, "{what}: the former certificates are served");
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(kept(&bench).await, before, "{what}: and nothing was issued away");
        };
        let done = bench.run(workflow, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{workflow}: {:?}", done.failure);
        assert!(well("forward").await.iter().all(|(component, chain)| at_first[component] != *chain));
        let records = done.head.size;
        back("from the end").await;

        let stopped = bench.run(workflow, &[], Arc::new(StopAt(records * 2 / 3))).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        back("from two thirds").await;

        let stopped = bench.run(workflow, &[], Arc::new(StopAt(records / 2))).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        let done = bench.open(Why::Resume).resume().await;
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        assert!(well("resumed").await.iter().all(|(component, chain)| at_first[component] != *chain));
        let counters = bench.world.counters();
        assert!(workflow == FORCED || counters.refused == 0, "{:#?}", counters.refusals);
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn leaves_are_renewed_on_a_real_server_and_taken_back() {
    there_and_back(61, LEAVES, RotationPolicy::Always);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_ca_is_replaced_without_a_gap_on_a_real_server_and_taken_back() {
    there_and_back(62, GAPLESS, RotationPolicy::Always);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_ca_that_keeps_its_key_is_renewed_on_a_real_server_and_taken_back() {
    there_and_back(63, GAPLESS, RotationPolicy::Never);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn the_documented_way_to_a_new_ca_goes_on_a_real_server_and_is_taken_back() {
    there_and_back(64, FORCED, RotationPolicy::Always);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn what_was_deleted_and_not_made_again_is_put_back_as_it_was_on_a_real_server() {
    multi(async {
        let bench = bench(65, RotationPolicy::Always).await;
        tests::definitions::issued(&Kube::new(bench.world.client())).await;
        tests::issued::issuer_away(&bench).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn what_cert_manager_has_renewed_by_itself_since_is_taken_back_with_the_run_on_a_real_server() {
    multi(async {
        let bench = bench(66, RotationPolicy::Always).await;
        tests::issued::renewed_since(&bench, GAPLESS).await;
        let counters = bench.world.counters();
        assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn what_a_renewed_ca_has_signed_since_refuses_the_way_back_on_a_real_server() {
    multi(async {
        tests::issued::authority_renewed_since(&bench(67, RotationPolicy::Always).await, LEAVES).await;
    });
}
