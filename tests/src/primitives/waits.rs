//! Waiting by a watch: cut, forgotten, silent or forbidden. Only the sandbox cuts watches and forgets versions when it is asked
//! to; a real server is restarted and its etcd compacted for that, which `tests/real/waits.rs` does.

use std::time::Duration;

use sandbox::api::{Effect as Strike, Fault, Rule, Server};
use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::k8s::object::Ref;

use super::gate::Remembering;
use super::scene::{Scene, call};

fn map(scene: &Scene, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": scene.ns, "labels": {"app": "a"}},
        "data": {"state": "no"}})
}

fn wanted(scene: &Scene) -> Value {
    json!(["v1", "ConfigMap", scene.ns, {"labels": "app=a", "field": "data.state", "value": "yes", "count": 2, "within": "10m"}])
}

async fn says(scene: &Scene, name: &str, state: &str) {
    let object = Ref::new("v1", "ConfigMap", &scene.ns, name);
    scene.edit(&object, json!({"data": {"state": state}})).await;
}

/// Two objects come to say yes after this has happened to the watch.
async fn after(scene: Scene, what: impl AsyncFnOnce(&Scene)) -> (Scene, Remembering) {
    scene.create(map(&scene, "one")).await;
    let gate = Remembering::new("w");
    let story = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        what(&scene).await;
        scene.create(map(&scene, "two")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        says(&scene, "one", "yes").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        says(&scene, "two", "yes").await;
    };
    let begun = tokio::time::Instant::now();
    let (waited, ()) = futures::join!(scene.call(&gate, "k8s::wait", wanted(&scene)), story);
    assert_eq!(waited.unwrap()["objects"], json!(["one", "two"]));
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    drop(waited_for(&gate));
    (scene, gate)
}

fn waited_for(gate: &Remembering) -> Vec<String> {
    let told = gate.progress.lock().unwrap().clone();
    assert!(told[0].contains("one: data.state is \"no\", not \"yes\""), "{told:?}");
    told
}

fn counted(scene: &Scene, verb: &str) -> u64 {
    scene.place.counted(&scene.ns, verb, "configmaps")
}

/// The sandbox's server, for what only it does when it is asked to.
fn in_memory(scene: &Scene) -> &Server {
    scene.place.in_memory().expect("a story of the sandbox alone")
}

pub(super) async fn a_wait_is_woken_by_what_happens_and_asks_no_more_than_once(scene: Scene) {
    let (scene, _) = after(scene, async |_| {}).await;
    assert_eq!((counted(&scene, "list"), counted(&scene, "watch")), (1, 1));
}

pub(super) async fn a_watch_that_is_cut_goes_on_from_where_it_was(scene: Scene) {
    for abort in [false, true] {
        let (scene, _) = after(scene.another().await, async |scene| {
            assert!(in_memory(scene).drop_watches(None, Some("rollover"), abort) > 0);
        })
        .await;
        let told = (counted(&scene, "list"), counted(&scene, "watch"));
        assert_eq!(told, if abort { (2, 4) } else { (1, 2) }, "abort: {abort}");
    }
}

pub(super) async fn versions_that_the_server_has_forgotten_are_listed_anew(scene: Scene) {
    // Some servers say so in their answer to the watch, others in the first of its events.
    for in_the_answer in [true, false] {
        let (scene, _) = after(scene.another().await, async |scene| {
            // It would be waited for, did nobody see that it has gone.
            scene.create(map(scene, "gone")).await;
            let object = Ref::new("v1", "ConfigMap", &scene.ns, "gone");
            let gone = scene.get(&object).await;
            let field = |name: &str| gone["metadata"][name].as_str().unwrap().to_owned();
            if in_the_answer {
                let expired = Fault::new(Strike::Status(410, "too old resource version".into()));
                scene.inject(expired.verb("watch").times(1));
            }
            in_memory(scene).drop_watches(None, Some("rollover"), true);
            let other = scene.other();
            let objects = stdlib::k8s::client::Objects::of(&other).unwrap();
            objects.delete(&object, &field("uid"), &field("resourceVersion")).await.unwrap();
            in_memory(scene).compact();
            tokio::time::sleep(Duration::from_secs(5)).await;
        })
        .await;
        // At once: the watch that was cut, the one that was told, the one from the new list.
        let told = (counted(&scene, "list"), counted(&scene, "watch"));
        let wanted = if in_the_answer { (2, 3) } else { (4, 6) };
        assert_eq!(told, wanted, "in the answer: {in_the_answer}");
    }
}

pub(super) async fn a_server_that_is_away_for_a_while_is_waited_for(scene: Scene) {
    let (_, gate) = after(scene, async |scene| {
        in_memory(scene).set_down(true);
        tokio::time::sleep(Duration::from_secs(40)).await;
        in_memory(scene).set_down(false);
    })
    .await;
    assert!(waited_for(&gate).len() >= 2);
}

pub(super) async fn what_does_not_come_is_unproved_and_the_right_to_watch_is_named(scene: Scene) {
    scene.create(map(&scene, "one")).await;
    let args = json!(["v1", "ConfigMap", &scene.ns, {"name": "one", "field": "data.state", "value": "yes", "within": "5s"}]);
    let error = scene.call(&Remembering::new("w"), "k8s::wait", args.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Unproved);
    assert!(error.message.contains("within 5s: one: data.state is \"no\", not \"yes\""), "{error}");
    let rule = Rule {
        verbs: vec!["list".into()],
        groups: vec![String::new()],
        resources: vec!["configmaps".into()],
        names: Vec::new(),
        namespaces: vec![scene.ns.clone()],
    };
    let lister = scene.limited(rule).await;
    let error = call(&lister, &Remembering::new("w"), "k8s::wait", args).await.unwrap_err();
    assert_eq!(error.code, Code::Forbidden);
    assert!(error.hint.unwrap().ends_with(r#"resources: ["configmaps"], verbs: ["watch"]}"#));
}
