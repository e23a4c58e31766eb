//! Restarts: one marker, and a wait that ends only when everything holds.

use std::time::Duration;

use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::gate::EffectClass;
use stdlib::k8s::client::Objects;
use stdlib::k8s::object::{Ref, text};

use super::gate::Remembering;
use super::pods::labels;
use super::scene::Scene;

const KEY: &str = "tidb.pingcap.com/restartedAt";

fn cluster(scene: &Scene) -> Ref {
    Ref::new("pingcap.com/v1alpha1", "TidbCluster", &scene.ns, "basic")
}

fn set(scene: &Scene) -> Ref {
    Ref::new("apps/v1", "StatefulSet", &scene.ns, "basic-pd")
}

fn part(scene: &Scene) -> Value {
    json!({"component": "pd", "kind": "tidb", "namespace": scene.ns, "cluster": "basic", "name": "basic-pd"})
}

fn pod_named(scene: &Scene, n: usize) -> Ref {
    Ref::new("v1", "Pod", &scene.ns, &format!("basic-pd-{n}"))
}

async fn put_pod(scene: &Scene, n: usize, revision: &str, marker: &str) {
    let mut labels = labels("pd");
    labels.insert("controller-revision-hash".into(), revision.into());
    scene
        .create(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("basic-pd-{n}"), "namespace": scene.ns, "labels": labels, "annotations": {KEY: marker}},
            "spec": {"containers": [{"name": "pd", "image": "pd"}]},
        }))
        .await;
    scene.status(&pod_named(scene, n), json!({"conditions": [{"type": "Ready", "status": "True"}]})).await;
}

fn ready_since(time: &str) -> Value {
    json!([{"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": time}])
}

async fn running(scene: &Scene) {
    scene
        .create(json!({"apiVersion": "pingcap.com/v1alpha1", "kind": "TidbCluster",
                       "metadata": {"name": "basic", "namespace": scene.ns},
                       "spec": {"pd": {"replicas": 2, "annotations": {KEY: "before"}}}}))
        .await;
    scene
        .status(
            &cluster(scene),
            json!({
                "pd": {"phase": "Normal", "synced": true, "members": {"basic-pd-0": {"health": true}}},
                "conditions": ready_since(&scene.now()),
            }),
        )
        .await;
    scene
        .create(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "basic-pd", "namespace": scene.ns},
            "spec": {
                "replicas": 2, "serviceName": "basic-pd-peer", "selector": {"matchLabels": labels("pd")},
                "template": {"metadata": {"labels": labels("pd"), "annotations": {KEY: "before"}},
                             "spec": {"containers": [{"name": "pd", "image": "pd"}]}},
            },
        }))
        .await;
    scene
        .status(
            &set(scene),
            json!({"observedGeneration": 1, "replicas": 2, "currentRevision": "a", "updateRevision": "a"}),
        )
        .await;
    for n in 0..2 {
        put_pod(scene, n, "a", "before").await;
    }
}

async fn delete_pod(scene: &Scene, n: usize) {
    let other = scene.other();
    let objects = Objects::of(&other).unwrap();
    let pod = pod_named(scene, n);
    let now = objects.get(&pod).await.unwrap();
    let uid = text(&now, &["metadata", "uid"]);
    objects.delete(&pod, uid, text(&now, &["metadata", "resourceVersion"])).await.unwrap();
}

