//! The traps of the source documents that lie in the cluster, each by name; those of certificates are with the library.

use std::collections::BTreeSet;

use runner::events::EndState;
use sandbox::world::Options as WorldOptions;
use sandbox::world::genesis::Scenario;
use sandbox::world::kube::SECRETS;

use crate::lab::{Lab, START, virtual_time};

const ALL: &[(&str, &str)] = &[("remove_old_ca", "true")];

async fn lab(seed: u64, scenario: Scenario) -> Lab {
    Lab::with(WorldOptions { scenario, start: Some(START), ..WorldOptions::in_process(seed) }).await
}

async fn rotates(lab: &Lab) {
    let ending = lab.forward("tidb/cfssl-rotate", ALL).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    let end = lab.world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    assert_eq!(lab.world.counters().refused, 0, "{:#?}", lab.world.counters().refusals);
}

/// The page makes its Secrets with `kubectl create secret generic`, so they are of type `Opaque`; made anew as another
/// type they would be refused, for a type cannot be changed.
#[test]
fn trap_a_secret_of_another_type() {
    virtual_time(async {
        let lab = lab(1, Scenario { secret_type: "Opaque".into(), ..Scenario::default() }).await;
        rotates(&lab).await;
        let secrets = lab.kube().list(SECRETS, "tidb").await.unwrap().0;
        let types: BTreeSet<&str> = secrets.iter().filter_map(|secret| secret["type"].as_str()).collect();
        assert_eq!(types, BTreeSet::from(["Opaque"]), "their type stays");
    });
}

/// The page's restart marker is a constant, so whoever follows it a second time restarts nothing.
#[test]
fn trap_a_constant_restart_marker() {
    virtual_time(async {
        let lab = Lab::new(2).await;
        // A person has restarted everything with the marker of the page; the same marker once more does nothing.
        lab.restart("20200814").await;
        lab.world.steady(std::time::Duration::from_secs(3600)).await.unwrap();
        rotates(&lab).await;
        let id = lab.store().list().unwrap().pop().unwrap();
        let records = lab.store().load(&id).unwrap().records;
        let markers: Vec<String> = records
            .iter()
            .filter_map(|record| match &record.event {
                journal::Event::Effect(effect) => effect.summary["marker"].as_str().map(str::to_owned),
                _ => None,
            })
            .collect();
        let distinct: BTreeSet<&String> = markers.iter().collect();
        assert_eq!(distinct.len(), 3, "a marker of its own for each phase that restarts: {markers:?}");
        assert!(markers.iter().all(|marker| marker.contains(id.as_str())), "and for each run: {markers:?}");
    });
}

/// Whoever makes the new CA a second time has overwritten one whose certificates may be in use. A run that was stopped
/// after it had made the CA goes on with that one.
#[test]
fn trap_a_ca_generated_twice() {
    virtual_time(async {
        let lab = Lab::new(3).await;
        let stop = std::sync::Arc::new(crate::lab::StopAt(40, journal::Moment::AfterSync));
        let stopped = lab.run(&lab.workflow("tidb/cfssl-rotate"), ALL, stop).await.unwrap();
        assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
        let made = |lab: &Lab| {
            let id = lab.store().list().unwrap().pop().unwrap();
            let records = lab.store().load(&id).unwrap().records;
            let outcome = |event: &journal::Event| match event {
                journal::Event::Outcome(outcome) if outcome.step == "trust-both/stage/new CA" => {
                    Some(outcome.output.clone())
                }
                _ => None,
            };
            records.iter().filter_map(|record| outcome(&record.event)).collect::<Vec<_>>()
        };
        let first = made(&lab);
        assert_eq!(first.len(), 1, "it was stopped after the CA was made");
        lab.die();
        let done = lab.open(journal::Why::Resume).unwrap().resume().await;
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        assert_eq!(made(&lab), first, "no second one was made");
    });
}

/// Every component that the page names takes part, goes to the new CA and comes back.
#[test]
fn every_component_that_a_cluster_may_have_takes_part() {
    virtual_time(async {
        let more = ["tiflash", "ticdc", "tiproxy", "pump"];
        let scenario = more.iter().fold(Scenario::default(), |scenario, name| scenario.with(name, 1));
        let lab = lab(4, scenario).await;
        let before = lab.world.end_state().await;
        let components: BTreeSet<&str> = before.pods.values().map(|pod| pod.component.as_str()).collect();
        assert!(more.iter().all(|name| components.contains(name)), "{components:?}");
        rotates(&lab).await;
        let after = lab.world.end_state().await;
        for (pod, served) in &after.pods {
            assert_eq!(served.anchors.len(), 1, "{pod} trusts the new CA alone");
            assert!(before.pods.values().all(|old| old.chain != served.chain), "{pod} has a new certificate");
        }
        let back = lab.open(journal::Why::Rollback).unwrap().back("test").await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        let again = lab.world.end_state().await;
        assert!(again.holds(), "{:?}", again.broken);
        let chains = |state: &sandbox::world::EndState| {
            state.pods.values().map(|pod| (pod.component.clone(), pod.chain.clone())).collect::<BTreeSet<_>>()
        };
        assert_eq!(chains(&again), chains(&before), "the original certificates are served");
        assert_eq!(lab.world.counters().refused, 0, "{:#?}", lab.world.counters().refusals);
    });
}
