//! A real API server answers as the sandbox's does.

use tests::contract::{Peer, differences, held};
use tests::control_plane::{ControlPlane, assets, client};

use crate::bench::multi;

#[test]
#[ignore = "needs a real control plane: tests/control-plane"]
fn a_real_server_answers_as_is_expected_of_the_sandboxs() {
    multi(async {
        let plane =
            ControlPlane::start(&assets().expect("tests/control-plane makes the programs")).await.unwrap();
        let admin = client(&plane.admin_kubeconfig()).await.unwrap();
        let stranger = client(&plane.user_kubeconfig("stranger").unwrap()).await.unwrap();
        let said = held(&Peer { admin, stranger }).await;
        let found = differences(&said);
        assert!(found.is_empty(), "{found}");
    });
}
