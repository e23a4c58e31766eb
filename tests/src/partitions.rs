//! Restarts of a StatefulSet whose update partition keeps pods back: one story on the sandbox's server with its own
//! controllers, and on a real one.

use std::collections::BTreeMap;
use std::time::Duration;

use runner::events::EndState;
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, STATEFUL_SETS};
use serde_json::{Value, json};

use crate::stage::Stage;

const WORKFLOW: &str = "tidb/cfssl-components";
const NS: &str = "tidb";
const NAME: &str = "basic-batch";

async fn uids(kube: &Kube) -> BTreeMap<String, String> {
    let pods = kube.list(PODS, NS).await.unwrap().0;
    let ours = pods.iter().filter(|pod| js::name(pod).starts_with(NAME));
    ours.map(|pod| (js::name(pod).to_owned(), js::uid(pod).to_owned())).collect()
}

async fn set(kube: &Kube) -> Value {
    kube.get(STATEFUL_SETS, NS, NAME).await.unwrap().unwrap()
}

fn partition(set: &Value) -> i64 {
    js::number(set, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0)
}

/// A client of the cluster that is a StatefulSet, two of whose three pods are kept back.
pub async fn client(stage: &impl Stage, kube: &Kube) {
    let labels = json!({ "app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": "basic",
        "app.kubernetes.io/component": "client" });
    let template = json!({
        "metadata": { "labels": labels },
        "spec": {
            "containers": [{ "name": "client", "image": "example.com/tidb-client:v1",
                "volumeMounts": [{ "name": "tls", "mountPath": "/var/lib/cluster-client-tls", "readOnly": true }] }],
            "volumes": [{ "name": "tls", "secret": { "secretName": "basic-cluster-client-secret" } }],
        },
    });
    let spec = json!({ "replicas": 3, "serviceName": NAME, "podManagementPolicy": "Parallel",
        "selector": { "matchLabels": labels }, "template": template,
        "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 2 } } });
    kube.create(STATEFUL_SETS, NS, json!({ "metadata": { "name": NAME, "labels": labels }, "spec": spec }))
        .await
        .unwrap();
    let begun = tokio::time::Instant::now();
    while js::number(&set(kube).await, "/status/readyReplicas") != Some(3) {
        assert!(begun.elapsed() < stage.patience(), "{:#}", set(kube).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Tells the story.
pub async fn story(stage: &impl Stage) {
    let kube = Kube::new(stage.world().client());
    client(stage, &kube).await;
    let (before, template) = (uids(&kube).await, set(&kube).await["spec"]["template"].clone());

    // Not asked for, it is refused before anything has begun.
    let only = [("components", "client")];
    let refused = stage.forward(WORKFLOW, &only).await.unwrap_err().to_string();
    assert!(refused.contains(NAME) && refused.contains("below 2"), "{refused}");
    assert_eq!((uids(&kube).await, &set(&kube).await["spec"]["template"]), (before.clone(), &template));

    // Lowered by name, all pods are restarted, and it is as it was.
    let lower = [("components", "client"), ("partitions", "lower")];
    let done = stage.forward(WORKFLOW, &lower).await.unwrap();
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    let after = uids(&kube).await;
    assert_eq!(after.len(), 3);
    assert!(
        after.iter().all(|(name, uid)| before[name] != *uid),
        "every pod is a new one: {before:?} {after:?}"
    );
    assert_eq!(partition(&set(&kube).await), 2);

    // On the way back too.
    let back = stage.back().await;
    assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
    let last = uids(&kube).await;
    assert!(last.iter().all(|(name, uid)| after[name] != *uid), "and once more: {after:?} {last:?}");
    assert_eq!(partition(&set(&kube).await), 2);
}