pub(super) async fn the_wait_ends_with_the_last_of_the_six_conditions_and_not_before(scene: Scene) {
    running(&scene).await;
    // Times of the API have whole seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let gate = Remembering::new("r1-trust-both");
    let mut wait = Box::pin(scene.call(&gate, "tidb::rolling_restart", json!([part(&scene)])));
    let soon = Duration::from_secs(30);
    macro_rules! not_yet {
        ($why:expr) => {
            let begun = tokio::time::Instant::now();
            loop {
                let moment = tokio::time::timeout(Duration::from_millis(200), &mut wait).await;
                assert!(moment.is_err(), "it was done although: {}", $why);
                let said = gate.progress.lock().unwrap().last().cloned().unwrap_or_default();
                if said.contains($why) {
                    break;
                }
                assert!(begun.elapsed() < soon, "expected `{}`, it said `{said}`", $why);
            }
        };
    }
    not_yet!("the operator has not passed the restart on yet");
    assert_eq!(scene.get(&cluster(&scene)).await["spec"]["pd"]["annotations"][KEY], "r1-trust-both");

    let template = json!({"spec": {"template": {"metadata": {"annotations": {KEY: "r1-trust-both"}}}}});
    scene.edit(&set(&scene), template).await;
    scene.status(&set(&scene), json!({"observedGeneration": 2, "updateRevision": "b"})).await;
    not_yet!("basic-pd-0: waits for its turn");
    delete_pod(&scene, 1).await;
    put_pod(&scene, 1, "b", "r1-trust-both").await;
    not_yet!("basic-pd-0: waits for its turn");
    delete_pod(&scene, 0).await;
    not_yet!("1 of 2 pods are there");
    put_pod(&scene, 0, "b", "r1-trust-both").await;
    not_yet!("revision b is not the current one yet");
    scene.status(&cluster(&scene), json!({"pd": {"phase": "Upgrade"}})).await;
    scene.status(&set(&scene), json!({"currentRevision": "b"})).await;
    not_yet!("pd: phase is Upgrade");
    scene.status(&cluster(&scene), json!({"pd": {"phase": "Normal"}})).await;
    let now = scene.get(&cluster(&scene)).await;
    let ready = text(&now["status"]["conditions"][0], &["lastTransitionTime"]).to_owned();
    let ours = now["metadata"]["managedFields"].as_array().unwrap();
    let ours = ours.iter().find(|entry| entry["manager"] == "rollover").unwrap();
    let since = text(ours, &["time"]).to_owned();
    assert!(ready < since, "{ready}, {since}");
    not_yet!(&format!("the cluster's `Ready` is from {ready}, before the restart at {since}"));
    scene
        .status(
            &cluster(&scene),
            json!({"conditions": ready_since(&scene.now()),
                                      "pd": {"members": {"basic-pd-0": {"health": false}}}}),
        )
        .await;
    not_yet!("pd: member basic-pd-0 is not healthy");
    scene.status(&cluster(&scene), json!({"pd": {"members": {"basic-pd-0": {"health": true}}}})).await;
    let done = tokio::time::timeout(soon, &mut wait).await.expect("all six conditions hold").unwrap();
    assert_eq!(done, json!({"marker": "r1-trust-both"}));
    let effect = gate.effects().remove(0);
    assert_eq!(effect.class, EffectClass::Compensable);
    assert_eq!(effect.place, cluster(&scene).part("spec.pd.annotations"));
    assert_eq!(effect.summary["marker"], "r1-trust-both");
    assert!(effect.backup.is_none());

    // Resumed after a kill, it restarts nothing again: the marker is ours.
    let version = text(&scene.get(&cluster(&scene)).await, &["metadata", "resourceVersion"]).to_owned();
    let again = Remembering::new("r1-trust-both");
    scene.call(&again, "tidb::rolling_restart", json!([part(&scene)])).await.unwrap();
    assert!(again.effects().is_empty());
    assert_eq!(text(&scene.get(&cluster(&scene)).await, &["metadata", "resourceVersion"]), version);
}

pub(super) async fn the_lock_that_is_renewed_meanwhile_does_not_make_ready_look_stale(scene: Scene) {
    running(&scene).await;
    let target = stdlib::lease::Target {
        object: cluster(&scene),
        uid: String::new(),
        namespace: scene.ns.clone(),
        lease: "rollover-tidbcluster-basic".into(),
    };
    let holder = stdlib::lease::Holder { run: "r1".into(), host: "h".into(), user: "u".into() };
    let held = stdlib::lease::acquire(&scene.world, &target, &holder).await.unwrap();
    let gate = Remembering::new("r1-trust-both");
    let wait = scene.call(&gate, "tidb::rolling_restart", json!([part(&scene)]));
    let world = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let template = json!({"spec": {"template": {"metadata": {"annotations": {KEY: "r1-trust-both"}}}}});
        scene.edit(&set(&scene), template).await;
        for n in 0..2 {
            delete_pod(&scene, n).await;
            put_pod(&scene, n, "b", "r1-trust-both").await;
        }
        let revisions = json!({"observedGeneration": 2, "updateRevision": "b", "currentRevision": "b"});
        scene.status(&cluster(&scene), json!({"conditions": ready_since(&scene.now())})).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        held.note("trust-both/settle/pd", &json!("head")).await.unwrap();
        scene.status(&set(&scene), revisions).await;
    };
    let both = futures::future::join(wait, world);
    let (done, ()) =
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("it must not wait for ever");
    done.unwrap();
}

