//! What a server has forgotten while it was read: the rest of a list, and what a watch has not seen. It has a server of its
//! own, which forgets and restarts for nobody else.

use std::sync::Arc;
use std::time::Duration;

use sandbox::api::{Effect as Strike, Fault};
use serde_json::{Value, json};
use stdlib::k8s::client::Objects;
use stdlib::k8s::object::Ref;

use super::gate::Remembering;
use super::place::InMemory;
use super::real::Real;
use super::scene::{Scene, scene};

/// More than one page of a list holds.
const MANY: usize = 501;
/// Long enough for a server to restart, and not as long as a silent watch is waited for.
const LATE: Duration = Duration::from_secs(45);

fn map(scene: &Scene, name: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"state": "no"},
        "metadata": {"name": name, "namespace": scene.ns, "labels": {"app": label}}})
}

/// Tells the story on a real server. `forget` has it forget all versions but the last, and `restart` ends it and begins it
/// again.
pub async fn forgotten(server: Arc<Real>, forget: impl AsyncFn(), restart: impl AsyncFn()) {
    told(&scene(server, "what-is-forgotten").await, forget, restart).await;
}

/// Tells it in the sandbox.
pub async fn forgotten_in_memory() {
    let place = Arc::new(InMemory::default());
    let restart = async || {
        place.server.set_down(true);
        place.server.set_down(false);
    };
    told(&scene(place.clone(), "").await, async || place.server.compact(), restart).await;
}

async fn told(scene: &Scene, forget: impl AsyncFn(), restart: impl AsyncFn()) {
    a_list(scene, &forget).await;
    a_watch(scene, &forget, &restart).await;
}

/// The token of the second page is too old when it is used.
async fn a_list(scene: &Scene, forget: &impl AsyncFn()) {
    for n in 0..MANY {
        scene.create(map(scene, &format!("m{n:03}"), "many")).await;
    }
    let objects = Objects::of(&scene.world).unwrap();
    let slow = Fault::new(Strike::Delay(Duration::from_secs(5))).verb("list").resource("configmaps");
    let slow = scene.inject(slow.skip(1).times(1));
    let meanwhile = async {
        while scene.hits(slow) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        scene.create(map(scene, "meanwhile", "many")).await;
        forget().await;
    };
    let (listed, ()) = futures::join!(objects.list("v1", "ConfigMap", &scene.ns, "app=many"), meanwhile);
    let mut names: Vec<String> =
        listed.unwrap().iter().map(|map| map["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    names.dedup();
    assert_eq!(names.len(), MANY + 1, "each of them once, with the one that came meanwhile");
    let asked = scene.place.counted(&scene.ns, "list", "configmaps");
    assert_eq!(asked, 3, "two pages, of which the second had expired, and all anew in one");
}

/// The version at which a watch goes on has gone, and with it the news that something was deleted.
async fn a_watch(scene: &Scene, forget: &impl AsyncFn(), restart: &impl AsyncFn()) {
    for name in ["one", "two"] {
        scene.create(map(scene, name, "waited")).await;
    }
    let before = scene.place.counted(&scene.ns, "list", "configmaps");
    let named = |name: &str| Ref::new("v1", "ConfigMap", &scene.ns, name);
    let args = json!(["v1", "ConfigMap", scene.ns,
        {"labels": "app=waited", "field": "data.state", "value": "yes", "count": 2, "within": "5m"}]);
    let gate = Remembering::new("w");
    let other = scene.other();
    let story = async {
        while scene.place.counted(&scene.ns, "watch", "configmaps") == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The next watch comes late: much has happened when it asks to go on from where it was.
        let late = Fault::new(Strike::Delay(LATE)).verb("watch").resource("configmaps");
        let late = scene.inject(late.times(1));
        restart().await;
        while scene.hits(late) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let begun = tokio::time::Instant::now();
        let objects = Objects::of(&other).unwrap();
        let two = objects.get(&named("two")).await.unwrap();
        let field = |name: &str| two["metadata"][name].as_str().unwrap().to_owned();
        objects.delete(&named("two"), &field("uid"), &field("resourceVersion")).await.unwrap();
        scene.create(map(scene, "three", "waited")).await;
        forget().await;
        restart().await;
        assert!(begun.elapsed() < LATE, "the watch has gone on before it was to");
        scene.edit(&named("one"), json!({"data": {"state": "yes"}})).await;
        while scene.place.counted(&scene.ns, "watch", "configmaps") < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.edit(&named("three"), json!({"data": {"state": "yes"}})).await;
    };
    let (waited, ()) = futures::join!(scene.call(&gate, "k8s::wait", args), story);
    assert_eq!(waited.unwrap()["objects"], json!(["one", "three"]));
    let asked = scene.place.counted(&scene.ns, "list", "configmaps") - before;
    let watched = scene.place.counted(&scene.ns, "watch", "configmaps");
    assert_eq!(
        (asked, watched),
        (2, 3),
        "the late watch asked for too old a version, all was listed anew at once and watched from there"
    );
}
