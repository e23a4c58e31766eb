//! Streams into pods: the stories of `tests::streams` in the sandbox, a whole run of which every proof is made
//! through the API server, and the program that is asked for it.

use std::sync::Arc;

use journal::{NoTripwire, Why};
use runner::events::EndState;
use sandbox::api::Rule;
use tests::program::{Program, says};
use tests::streams::{Nowhere, Place, through};

use crate::lab::{Lab, virtual_time};

fn place<'a>(lab: &Lab, world: &'a stdlib::World) -> Place<'a> {
    let server = lab.world.server().unwrap();
    let role = serde_json::json!({
        "metadata": { "namespace": "tidb" },
        "rules": [{ "apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"] }],
    });
    server.set_rules("reader", Some(Rule::of_role(&role)));
    Place { admin: lab.world.client(), reader: server.client("reader"), world }
}

#[test]
fn a_pod_is_dialled_through_the_api_server() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        place(&lab, &lab.eyes()).forwarding().await;
    });
}

#[test]
fn a_command_runs_in_a_pod() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        place(&lab, &lab.eyes()).commands().await;
    });
}

#[test]
fn a_run_is_proved_through_the_api_server_there_and_back() {
    virtual_time(async {
        let mut lab = Lab::new(1).await;
        let nowhere = Arc::<Nowhere>::default();
        let workflow = lab.workflow("tidb/cfssl-components");
        lab.net = Some(nowhere.clone());
        let alone = lab.run(&workflow, &[], Arc::new(NoTripwire)).await;
        assert!(alone.is_err() || alone.unwrap().state != EndState::Done, "nothing is proved from nowhere");
        assert!(nowhere.tried() > 0);
        lab.open(Why::Abort).unwrap().abort(true).await;

        let tried = nowhere.tried();
        lab.net = Some(through(lab.world.client(), &nowhere));
        let done = lab.run(&workflow, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
        let back = lab.open(Why::Rollback).unwrap().back("test").await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        assert_eq!(nowhere.tried(), tried, "no pod was dialled by its address");
        let after = lab.world.end_state().await;
        assert!(after.holds(), "{:?}", after.broken);
        assert_eq!(lab.world.counters().refused, 0);
    });
}

/// A name of the cluster is known to its API server alone, so nobody dials it from here.
#[test]
fn the_program_forwards_where_it_is_asked_to() {
    let person = Program::new();
    person.writes(
        "look/workflow.yaml",
        "title: Look\ntouches:\n  - kube: { resource: pods, namespace: tidb, write: true }\n  - net: { host: \"*.tidb.svc\", ports: [2379] }\n",
    );
    person.writes(
        "look/main.rhai",
        r#"
            let seen = tls::probe("basic-pd-0.basic-pd-peer.tidb.svc", 2379);
            let p = phase("look", "The certificate is where PD reads it.");
            let pod = #{ namespace: "tidb", name: "basic-pd-0" };
            let count = ["grep", "-c", "BEGIN CERTIFICATE", "/var/lib/pd-tls/tls.crt"];
            p.prove("mounted", k8s::exec(pod, "", count, #{ stdout: "1" }));
        "#,
    );
    let started = says(&person.types(&["sandbox", "start", "--output", "json"]), 0, &[]);
    let started: serde_json::Value = serde_json::from_str(started.lines().next().unwrap()).unwrap();
    let look = person.path().join("look");
    let asked = |command: &str, more: &[&str]| {
        let dir = started["dir"].as_str().unwrap();
        person.types(&[&[command, look.to_str().unwrap(), "--sandbox-dir", dir], more].concat())
    };
    let direct = asked("run", &["--yes"]);
    assert!(!direct.status.success());
    let names = ["basic-pd-0.basic-pd-peer.tidb.svc:2379", "--pods forward"];
    says(&direct, direct.status.code().unwrap(), &names);
    says(&asked("run", &["--yes", "--pods", "forward"]), 0, &["Done."]);
    let run = person.runs().pop().unwrap();
    let journal = person.state().join("runs").join(run).join("journal.jsonl");
    let journal = std::fs::read_to_string(journal).unwrap();
    assert!(journal.contains(r#""forward":["tidb"]"#), "the record keeps the way");
    let rights = asked("rbac", &["--pods", "forward"]);
    let rights = says(&rights, 0, &["pods/exec", "pods/portforward", "create", "get"]);
    assert!(!rights.contains("services"), "{rights}");
    says(&person.types(&["sandbox", "stop"]), 0, &[]);
}
