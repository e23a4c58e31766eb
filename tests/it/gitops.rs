//! Objects that Argo CD or Flux keeps, in the sandbox: the stories of `tests::gitops`.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use runner::plan::Plan;
use runner::rbac;
use sandbox::world::Scenario;
use serde_json::json;
use tests::gitops::{ROTATION, Repository, SQL, Tool, whole};

use crate::lab::{Lab, virtual_time};
use crate::operator_v2::{all, lab_of};

#[test]
fn argo_cd_is_paused_and_goes_on_when_git_has_what_was_written() {
    virtual_time(async { tests::gitops::argo(&Lab::new(21).await, Tool::Argo).await });
}

#[test]
fn argo_cd_that_knows_its_objects_by_a_label_is_paused_too() {
    virtual_time(async { tests::gitops::argo(&Lab::new(29).await, Tool::Labels).await });
}

#[test]
fn a_label_that_others_set_too_is_no_sign_of_argo_cd() {
    virtual_time(async { tests::gitops::labelled(&Lab::new(30).await).await });
}

/// A client that counts what is asked of Argo CD's kinds, and may be refused to read an Application.
fn counting(client: Client, asked: &Arc<Mutex<Vec<String>>>, may: bool) -> Client {
    let asked = Arc::clone(asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, path) = (client.clone(), request.uri().path().to_owned());
        if path.contains("argoproj") {
            asked.lock().unwrap().push(path.clone());
        }
        async move {
            if may || !path.contains("/applications/") {
                return client.send(request).await;
            }
            let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                "reason": "Forbidden", "message": "applications.argoproj.io is forbidden" });
            Ok(Response::builder().status(403).body(Body::from(status.to_string().into_bytes())).unwrap())
        }
    });
    Client::new(service, "tidb")
}

#[test]
fn an_application_is_asked_once_where_a_label_names_it_by_a_right_that_is_printed() {
    virtual_time(async {
        let lab = Lab::new(31).await;
        let workflow = lab.workflow("tidb/cfssl-components");
        let plan = async |may: bool| {
            let asked = Arc::<Mutex<Vec<String>>>::default();
            let mut eyes = lab.eyes();
            eyes.cluster = Some(counting(lab.world.client(), &asked, may));
            let plan = lab.plan_with(&workflow, &[("managed", "write")], &eyes).await.unwrap();
            let asked = asked.lock().unwrap().clone();
            (plan, asked)
        };
        let rights = |plan: &Plan| rbac::rules(&rbac::touches(plan, stdlib::registry())).remove("argocd");
        let (without, asked) = plan(true).await;
        assert_eq!((rights(&without), asked), (None, Vec::new()), "no label, no question");

        let repository = Repository::diligent(&lab, Tool::Labels, |_| true).await;
        repository.compared("Synced").await;
        let (known, asked) = plan(true).await;
        let read = asked.iter().filter(|path| path.contains("/applications/")).count();
        assert_eq!((read, asked.len()), (1, 3), "after the group and its kinds: {asked:?}");
        let rules = rights(&known).unwrap();
        assert_eq!(
            (rules.len(), rules[0].names.as_slice()),
            (1, ["database".to_owned()].as_slice()),
            "{rules:?}"
        );
        assert_eq!(rules[0].verbs, ["get"]);
        assert!(
            known.notes.iter().any(|note| note.text.contains("is managed by Argo CD (`database`)")),
            "{:?}",
            known.notes
        );

        let (unknown, _) = plan(false).await;
        let told = "Application argocd/database, which that may mean, may not be read";
        assert!(unknown.notes.iter().any(|note| note.text.contains(told)), "{:?}", unknown.notes);
    });
}

#[test]
fn flux_is_suspended_and_goes_on_when_it_was_told_to_leave_things_alone_or_by_hand() {
    virtual_time(async { tests::gitops::flux(&Lab::new(22).await).await });
}

fn rotated(seed: u64, tool: Tool) {
    virtual_time(async { whole(&lab_of(seed, Scenario::default()).await, tool, ROTATION, all()).await });
}

fn renewed(seed: u64, tool: Tool) {
    let scenario = Scenario { sql_tls: true, ..Scenario::default() };
    virtual_time(async { whole(&lab_of(seed, scenario).await, tool, SQL, all()).await });
}

#[test]
fn argo_cd_is_paused_for_a_whole_rotation() {
    rotated(23, Tool::Argo);
}

#[test]
fn a_helm_release_of_flux_is_suspended_while_the_mysql_side_is_renewed() {
    renewed(24, Tool::Helm);
}

#[test]
fn every_tool_is_paused_for_both_jobs() {
    if !all() {
        println!("only with ROLLOVER_TEST_TIER=all");
        return;
    }
    rotated(25, Tool::Flux);
    rotated(26, Tool::Helm);
    renewed(27, Tool::Argo);
    renewed(28, Tool::Flux);
}
