//! `rollover rbac`: with the rights that it prints a workflow runs, and without any one rule it does not.

use std::sync::Arc;
use std::time::Duration;

use journal::{NoTripwire, Why};
use kube::Client;
use runner::events::EndState;
use runner::rbac::{self, Rule};
use sandbox::world::kube::Kube;
use sandbox::world::{Fault, RotationPolicy, Scenario};
use serde_json::Value;
use tests::control_plane::client;
use tests::issued::{FORCED, cut_off_without_ca};

use crate::bench::{Bench, multi};

pub(crate) const USER: &str = "rollover-operator";

async fn send(client: &Client, method: &str, path: &str, body: Option<&Value>) -> Result<Value, kube::Error> {
    let bytes = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(bytes)
        .unwrap();
    client.request(request).await
}

/// Puts exactly these rules in force for the user.
pub(crate) async fn grant(
    bench: &Bench,
    workflow: &str,
    rules: &std::collections::BTreeMap<String, Vec<Rule>>,
) {
    let admin = bench.world.client();
    for object in rbac::manifests(rules, workflow, Some(USER)) {
        let plural = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
        let name = object["metadata"]["name"].as_str().unwrap();
        let scope =
            object["metadata"]["namespace"].as_str().map_or(String::new(), |ns| format!("/namespaces/{ns}"));
        let path = format!("/apis/rbac.authorization.k8s.io/v1{scope}/{plural}");
        if send(&admin, "POST", &path, Some(&object)).await.is_err() {
            send(&admin, "PUT", &format!("{path}/{name}"), Some(&object)).await.unwrap();
        }
    }
}

/// Whether the server lets the user do what this rule grants.
async fn may(user: &Client, namespace: &str, rule: &Rule) -> bool {
    let (resource, part) = rule.resources[0].split_once('/').unwrap_or((&rule.resources[0], ""));
    let review = serde_json::json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "namespace": namespace, "group": rule.group, "resource": resource, "subresource": part,
            "verb": rule.verbs[0], "name": rule.names.first().cloned().unwrap_or_default(),
        } },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    send(user, "POST", path, Some(&review)).await.unwrap()["status"]["allowed"] == true
}

