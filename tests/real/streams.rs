//! Streams into pods: the stories of `tests::streams` on a real API server, which proxies them to the kubelet's endpoint;
//! a run of which every proof is made so, with the rights that are printed for it.

use std::sync::Arc;
use std::time::Duration;

use journal::{NoTripwire, Why};
use runner::events::EndState;
use runner::rbac;
use stdlib::k8s::forward;
use tests::control_plane::client;
use tests::program::{Program, says, told};
use tests::streams::{Nowhere, Place, through};
use tokio::io::AsyncReadExt as _;

use crate::bench::{Bench, multi};
use crate::rights::{USER, grant, wait_until};

const WORKFLOW: &str = "tidb/cfssl-components";

/// One who may read pods and Secrets, and nothing else.
async fn reader(bench: &Bench) -> kube::Client {
    let rule = |resource: &str| rbac::Rule {
        group: String::new(),
        resources: vec![resource.into()],
        names: Vec::new(),
        verbs: vec!["get".into(), "list".into()],
    };
    let rules = vec![rule("pods"), rule("secrets")];
    let user = client(&bench.plane.user_kubeconfig(USER).unwrap()).await.unwrap();
    grant(bench, "reader", &[("tidb".to_owned(), rules.clone())].into()).await;
    for rule in &rules {
        wait_until(&user, "tidb", rule, true).await;
    }
    user
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_pod_is_dialled_through_a_real_api_server() {
    multi(async {
        let bench = Bench::new(41).await;
        let world = stdlib::World::system(Some(bench.world.client()), "/".into());
        let reader = reader(&bench).await;
        let place = Place { admin: bench.world.client(), reader, world: &world };
        place.forwarding().await;

        // A server that is killed cuts what it forwarded; nobody said goodbye.
        let pods = bench.world.end_state().await.pods;
        assert!(pods.contains_key("basic-tikv-0"));
        let net = through(bench.world.client(), &Arc::<Nowhere>::default());
        let mut stream = net.dial("basic-tikv-0.basic-tikv-peer.tidb.svc", 20160).await.unwrap();
        bench.plane.restart_server(Duration::ZERO).await.unwrap();
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert!(error.to_string().contains("tidb/basic-tikv-0:20160 was cut off"), "{error}");
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_command_runs_in_a_pod_of_a_real_api_server() {
    multi(async {
        let bench = Bench::new(42).await;
        let world = stdlib::World::system(Some(bench.world.client()), "/".into());
        let reader = reader(&bench).await;
        let place = Place { admin: bench.world.client(), reader, world: &world };
        place.commands().await;
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_run_is_proved_through_a_real_api_server_with_the_rights_that_are_printed() {
    multi(async {
        let mut bench = Bench::new(43).await;
        let nowhere = Arc::<Nowhere>::default();
        bench.forward = Some(nowhere.clone());
        let plan = bench.plan(WORKFLOW, &[], &bench.world.client()).await.unwrap();
        let touched = rbac::touches(&plan, stdlib::registry());
        let without = rbac::rules(&touched);
        let all = rbac::rules(&[touched.clone(), forward::touches(&touched)].concat());
        let new = |rule: &&rbac::Rule| !without["tidb"].contains(rule);
        let added: Vec<rbac::Rule> = all["tidb"].iter().filter(new).cloned().collect();
        assert_eq!(added.len(), 1, "{added:?}");
        assert_eq!(
            (added[0].resources.clone(), added[0].verbs.clone()),
            (vec!["pods/portforward".to_owned()], forward::VERBS.map(str::to_owned).to_vec())
        );

        let kubeconfig = bench.plane.user_kubeconfig(USER).unwrap();
        let user = client(&kubeconfig).await.unwrap();
        grant(&bench, WORKFLOW, &without).await;
        for (namespace, rules) in &without {
            for rule in rules {
                wait_until(&user, namespace, rule, true).await;
            }
        }
        let refused = bench.run_as(&user, WORKFLOW, &[], Arc::new(NoTripwire)).await;
        let why = match refused {
            Err(why) => why.to_string(),
            Ok(ending) => {
                assert_ne!(ending.state, EndState::Done);
                bench.open(Why::Abort).abort(true).await;
                format!("{:?}", ending.failure)
            }
        };
        assert!(why.contains("pods/portforward"), "{why}");
        // The program says the same where it is asked to forward, and goes on directly where it is asked to do that.
        let (program, pki) = (Program::new(), format!("pki={}", bench.dir.path().join("pki").display()));
        let kubeconfig = kubeconfig.to_str().unwrap();
        let forwarded =
            ["run", WORKFLOW, "--yes", "--kubeconfig", kubeconfig, "--set", &pki, "--pods", "forward"];
        let (code, said) = told(&program.types(&forwarded));
        assert!(code != 0 && said.contains("pods/portforward"), "{code}: {said}");
        let run = program.runs().pop().unwrap();
        says(&program.types(&["resume", &run, "--yes", "--pods", "direct"]), 0, &["Done."]);

        grant(&bench, WORKFLOW, &all).await;
        wait_until(&user, "tidb", &added[0], true).await;
        let ending = bench.run_as(&user, WORKFLOW, &[], Arc::new(NoTripwire)).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let back = bench.open_as(&user, Why::Rollback).back("test").await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        assert_eq!(nowhere.tried(), 0, "no pod was dialled by its address");
        assert!(bench.world.end_state().await.holds());
    });
}