pub(super) async fn a_restart_by_somebody_else_meanwhile_is_told(scene: Scene) {
    running(&scene).await;
    let gate = Remembering::new("r1-trust-both");
    let wait = scene.call(&gate, "tidb::rolling_restart", json!([part(&scene)]));
    let world = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        scene.edit(&cluster(&scene), json!({"spec": {"pd": {"annotations": {KEY: "by-hand"}}}})).await;
    };
    let (done, ()) = futures::future::join(wait, world).await;
    assert_eq!(done.unwrap_err().code, Code::Conflict);
}

pub(super) async fn outside_a_run_nothing_is_restarted(scene: Scene) {
    running(&scene).await;
    let error = scene
        .call(&stdlib::gate::ReadOnly, "tidb::rolling_restart", json!([part(&scene)]))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Refused);
    assert_eq!(scene.get(&cluster(&scene)).await["spec"]["pd"]["annotations"][KEY], "before");
}

/// A pod that a StatefulSet has made, or nobody.
async fn put_web(scene: &Scene, name: &str, set: &Value) {
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": set["metadata"]["name"],
                       "uid": set["metadata"]["uid"], "controller": true});
    let owners = if set.is_null() { json!([]) } else { json!([owner]) };
    scene
        .create(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": scene.ns, "labels": {"app": "web"}, "ownerReferences": owners},
            "spec": {"containers": [{"name": "web", "image": "web"}]}}))
        .await;
    let pod = Ref::new("v1", "Pod", &scene.ns, name);
    scene.status(&pod, json!({"conditions": [{"type": "Ready", "status": "True"}]})).await;
}

pub(super) async fn pods_are_made_anew_of_their_set_alone(scene: Scene) {
    let mut sets = Vec::new();
    for name in ["web", "other"] {
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": scene.ns},
            "spec": {"replicas": 2, "serviceName": name, "selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}}}});
        sets.push(scene.create(set).await);
    }
    let (web, nobody) = (&sets[0], Value::Null);
    let all = [("web-0", web), ("web-1", web), ("other-0", &sets[1]), ("web-by-hand", &nobody)];
    let mut before = Vec::new();
    for (name, set) in all {
        put_web(&scene, name, set).await;
        before.push(scene.get(&Ref::new("v1", "Pod", &scene.ns, name)).await["metadata"]["uid"].clone());
    }
    let gate = Remembering::new("r1-replace");
    let args = json!([[{"namespace": scene.ns, "name": "web", "selector": "app=web", "replicas": 2}]]);
    let other = scene.other();
    let successors = async {
        let objects = Objects::of(&other).unwrap();
        for name in ["web-0", "web-1"] {
            while objects.find(&Ref::new("v1", "Pod", &scene.ns, name)).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Those of others are ready, and do not count for it.
            assert!(!gate.progress.lock().unwrap().iter().any(|said| said.contains("2 of 2")));
            put_web(&scene, name, web).await;
        }
    };
    let (done, ()) = futures::future::join(scene.call(&gate, "k8s::recreate_pods", args), successors).await;
    assert_eq!(done.unwrap()["pods"], json!(["web-0", "web-1"]));
    let mut kept = Vec::new();
    for ((name, _), uid) in all.iter().zip(before) {
        kept.push(scene.get(&Ref::new("v1", "Pod", &scene.ns, name)).await["metadata"]["uid"] == uid);
    }
    assert_eq!(kept, [false, false, true, true], "the pods of others are left alone");
    assert_eq!(gate.effects().len(), 2);
}
