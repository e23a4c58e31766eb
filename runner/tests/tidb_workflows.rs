//! The shipped TiDB workflows as plans: what they declare for which cluster and PKI folder, and what they refuse.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use futures::FutureExt as _;
use runner::catalog::Catalog;
use runner::diagnostic::{Diagnostic, Paint, render_all};
use runner::manifest::Given;
use runner::plan::{At, Fact, Plan};
use runner::script::{Declared, Input, declare};
use serde_json::{Value, json};
use stdlib::files::SimDisk;
use stdlib::gate::ReadOnly;
use stdlib::registry;
use stdlib::world::World;

/// A cluster of PD and a client, and a PKI folder, as their facts tell of them.
struct Site {
    world: World,
    cluster: Value,
    pki: Value,
    new_ca: Value,
}

fn pure(world: &World, name: &str, args: &Value) -> Value {
    let primitive = registry().get(name).unwrap();
    (primitive.run)(world, args.as_array().unwrap(), &ReadOnly).now_or_never().unwrap().unwrap()
}

fn site() -> Site {
    let world = World::system(None, PathBuf::from("/"));
    let csr = |cn: &str| json!([{"CN": cn, "key": {"algo": "ecdsa", "size": 256}}]);
    let (ca, new_ca) = (pure(&world, "ca::create", &csr("Old")), pure(&world, "ca::create", &csr("New")));
    let secret = |component: &str, name: &str, request: &str, profile: &str| {
        json!({"namespace": "tidb", "name": name, "component": component, "request": request, "profile": profile,
               "tls.crt": ca["cert"], "tls.key": ca["key"], "ca.crt": ca["cert"], "immutable": false,
               "ca_fingerprints": [ca["fingerprint"]]})
    };
    let part = |component: &str, kind: &str, secret: &str, port: Value| {
        json!({"component": component, "role": component, "kind": kind, "group": null, "namespace": "tidb", "cluster": "basic",
               "name": format!("basic-{component}"), "secret": secret, "port": port, "selector": "a=b",
               "client_secret": "basic-cluster-client-secret"})
    };
    let cluster = json!({
        "id": {"namespace": "tidb", "name": "basic"}, "namespace": "tidb", "name": "basic",
        "target": {"title": "TidbCluster tidb/basic", "namespace": "tidb", "lease": "rollover-tidbcluster-basic",
                   "api_version": "pingcap.com/v1alpha1", "kind": "TidbCluster", "name": "basic", "uid": "u"},
        "components": [part("pd", "tidb", "basic-pd-cluster-secret", json!(2379)),
                       part("client", "deployment", "basic-cluster-client-secret", Value::Null)],
        "secrets": [secret("pd", "basic-pd-cluster-secret", "pd-server", "internal"),
                    secret("client", "basic-cluster-client-secret", "client", "client")],
        "warnings": ["pd has 1 replica"], "managed": [], "labelled": [],
    });
    let pki = json!({
        "path": "/pki", "ca": ca, "successor": null, "found": "untouched", "notes": [],
        "ca_csr": {"CN": "TiDB", "CA": {"expiry": "87600h"}},
        "profiles": {"internal": {"expiry": "8760h", "usages": ["signing"]},
                     "client": {"expiry": "8760h", "usages": ["signing"]}},
        "requests": {"pd-server": {"CN": "TiDB"}, "client": {"CN": "TiDB"}},
    });
    Site { world, cluster, pki, new_ca }
}

