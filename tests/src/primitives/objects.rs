//! Any objects: deleted and made again, Secrets made and replaced, lists that grow old while they are read.

use sandbox::api::{Effect as Strike, Fault};
use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::gate::EffectClass;
use stdlib::k8s::client::Objects;
use stdlib::k8s::object::Ref;

use super::gate::Remembering;
use super::scene::{Scene, base64};

fn map(ns: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": ns, "labels": {"app": "a"}},
        "data": {"a": "1"}})
}

async fn there(scene: &Scene, object: &Ref) -> Option<Value> {
    Objects::of(&scene.other()).unwrap().find(object).await.unwrap()
}

pub(super) async fn an_object_is_deleted_and_made_again(scene: Scene) {
    scene.create(map(&scene.ns, "m")).await;
    let object = Ref::new("v1", "ConfigMap", &scene.ns, "m");
    let gate = Remembering::new("s");
    let args = json!(["v1", "ConfigMap", &scene.ns, "m"]);
    let answer = scene.call(&gate, "k8s::delete", args.clone()).await.unwrap();
    assert!(answer["deleted"].is_string() && there(&scene, &object).await.is_none());
    let again = scene.call(&Remembering::new("s"), "k8s::delete", args.clone()).await.unwrap();
    assert_eq!(again["deleted"], Value::Null, "what is not there is done");
    // The answer to making it is lost: what is there then is our own.
    for strike in [Strike::LoseAnswer, Strike::Abort] {
        let fault = Fault::new(strike).verb("create").resource("configmaps").times(1);
        let fault = scene.inject(fault);
        let back = Remembering::new("b");
        scene.restore(&back, "k8s::delete", &gate.recorded()).await.unwrap();
        assert_eq!(scene.hits(fault), 1);
        let now = there(&scene, &object).await.unwrap();
        assert_eq!((&now["data"], &now["metadata"]["labels"]), (&json!({"a": "1"}), &json!({"app": "a"})));
        scene.restore(&back, "k8s::delete", &gate.recorded()).await.unwrap();
        assert_eq!(back.effects().len(), 1, "what is as it was is left alone");
        scene.call(&Remembering::new("s"), "k8s::delete", args.clone()).await.unwrap();
    }
    scene.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": scene.ns}, "data": {"theirs": "1"}})).await;
    let error = scene.restore(&Remembering::new("b"), "k8s::delete", &gate.recorded()).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert!(error.message.contains("`kubectl-edit` has made it again"), "{error}");
}

pub(super) async fn what_holds_an_object_is_said_and_whoever_does_not_wait_goes_on(scene: Scene) {
    let mut held = map(&scene.ns, "m");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    scene.create(held).await;
    let object = Ref::new("v1", "ConfigMap", &scene.ns, "m");
    let args = |options: Value| json!(["v1", "ConfigMap", &scene.ns, "m", options]);
    scene.call(&Remembering::new("s"), "k8s::delete", args(json!({"wait": false}))).await.unwrap();
    assert!(there(&scene, &object).await.is_some());
    // Another step finds it on its way out: it waits, and takes nothing back that it has not done.
    let gate = Remembering::new("t");
    let freed = async {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        scene.edit(&object, json!({"metadata": {"finalizers": null}})).await;
    };
    let (deleted, ()) = futures::join!(scene.call(&gate, "k8s::delete", args(json!({}))), freed);
    assert_eq!(deleted.unwrap()["deleted"], Value::Null);
    assert!(gate.effects().is_empty() && there(&scene, &object).await.is_none());
    assert!(gate.progress.lock().unwrap()[0].contains("waits for its finalizers [\"example.com/hold\"]"));
}

pub(super) async fn what_a_controller_keeps_is_not_put_back_and_force_spares_members(scene: Scene) {
    let pod = |name: &str, owner: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": "main:1"}]},
            "metadata": {"name": name, "namespace": scene.ns, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": owner, "name": "x", "uid": "u", "controller": true}]}})
    };
    scene.create(pod("web", "ReplicaSet")).await;
    scene.create(pod("basic-tikv-0", "StatefulSet")).await;
    let gate = Remembering::new("s");
    let delete = |name: &str, force: Value| json!(["v1", "Pod", &scene.ns, name, {"force": force}]);
    scene.call(&gate, "k8s::delete", delete("web", json!(true))).await.unwrap();
    assert_eq!(gate.effects()[0].class, EffectClass::Compensable);
    let error = scene.call(&gate, "k8s::delete", delete("basic-tikv-0", json!(true))).await.unwrap_err();
    assert_eq!((error.code, gate.effects().len()), (Code::Refused, 1), "{error}");
    scene.call(&gate, "k8s::delete", delete("basic-tikv-0", json!("stateful"))).await.unwrap();
    assert!(there(&scene, &Ref::new("v1", "Pod", &scene.ns, "basic-tikv-0")).await.is_none());
}

