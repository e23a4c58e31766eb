//! The shipped workflows against the shipped primitives, and what `new` writes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
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

/// Some CA: pure primitives read it.
const PEM: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBdTCCARugAwIBAgIUIYGMj4K86rGfozkzlQjRr/l4z0swCgYIKoZIzj0EAwIw\n\
    DzENMAsGA1UEAwwEVGlEQjAgFw0yNjExMjIwNzU0MTNaGA8yMTI2MTAyOTA3NTQx\n\
    M1owDzENMAsGA1UEAwwEVGlEQjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPL1\n\
    bxD5SmXClG9GXkHBWV4XCb/swxkU1JL3ORIYUE/8/f2enU5S4iuyEgZPy4bNERwX\n\
    gYPaqcD2GpkLrMLw5v+jUzBRMB0GA1UdDgQWBBSoQyYj83hvxiu0KXPVVR6tQxHn\n\
    1zAfBgNVHSMEGDAWgBSoQyYj83hvxiu0KXPVVR6tQxHn1zAPBgNVHRMBAf8EBTAD\n\
    AQH/MAoGCCqGSM49BAMCA0gAMEUCIGoB9S+RItNzXhNVTR+tYVjIHVl4ypMYnMFu\n\
    zQwT0SS0AiEA0pIZGtWGj2ErEaePpS44FSytMo20oVDqe7Rr27E4tTg=\n\
    -----END CERTIFICATE-----\n";

/// Another.
const NEXT: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBeDCCAR+gAwIBAgIUQ82BgCEvjnEDhpkr9eWfsKvbb/swCgYIKoZIzj0EAwIw\n\
    ETEPMA0GA1UEAwwGVGlEQiAyMCAXDTI2MTEyMjA3NTY0NFoYDzIxMjYxMDI5MDc1\n\
    NjQ0WjARMQ8wDQYDVQQDDAZUaURCIDIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
    AARCsaGQDH4kjM5ND+smCVj/7/vC5RMDwu6DirJ/6+bLtctu3ylozmGhajXsS2Mr\n\
    7TFJaStJdTw2ye9cJMyzR0qjo1MwUTAdBgNVHQ4EFgQUDy749405Jj9IWA8zSkup\n\
    GZXy+nUwHwYDVR0jBBgwFoAUDy749405Jj9IWA8zSkupGZXy+nUwDwYDVR0TAQH/\n\
    BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiEA2Tvd2BP5mCT6A4htg/BOracTY/dY\n\
    euYPomyPlvw1w/oCH3udfnL2LcOieqyD5aja4Mn0C9eQlTZWnXS6E5dbkks=\n\
    -----END CERTIFICATE-----\n";