impl Site {
    fn plan(&self, workflow: &str, set: &[(&str, &str)]) -> Result<Plan, Vec<Diagnostic>> {
        let catalog = Catalog::default();
        let workflow = catalog.load(&SimDisk::default(), workflow).unwrap().unwrap();
        let mut set: Vec<(String, String)> =
            set.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        set.push(("pki".into(), "/pki".into()));
        let given = Given { set, ..Given::default() };
        let params = workflow.manifest.resolve(&given, self.world.secrets.as_ref()).unwrap();
        let at = At { file: "main.rhai".into(), line: 1, column: 1 };
        let fact = |primitive: &str, args: Value, answer: &Value| Fact {
            primitive: primitive.into(),
            args: args.as_array().unwrap().clone(),
            answer: answer.clone(),
            at: at.clone(),
        };
        let operator = json!({"operator": "v1", "operator_namespace": "tidb-admin"});
        let facts = [
            fact("tidb::cluster", json!(["tidb", "basic", operator]), &self.cluster),
            fact("cfssl::folder", json!(["/pki"]), &self.pki),
        ];
        let input = Input {
            workflow: &workflow.name,
            sources: &workflow.sources,
            manifest: &workflow.manifest,
            params: &params,
            world: &self.world,
            registry: registry(),
        };
        match declare(&input, &facts)? {
            Declared::Plan(plan) => {
                let allowance = workflow.manifest.allowance(&plan.params, &self.world.folder);
                let findings = runner::capabilities::check(&plan, &allowance, registry(), &workflow.sources);
                assert!(findings.is_empty(), "{}", render_all(&findings, Paint::Plain));
                Ok(*plan)
            }
            Declared::Need(need) => panic!("{need:?}"),
        }
    }

    fn good(&self, workflow: &str, set: &[(&str, &str)]) -> Plan {
        self.plan(workflow, set).unwrap_or_else(|findings| panic!("{}", render_all(&findings, Paint::Plain)))
    }

    fn refused(&self, workflow: &str, set: &[(&str, &str)]) -> String {
        match self.plan(workflow, set) {
            Err(findings) => render_all(&findings, Paint::Plain),
            Ok(plan) => panic!("this must be refused: {:?}", keys(&plan)),
        }
    }
}

fn keys(plan: &Plan) -> Vec<&str> {
    plan.steps().map(|(_, step)| step.key.as_str()).collect()
}

fn phases(plan: &Plan) -> Vec<&str> {
    plan.phases.iter().map(|phase| phase.name.as_str()).collect()
}

#[test]
fn the_rotation_declares_its_phases_and_every_secret_and_component_in_each() {
    let plan = site().good("tidb/cfssl-rotate", &[]);
    assert_eq!(phases(&plan), ["inventory", "trust-both", "switch-leaves", "finish"]);
    assert_eq!(
        keys(&plan),
        [
            "inventory/prove/healthy",
            "inventory/prove/pd serves",
            "trust-both/stage/new CA",
            "trust-both/stage/probe certificate",
            "trust-both/change/basic-pd-cluster-secret",
            "trust-both/change/basic-cluster-client-secret",
            "trust-both/settle/pd",
            "trust-both/settle/client",
            "trust-both/prove/pd accepts the new CA",
            "trust-both/prove/pd serves",
            "switch-leaves/stage/issue basic-pd-cluster-secret",
            "switch-leaves/stage/issue basic-cluster-client-secret",
            "switch-leaves/change/basic-pd-cluster-secret",
            "switch-leaves/change/basic-cluster-client-secret",
            "switch-leaves/settle/pd",
            "switch-leaves/settle/client",
            "switch-leaves/prove/pd serves",
            "finish/change/pd-server files",
            "finish/change/client files",
            "finish/change/PKI folder",
            "finish/prove/healthy",
        ]
    );
    assert_eq!(plan.target.as_ref().unwrap().title, "TidbCluster tidb/basic");
    assert_eq!(plan.trust.as_ref().unwrap().primitive, "tidb::trust");
    assert_eq!(plan.notes[0].text, "pd has 1 replica");
    assert!(plan.phases.iter().all(|phase| !phase.final_));
}

#[test]
fn the_old_ca_goes_only_when_asked_or_compromised_and_only_then_there_is_no_way_back() {
    let site = site();
    let asked = site.good("tidb/cfssl-rotate", &[("remove_old_ca", "true")]);
    let all = ["inventory", "trust-both", "switch-leaves", "old-leaves-gone", "distrust-old", "finish"];
    assert_eq!(phases(&asked), all);
    assert!(keys(&asked).contains(&"distrust-old/prove/pd refuses the old CA"));
    assert!(asked.phases.iter().all(|phase| !phase.final_));
    let compromised = site.good("tidb/cfssl-rotate", &[("reason", "compromise")]);
    assert_eq!(phases(&compromised), all);
    let last: Vec<&str> = compromised.phases.iter().filter(|p| p.final_).map(|p| p.name.as_str()).collect();
    assert_eq!(last, ["distrust-old"]);
}

