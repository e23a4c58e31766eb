//! Restarts: one marker, and a wait that ends only when everything holds.

use std::time::Duration;

use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::gate::EffectClass;
use stdlib::k8s::object::{Ref, text};

use crate::support::{NS, Remembering, Scene, labels, scene};

const KEY: &str = "tidb.pingcap.com/restartedAt";

fn cluster() -> Ref {
    Ref::new("pingcap.com/v1alpha1", "TidbCluster", NS, "basic")
}

fn set() -> Ref {
    Ref::new("apps/v1", "StatefulSet", NS, "basic-pd")
}

fn part() -> Value {
    json!({"component": "pd", "kind": "tidb", "namespace": NS, "cluster": "basic", "name": "basic-pd"})
}

fn pod_named(n: usize) -> Ref {
    Ref::new("v1", "Pod", NS, &format!("basic-pd-{n}"))
}

async fn put_pod(scene: &Scene, n: usize, revision: &str, marker: &str) {
    let mut labels = labels("pd");
    labels.insert("controller-revision-hash".into(), revision.into());
    scene
        .create(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("basic-pd-{n}"), "namespace": NS, "labels": labels, "annotations": {KEY: marker}},
            "spec": {"containers": [{"name": "pd", "image": "pd"}]},
        }))
        .await;
    status(scene, &pod_named(n), json!({"conditions": [{"type": "Ready", "status": "True"}]})).await;
}

/// What a controller writes.
async fn status(scene: &Scene, object: &Ref, status: Value) {
    let client = scene.server.client("controller");
    let api: kube::Api<kube::api::DynamicObject> =
        kube::Api::namespaced_with(client, &object.namespace, &object.resource());
    let params = kube::api::PatchParams::default();
    let patch = kube::api::Patch::Merge(json!({ "status": status }));
    match api.patch_status(&object.name, &params, &patch).await {
        Ok(_) => {}
        // A CRD without the subresource.
        Err(_) => drop(api.patch(&object.name, &params, &patch).await.unwrap()),
    }
}

fn ready_since(time: &str) -> Value {
    json!([{"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": time}])
}

async fn running(scene: &Scene) {
    scene
        .create(json!({"apiVersion": "pingcap.com/v1alpha1", "kind": "TidbCluster",
                       "metadata": {"name": "basic", "namespace": NS},
                       "spec": {"pd": {"replicas": 2, "annotations": {KEY: "before"}}}}))
        .await;
    status(
        scene,
        &cluster(),
        json!({
            "pd": {"phase": "Normal", "synced": true, "members": {"basic-pd-0": {"health": true}}},
            "conditions": ready_since("2026-11-22T06:00:00Z"),
        }),
    )
    .await;
    scene
        .create(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "basic-pd", "namespace": NS},
            "spec": {
                "replicas": 2, "serviceName": "basic-pd-peer", "selector": {"matchLabels": labels("pd")},
                "template": {"metadata": {"labels": labels("pd"), "annotations": {KEY: "before"}},
                             "spec": {"containers": [{"name": "pd", "image": "pd"}]}},
            },
        }))
        .await;
    status(
        scene,
        &set(),
        json!({"observedGeneration": 1, "replicas": 2, "currentRevision": "a", "updateRevision": "a"}),
    )
    .await;
    for n in 0..2 {
        put_pod(scene, n, "a", "before").await;
    }
}