/// The fact that the scaffold's script reads, small.
fn cluster() -> Fact {
    let part = |name: &str| {
        json!({"component": name, "role": name, "kind": "tidb", "group": null, "namespace": "tidb", "cluster": "basic", "name": format!("basic-{name}"), "replicas": 3,
            "secret": format!("basic-{name}-cluster-secret"), "client_secret": "basic-cluster-client-secret", "port": 2379})
    };
    let at = crate::plan::At { file: "main.rhai".into(), line: 2, column: 1 };
    Fact {
        primitive: "tidb::cluster".into(),
        args: vec![json!("tidb"), json!("basic")],
        answer: json!({"namespace": "tidb", "name": "basic",
            "id": {"namespace": "tidb", "name": "basic", "secrets": ["basic-pd-cluster-secret", "basic-tikv-cluster-secret"]},
            "target": {"title": "TidbCluster tidb/basic", "namespace": "tidb", "lease": "rollover-basic",
                "api_version": "pingcap.com/v1alpha1", "kind": "TidbCluster", "name": "basic", "uid": "u"},
            "components": [part("pd"), part("tikv")],
            "secrets": [{"name": "basic-pd-cluster-secret", "ca.crt": PEM}, {"name": "basic-tikv-cluster-secret", "ca.crt": PEM}]}),
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
    let allowance = workflow.manifest.allowance(&plan.params, Path::new("/"));
    let findings = crate::capabilities::check(&plan, &allowance, registry(), &workflow.sources);
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

/// What the shipped scripts read of cert-manager, small. What stands for a successor elsewhere is a CA that keeps its key.
fn issued(cluster: &Fact, workflow: &Workflow, kept: &Value) -> Fact {
    let names: Vec<&str> =
        cluster.answer["secrets"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    let certificate = |name: &str| json!({"namespace": "tidb", "name": name, "secret": name, "revision": 1, "immutable": false, "rotation_policy": "Always", "cert": PEM, "fingerprint": "f1"});
    let policy = if kept.is_null() { "Always" } else { "Never" };
    // Where the documented way begins with a CA that cert-manager has renewed already, nobody trusts it yet.
    let known = if workflow.name == "tidb/cert-manager-ca" { "f3" } else { "f1" };
    let ca = json!({"namespace": "tidb", "name": "basic-ca", "secret": "basic-ca-secret", "revision": 1,
        "immutable": false, "rotation_policy": policy, "cert": PEM, "fingerprint": known});
    Fact {
        primitive: "certmanager::certificates".into(),
        args: vec![json!("tidb"), json!(cluster.answer["id"]["secrets"])],
        answer: json!({"issuer": {"kind": "Issuer", "name": "basic-tidb-issuer"}, "ca": ca,
            "certificates": names.into_iter().map(certificate).collect::<Vec<_>>(), "managed": [], "labelled": [], "warnings": []}),
        at: cluster.at.clone(),
    }
}

/// What the shipped scripts read of a cluster and a PKI folder, small.
fn facts(workflow: &Workflow, successor: &Value) -> Vec<Fact> {
    let key = stdlib::secret::handle("ab12", "spki:77");
    let secret = |name: &str| {
        json!({"namespace": "tidb", "name": format!("basic-{name}-cluster-secret"), "component": name, "profile": "internal",
            "request": format!("{name}-server"), "ca.crt": format!("{PEM}{NEXT}"), "tls.crt": PEM, "tls.key": key, "immutable": false, "ca_fingerprints": ["f1", "f2"]})
    };
    let mut cluster = cluster();
    cluster.answer["secrets"] = json!([secret("pd"), secret("tikv")]);
    if workflow.name.starts_with("tidb/cert-manager-") {
        // Whose identity the clients have.
        cluster.answer["secrets"][1]["component"] = json!("client");
        for part in cluster.answer["components"].as_array_mut().unwrap() {
            part["kind"] = json!(if part["component"] == "pd" { "tidb" } else { "deployment" });
        }
    }
    cluster.answer["warnings"] = json!([]);
    cluster.answer["managed"] = json!([]);
    cluster.answer["labelled"] = json!([]);
    if workflow.name == "tidb/cfssl-expired" {
        cluster.primitive = "tidb::expired_cluster".into();
    }
    cluster.args.push(json!({"operator": "v1", "operator_namespace": "tidb-admin"}));
    for part in cluster.answer["components"].as_array_mut().unwrap() {
        part["selector"] = json!("x");
    }
    if workflow.name.starts_with("tidb/cert-manager-") {
        return vec![cluster.clone(), issued(&cluster, workflow, successor)];
    }
    let expired = workflow.name == "tidb/cfssl-expired";
    let ca = json!({"cert": PEM, "key": key, "fingerprint": "f1", "expired": expired});
    let folder = json!({"path": "./pki", "ca": ca, "successor": successor, "ca_csr": {"CN": "TiDB"}, "notes": [],
        "profiles": {"internal": {"expiry": "8760h"}, "client": {"expiry": "8760h"}},
        "requests": {"pd-server": {"CN": "TiDB"}, "tikv-server": {"CN": "TiDB"}, "client": {"CN": "TiDB"}},
        "found": "untouched"});
    let pki = Fact {
        primitive: "cfssl::folder".into(),
        args: if expired { vec![json!("./pki"), json!({"expired": true})] } else { vec![json!("./pki")] },
        answer: folder,
        at: cluster.at.clone(),
    };
    assert!(workflow.sources.text(MAIN).unwrap().contains("cfssl::folder"));
    vec![cluster, pki]
}

#[test]
fn every_shipped_workflow_is_a_plan_within_its_manifest() {
    let disk = SimDisk::default();
    let successor =
        json!({"cert": PEM, "key": stdlib::secret::handle("cd34", "spki:88"), "fingerprint": "f2"});
    let every = [
        ("tidb/cert-manager-ca", &Value::Null),
        ("tidb/cert-manager-ca-gapless", &Value::Null),
        ("tidb/cert-manager-ca-gapless", &successor),
        ("tidb/cert-manager-components", &Value::Null),
        ("tidb/cfssl-ca", &Value::Null),
        ("tidb/cfssl-components", &Value::Null),
        ("tidb/cfssl-components", &successor),
        ("tidb/cfssl-expired", &Value::Null),
        ("tidb/cfssl-remove-old-ca", &successor),
        ("tidb/cfssl-rotate", &Value::Null),
    ];
    for ((name, successor), reason) in
        every.iter().flat_map(|case| ["routine", "compromise"].map(|reason| (case, reason)))
    {
        let workflow = Catalog::default().load(&disk, name).unwrap().unwrap();
        let world = World::system(None, PathBuf::from("."));
        let mut given = Given { set: vec![("pki".into(), "./pki".into())], ..Given::default() };
        given.set.retain(|(name, _)| workflow.manifest.params.get(name).is_some());
        if workflow.manifest.params.get("reason").is_some() {
            given.set.push(("reason".into(), reason.into()));
        }
        let params = workflow.manifest.resolve(&given, world.secrets.as_ref()).unwrap();
        let input = Input {
            workflow: name,
            sources: &workflow.sources,
            manifest: &workflow.manifest,
            params: &params,
            world: &world,
            registry: registry(),
        };
        let plan = match declare(&input, &facts(&workflow, successor)) {
            Ok(Declared::Plan(plan)) => plan,
            Ok(Declared::Need(need)) => panic!("{name}: {need:?}"),
            Err(findings) => panic!("{name}\n{}", render_all(&findings, Paint::Plain)),
        };
        let allowance = workflow.manifest.allowance(&plan.params, Path::new("/"));
        let findings = crate::capabilities::check(&plan, &allowance, registry(), &workflow.sources);
        assert!(findings.is_empty(), "{name}\n{}", render_all(&findings, Paint::Plain));
        assert!(plan.target.is_some() && plan.trust.is_some() && plan.steps().count() > 5, "{name}");
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<crate::plan::Plan>(&text).unwrap(), *plan, "{name}");
    }
}
