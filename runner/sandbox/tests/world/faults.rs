//! Faults: what a rotation meets when the world misbehaves.

use std::time::Duration;

use sandbox::world::json as js;
use sandbox::world::kube::PODS;
use sandbox::world::{Fault, Timing, World};

use super::support::{annotate, options, unfinished, wait_rolled, world};

#[tokio::test(start_paused = true)]
async fn a_pod_that_never_becomes_ready_stops_the_rollout_until_it_does() {
    let (world, kube) = world(21).await;
    let fault = Fault::NeverReady { pod: "basic-tikv-2".into() };
    world.set_fault(fault.clone());
    annotate(&kube, "one").await;
    tokio::time::sleep(Duration::from_secs(1_200)).await;
    assert!(!unfinished(&kube, "one").await.is_empty());
    let before = kube.get(PODS, "tidb", "basic-tikv-1").await.unwrap().unwrap();
    assert!(js::annotation(&before, "tidb.pingcap.com/restartedAt").is_empty(), "the next one waits");
    world.lift_fault(&fault);
    wait_rolled(&kube, "one").await;
    assert_eq!(world.counters().refused, 0);
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn containers_restart_by_themselves_and_by_order() {
    let (world, kube) = world(22).await;
    let restarts = async || -> i64 {
        let (pods, _) = kube.list(PODS, "tidb").await.unwrap();
        pods.iter().map(|p| js::number(p, "/status/containerStatuses/0/restartCount").unwrap_or(0)).sum()
    };
    assert_eq!(restarts().await, 0);
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(restarts().await > 3);
    world.set_fault(Fault::NoRestarts);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = restarts().await;
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!(restarts().await, before);
    world.restart_pod("basic-pd-1");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(restarts().await, before + 1);
    assert_eq!(world.counters().refused, 0);
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_a_year_ahead_finds_every_certificate_expired() {
    let mut wrong = options(23);
    wrong.timing = Timing { restart_mean: 0, ..Timing::lifelike() };
    wrong.clock_error = time::Duration::days(366);
    let failed = World::start(wrong).await.err().map(|e| e.to_string());
    assert!(failed.as_deref().is_some_and(|e| e.contains("steady")), "{failed:?}");

    // The start certificates are valid for 365 days from five minutes ago.
    let mut late = options(24);
    late.timing = Timing { restart_mean: 0, ..Timing::lifelike() };
    late.clock_error = time::Duration::days(365) - time::Duration::minutes(30);
    let world = World::start(late).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.counters().refused, 0);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let seen = world.counters();
    assert!(
        seen.refusals.iter().any(|r| r.why.contains("expired")),
        "certificates expire while the world runs"
    );
    world.shutdown().await;
}