pub(crate) async fn wait_until(user: &Client, namespace: &str, rule: &Rule, allowed: bool) {
    for _ in 0..300 {
        if may(user, namespace, rule).await == allowed {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{rule:?} did not become {allowed}");
}

/// The rights of one workflow, begun after these others.
fn rights_of(seed: u64, workflow: &str, after: &[&str]) {
    rights_in(Scenario::default(), seed, workflow, &[], after);
}

/// The same in a cluster of this kind, with these parameters.
fn rights_in(scenario: Scenario, seed: u64, workflow: &str, set: &[(&str, &str)], after: &[&str]) {
    multi(async {
        let bench = Bench::of(seed, scenario).await;
        // A run does not begin while a process is down, and these begin often.
        bench.world.set_fault(Fault::NoRestarts);
        for earlier in after {
            let ending = bench.run(earlier, &[], Arc::new(NoTripwire)).await.unwrap();
            assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        }
        rights_on(&bench, workflow, set).await;
    });
}

/// The same on this bench as it stands.
async fn rights_on(bench: &Bench, workflow: &str, set: &[(&str, &str)]) {
    let admin = bench.world.client();
    let plan = bench.plan(workflow, set, &admin).await.unwrap();
    let all = rbac::rules(&rbac::touches(&plan, stdlib::registry()));
    let user = client(&bench.plane.user_kubeconfig(USER).unwrap()).await.unwrap();
    grant(bench, workflow, &all).await;
    for (namespace, rules) in &all {
        for rule in rules {
            wait_until(&user, namespace, rule, true).await;
        }
    }
    let ending = bench.run_as(&user, workflow, set, Arc::new(NoTripwire)).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    let taken_back = async |why: &str| {
        let back = bench.open(Why::Rollback).back(why).await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
    };
    taken_back("to be begun again").await;

    for (namespace, rules) in &all {
        for missing in rules {
            let mut fewer = all.clone();
            fewer.get_mut(namespace).unwrap().retain(|rule| rule != missing);
            grant(bench, workflow, &fewer).await;
            wait_until(&user, namespace, missing, false).await;
            match bench.run_as(&user, workflow, set, Arc::new(NoTripwire)).await {
                Err(refused) => {
                    assert!(refused.to_string().contains("may not"), "without {missing:?}: {refused}")
                }
                Ok(ending) => {
                    assert_ne!(ending.state, EndState::Done, "without {missing:?} it runs all the same");
                    taken_back("a right was missing").await;
                }
            }
            grant(bench, workflow, &all).await;
            wait_until(&user, namespace, missing, true).await;
        }
    }
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_new_ca_needs_the_rights_that_are_printed_and_each_of_them() {
    rights_of(21, "tidb/cfssl-ca", &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn new_certificates_need_the_rights_that_are_printed_and_each_of_them() {
    rights_of(22, "tidb/cfssl-components", &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn removing_the_old_ca_needs_the_rights_that_are_printed_and_each_of_them() {
    rights_of(23, "tidb/cfssl-remove-old-ca", &["tidb/cfssl-ca", "tidb/cfssl-components"]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_whole_rotation_needs_the_rights_that_are_printed_and_each_of_them() {
    rights_of(24, "tidb/cfssl-rotate", &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_rotation_under_operator_v2_needs_the_rights_that_are_printed_and_each_of_them() {
    use tests::operator_v2::{SET, WORKFLOW, scenario};
    rights_in(scenario(), 27, WORKFLOW, SET, &[]);
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn the_mysql_side_needs_the_rights_that_are_printed_and_each_of_them() {
    let scenario = Scenario { sql_tls: true, ..Scenario::default() };
    rights_in(scenario, 26, "tidb/server-tls", &[("remove_old_ca", "true")], &[]);
}

/// What pausing needs is among them where it is asked for: of Argo CD in its namespace, and of Flux in that.
#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn pausing_who_keeps_the_secrets_needs_the_rights_that_are_printed_and_each_of_them() {
    use tests::gitops::{Repository, Tool};
    multi(async {
        let bench = crate::operator_v2::bench_of(29, Scenario::default()).await;
        let of_flux = |secret: &str| secret.starts_with("basic-tidb") || secret.contains("client");
        let _argo = Repository::diligent(&bench, Tool::Argo, |secret| !of_flux(secret)).await;
        let _flux = Repository::diligent(&bench, Tool::Flux, of_flux).await;
        let set = [("managed", "pause")];
        let plan = bench.plan("tidb/cfssl-rotate", &set, &bench.world.client()).await.unwrap();
        let all = rbac::rules(&rbac::touches(&plan, stdlib::registry()));
        for (namespace, resource) in [("argocd", "applications"), ("flux-system", "kustomizations")] {
            let rule = all[namespace].iter().find(|rule| rule.resources == [resource]);
            assert_eq!(rule.unwrap().verbs, ["get", "patch"], "{all:#?}");
        }
        rights_on(&bench, "tidb/cfssl-rotate", &set).await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn under_operator_v2_the_mysql_side_needs_the_rights_that_are_printed_and_each_of_them() {
    use tests::operator_v2::{SQL, SQL_SET, with_sql};
    rights_in(with_sql(), 30, SQL, SQL_SET, &[]);
}

/// How a run is taken back, as a user, that was stopped where it had deleted the CA's Secret and cert-manager was away.
async fn back_while_away(bench: &Bench, user: &Client) -> EndState {
    let kube = Kube::new(bench.world.client());
    bench.world.set_fault(Fault::IssuerAway);
    cut_off_without_ca(&kube, bench.run_as(user, FORCED, &[], Arc::new(NoTripwire))).await;
    let back = bench.open_as(user, Why::Rollback).back("cert-manager is away").await;
    bench.world.lift_fault(&Fault::IssuerAway);
    back.state
}

/// The same where cert-manager keeps the certificates. Some rights are for the way back alone, and one for where
/// cert-manager is away.
fn rights_where_issued(seed: u64, workflow: &'static str) {
    multi(async {
        let bench = crate::issued::bench(seed, RotationPolicy::Always).await;
        let plan = bench.plan(workflow, &[], &bench.world.client()).await.unwrap();
        let all = rbac::rules(&rbac::touches(&plan, stdlib::registry()));
        let user = client(&bench.plane.user_kubeconfig(USER).unwrap()).await.unwrap();
        grant(&bench, workflow, &all).await;
        let back_as = async |who: &Client| bench.open_as(who, Why::Rollback).back("test").await;
        let ending = bench.run_as(&user, workflow, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let back = back_as(&user).await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        if workflow == FORCED {
            assert_eq!(back_while_away(&bench, &user).await, EndState::RolledBack);
        }

        for (namespace, rules) in &all {
            for missing in rules {
                let mut fewer = all.clone();
                fewer.get_mut(namespace).unwrap().retain(|rule| rule != missing);
                grant(&bench, workflow, &fewer).await;
                wait_until(&user, namespace, missing, false).await;
                let ran = bench.run_as(&user, workflow, &[], Arc::new(NoTripwire)).await;
                if let Err(refused) = &ran {
                    assert!(refused.to_string().contains("may not"), "without {missing:?}: {refused}");
                }
                if ran.as_ref().is_ok_and(|ending| ending.state == EndState::Done) {
                    let mut back = back_as(&user).await.state;
                    if back == EndState::RolledBack && workflow == FORCED {
                        back = back_while_away(&bench, &user).await;
                    }
                    assert_ne!(back, EndState::RolledBack, "without {missing:?} it goes there and back");
                }
                grant(&bench, workflow, &all).await;
                wait_until(&user, namespace, missing, true).await;
                if ran.is_ok() {
                    let back = back_as(&bench.world.client()).await;
                    assert_eq!(back.state, EndState::RolledBack, "{missing:?}: {:?}", back.failure);
                }
            }
        }
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn renewing_what_cert_manager_keeps_needs_the_rights_that_are_printed_and_each_of_them() {
    rights_where_issued(25, "tidb/cert-manager-components");
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_ca_of_cert_manager_without_a_gap_needs_the_rights_that_are_printed_and_each_of_them() {
    rights_where_issued(26, "tidb/cert-manager-ca-gapless");
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn the_documented_way_to_a_ca_needs_the_rights_that_are_printed_and_each_of_them() {
    rights_where_issued(27, FORCED);
}

/// What brings an expired cluster back only goes forward, so what is left out has a cluster of its own each time.
#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn bringing_an_expired_cluster_back_needs_the_rights_that_are_printed_and_each_of_them() {
    let workflow = "tidb/cfssl-expired";
    multi(async {
        let new = async || {
            let mut bench = crate::expired::bench(28).await;
            bench.outage = true;
            let plan = bench.plan(workflow, &[], &bench.world.client()).await.unwrap();
            let all = rbac::rules(&rbac::touches(&plan, stdlib::registry()));
            let user = client(&bench.plane.user_kubeconfig(USER).unwrap()).await.unwrap();
            grant(&bench, workflow, &all).await;
            (bench, all, user)
        };
        let (bench, all, user) = new().await;
        for (namespace, rules) in &all {
            for rule in rules {
                wait_until(&user, namespace, rule, true).await;
            }
        }
        let ending = bench.run_as(&user, workflow, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        drop(bench);
        for (namespace, rules) in &all {
            for missing in rules {
                let (bench, mut fewer, user) = new().await;
                fewer.get_mut(namespace).unwrap().retain(|rule| rule != missing);
                grant(&bench, workflow, &fewer).await;
                wait_until(&user, namespace, missing, false).await;
                match bench.run_as(&user, workflow, &[], Arc::new(NoTripwire)).await {
                    Err(refused) => {
                        assert!(refused.to_string().contains("may not"), "without {missing:?}: {refused}")
                    }
                    Ok(ending) => {
                        assert_ne!(ending.state, EndState::Done, "without {missing:?} it runs all the same");
                    }
                }
            }
        }
    });
}
