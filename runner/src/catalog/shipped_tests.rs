//! The shipped workflows against the shipped primitives, and what `new` writes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;
use stdlib::files::SimDisk;
use stdlib::registry::registry;
use stdlib::world::World;

use super::*;
use crate::diagnostic::{Paint, render_all};
use crate::manifest::Given;
use crate::plan::Fact;
use crate::script::{Declared, Input, check, declare};

#[test]
fn every_shipped_workflow_has_no_findings() {
    let disk = SimDisk::default();
    let catalog = Catalog::default();
    let entries = catalog.list(&disk);
    assert!(entries.len() >= 4, "{entries:?}");
    for entry in entries {
        let workflow = catalog.load(&disk, &entry.name).unwrap().unwrap();
        let findings = check(&workflow.sources, &workflow.manifest, registry());
        assert!(findings.is_empty(), "{}\n{}", entry.name, render_all(&findings, Paint::Plain));
    }
}

#[test]
fn the_users_folder_follows_xdg() {
    let env = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Catalog::user_folder(&pairs.collect())
    };
    assert_eq!(env(&[("HOME", "/h")]), Some(PathBuf::from("/h/.config/rollover/workflows")));
    assert_eq!(
        env(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]),
        Some(PathBuf::from("/x/rollover/workflows"))
    );
    assert_eq!(
        env(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")]),
        Some(PathBuf::from("/h/.config/rollover/workflows"))
    );
    assert_eq!(env(&[]), None);
}

/// The fact that the scaffold's script reads, small.
fn cluster() -> Fact {
    let part = |name: &str| {
        json!({"component": name, "kind": "tidbcluster", "namespace": "tidb", "cluster": "basic", "name": format!("basic-{name}"),
            "secret": format!("basic-{name}-cluster-secret"), "client_secret": "basic-cluster-client-secret", "port": 2379})
    };
    let at = crate::plan::At { file: "main.rhai".into(), line: 2, column: 1 };
    Fact {
        primitive: "tidb::cluster".into(),
        args: vec![json!("tidb"), json!("basic")],
        answer: json!({"namespace": "tidb", "name": "basic",
            "target": {"title": "TidbCluster tidb/basic", "namespace": "tidb", "lease": "rollover-basic",
                "api_version": "pingcap.com/v1alpha1", "kind": "TidbCluster", "name": "basic", "uid": "u"},
            "components": [part("pd"), part("tikv")],
            "secrets": [{"name": "basic-pd-cluster-secret", "ca.crt": "PEM"}, {"name": "basic-tikv-cluster-secret", "ca.crt": "PEM"}]}),
        at,
    }
}

#[test]
fn what_new_writes_has_no_findings_and_is_a_plan_within_its_manifest() {
    let disk = SimDisk::default();
    let written = scaffold(&disk, "our-check", Path::new("/site")).unwrap();
    assert_eq!(written.files.len(), 3);
    let workflow = Catalog::default().load(&disk, "/site/our-check").unwrap().unwrap();
    let findings = check(&workflow.sources, &workflow.manifest, registry());
    assert!(findings.is_empty(), "{}", render_all(&findings, Paint::Plain));
    let lines = workflow.sources.text(MAIN).unwrap().lines().count();
    assert!(lines <= 25, "about twenty lines, not {lines}");

    let world = World::system(None, PathBuf::from("."));
    let params = workflow.manifest.resolve(&Given::default(), world.secrets.as_ref()).unwrap();
    let input = Input {
        workflow: &workflow.name,
        sources: &workflow.sources,
        manifest: &workflow.manifest,
        params: &params,
        world: &world,
        registry: registry(),
    };
    let Declared::Plan(plan) =
        declare(&input, &[cluster()]).unwrap_or_else(|e| panic!("{}", render_all(&e, Paint::Plain)))
    else {
        panic!("one fact is enough")
    };
    assert_eq!(plan.steps().count(), 5);
    let findings = crate::capabilities::check(&plan, &workflow.manifest, registry(), &workflow.sources);
    assert!(findings.is_empty(), "{}", render_all(&findings, Paint::Plain));
}

#[test]
fn new_writes_over_nothing() {
    let disk = SimDisk::default();
    scaffold(&disk, "mine", Path::new("/site")).unwrap();
    let error = scaffold(&disk, "mine", Path::new("/site")).unwrap_err();
    assert_eq!(error.to_string(), "/site/mine exists already; nothing was written");
    assert!(scaffold(&disk, "../mine", Path::new("/site")).is_err());
    assert!(scaffold(&disk, "Mine", Path::new("/site")).is_err());
}
