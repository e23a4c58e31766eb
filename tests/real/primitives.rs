//! The stories of `tests::primitives` on a real server: all on one, at once, each in its own namespace. What befalls a server
//! as a whole is told in `waits.rs`.

use std::sync::Arc;

use futures::future::join_all;
use tests::control_plane::{ControlPlane, assets, config};
use tests::primitives::{Real, everywhere, rotation};
use tokio::task::LocalSet;

use crate::bench::{Bench, multi};

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn primitives_do_on_a_real_server_what_they_do_in_the_sandbox() {
    let told = async {
        let assets = assets().expect("tests/control-plane makes the programs");
        let plane = ControlPlane::without_controllers(&assets).await.unwrap();
        let server = Arc::new(Real::new(config(&plane.admin_kubeconfig()).await.unwrap()).await);
        let tellings = everywhere().into_iter().map(|story| {
            let server = Arc::clone(&server);
            let name = story.name;
            // A task of its own, so that the others are told to their end where it fails.
            let task = tokio::task::spawn_local(async move { story.on(server).await });
            async move { task.await.err().map(|error| format!("{name}: {error}")) }
        });
        let failed: Vec<String> = join_all(tellings).await.into_iter().flatten().collect();
        assert!(failed.is_empty(), "{failed:#?}");
    };
    multi(LocalSet::new().run_until(told));
}

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_rotation_by_primitives_refuses_no_handshake_forward_and_back_on_a_real_server() {
    multi(async {
        let bench = Bench::new(1).await;
        rotation(&bench.world).await;
    });
}
