//! Secrets that are immutable, made, or deleted, and other objects that are: stopped at every record and between the two
//! halves of a replacement, gone on with, and taken back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use journal::{Moment, NoTripwire, Why};
use runner::catalog::{Catalog, Workflow};
use runner::events::{EndState, Ending};
use sandbox::api::{Effect, Fault};
use sandbox::world::kube::{CONFIG_MAPS, SECRETS};
use serde_json::{Value, json};
use stdlib::world::Disk;

use crate::lab::{Lab, StopAt, virtual_time};

const MANIFEST: &str = r#"
title: Make again what cannot be changed
touches:
  - kube: { resource: secrets, namespace: tidb, names: ["frozen", "made", "plain"], write: true }
  - kube: { resource: configmaps, namespace: tidb, names: ["gone"], write: true }
"#;

const SCRIPT: &str = r#"
let frozen = #{ namespace: "tidb", name: "frozen" };
let first = phase("first", "What cannot be changed in place.");
first.change("frozen", k8s::patch_secret(frozen, #{ b: "two", c: "three" }, #{ immutable: "replace" }));
first.change("again", k8s::patch_secret(frozen, #{ c: "four" }, #{ immutable: "replace" }));
let second = phase("second", "What comes and goes.");
second.change("made", k8s::create_secret("tidb", "made", #{ a: "one" }, #{ labels: #{ tier: "x" }, immutable: true }));
second.change("more", k8s::patch_secret(#{ namespace: "tidb", name: "made" }, #{ b: "two" }, #{ immutable: "replace" }));
second.change("gone", k8s::delete("v1", "ConfigMap", "tidb", "gone"));
second.change("plain", k8s::delete_secret(#{ namespace: "tidb", name: "plain" }));
"#;

struct Site {
    lab: Lab,
    workflow: Workflow,
}

impl Site {
    async fn new() -> Self {
        let lab = Lab::new(1).await;
        for (name, text) in [("workflow.yaml", MANIFEST), ("main.rhai", SCRIPT)] {
            let path = Path::new("/site/again").join(name);
            lab.disk.make_dir(path.parent().unwrap(), 0o755).unwrap();
            lab.disk.write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        }
        let workflow = Catalog::default().load(&*lab.disk, "/site/again").unwrap().unwrap();
        let metadata = |name: &str| json!({"name": name, "namespace": "tidb", "labels": {"app": "db"}, "annotations": {"site.example/why": "old"}});
        let frozen = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("frozen"), "type": "site.example/kind",
            "immutable": true, "data": {"a": "b25l", "b": "b25l"}});
        let plain = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("plain"), "data": {"a": "b25l"}});
        let gone = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("gone"), "data": {"a": "one"}});
        lab.kube().create(SECRETS, "tidb", frozen).await.unwrap();
        lab.kube().create(SECRETS, "tidb", plain).await.unwrap();
        lab.kube().create(CONFIG_MAPS, "tidb", gone).await.unwrap();
        Self { lab, workflow }
    }

    /// What the objects hold, without what the server keeps for itself.
    async fn held(&self) -> Value {
        let mut held = json!({});
        for (kind, name) in
            [(SECRETS, "frozen"), (SECRETS, "made"), (SECRETS, "plain"), (CONFIG_MAPS, "gone")]
        {
            let mut found = self.lab.kube().get(kind, "tidb", name).await.unwrap().unwrap_or(Value::Null);
            if let Some(metadata) = found.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.retain(|key, _| ["labels", "annotations"].contains(&key.as_str()));
            }
            held[name] = found;
        }
        held
    }

    async fn run(&self) -> Ending {
        self.lab.run(&self.workflow, &[], Arc::new(NoTripwire)).await.unwrap()
    }

    fn newest(&self) -> String {
        self.lab.store().list().unwrap().pop().unwrap().as_str().to_owned()
    }

    async fn resumed(&self, run: &str, context: &str) {
        let ending = self.lab.open_run(run, Why::Resume, None).unwrap().resume().await;
        assert_eq!(ending.state, EndState::Done, "{context}: {:?}", ending.failure);
    }

    async fn back(&self, run: &str, context: &str) {
        let ending = self.lab.open_run(run, Why::Rollback, None).unwrap().back("test").await;
        assert_eq!(ending.state, EndState::RolledBack, "{context}: {:?}", ending.failure);
    }

    /// Lets something go on until it waits for a Secret to be made, where its process dies.
    async fn dies_before_making(&self, what: impl Future<Output = Ending>) {
        let server = self.lab.world.server().unwrap();
        let hang = Fault::new(Effect::Hang).verb("create").resource("secrets");
        let fault = server.inject(hang);
        assert!(tokio::time::timeout(Duration::from_secs(5), what).await.is_err(), "it did not wait");
        assert!(server.hits(fault) > 0);
        server.heal(fault);
        self.lab.die();
        let now = self.lab.kube().get(SECRETS, "tidb", "frozen").await.unwrap();
        assert_eq!(now, None, "it died between deleting and making");
    }
}

#[test]
fn what_is_made_again_is_so_from_every_record_both_ways() {
    virtual_time(async {
        let site = Site::new().await;
        let before = site.held().await;
        let ending = site.run().await;
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let after = site.held().await;
        let frozen = &after["frozen"];
        assert_eq!(frozen["data"], json!({"a": "b25l", "b": "dHdv", "c": "Zm91cg=="}));
        for field in ["type", "immutable", "metadata"] {
            assert_eq!(frozen[field], before["frozen"][field], "{field}");
        }
        let made = &after["made"];
        assert_eq!(made["data"], json!({"a": "b25l", "b": "dHdv"}));
        assert_eq!((&made["immutable"], &made["metadata"]["labels"]), (&json!(true), &json!({"tier": "x"})));
        assert_eq!((&after["plain"], &after["gone"]), (&Value::Null, &Value::Null));
        let run = site.lab.store().find(&ending.run).unwrap();
        let records = site.lab.store().load(&run).unwrap().records.len();
        site.back(&ending.run, "from the end").await;
        assert_eq!(site.held().await, before, "from the end");

        for seq in 3..=u64::try_from(records).unwrap() {
            for moment in [Moment::BeforeWrite, Moment::AfterSync] {
                let context = format!("stopped {moment:?} of record {seq}");
                let killed = site.lab.run(&site.workflow, &[], Arc::new(StopAt(seq, moment))).await.unwrap();
                assert_eq!(killed.state, EndState::Killed, "{context}");
                site.lab.die();
                if seq % 2 == 0 {
                    site.resumed(&killed.run, &context).await;
                    assert_eq!(site.held().await, after, "{context}");
                }
                site.back(&killed.run, &context).await;
                assert_eq!(site.held().await, before, "{context}");
            }
        }
    });
}

#[test]
fn who_dies_between_deleting_and_making_is_finished_by_whoever_goes_on() {
    virtual_time(async {
        let site = Site::new().await;
        let before = site.held().await;
        site.dies_before_making(site.run()).await;
        site.back(&site.newest(), "killed forward, taken back").await;
        assert_eq!(site.held().await, before);

        site.dies_before_making(site.run()).await;
        site.resumed(&site.newest(), "killed forward, gone on with").await;
        let after = site.held().await;
        assert_eq!(after["frozen"]["data"], json!({"a": "b25l", "b": "dHdv", "c": "Zm91cg=="}));
        // On the way back the first to be made are those that were deleted; then the replaced ones.
        let ending = site.lab.open(Why::Rollback).unwrap();
        let server = site.lab.world.server().unwrap();
        let hang = Fault::new(Effect::Hang).verb("create").resource("secrets").skip(2);
        let fault = server.inject(hang);
        assert!(tokio::time::timeout(Duration::from_secs(20), ending.back("test")).await.is_err());
        assert!(server.hits(fault) > 0);
        server.heal(fault);
        site.lab.die();
        assert_eq!(site.held().await["frozen"], Value::Null, "it died between deleting and making");
        site.back(&site.newest(), "killed on the way back").await;
        assert_eq!(site.held().await, before);
    });
}

#[test]
fn what_somebody_else_has_made_meanwhile_is_not_replaced() {
    virtual_time(async {
        let site = Site::new().await;
        site.dies_before_making(site.run()).await;
        let theirs = json!({"apiVersion": "v1", "kind": "Secret", "immutable": true, "data": {"a": "dGhlaXJz"},
            "metadata": {"name": "frozen", "namespace": "tidb"}});
        site.lab.kube().create(SECRETS, "tidb", theirs.clone()).await.unwrap();
        let ending = site.lab.open(Why::Resume).unwrap().resume().await;
        assert_eq!(ending.state, EndState::Stopped, "{:?}", ending.failure);
        let failure = ending.failure.unwrap().to_string();
        assert!(failure.contains("somebody else has changed it"), "{failure}");
        let stuck = site.lab.open(Why::Rollback).unwrap().back("test").await;
        assert_eq!(stuck.state, EndState::Stuck, "{:?}", stuck.failure);
        assert_eq!(site.held().await["frozen"]["data"], theirs["data"]);
    });
}

#[test]
fn a_shipped_rotation_says_before_it_begins_that_a_secret_is_immutable() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let frozen = json!({"immutable": true});
        lab.kube().merge(SECRETS, ("tidb", "basic-pd-cluster-secret"), "", &frozen).await.unwrap();
        let refused = lab.refused("tidb/cfssl-rotate", &[]).await;
        assert!(refused.contains("Secret tidb/basic-pd-cluster-secret is immutable"), "{refused}");
        assert!(refused.contains("`--set immutable=replace` has it deleted and made again"), "{refused}");
        assert!(lab.store().list().unwrap().is_empty(), "no run was begun");
    });
}

#[test]
fn a_shipped_rotation_replaces_an_immutable_secret_where_it_is_asked_to_and_puts_it_back() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let frozen = json!({"immutable": true});
        let before =
            lab.kube().merge(SECRETS, ("tidb", "basic-pd-cluster-secret"), "", &frozen).await.unwrap();
        let ending = lab.forward("tidb/cfssl-rotate", &[("immutable", "replace")]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let held =
            async || lab.kube().get(SECRETS, "tidb", "basic-pd-cluster-secret").await.unwrap().unwrap();
        let after = held().await;
        assert_eq!(after["immutable"], true);
        assert_ne!(after["data"]["tls.crt"], before["data"]["tls.crt"]);
        let ending = lab.open(Why::Rollback).unwrap().back("test").await;
        assert_eq!(ending.state, EndState::RolledBack, "{:?}", ending.failure);
        let back = held().await;
        assert_eq!((&back["immutable"], &back["data"]), (&json!(true), &before["data"]));
    });
}
