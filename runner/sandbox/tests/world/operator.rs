//! The operator as a person meets it: its order, its stale status, and what it refuses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, STATEFUL_SETS, TIDB_CLUSTERS};
use sandbox::world::{Options, Scenario, Timing, World};
use serde_json::json;

use super::support::{
    Authority, annotate, cluster, options, patch_secret, ready, restart_all, unfinished, wait_rolled,
};

async fn calm(seed: u64) -> (World, Kube) {
    let mut calm = options(seed);
    calm.timing = Timing { restart_mean: 0, ..Timing::lifelike() };
    let world = World::start(calm).await.unwrap();
    let kube = Kube::new(world.client());
    (world, kube)
}

#[tokio::test(start_paused = true)]
async fn components_roll_in_order_and_pods_from_the_highest() {
    let (world, kube) = calm(11).await;
    let before = kube.list(PODS, "tidb").await.unwrap().0;
    restart_all(&kube, "one").await;
    let (mut pods, _) = kube.list(PODS, "tidb").await.unwrap();
    assert!(pods.iter().all(|pod| before.iter().all(|old| js::uid(old) != js::uid(pod))), "every pod is new");
    pods.retain(|pod| !js::name(pod).contains("client"));
    pods.sort_by_key(|pod| js::text(pod, "/metadata/creationTimestamp").to_owned());
    let names: Vec<&str> = pods.iter().map(|pod| js::name(pod).trim_start_matches("basic-")).collect();
    assert_eq!(names, ["pd-2", "pd-1", "pd-0", "tikv-2", "tikv-1", "tikv-0", "tidb-1", "tidb-0"]);
    let status = cluster(&kube).await;
    assert_eq!(js::text(&status, "/status/tikv/stores/1/state"), "Up");
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn right_after_a_change_ready_is_stale() {
    let (world, kube) = calm(12).await;
    let before = cluster(&kube).await;
    annotate(&kube, "one").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let after = cluster(&kube).await;
    assert_eq!(ready(&after), ("True", "Ready"), "the trap: the status is of before the change");
    assert_eq!(after["status"]["conditions"], before["status"]["conditions"]);
    assert!(after["metadata"]["generation"].as_i64() > before["metadata"]["generation"].as_i64());
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(ready(&cluster(&kube).await).1, "StatefulSetNotUpToDate");
    wait_rolled(&kube, "one").await;
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_pd_refuses_upgrades_nothing_unless_forced() {
    let (world, kube) = calm(13).await;
    let foreign = Authority::new(&world);
    let (cert, key) = foreign.issue(&world, "client");
    patch_secret(&kube, "client", &[("tls.crt", cert.as_bytes()), ("tls.key", &key)]).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let status = cluster(&kube).await;
    assert_eq!(status["status"]["pd"]["synced"], json!(false));
    assert_eq!(ready(&status), ("False", "PDUnhealthy"));
    let by_operator = world.counters().refusals.iter().any(|r| r.client == "operator" && r.by == "server");
    assert!(by_operator, "{:?}", world.counters().refusals);

    annotate(&kube, "one").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(unfinished(&kube, "one").await.contains("basic-pd: the template has no marker"));
    let force = json!({ "metadata": { "annotations": { "tidb.pingcap.com/force-upgrade": "true" } } });
    kube.merge(TIDB_CLUSTERS, ("tidb", "basic"), "", &force).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let set = kube.get(STATEFUL_SETS, "tidb", "basic-pd").await.unwrap().unwrap();
    assert_eq!(js::number(&set, "/status/updatedReplicas"), Some(3), "{}", set["status"]);
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn many_leaders_are_waited_for() {
    let mut options = options(14);
    options.scenario.leaders_per_store = 400;
    let world = World::start(options).await.unwrap();
    let kube = Kube::new(world.client());
    annotate(&kube, "one").await;
    let mut least = u64::MAX;
    for _ in 0..400 {
        let status = cluster(&kube).await;
        let stores = status["status"]["tikv"]["stores"].as_object().unwrap();
        let counts = stores.values().filter_map(|s| s["leaderCount"].as_u64());
        least = least.min(counts.min().unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(least, 0, "leaders move away before a store restarts");
    wait_rolled(&kube, "one").await;
    world.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_with_every_component_comes_up_and_rolls() {
    let scenario = Scenario::default().with("tiflash", 1).with("ticdc", 1).with("tiproxy", 1).with("pump", 1);
    let scenario = Scenario { allowed_cn: vec!["TiDB".into()], ..scenario };
    let world = World::start(Options { scenario, ..Options::in_process(15) }).await.unwrap();
    let kube = Kube::new(world.client());
    restart_all(&kube, "one").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let seen = world.counters();
    assert_eq!(seen.refused, 0, "{:?}", seen.refusals);
    for link in ["tidb -> tiflash", "tidb -> pump", "ticdc -> pd", "tiproxy -> tidb", "operator -> ticdc"] {
        assert!(seen.links.get(link).is_some_and(|l| l.made > 0), "{link} was never dialled");
    }
    world.shutdown().await;
}

/// Every request that a world's API gets during a rolling restart, and when.
async fn told(seed: u64) -> (Vec<String>, u64, u64) {
    let begun = tokio::time::Instant::now();
    let world = World::start(Options { memo: None, ..options(seed) }).await.unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    world.server().unwrap().on_request(Arc::new(move |asked| {
        let at = begun.elapsed().as_millis();
        let line = format!("{at} {} {} {} {}", asked.user, asked.verb, asked.path, asked.subresource);
        log.lock().unwrap().push(line);
    }));
    let kube = Kube::new(world.client());
    restart_all(&kube, "one").await;
    let pods = kube.list(PODS, "tidb").await.unwrap().0;
    let seen = world.counters();
    world.shutdown().await;
    let mut lines = requests.lock().unwrap().clone();
    lines.extend(pods.iter().map(|pod| format!("{} {}", js::name(pod), js::uid(pod))));
    (lines, seen.handshakes, seen.made)
}

#[tokio::test(start_paused = true)]
async fn worlds_of_one_seed_are_alike() {
    for seed in [16, 17] {
        let (first, second) = (told(seed).await, told(seed).await);
        let differ = first.0.iter().zip(&second.0).position(|(one, other)| one != other);
        if let Some(at) = differ {
            let around = at.saturating_sub(3)..at + 3;
            panic!("seed {seed}, request {at}: {:#?} {:#?}", &first.0[around.clone()], &second.0[around]);
        }
        assert_eq!((first.0.len(), first.1, first.2), (second.0.len(), second.1, second.2), "seed {seed}");
    }
    assert_ne!(told(16).await.0, told(17).await.0, "another seed is another world");
}