async fn delete_pod(scene: &Scene, n: usize) {
    let api: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(scene.server.client("controller"), NS);
    api.delete(&format!("basic-pd-{n}"), &kube::api::DeleteParams::default().grace_period(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_with_the_last_of_the_six_conditions_and_not_before() {
    let scene = scene().await;
    running(&scene).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let gate = Remembering::new("r1-trust-both");
    let mut wait = Box::pin(scene.call(&gate, "tidb::rolling_restart", json!([part()])));
    let soon = Duration::from_secs(5);
    macro_rules! not_yet {
        ($why:expr) => {
            assert!(tokio::time::timeout(soon, &mut wait).await.is_err(), "it was done although: {}", $why);
            let said = gate.progress.lock().unwrap().last().cloned().unwrap_or_default();
            assert!(said.contains($why), "expected `{}`, it said `{said}`", $why);
        };
    }
    not_yet!("the operator has not passed the restart on yet");
    assert_eq!(scene.get(&cluster()).await["spec"]["pd"]["annotations"][KEY], "r1-trust-both");

    let template = json!({"spec": {"template": {"metadata": {"annotations": {KEY: "r1-trust-both"}}}}});
    scene.edit(&set(), template).await;
    status(&scene, &set(), json!({"observedGeneration": 2, "updateRevision": "b"})).await;
    not_yet!("basic-pd-0: waits for its turn");
    delete_pod(&scene, 1).await;
    put_pod(&scene, 1, "b", "r1-trust-both").await;
    not_yet!("basic-pd-0: waits for its turn");
    delete_pod(&scene, 0).await;
    not_yet!("1 of 2 pods are there");
    put_pod(&scene, 0, "b", "r1-trust-both").await;
    not_yet!("revision b is not the current one yet");
    status(&scene, &cluster(), json!({"pd": {"phase": "Upgrade"}})).await;
    status(&scene, &set(), json!({"currentRevision": "b"})).await;
    not_yet!("pd: phase is Upgrade");
    status(&scene, &cluster(), json!({"pd": {"phase": "Normal"}})).await;
    not_yet!(
        "the cluster's `Ready` is from 2026-11-22T06:00:00Z, before the restart at 2026-11-22T06:01:00Z"
    );
    status(
        &scene,
        &cluster(),
        json!({"conditions": ready_since("2026-11-22T06:01:30Z"),
                                      "pd": {"members": {"basic-pd-0": {"health": false}}}}),
    )
    .await;
    not_yet!("pd: member basic-pd-0 is not healthy");
    status(&scene, &cluster(), json!({"pd": {"members": {"basic-pd-0": {"health": true}}}})).await;
    let done = tokio::time::timeout(soon, &mut wait).await.expect("all six conditions hold").unwrap();
    assert_eq!(done, json!({"marker": "r1-trust-both"}));
    let effect = gate.effects().remove(0);
    assert_eq!(effect.class, EffectClass::Compensable);
    assert_eq!(effect.place.0, "k8s:pingcap.com/v1alpha1/TidbCluster/tidb/basic#spec.pd.annotations");
    assert_eq!(effect.summary["marker"], "r1-trust-both");
    assert!(effect.backup.is_none());

    // Resumed after a kill, it restarts nothing again: the marker is ours.
    let version = text(&scene.get(&cluster()).await, &["metadata", "resourceVersion"]).to_owned();
    let again = Remembering::new("r1-trust-both");
    scene.call(&again, "tidb::rolling_restart", json!([part()])).await.unwrap();
    assert!(again.effects().is_empty());
    assert_eq!(text(&scene.get(&cluster()).await, &["metadata", "resourceVersion"]), version);
}

#[tokio::test(start_paused = true)]
async fn the_lock_that_is_renewed_meanwhile_does_not_make_ready_look_stale() {
    let scene = scene().await;
    running(&scene).await;
    let target = stdlib::lease::Target {
        object: cluster(),
        uid: String::new(),
        namespace: NS.into(),
        lease: "rollover-tidbcluster-basic".into(),
    };
    let holder = stdlib::lease::Holder { run: "r1".into(), host: "h".into(), user: "u".into() };
    let held = stdlib::lease::acquire(&scene.world, &target, &holder).await.unwrap();
    let gate = Remembering::new("r1-trust-both");
    let wait = scene.call(&gate, "tidb::rolling_restart", json!([part()]));
    let world = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let template = json!({"spec": {"template": {"metadata": {"annotations": {KEY: "r1-trust-both"}}}}});
        scene.edit(&set(), template).await;
        for n in 0..2 {
            delete_pod(&scene, n).await;
            put_pod(&scene, n, "b", "r1-trust-both").await;
        }
        let revisions = json!({"observedGeneration": 2, "updateRevision": "b", "currentRevision": "b"});
        status(&scene, &cluster(), json!({"conditions": ready_since("2026-11-22T06:00:03Z")})).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        held.note("trust-both/settle/pd", &json!("head")).await.unwrap();
        status(&scene, &set(), revisions).await;
    };
    let both = futures::future::join(wait, world);
    let (done, ()) =
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("it must not wait for ever");
    done.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_somebody_else_meanwhile_is_told() {
    let scene = scene().await;
    running(&scene).await;
    let gate = Remembering::new("r1-trust-both");
    let wait = scene.call(&gate, "tidb::rolling_restart", json!([part()]));
    let world = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        scene.edit(&cluster(), json!({"spec": {"pd": {"annotations": {KEY: "by-hand"}}}})).await;
    };
    let (done, ()) = futures::future::join(wait, world).await;
    assert_eq!(done.unwrap_err().code, Code::Conflict);
}

#[tokio::test(start_paused = true)]
async fn outside_a_run_nothing_is_restarted() {
    let scene = scene().await;
    running(&scene).await;
    let error =
        scene.call(&stdlib::gate::ReadOnly, "tidb::rolling_restart", json!([part()])).await.unwrap_err();
    assert_eq!(error.code, Code::Refused);
    assert_eq!(scene.get(&cluster()).await["spec"]["pd"]["annotations"][KEY], "before");
}
