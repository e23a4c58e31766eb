//! The traps of the source documents that lie in the cluster, each by name; those of certificates are with the library.

use std::collections::{BTreeMap, BTreeSet};

use journal::Event;
use runner::events::EndState;
use sandbox::world::EndState as WorldState;
use sandbox::world::genesis::Scenario;
use sandbox::world::kube::SECRETS;
use serde_json::{Value, json};

use crate::hands::{COMPONENTS, Hands, secret_name};
use crate::stage::Stage;
use crate::state::difference;

const ALL: &[(&str, &str)] = &[("remove_old_ca", "true")];

async fn rotates(stage: &impl Stage) {
    let ending = stage.forward("tidb/cfssl-rotate", ALL).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    assert_eq!(stage.world().counters().refused, 0, "{:#?}", stage.world().counters().refusals);
}

/// The page makes its Secrets with `kubectl create secret generic`, so they are of type `Opaque`.
pub fn as_the_page_makes_them() -> Scenario {
    Scenario { secret_type: "Opaque".into(), ..Scenario::default() }
}

/// Made anew as another type they would be refused, for a type cannot be changed.
pub async fn a_secret_of_another_type(stage: &impl Stage) {
    let other = json!({ "type": "kubernetes.io/tls" });
    for component in COMPONENTS {
        let refused = stage.kube().merge(SECRETS, ("tidb", &secret_name(component)), "", &other).await;
        assert!(refused.unwrap_err().to_string().contains("immutable"), "{component}: a type can be changed");
    }
    rotates(stage).await;
    for component in COMPONENTS {
        let secret = stage.kube().get(SECRETS, "tidb", &secret_name(component)).await.unwrap().unwrap();
        assert_eq!(secret["type"], "Opaque", "{component}: its type stays");
    }
}

/// The page's restart marker is a constant, so whoever follows it a second time restarts nothing.
pub async fn a_constant_restart_marker(stage: &impl Stage) {
    stage.restart("20200814").await;
    let before = stage.versions().await;
    stage.ask_to_restart("20200814").await;
    let asked = difference(&before, &stage.versions().await);
    assert_eq!(asked, BTreeMap::new(), "the same marker once more asks for nothing");
    rotates(stage).await;
    let id = stage.store().list().unwrap().pop().unwrap();
    let records = stage.store().load(&id).unwrap().records;
    let markers: Vec<String> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Effect(effect) => effect.summary["marker"].as_str().map(str::to_owned),
            _ => None,
        })
        .collect();
    let distinct: BTreeSet<&String> = markers.iter().collect();
    assert_eq!(distinct.len(), 3, "a marker of its own for each phase that restarts: {markers:?}");
    assert!(markers.iter().all(|marker| marker.contains(id.as_str())), "and for each run: {markers:?}");
}

/// The outcomes of the step in which the newest run makes its CA.
fn made(stage: &impl Stage) -> Vec<Value> {
    let id = stage.store().list().unwrap().pop().unwrap();
    let records = stage.store().load(&id).unwrap().records;
    let outcome = |event: &Event| match event {
        Event::Outcome(outcome) if outcome.step == "trust-both/stage/new CA" => Some(outcome.output.clone()),
        _ => None,
    };
    records.iter().filter_map(|record| outcome(&record.event)).collect()
}

/// Whoever makes the new CA a second time has overwritten one whose certificates may be in use. A run that was stopped
/// after it had made the CA goes on with that one.
pub async fn a_ca_generated_twice(stage: &impl Stage) {
    let stopped = stage.dies_at("tidb/cfssl-rotate", ALL, 40).await;
    assert_eq!(stopped.state, EndState::Killed, "{:?}", stopped.failure);
    let first = made(stage);
    assert_eq!(first.len(), 1, "it was stopped after the CA was made");
    let done = stage.resume().await;
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    assert_eq!(made(stage), first, "no second one was made");
}

/// Components that a cluster may have beside the three that it must have.
const MORE: [&str; 4] = ["tiflash", "ticdc", "tiproxy", "pump"];

/// A cluster with one of each.
pub fn with_every_component() -> Scenario {
    MORE.iter().fold(Scenario::default(), |scenario, name| scenario.with(name, 1))
}

/// Every component that the page names takes part, goes to the new CA and comes back.
pub async fn every_component_takes_part(stage: &impl Stage) {
    let before = stage.world().end_state().await;
    let components: BTreeSet<&str> = before.pods.values().map(|pod| pod.component.as_str()).collect();
    assert!(MORE.iter().all(|name| components.contains(name)), "{components:?}");
    rotates(stage).await;
    let after = stage.world().end_state().await;
    for (pod, served) in &after.pods {
        assert_eq!(served.anchors.len(), 1, "{pod} trusts the new CA alone");
        assert!(before.pods.values().all(|old| old.chain != served.chain), "{pod} has a new certificate");
    }
    let back = stage.back().await;
    assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
    stage.world().steady(stage.patience()).await.unwrap();
    let again = stage.world().end_state().await;
    assert!(again.holds(), "{:?}", again.broken);
    let chains = |state: &WorldState| {
        state.pods.values().map(|pod| (pod.component.clone(), pod.chain.clone())).collect::<BTreeSet<_>>()
    };
    assert_eq!(chains(&again), chains(&before), "the original certificates are served");
    assert_eq!(stage.world().counters().refused, 0, "{:#?}", stage.world().counters().refusals);
}