#[test]
fn the_three_parts_work_each_on_its_own() {
    let mut site = site();
    let ca = site.good("tidb/cfssl-ca", &[("ca_expiry", "43800h")]);
    assert_eq!(phases(&ca), ["inventory", "trust-both", "finish"]);
    let made = &ca.step("trust-both/stage/new CA").unwrap().action.args;
    assert_eq!(made[1].to_value()["CA"]["expiry"], "43800h");
    // Renewal from the CA in force.
    let renewal = site.good("tidb/cfssl-components", &[]);
    assert_eq!(phases(&renewal), ["inventory", "switch-leaves", "finish"]);
    let issue = "switch-leaves/stage/issue basic-pd-cluster-secret";
    let present = |plan: &Plan| plan.step(issue).unwrap().action.args[3].to_value();
    assert_eq!(present(&renewal).get("tls.key"), None, "routine means a new certificate");
    let due = site.good("tidb/cfssl-components", &[("reason", "expiry"), ("leaf_expiry", "720h")]);
    assert!(present(&due).get("tls.key").is_some(), "one that is not due may stay");
    assert_eq!(due.step(issue).unwrap().action.args[2].to_value()["expiry"], "720h");
    // Nothing but the CA in force is trusted: nothing to remove.
    let nothing = site.good("tidb/cfssl-remove-old-ca", &[]);
    assert_eq!(phases(&nothing), ["inventory", "finish"]);

    // As cfssl-ca, or a person, leaves it: a successor in the folder, both in the Secrets.
    site.pki["successor"] = site.new_ca.clone();
    let both =
        format!("{}{}", site.new_ca["cert"].as_str().unwrap(), site.pki["ca"]["cert"].as_str().unwrap());
    for secret in site.cluster["secrets"].as_array_mut().unwrap() {
        secret["ca.crt"] = json!(both);
        secret["ca_fingerprints"] = json!([site.new_ca["fingerprint"], site.pki["ca"]["fingerprint"]]);
    }
    let leaves = site.good("tidb/cfssl-components", &[]);
    assert!(keys(&leaves).contains(&"inventory/prove/pd accepts the new CA"));
    assert_eq!(
        leaves.step(issue).unwrap().action.args[0].to_value()["fingerprint"],
        site.new_ca["fingerprint"]
    );
    // Nobody has a certificate of it yet: to remove the old CA now would cut everybody off.
    let leaf = |ca: &Value| {
        let request = json!({"CN": "TiDB", "key": {"algo": "ecdsa", "size": 256}});
        let profile = json!({"expiry": "8760h", "usages": ["signing", "server auth", "client auth"]});
        let leaf = pure(&site.world, "cfssl::issue", &json!([ca, request, profile]));
        (leaf["cert"].clone(), leaf["key"].clone())
    };
    let (old_leaf, new_leaf) = (leaf(&site.pki["ca"]), leaf(&site.new_ca));
    let give = |site: &mut Site, name: &str, (cert, key): &(Value, Value)| {
        for secret in site.cluster["secrets"].as_array_mut().unwrap() {
            if secret["component"] == name {
                secret["tls.crt"] = cert.clone();
                secret["tls.key"] = key.clone();
            }
        }
    };
    give(&mut site, "pd", &new_leaf);
    give(&mut site, "client", &old_leaf);
    let refused = site.refused("tidb/cfssl-remove-old-ca", &[]);
    assert!(refused.contains("client still presents one"), "{refused}");
    assert!(refused.contains("run tidb/cfssl-components first"), "{refused}");
    give(&mut site, "client", &new_leaf);
    let remove = site.good("tidb/cfssl-remove-old-ca", &[]);
    assert_eq!(phases(&remove), ["inventory", "old-leaves-gone", "distrust-old", "finish"]);
    let old =
        remove.step("old-leaves-gone/prove/nobody presents the old CA").unwrap().action.args[1].to_value();
    assert_eq!(old, site.pki["ca"]["cert"]);
}

