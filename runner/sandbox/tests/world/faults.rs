//! Faults: what a rotation meets when the world misbehaves.

use std::time::Duration;

use sandbox::world::json as js;
use sandbox::world::kube::PODS;
use sandbox::world::{Fault, Timing, World};

use super::support::{Authority, annotate, options, patch_secret, unfinished, wait_rolled, world};

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
async fn a_folder_that_is_stuck_keeps_its_files_until_a_new_pod() {
    let mut calm = options(25);
    calm.timing = Timing { restart_mean: 0, ..Timing::lifelike() };
    let world = World::start(calm).await.unwrap();
    let kube = sandbox::world::kube::Kube::new(world.client());
    world.set_fault(Fault::PropagationStuck { pod: "basic-pd-1".into() });
    let before = world.states();
    let ca = Authority::of(&world);
    let (cert, key) = ca.issue(&world, "pd");
    patch_secret(&kube, "pd", &[("tls.crt", cert.as_bytes()), ("tls.key", &key)]).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let after = world.states();
    assert_eq!(after["basic-pd-1"].leaf, before["basic-pd-1"].leaf);
    assert_ne!(after["basic-pd-2"].leaf, before["basic-pd-2"].leaf);
    let pod = kube.get(PODS, "tidb", "basic-pd-1").await.unwrap().unwrap();
    kube.delete(PODS, ("tidb", "basic-pd-1"), js::uid(&pod), None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.states()["basic-pd-1"].leaf, after["basic-pd-2"].leaf, "a new pod mounts the newest");
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
