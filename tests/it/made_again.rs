//! Secrets that are immutable, and the shipped workflows. What becomes of one in a run is told in `tests::primitives`.

use journal::Why;
use runner::events::EndState;
use sandbox::world::kube::SECRETS;
use serde_json::json;

use crate::lab::{Lab, virtual_time};
use tests::hands::Hands;

#[test]
fn a_shipped_rotation_says_before_it_begins_that_a_secret_is_immutable() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let frozen = json!({"immutable": true});
        lab.kube().merge(SECRETS, ("tidb", "basic-pd-cluster-secret"), "", &frozen).await.unwrap();
        let refused = lab.refused("tidb/cfssl-rotate", &[]).await;
        assert!(refused.contains("Secret tidb/basic-pd-cluster-secret is immutable"), "{refused}");
        assert!(refused.contains("`--set immutable=replace` has it deleted and made again"), "{refused}");
        assert!(lab.store().list().unwrap().is_empty(), "no run was begun");
    });
}

#[test]
fn a_shipped_rotation_replaces_an_immutable_secret_where_it_is_asked_to_and_puts_it_back() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let frozen = json!({"immutable": true});
        let before =
            lab.kube().merge(SECRETS, ("tidb", "basic-pd-cluster-secret"), "", &frozen).await.unwrap();
        let ending = lab.forward("tidb/cfssl-rotate", &[("immutable", "replace")]).await.unwrap();
        assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
        let held =
            async || lab.kube().get(SECRETS, "tidb", "basic-pd-cluster-secret").await.unwrap().unwrap();
        let after = held().await;
        assert_eq!(after["immutable"], true);
        assert_ne!(after["data"]["tls.crt"], before["data"]["tls.crt"]);
        let ending = lab.open(Why::Rollback).unwrap().back("test").await;
        assert_eq!(ending.state, EndState::RolledBack, "{:?}", ending.failure);
        let back = held().await;
        assert_eq!((&back["immutable"], &back["data"]), (&json!(true), &before["data"]));
    });
}

/// A kubelet may keep the old data of such a Secret for pods that start later. Who serves shows it; a client would not.
#[test]
fn an_immutable_secret_of_a_workload_that_only_dials_is_refused() {
    virtual_time(async {
        let lab = Lab::new(1).await;
        let frozen = json!({"immutable": true});
        lab.kube().merge(SECRETS, ("tidb", "basic-cluster-client-secret"), "", &frozen).await.unwrap();
        let refused = lab.refused("tidb/cfssl-rotate", &[("immutable", "replace")]).await;
        assert!(refused.contains("only dials: a kubelet may give its new pods"), "{refused}");
        assert!(refused.contains("take all its pods away together once"), "{refused}");
        assert!(lab.store().list().unwrap().is_empty(), "no run was begun");
    });
}
