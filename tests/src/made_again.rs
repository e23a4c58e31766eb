//! Secrets that are immutable, and the shipped workflows. What becomes of one in a run is told in `tests::primitives`.

use runner::events::EndState;
use sandbox::world::kube::SECRETS;
use serde_json::{Value, json};

use crate::hands::Hands;
use crate::stage::Stage;

const ROTATE: &str = "tidb/cfssl-rotate";
const PD: &str = "basic-pd-cluster-secret";

async fn freezes(stage: &impl Stage, secret: &str) -> Value {
    stage.kube().merge(SECRETS, ("tidb", secret), "", &json!({"immutable": true})).await.unwrap()
}

/// What somebody who begins a rotation is told, who has begun none.
async fn refused(stage: &impl Stage, set: &[(&str, &str)]) -> String {
    let failure = stage.forward(ROTATE, set).await.unwrap_err();
    assert!(stage.store().list().unwrap().is_empty(), "no run was begun");
    format!("{failure}\n{}", failure.hint.as_deref().unwrap_or_default())
}

/// A rotation says before it begins that a Secret is immutable.
pub async fn said_beforehand(stage: &impl Stage) {
    freezes(stage, PD).await;
    let refused = refused(stage, &[]).await;
    assert!(refused.contains("Secret tidb/basic-pd-cluster-secret is immutable"), "{refused}");
    assert!(refused.contains("`--set immutable=replace` has it deleted and made again"), "{refused}");
}

/// A rotation makes it again where it is asked to, and puts it back.
pub async fn made_again(stage: &impl Stage) {
    let before = freezes(stage, PD).await;
    let ending = stage.forward(ROTATE, &[("immutable", "replace")]).await.unwrap();
    assert_eq!(ending.state, EndState::Done, "{:?}", ending.failure);
    let held = async || stage.kube().get(SECRETS, "tidb", PD).await.unwrap().unwrap();
    let after = held().await;
    assert_eq!(after["immutable"], true);
    assert_ne!(after["data"]["tls.crt"], before["data"]["tls.crt"]);
    let ending = stage.back().await;
    assert_eq!(ending.state, EndState::RolledBack, "{:?}", ending.failure);
    let back = held().await;
    assert_eq!((&back["immutable"], &back["data"]), (&json!(true), &before["data"]));
}

/// A kubelet may keep the old data of such a Secret for pods that start later. Who serves shows it; a client would not.
pub async fn of_who_only_dials(stage: &impl Stage) {
    freezes(stage, "basic-cluster-client-secret").await;
    let refused = refused(stage, &[("immutable", "replace")]).await;
    assert!(refused.contains("only dials: a kubelet may give its new pods"), "{refused}");
    assert!(refused.contains("take all its pods away together once"), "{refused}");
}