#[test]
fn a_component_chosen_by_name_is_alone_and_a_wrong_one_is_named_with_the_right_ones() {
    let site = site();
    let plan = site.good("tidb/cfssl-components", &[("components", "pd")]);
    assert!(!keys(&plan).iter().any(|key| key.contains("client")), "{:?}", keys(&plan));
    let refused = site.refused("tidb/cfssl-components", &[("components", "pd,tivk")]);
    assert!(refused.contains("no component `tivk`") && refused.contains("it has: pd, client"), "{refused}");
}

#[test]
fn what_cfssl_would_take_in_silence_is_refused() {
    let mut site = site();
    site.cluster["secrets"][0]["profile"] = json!("server");
    let refused = site.refused("tidb/cfssl-rotate", &[]);
    assert!(refused.contains("no profile `server`") && refused.contains("`default`"), "{refused}");
    let mut site = self::site();
    site.pki["requests"].as_object_mut().unwrap().remove("pd-server");
    let refused = site.refused("tidb/cfssl-rotate", &[]);
    assert!(refused.contains("`pd-server.json` is missing"), "{refused}");
}

#[test]
fn certificates_of_a_ca_that_nobody_trusts_yet_are_not_issued() {
    let mut site = site();
    site.pki["successor"] = site.new_ca.clone();
    let refused = site.refused("tidb/cfssl-components", &[]);
    assert!(
        refused.contains("does not trust the CA") && refused.contains("rollover run tidb/cfssl-ca"),
        "{refused}"
    );
}

#[test]
fn plans_show_no_key_and_stay_small() {
    let plan = site().good("tidb/cfssl-rotate", &[("remove_old_ca", "true")]);
    let text = serde_json::to_string(&plan.phases).unwrap();
    assert!(!text.contains("PRIVATE KEY"));
    assert!(text.len() < 64 * 1024, "{}", text.len());
}

/// A ClusterIssuer signs for other namespaces too, and its CA may be kept by nobody here: it is left alone, and why is said.
#[test]
fn a_ca_that_signs_for_others_too_is_left_alone() {
    let mut site = site();
    let names = json!(["basic-pd-cluster-secret", "basic-cluster-client-secret"]);
    site.cluster["id"]["secrets"] = names.clone();
    let found = json!({
        "issuer": {"kind": "ClusterIssuer", "name": "company"}, "ca": null, "certificates": [], "managed": [], "labelled": [],
        "warnings": [],
    });
    for name in ["tidb/cert-manager-ca", "tidb/cert-manager-ca-gapless"] {
        let workflow = Catalog::default().load(&SimDisk::default(), name).unwrap().unwrap();
        let params = workflow.manifest.resolve(&Given::default(), site.world.secrets.as_ref()).unwrap();
        let at = At { file: "main.rhai".into(), line: 1, column: 1 };
        let fact = |primitive: &str, args: Value, answer: &Value| Fact {
            primitive: primitive.into(),
            args: args.as_array().unwrap().clone(),
            answer: answer.clone(),
            at: at.clone(),
        };
        let operator = json!({"operator": "v1", "operator_namespace": "tidb-admin"});
        let facts = [
            fact("tidb::cluster", json!(["tidb", "basic", operator]), &site.cluster),
            fact("certmanager::certificates", json!(["tidb", names]), &found),
        ];
        let input = Input {
            workflow: &workflow.name,
            sources: &workflow.sources,
            manifest: &workflow.manifest,
            params: &params,
            world: &site.world,
            registry: registry(),
        };
        let told = match declare(&input, &facts) {
            Err(findings) => render_all(&findings, Paint::Plain),
            Ok(_) => panic!("{name} would replace a CA that is not this namespace's"),
        };
        assert!(told.contains("the CA of ClusterIssuer `company` is none that cert-manager keeps"), "{told}");
        assert!(told.contains("is replaced where it is kept"), "{told}");
    }
}
