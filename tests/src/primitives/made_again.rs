//! Secrets that are immutable, made, or deleted, and other objects that are: stopped at every record and between the two
//! halves of a replacement, gone on with, and taken back.

use std::time::Duration;

use journal::{Moment, Why};
use runner::events::{EndState, Ending};
use sandbox::api::{Effect, Fault};
use sandbox::world::kube::{CONFIG_MAPS, SECRETS};
use serde_json::{Value, json};

use super::scene::Scene;
use super::site::Site;

const MANIFEST: &str = r#"
title: Make again what cannot be changed
touches:
  - kube: { resource: secrets, namespace: NAMESPACE, names: ["frozen", "made", "plain"], write: true }
  - kube: { resource: configmaps, namespace: NAMESPACE, names: ["gone"], write: true }
"#;

const SCRIPT: &str = r#"
let frozen = #{ namespace: "NAMESPACE", name: "frozen" };
let first = phase("first", "What cannot be changed in place.");
first.change("frozen", k8s::patch_secret(frozen, #{ b: "two", c: "three" }, #{ immutable: "replace" }));
first.change("again", k8s::patch_secret(frozen, #{ c: "four" }, #{ immutable: "replace" }));
let second = phase("second", "What comes and goes.");
second.change("made", k8s::create_secret("NAMESPACE", "made", #{ a: "one" }, #{ labels: #{ tier: "x" }, immutable: true }));
second.change("more", k8s::patch_secret(#{ namespace: "NAMESPACE", name: "made" }, #{ b: "two" }, #{ immutable: "replace" }));
second.change("gone", k8s::delete("v1", "ConfigMap", "NAMESPACE", "gone"));
second.change("plain", k8s::delete_secret(#{ namespace: "NAMESPACE", name: "plain" }));
"#;

async fn site(scene: Scene) -> Site {
    let site = Site::new(scene, MANIFEST, SCRIPT);
    let metadata = |name: &str| json!({"name": name, "namespace": site.scene.ns, "labels": {"app": "db"}, "annotations": {"site.example/why": "old"}});
    let frozen = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("frozen"), "type": "site.example/kind",
            "immutable": true, "data": {"a": "b25l", "b": "b25l"}});
    let plain =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("plain"), "data": {"a": "b25l"}});
    let gone =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("gone"), "data": {"a": "one"}});
    site.kube().create(SECRETS, &site.scene.ns, frozen).await.unwrap();
    site.kube().create(SECRETS, &site.scene.ns, plain).await.unwrap();
    site.kube().create(CONFIG_MAPS, &site.scene.ns, gone).await.unwrap();
    site
}

/// What the objects hold, without what the server keeps for itself.
async fn held(site: &Site) -> Value {
    let mut held = json!({});
    for (kind, name) in [(SECRETS, "frozen"), (SECRETS, "made"), (SECRETS, "plain"), (CONFIG_MAPS, "gone")] {
        let mut found = site.kube().get(kind, &site.scene.ns, name).await.unwrap().unwrap_or(Value::Null);
        if let Some(metadata) = found.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, _| ["labels", "annotations"].contains(&key.as_str()));
        }
        held[name] = found;
    }
    held
}

/// Lets something go on until it waits for a Secret to be made, where its process dies. So many are made before.
async fn dies_before_making(site: &Site, made: u64, what: impl Future<Output = Ending>) {
    let hang = Fault::new(Effect::Hang).verb("create").resource("secrets").skip(made);
    let fault = site.scene.inject(hang);
    assert!(tokio::time::timeout(Duration::from_secs(20), what).await.is_err(), "it did not wait");
    assert!(site.scene.hits(fault) > 0);
    site.scene.heal(fault);
    site.die();
    let now = site.kube().get(SECRETS, &site.scene.ns, "frozen").await.unwrap();
    assert_eq!(now, None, "it died between deleting and making");
}

pub(super) async fn what_is_made_again_is_so_from_every_record_both_ways(scene: Scene) {
    let site = site(scene).await;
    let before = held(&site).await;
    let ending = site.run().await;
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    let after = held(&site).await;
    let frozen = &after["frozen"];
    assert_eq!(frozen["data"], json!({"a": "b25l", "b": "dHdv", "c": "Zm91cg=="}));
    for field in ["type", "immutable", "metadata"] {
        assert_eq!(frozen[field], before["frozen"][field], "{field}");
    }
    let made = &after["made"];
    assert_eq!(made["data"], json!({"a": "b25l", "b": "dHdv"}));
    assert_eq!((&made["immutable"], &made["metadata"]["labels"]), (&json!(true), &json!({"tier": "x"})));
    assert_eq!((&after["plain"], &after["gone"]), (&Value::Null, &Value::Null));
    let records = site.records(&ending.run).len();
    site.back(&ending.run, "from the end").await;
    assert_eq!(held(&site).await, before, "from the end");

    for seq in 3..=u64::try_from(records).unwrap() {
        for moment in [Moment::BeforeWrite, Moment::AfterSync] {
            let context = format!("stopped {moment:?} of record {seq}");
            let killed = site.dies_at(seq, moment).await;
            if seq % 2 == 0 {
                site.resumed(&killed.run, &context).await;
                assert_eq!(held(&site).await, after, "{context}");
            }
            site.back(&killed.run, &context).await;
            assert_eq!(held(&site).await, before, "{context}");
        }
    }
}

pub(super) async fn who_dies_between_deleting_and_making_is_finished_by_whoever_goes_on(scene: Scene) {
    let site = site(scene).await;
    let before = held(&site).await;
    dies_before_making(&site, 0, site.run()).await;
    site.back(&site.newest(), "killed forward, taken back").await;
    assert_eq!(held(&site).await, before);

    dies_before_making(&site, 0, site.run()).await;
    site.resumed(&site.newest(), "killed forward, gone on with").await;
    let after = held(&site).await;
    assert_eq!(after["frozen"]["data"], json!({"a": "b25l", "b": "dHdv", "c": "Zm91cg=="}));
    // On the way back the first to be made are those that were deleted; then the replaced ones.
    let back = site.open(&site.newest(), Why::Rollback);
    dies_before_making(&site, 2, back.back("test")).await;
    site.back(&site.newest(), "killed on the way back").await;
    assert_eq!(held(&site).await, before);
}

pub(super) async fn what_somebody_else_has_made_meanwhile_is_not_replaced(scene: Scene) {
    let site = site(scene).await;
    dies_before_making(&site, 0, site.run()).await;
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "immutable": true, "data": {"a": "dGhlaXJz"},
            "metadata": {"name": "frozen", "namespace": site.scene.ns}});
    site.kube().create(SECRETS, &site.scene.ns, theirs.clone()).await.unwrap();
    let ending = site.open(&site.newest(), Why::Resume).resume().await;
    assert_eq!(ending.state, EndState::Stopped, "{:?}", ending.failure);
    let failure = ending.failure.unwrap().to_string();
    assert!(failure.contains("somebody else has changed it"), "{failure}");
    let stuck = site.open(&site.newest(), Why::Rollback).back("test").await;
    assert_eq!(stuck.state, EndState::Stuck, "{:?}", stuck.failure);
    assert_eq!(held(&site).await["frozen"]["data"], theirs["data"]);
}
