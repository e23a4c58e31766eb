//! Waiting by a watch: cut, forgotten, silent or forbidden.

use std::time::Duration;

use sandbox::api::{Effect as Strike, Fault, Rule};
use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::k8s::object::Ref;

use crate::support::{NS, Remembering, Scene, scene};

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NS, "labels": {"app": "a"}},
        "data": {"state": "no"}})
}

fn wanted() -> Value {
    json!(["v1", "ConfigMap", NS, {"labels": "app=a", "field": "data.state", "value": "yes", "count": 2, "within": "10m"}])
}

async fn says(scene: &Scene, name: &str, state: &str) {
    let object = Ref::new("v1", "ConfigMap", NS, name);
    scene.edit(&object, json!({"data": {"state": state}})).await;
}

/// Two objects come to say yes after this has happened to the watch.
async fn after(what: impl AsyncFnOnce(&Scene)) -> (Scene, Remembering) {
    let scene = scene().await;
    scene.create(map("one")).await;
    let gate = Remembering::new("w");
    let story = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        what(&scene).await;
        scene.create(map("two")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        says(&scene, "one", "yes").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        says(&scene, "two", "yes").await;
    };
    let begun = tokio::time::Instant::now();
    let (waited, ()) = futures::join!(scene.call(&gate, "k8s::wait", wanted()), story);
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
    let counters = scene.server.counters();
    counters
        .iter()
        .filter(|((user, of, what), _)| user == "rollover" && of == verb && what == "configmaps")
        .map(|(_, count)| *count)
        .sum()
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_woken_by_what_happens_and_asks_no_more_than_once() {
    let (scene, _) = after(async |_| {}).await;
    assert_eq!((counted(&scene, "list"), counted(&scene, "watch")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_goes_on_from_where_it_was() {
    for abort in [false, true] {
        let (scene, _) = after(async |scene| {
            assert!(scene.server.drop_watches(None, Some("rollover"), abort) > 0);
        })
        .await;
        assert_eq!((counted(&scene, "list"), counted(&scene, "watch")), (1, 2), "abort: {abort}");
    }
}

#[tokio::test(start_paused = true)]
async fn versions_that_the_server_has_forgotten_are_listed_anew() {
    let (scene, _) = after(async |scene| {
        scene.create(map("two")).await;
        let uid = scene.get(&Ref::new("v1", "ConfigMap", NS, "two")).await;
        let object = Ref::new("v1", "ConfigMap", NS, "two");
        let field = |name: &str| uid["metadata"][name].as_str().unwrap().to_owned();
        let gone = Fault::new(Strike::Status(410, "too old resource version".into()));
        scene.server.inject(gone.user("rollover").verb("watch").times(1));
        scene.server.drop_watches(None, Some("rollover"), true);
        let other = scene.other();
        let objects = stdlib::k8s::client::Objects::of(&other).unwrap();
        objects.delete(&object, &field("uid"), &field("resourceVersion")).await.unwrap();
        scene.server.compact();
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    assert_eq!(counted(&scene, "list"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_while_is_waited_for() {
    let (_, gate) = after(async |scene| {
        scene.server.set_down(true);
        tokio::time::sleep(Duration::from_secs(40)).await;
        scene.server.set_down(false);
    })
    .await;
    assert!(waited_for(&gate).len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_is_unproved_and_the_right_to_watch_is_named() {
    let scene = scene().await;
    scene.create(map("one")).await;
    let args = json!(["v1", "ConfigMap", NS, {"name": "one", "field": "data.state", "value": "yes", "within": "30s"}]);
    let error = scene.call(&Remembering::new("w"), "k8s::wait", args.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Unproved);
    assert!(error.message.contains("within 30s: one: data.state is \"no\", not \"yes\""), "{error}");
    let rule = Rule {
        verbs: vec!["list".into()],
        groups: vec![String::new()],
        resources: vec!["configmaps".into()],
        names: Vec::new(),
        namespaces: vec![NS.into()],
    };
    scene.server.set_rules("rollover", Some(vec![rule]));
    let error = scene.call(&Remembering::new("w"), "k8s::wait", args).await.unwrap_err();
    assert_eq!(error.code, Code::Forbidden);
    assert!(error.hint.unwrap().ends_with(r#"resources: ["configmaps"], verbs: ["watch"]}"#));
}
