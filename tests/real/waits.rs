//! A wait outlives the API server that it watches, and what that forgets.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stdlib::gate::ReadOnly;
use stdlib::k8s::client::Objects;
use stdlib::k8s::object::{Ref, text};
use tests::control_plane::{ControlPlane, assets, client, config};
use tests::primitives::{Real, forgotten};

use crate::bench::multi;

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_wait_goes_on_when_the_server_has_restarted_and_is_woken_by_what_happens_then() {
    multi(async {
        let plane =
            ControlPlane::start(&assets().expect("tests/control-plane makes the programs")).await.unwrap();
        let world = stdlib::World::system(Some(client(&plane.admin_kubeconfig()).await.unwrap()), "/".into());
        let objects = Objects::of(&world).unwrap();
        // One that the server makes by itself may not be there yet.
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "waits"}});
        objects.create(&Ref::new("v1", "Namespace", "", "waits"), &namespace).await.unwrap();
        let object = Ref::new("v1", "ConfigMap", "waits", "slow");
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "slow", "namespace": "waits"},
            "data": {"state": "no"}});
        objects.create(&object, &map).await.unwrap();
        let says = async |state: &str| {
            let now = objects.get(&object).await.unwrap();
            let version = text(&now, &["metadata", "resourceVersion"]);
            objects.merge(&object, version, json!({"data": {"state": state}})).await.unwrap();
        };
        let wait = stdlib::registry().get("k8s::wait").unwrap();
        let args = ["v1", "ConfigMap", "waits"].map(Value::from);
        let options = json!({"name": "slow", "field": "data.state", "value": "yes", "within": "5m"});
        let args: Vec<Value> = args.into_iter().chain([options]).collect();
        let story = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            plane.restart_server(Duration::from_secs(3)).await.unwrap();
            says("nearly").await;
            plane.restart_server(Duration::ZERO).await.unwrap();
            says("yes").await;
        };
        let (waited, ()) = futures::join!((wait.run)(&world, &args, &ReadOnly), story);
        assert_eq!(waited.unwrap()["objects"], json!(["slow"]));
    });
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_list_and_a_watch_of_versions_that_the_server_has_forgotten_begin_anew() {
    multi(async {
        let assets = assets().expect("tests/control-plane makes the programs");
        let plane = ControlPlane::without_controllers(&assets).await.unwrap();
        let server = Arc::new(Real::new(config(&plane.admin_kubeconfig()).await.unwrap()).await);
        let forget = async || plane.compact().await.unwrap();
        forgotten(server, forget, async || plane.restart_server(Duration::ZERO).await.unwrap()).await;
    });
}
