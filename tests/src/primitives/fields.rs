//! Fields of objects in a run: patched, applied and annotated, stopped at every record, and put back as they were.

use journal::{Moment, Why};
use runner::events::EndState;
use sandbox::world::kube::CONFIG_MAPS;
use serde_json::{Value, json};

use super::scene::Scene;
use super::site::Site;

const MANIFEST: &str = r#"
title: Set limits
touches:
  - kube: { resource: configmaps, namespace: NAMESPACE, names: ["limits", "made"], write: true }
"#;

/// Steps that write the same fields, others of the same object, an object that is not there, and one that is.
const SCRIPT: &str = r#"
let first = phase("first", "Fields of what is there.");
first.change("patched", k8s::patch("v1", "ConfigMap", "NAMESPACE", "limits", #{ data: #{ most: "5", least: "1" } }));
first.change("again", k8s::patch("v1", "ConfigMap", "NAMESPACE", "limits", [ #{ op: "replace", path: "/data/most", value: "6" } ]));
first.change("noted", k8s::annotate("v1", "ConfigMap", "NAMESPACE", "limits", #{ "site.example/why": "peak", "site.example/old": () }));
let second = phase("second", "An object of our own.");
second.change("made", k8s::apply(#{ apiVersion: "v1", kind: "ConfigMap", metadata: #{ namespace: "NAMESPACE", name: "made" }, data: #{ a: "1" } }));
second.change("more", k8s::apply(#{ apiVersion: "v1", kind: "ConfigMap", metadata: #{ namespace: "NAMESPACE", name: "made" }, data: #{ a: "1", b: "2" } }));
second.change("labelled", k8s::apply(#{ apiVersion: "v1", kind: "ConfigMap", metadata: #{ namespace: "NAMESPACE", name: "limits", labels: #{ tier: "x" } } }));
"#;

async fn site(scene: Scene) -> Site {
    let site = Site::new(scene, MANIFEST, SCRIPT);
    let limits = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"most": "3"},
        "metadata": {"name": "limits", "namespace": site.scene.ns, "annotations": {"site.example/old": "kept"}},
    });
    site.kube().create(CONFIG_MAPS, &site.scene.ns, limits).await.unwrap();
    site
}

/// What the objects hold, without what the server keeps for itself.
async fn held(site: &Site) -> Value {
    let mut held = json!({});
    for name in ["limits", "made"] {
        let found = site.kube().get(CONFIG_MAPS, &site.scene.ns, name).await.unwrap();
        let part = |object: &Value| json!({"data": object["data"], "labels": object["metadata"]["labels"], "annotations": object["metadata"]["annotations"]});
        held[name] = found.as_ref().map_or(Value::Null, part);
    }
    held
}

pub(super) async fn fields_are_set_and_put_back_from_every_record(scene: Scene) {
    let site = site(scene).await;
    let before = held(&site).await;
    let ending = site.run().await;
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    let after = held(&site).await;
    assert_eq!(
        after,
        json!({
            "limits": {"data": {"most": "6", "least": "1"}, "labels": {"tier": "x"}, "annotations": {"site.example/why": "peak"}},
            "made": {"data": {"a": "1", "b": "2"}, "labels": null, "annotations": null},
        })
    );
    let records = site.records(&ending.run);
    let places: Vec<_> = records
        .iter()
        .filter_map(|r| serde_json::to_value(&r.event).unwrap()["place"].as_str().map(str::to_owned))
        .collect();
    for place in ["limits#data.least,data.most", "made#created", "made#data.b"] {
        let place = format!("ConfigMap/{}/{place}", site.scene.ns);
        assert!(places.iter().any(|found| found.ends_with(&place)), "{place} is not announced: {places:?}");
    }
    site.back(&ending.run, "from the end").await;
    assert_eq!(held(&site).await, before, "from the end");
    // Everything that the way back did is on record too: an effect for each that went forward.
    let undone = site.records(&ending.run);
    let effects = |records: &[journal::Record]| {
        records.iter().filter(|r| serde_json::to_value(&r.event).unwrap()["type"] == "effect").count()
    };
    assert_eq!(effects(&undone), 2 * effects(&records));

    for seq in 3..=u64::try_from(records.len()).unwrap() {
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

pub(super) async fn what_others_have_changed_since_is_not_put_back_over_them(scene: Scene) {
    let site = site(scene).await;
    let ending = site.run().await;
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    // A field that the run never touched is theirs; what it made is not deleted under them.
    let theirs = json!({"data": {"theirs": "1"}});
    site.kube().merge(CONFIG_MAPS, (site.scene.ns.as_str(), "made"), "", &theirs).await.unwrap();
    let stuck = site.open(&ending.run, Why::Rollback).back("test").await;
    assert_eq!(stuck.state, EndState::Stuck, "{:?}", stuck.failure);
    let failure = stuck.failure.unwrap();
    let told = format!("{failure} {}", failure.hint.clone().unwrap_or_default());
    assert!(told.contains("has fields of its own") && told.contains("rollover rollback"), "{told}");
    assert_eq!(held(&site).await["made"]["data"]["theirs"], "1");
    let uid = site.kube().get(CONFIG_MAPS, &site.scene.ns, "made").await.unwrap().unwrap()["metadata"]["uid"]
        .clone();
    site.kube()
        .delete(CONFIG_MAPS, (site.scene.ns.as_str(), "made"), uid.as_str().unwrap(), None)
        .await
        .unwrap();
    site.back(&ending.run, "once it is gone").await;
    assert_eq!(held(&site).await["limits"]["data"], json!({"most": "3"}));
}
