//! Waiting by a watch: cut, refused, silent or forbidden. What a server does that restarts or has forgotten versions is told
//! in `forgotten.rs` and `tests/real/waits.rs`.

use std::time::Duration;

use sandbox::api::{Effect as Strike, Fault, Rule};
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

/// How often it was asked.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    lists: u64,
    watches: u64,
}

fn asked(scene: &Scene) -> Asked {
    let counted = |verb: &str| scene.place.counted(&scene.ns, verb, "configmaps");
    Asked { lists: counted("list"), watches: counted("watch") }
}

/// Two objects come to say yes after this has happened to the watch. What is told meanwhile, and how often it is asked.
async fn after(scene: &Scene, what: impl AsyncFnOnce()) -> (Vec<String>, Asked) {
    scene.create(map(scene, "one")).await;
    let before = asked(scene);
    let gate = Remembering::new("w");
    let story = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        what().await;
        scene.create(map(scene, "two")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        says(scene, "one", "yes").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        says(scene, "two", "yes").await;
    };
    let begun = tokio::time::Instant::now();
    let (waited, ()) = futures::join!(scene.call(&gate, "k8s::wait", wanted(scene)), story);
    assert_eq!(waited.unwrap()["objects"], json!(["one", "two"]));
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    let told = gate.progress.lock().unwrap().clone();
    assert!(told[0].contains("one: data.state is \"no\", not \"yes\""), "{told:?}");
    let now = asked(scene);
    (told, Asked { lists: now.lists - before.lists, watches: now.watches - before.watches })
}

pub(super) async fn a_wait_is_woken_by_what_happens_and_asks_no_more_than_once(scene: Scene) {
    let (_, asked) = after(&scene, async || {}).await;
    assert_eq!(asked, Asked { lists: 1, watches: 1 });
}

pub(super) async fn a_watch_that_is_cut_goes_on_from_where_it_was(scene: Scene) {
    for abort in [false, true] {
        let scene = scene.another().await;
        let cut = async || assert!(scene.place.drop_watches(&scene.ns, abort) > 0);
        let (_, asked) = after(&scene, cut).await;
        assert_eq!(asked, Asked { lists: 1, watches: 2 }, "abort: {abort}");
    }
}

/// Some servers say so in the first event of the watch; what becomes of that is told where versions are forgotten.
pub(super) async fn a_version_that_is_refused_in_the_answer_is_listed_anew(scene: Scene) {
    let forgotten = async || {
        // It would be waited for, did nobody see that it has gone.
        scene.create(map(&scene, "gone")).await;
        let object = Ref::new("v1", "ConfigMap", &scene.ns, "gone");
        let gone = scene.get(&object).await;
        let field = |name: &str| gone["metadata"][name].as_str().unwrap().to_owned();
        let expired = Fault::new(Strike::Status(410, "too old resource version".into()));
        scene.inject(expired.verb("watch").times(1));
        assert!(scene.place.drop_watches(&scene.ns, true) > 0);
        let other = scene.other();
        let objects = stdlib::k8s::client::Objects::of(&other).unwrap();
        objects.delete(&object, &field("uid"), &field("resourceVersion")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    let (_, asked) = after(&scene, forgotten).await;
    // At once: the watch that was cut, the one that was told, the one from the new list.
    assert_eq!(asked, Asked { lists: 2, watches: 3 });
}

pub(super) async fn a_server_that_is_away_for_a_while_is_waited_for(scene: Scene) {
    let away = async || {
        scene.place.set_down(&scene.ns, true);
        tokio::time::sleep(Duration::from_secs(40)).await;
        scene.place.set_down(&scene.ns, false);
    };
    let (told, _) = after(&scene, away).await;
    assert!(told.len() >= 2, "{told:?}");
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