pub(super) async fn a_secret_is_made_once_and_taken_away_where_it_is_as_it_was_made(scene: Scene) {
    let (ca, object) = (scene.ca("CA").await, Ref::secret(&scene.ns, "web"));
    let (leaf, other) = (scene.leaf(&ca, &["web"]).await, scene.leaf(&ca, &["web"]).await);
    let args = |key: &Value| {
        json!([&scene.ns, "web", {"tls.crt": leaf["cert"], "tls.key": key, "ca.crt": ca["cert"]},
            {"type": "kubernetes.io/tls", "labels": {"app": "web"}}])
    };
    let gate = Remembering::new("s");
    let wrong = scene.call(&gate, "k8s::create_secret", args(&other["key"])).await.unwrap_err();
    assert_eq!((wrong.code, gate.effects().len()), (Code::KeyMismatch, 0));
    let fault = Fault::new(Strike::LoseAnswer).verb("create").resource("secrets").times(1);
    scene.inject(fault);
    let made = scene.call(&gate, "k8s::create_secret", args(&leaf["key"])).await.unwrap();
    assert_eq!(made["changed"], true);
    let now = scene.get(&object).await;
    assert_eq!(
        (&now["type"], &now["metadata"]["labels"]),
        (&json!("kubernetes.io/tls"), &json!({"app": "web"}))
    );
    assert!(!format!("{:?}", gate.effects()).contains("PRIVATE KEY"));
    let again = scene.call(&Remembering::new("s"), "k8s::create_secret", args(&leaf["key"])).await.unwrap();
    assert_eq!(again["changed"], false);
    scene.edit(&object, json!({"data": {"more": base64("theirs")}})).await;
    let taken =
        scene.call(&Remembering::new("s"), "k8s::create_secret", args(&leaf["key"])).await.unwrap_err();
    assert_eq!(taken.code, Code::Conflict);
    let stuck = scene.restore(&gate, "k8s::create_secret", &gate.recorded()).await.unwrap_err();
    assert_eq!(stuck.code, Code::Conflict, "{stuck}");
    let uid = now["metadata"]["uid"].as_str().unwrap();
    let changed = scene.get(&object).await;
    let version = changed["metadata"]["resourceVersion"].as_str().unwrap();
    Objects::of(&scene.other()).unwrap().delete(&object, uid, version).await.unwrap();
    scene.call(&Remembering::new("s"), "k8s::create_secret", args(&leaf["key"])).await.unwrap();
    scene.restore(&Remembering::new("b"), "k8s::create_secret", &gate.recorded()).await.unwrap();
    assert!(there(&scene, &object).await.is_none());
}

pub(super) async fn a_deleted_secret_whose_making_has_lost_its_answer_is_our_own(scene: Scene) {
    let object = Ref::secret(&scene.ns, "s");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": scene.ns}, "data": {"a": "b25l"}});
    scene.create(secret).await;
    let gate = Remembering::new("s");
    scene.call(&gate, "k8s::delete_secret", json!([{"namespace": scene.ns, "name": "s"}])).await.unwrap();
    let fault = Fault::new(Strike::LoseAnswer).verb("create").resource("secrets").times(1);
    let fault = scene.inject(fault);
    scene.restore(&Remembering::new("b"), "k8s::delete_secret", &gate.recorded()).await.unwrap();
    assert_eq!(scene.hits(fault), 1);
    assert_eq!(scene.get(&object).await["data"], json!({"a": "b25l"}));
}

pub(super) async fn a_list_whose_pages_grow_old_is_begun_anew(scene: Scene) {
    for n in 0..501 {
        scene.create(map(&scene.ns, &format!("m{n}"))).await;
    }
    let objects = Objects::of(&scene.world).unwrap();
    let gone = Strike::Status(410, "The provided continue parameter is too old".into());
    let fault = Fault::new(gone.clone()).verb("list").resource("configmaps").skip(1).times(1);
    let fault = scene.inject(fault);
    let listed = objects.list("v1", "ConfigMap", &scene.ns, "").await.unwrap();
    assert_eq!((listed.len(), scene.hits(fault)), (501, 1), "each of them once");
    scene.inject(Fault::new(gone).verb("list").resource("configmaps"));
    let error = objects.list("v1", "ConfigMap", &scene.ns, "").await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "a server that says so of a new list is not asked for ever");
}
