//! Fields of objects in a run: patched, applied and annotated, stopped at every record, and put back as they were.

use std::path::Path;
use std::sync::Arc;

use journal::{Moment, NoTripwire, Why};
use runner::catalog::{Catalog, Workflow};
use runner::events::EndState;
use sandbox::world::kube::CONFIG_MAPS;
use serde_json::{Value, json};
use stdlib::world::Disk;

use crate::lab::{Lab, StopAt, virtual_time};

const MANIFEST: &str = r#"
title: Set limits
touches:
  - kube: { resource: configmaps, namespace: tidb, names: ["limits", "made"], write: true }
"#;

/// Steps that write the same fields, others of the same object, an object that is not there, and one that is.
const SCRIPT: &str = r#"
let first = phase("first", "Fields of what is there.");
first.change("patched", k8s::patch("v1", "ConfigMap", "tidb", "limits", #{ data: #{ most: "5", least: "1" } }));
first.change("again", k8s::patch("v1", "ConfigMap", "tidb", "limits", [ #{ op: "replace", path: "/data/most", value: "6" } ]));
first.change("noted", k8s::annotate("v1", "ConfigMap", "tidb", "limits", #{ "site.example/why": "peak", "site.example/old": () }));
let second = phase("second", "An object of our own.");
second.change("made", k8s::apply(#{ apiVersion: "v1", kind: "ConfigMap", metadata: #{ namespace: "tidb", name: "made" }, data: #{ a: "1" } }));
second.change("more", k8s::apply(#{ apiVersion: "v1", kind: "ConfigMap", metadata: #{ namespace: "tidb", name: "made" }, data: #{ a: "1", b: "2" } }));
second.change("labelled", k8s::apply(#{ apiVersion: "v1", kind: "ConfigMap", metadata: #{ namespace: "tidb", name: "limits", labels: #{ tier: "x" } } }));
"#;

struct Site {
    lab: Lab,
    workflow: Workflow,
}

impl Site {
    async fn new() -> Self {
        let lab = Lab::new(1).await;
        for (name, text) in [("workflow.yaml", MANIFEST), ("main.rhai", SCRIPT)] {
            let path = Path::new("/site/limits").join(name);
            lab.disk.make_dir(path.parent().unwrap(), 0o755).unwrap();
            lab.disk.write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        }
        let workflow = Catalog::default().load(&*lab.disk, "/site/limits").unwrap().unwrap();
        let limits = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"most": "3"},
            "metadata": {"name": "limits", "namespace": "tidb", "annotations": {"site.example/old": "kept"}},
        });
        lab.kube().create(CONFIG_MAPS, "tidb", limits).await.unwrap();
        Self { lab, workflow }
    }

    /// What the objects hold, without what the server keeps for itself.
    async fn held(&self) -> Value {
        let mut held = json!({});
        for name in ["limits", "made"] {
            let found = self.lab.kube().get(CONFIG_MAPS, "tidb", name).await.unwrap();
            let part = |object: &Value| json!({"data": object["data"], "labels": object["metadata"]["labels"], "annotations": object["metadata"]["annotations"]});
            held[name] = found.as_ref().map_or(Value::Null, part);
        }
        held
    }

    async fn back(&self, run: &str, context: &str) {
        let ending = self.lab.open_run(run, Why::Rollback, None).unwrap().back("test").await;
        assert_eq!(ending.state, EndState::RolledBack, "{context}: {:?}", ending.failure);
    }
}

#[test]
fn fields_are_set_and_put_back_from_every_record() {
    virtual_time(async {
        let site = Site::new().await;
        let before = site.held().await;
        let ending = site.lab.run(&site.workflow, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let after = site.held().await;
        assert_eq!(
            after,
            json!({
                "limits": {"data": {"most": "6", "least": "1"}, "labels": {"tier": "x"}, "annotations": {"site.example/why": "peak"}},
                "made": {"data": {"a": "1", "b": "2"}, "labels": null, "annotations": null},
            })
        );
        let run = site.lab.store().find(&ending.run).unwrap();
        let records = site.lab.store().load(&run).unwrap().records;
        let places: Vec<_> = records
            .iter()
            .filter_map(|r| serde_json::to_value(&r.event).unwrap()["place"].as_str().map(str::to_owned))
            .collect();
        for place in [
            "ConfigMap/tidb/limits#data.least,data.most",
            "ConfigMap/tidb/made#created",
            "ConfigMap/tidb/made#data.b",
        ] {
            assert!(
                places.iter().any(|found| found.ends_with(place)),
                "{place} is not announced: {places:?}"
            );
        }
        site.back(&ending.run, "from the end").await;
        assert_eq!(site.held().await, before, "from the end");
        // Everything that the way back did is on record too: an effect for each that went forward.
        let undone = site.lab.store().load(&run).unwrap().records;
        let effects = |records: &[journal::Record]| {
            records.iter().filter(|r| serde_json::to_value(&r.event).unwrap()["type"] == "effect").count()
        };
        assert_eq!(effects(&undone), 2 * effects(&records));

        for seq in 3..=u64::try_from(records.len()).unwrap() {
            for moment in [Moment::BeforeWrite, Moment::AfterSync] {
                let context = format!("stopped {moment:?} of record {seq}");
                let killed = site.lab.run(&site.workflow, &[], Arc::new(StopAt(seq, moment))).await.unwrap();
                assert_eq!(killed.state, EndState::Killed, "{context}");
                site.lab.die();
                if seq % 2 == 0 {
                    let resumed = site.lab.open_run(&killed.run, Why::Resume, None).unwrap().resume().await;
                    assert_eq!(resumed.state, EndState::Done, "{context}: {:?}", resumed.failure);
                    assert_eq!(site.held().await, after, "{context}");
                }
                site.back(&killed.run, &context).await;
                assert_eq!(site.held().await, before, "{context}");
            }
        }
    });
}

#[test]
fn what_others_have_changed_since_is_not_put_back_over_them() {
    virtual_time(async {
        let site = Site::new().await;
        let ending = site.lab.run(&site.workflow, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        // A field that the run never touched is theirs; what it made is not deleted under them.
        let theirs = json!({"data": {"theirs": "1"}});
        site.lab.kube().merge(CONFIG_MAPS, ("tidb", "made"), "", &theirs).await.unwrap();
        let stuck = site.lab.open(Why::Rollback).unwrap().back("test").await;
        assert_eq!(stuck.state, EndState::Stuck, "{:?}", stuck.failure);
        let failure = stuck.failure.unwrap();
        let told = format!("{failure} {}", failure.hint.clone().unwrap_or_default());
        assert!(told.contains("has fields of its own") && told.contains("rollover rollback"), "{told}");
        assert_eq!(site.held().await["made"]["data"]["theirs"], "1");
        let uid = site.lab.kube().get(CONFIG_MAPS, "tidb", "made").await.unwrap().unwrap()["metadata"]["uid"]
            .clone();
        site.lab.kube().delete(CONFIG_MAPS, ("tidb", "made"), uid.as_str().unwrap(), None).await.unwrap();
        site.back(&ending.run, "once it is gone").await;
        assert_eq!(site.held().await["limits"]["data"], json!({"most": "3"}));
    });
}
