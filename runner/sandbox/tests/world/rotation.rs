//! The whole rotation by hand: in the right order nobody is refused, in a wrong one somebody is.

use std::time::{Duration, Instant};

use sandbox::world::{Options, Timing, World};

use super::support::{Authority, options, patch_secret, restart_all, switch_leaves, trust, world};

#[tokio::test(start_paused = true)]
async fn a_world_comes_up_steady_with_every_link_dialled() {
    let begun = Instant::now();
    let (world, _) = world(1).await;
    let took = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let seen = world.counters();
    assert_eq!(seen.refused, 0, "{:?}", seen.refusals);
    for link in [
        "pd -> pd",
        "tikv -> pd",
        "tikv -> tikv",
        "tidb -> pd",
        "tidb -> tikv",
        "tidb -> tidb",
        "client -> pd",
        "client -> tikv",
        "client -> tidb",
        "operator -> pd",
        "operator -> tikv",
        "operator -> tidb",
    ] {
        assert!(seen.links.get(link).is_some_and(|l| l.made > 0), "{link} was never dialled");
    }
    let end = world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    assert_eq!(end.pods.len(), 9);
    eprintln!("steady after {took:?}: {} handshakes, {} memoised", seen.handshakes, seen.memoised);
    world.shutdown().await;
}

async fn rotate(world: &World, kube: &sandbox::world::kube::Kube, name: &str) -> String {
    let old = world.end_state().await.pods["basic-pd-0"].anchors.clone();
    let current = sandbox_ca(kube).await;
    let ca = Authority::new(world);
    let new = ca.cert.pem();
    trust(kube, &format!("{new}{current}")).await;
    restart_all(kube, &format!("{name}-trust-both")).await;
    switch_leaves(world, kube, &ca).await;
    restart_all(kube, &format!("{name}-switch")).await;
    trust(kube, &new).await;
    restart_all(kube, &format!("{name}-distrust")).await;
    let end = world.end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    for (pod, served) in &end.pods {
        assert_eq!(served.anchors, [ca.cert.fingerprint().trim_start_matches("sha256:").to_owned()], "{pod}");
        assert_ne!(served.anchors, old);
    }
    new
}

async fn sandbox_ca(kube: &sandbox::world::kube::Kube) -> String {
    let secret =
        kube.get(sandbox::world::kube::SECRETS, "tidb", "basic-pd-cluster-secret").await.unwrap().unwrap();
    String::from_utf8(sandbox::world::volume::secret_files(&secret)["ca.crt"].clone()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn by_the_page_and_twice_in_a_row_nobody_is_refused() {
    for seed in 1..=3 {
        let (world, kube) = world(seed).await;
        let (begun, virtual_begun) = (Instant::now(), tokio::time::Instant::now());
        rotate(&world, &kube, "first").await;
        let seen = world.counters();
        eprintln!(
            "seed {seed}: {:?} for {:?} of virtual time; {} handshakes, {} memoised, {} unreachable",
            begun.elapsed(),
            virtual_begun.elapsed(),
            seen.handshakes,
            seen.memoised,
            seen.unreachable
        );
        assert_eq!(seen.refused, 0, "{:?}", seen.refusals);
        let met = &seen.links["tikv -> pd"].pairs;
        assert!(met.len() > 3, "states of a rolling restart met: {}", met.len());
        if seed == 1 {
            rotate(&world, &kube, "second").await;
            assert_eq!(world.counters().refused, 0, "{:?}", world.counters().refusals);
        }
        world.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn leaves_before_trust_are_refused() {
    let (world, kube) = world(4).await;
    let ca = Authority::new(&world);
    switch_leaves(&world, &kube, &ca).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let seen = world.counters();
    assert!(seen.refused > 0);
    let refusal = &seen.refusals[0];
    assert!(refusal.why.contains("trusted"), "{refusal:?}");
    assert!(!world.end_state().await.holds());
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_bundle_without_a_restart_is_not_loaded() {
    let mut calm = options(5);
    calm.timing = Timing { restart_mean: 0, ..Timing::lifelike() };
    let world = World::start(calm).await.unwrap();
    let kube = sandbox::world::kube::Kube::new(world.client());
    let before = world.states();
    let (old, ca) = (sandbox_ca(&kube).await, Authority::new(&world));
    trust(&kube, &format!("{}{old}", ca.cert.pem())).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.states(), before, "a CA is read at the start only");

    world.restart_pod("basic-tikv-1");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = world.states();
    assert_ne!(after["basic-tikv-1"].anchors, before["basic-tikv-1"].anchors);
    assert_eq!(after["basic-tikv-0"], before["basic-tikv-0"]);

    // The forgotten restart fails where a leaf of the new CA meets the old trust.
    switch_leaves(&world, &kube, &ca).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(world.counters().refused > 0);
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_loaded_without_a_restart_but_not_at_once() {
    let mut calm = options(6);
    calm.timing = Timing { restart_mean: 0, ..Timing::lifelike() };
    let world = World::start(calm).await.unwrap();
    let kube = sandbox::world::kube::Kube::new(world.client());
    let before = world.states();
    let current = Authority::of(&world);
    let (cert, key) = current.issue(&world, "tikv");
    patch_secret(&kube, "tikv", &[("tls.crt", cert.as_bytes()), ("tls.key", &key)]).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(world.states(), before, "propagation takes time");
    tokio::time::sleep(Duration::from_secs(100)).await;
    let after = world.states();
    for n in 0..3 {
        let pod = format!("basic-tikv-{n}");
        assert_ne!(after[&pod].leaf, before[&pod].leaf);
    }
    assert_eq!(world.counters().refused, 0);
    world.shutdown().await;
}

#[tokio::test(flavor = "current_thread")]
async fn on_the_loopback_interface_a_rotation_ends_within_a_minute() {
    let world = World::start(Options::process(7)).await.unwrap();
    let kube = sandbox::world::kube::Kube::new(world.client());
    let begun = Instant::now();
    let ca = Authority::new(&world);
    let old = sandbox_ca(&kube).await;
    trust(&kube, &format!("{}{old}", ca.cert.pem())).await;
    restart_all(&kube, "both").await;
    let seen = world.counters();
    eprintln!(
        "one rolling restart: {:?}; {} handshakes, none memoised: {}",
        begun.elapsed(),
        seen.handshakes,
        seen.memoised
    );
    assert_eq!(seen.refused, 0, "{:?}", seen.refusals);
    assert_eq!(seen.memoised, 0);
    assert!(begun.elapsed() < Duration::from_secs(60));
    world.shutdown().await;
}
