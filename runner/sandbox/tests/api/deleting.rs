use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

use crate::support::{dynamic, namespace, object, refusal, server};

async fn make(maps: &Api<ConfigMap>, name: &str, owner: Option<&ConfigMap>, blocks: bool) -> ConfigMap {
    let owners = owner.map_or(json!([]), |owner| {
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid, "blockOwnerDeletion": blocks}])
    });
    let value = json!({"metadata": {"name": name, "ownerReferences": owners}});
    maps.create(&PostParams::default(), &object(value)).await.unwrap()
}

async fn names(maps: &Api<ConfigMap>) -> Vec<String> {
    let all = maps.list(&ListParams::default()).await.unwrap();
    all.items.into_iter().map(|map| map.metadata.name.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn dependents_follow_their_owner() {
    let server = server();
    let maps: Api<ConfigMap> = Api::namespaced(server.client("operator"), "default");
    let owner = make(&maps, "owner", None, false).await;
    let child = make(&maps, "child", Some(&owner), true).await;
    make(&maps, "grandchild", Some(&child), true).await;
    maps.delete("owner", &DeleteParams::background()).await.unwrap();
    assert_eq!(names(&maps).await, ["child", "grandchild"], "the collector takes a moment");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(names(&maps).await.is_empty());

    let owner = make(&maps, "owner", None, false).await;
    let child = make(&maps, "child", Some(&owner), true).await;
    make(&maps, "grandchild", Some(&child), true).await;
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["test.dev/hold"]}}));
    maps.patch("grandchild", &PatchParams::default(), &hold).await.unwrap();
    let left = maps.delete("owner", &DeleteParams::foreground()).await.unwrap().left().unwrap();
    assert_eq!(left.metadata.finalizers.unwrap(), ["foregroundDeletion"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        names(&maps).await,
        ["child", "grandchild", "owner"],
        "a dependent that blocks holds everything above it"
    );
    let refused = Patch::Merge(json!({"metadata": {"finalizers": ["test.dev/hold", "test.dev/more"]}}));
    let refused = refusal(maps.patch("grandchild", &PatchParams::default(), &refused).await);
    assert!(
        refused.message.contains("no new finalizers can be added if the object is being deleted"),
        "{}",
        refused.message
    );
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("grandchild", &PatchParams::default(), &release).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(names(&maps).await.is_empty());

    let owner = make(&maps, "owner", None, false).await;
    make(&maps, "child", Some(&owner), true).await;
    maps.delete("owner", &DeleteParams::orphan()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(names(&maps).await, ["child"]);
    assert!(maps.get("child").await.unwrap().metadata.owner_references.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_can_insist_on_what_it_saw() {
    let server = server();
    let secrets: Api<Secret> = Api::namespaced(server.client("operator"), "default");
    let made: Secret =
        secrets.create(&PostParams::default(), &object(json!({"metadata": {"name": "s"}}))).await.unwrap();
    let with = |uid: &str, rv: Option<String>| {
        DeleteParams::default().preconditions(Preconditions { uid: Some(uid.into()), resource_version: rv })
    };
    let other = refusal(secrets.delete("s", &with("other", None)).await);
    assert_eq!((other.code, other.reason.as_str()), (409, "Conflict"));
    assert!(
        other.message.contains("the UID in the precondition (other) does not match"),
        "{}",
        other.message
    );
    let uid = made.metadata.uid.unwrap();
    let stale = refusal(secrets.delete("s", &with(&uid, Some("1".into()))).await);
    assert_eq!(stale.code, 409);
    secrets.delete("s", &with(&uid, made.metadata.resource_version)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_namespace_ends_with_its_contents() {
    let server = server();
    let client = server.client("operator");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &object(namespace())).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "tidb");
    make(&maps, "m", None, false).await;
    let ending = namespaces.delete("tidb", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(ending.status.unwrap().phase.as_deref(), Some("Terminating"));
    let late =
        refusal(maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "late"}}))).await);
    assert_eq!(late.code, 403);
    assert!(late.message.contains("because it is being terminated"), "{}", late.message);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(namespaces.get_opt("tidb").await.unwrap().is_none());
    let gone =
        refusal(maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "late"}}))).await);
    assert_eq!((gone.code, gone.message.as_str()), (404, "namespaces \"tidb\" not found"));
}

#[tokio::test(start_paused = true)]
async fn collections_are_deleted_by_selector() {
    let server = server();
    let maps: Api<ConfigMap> = Api::namespaced(server.client("operator"), "default");
    for name in ["a", "b", "keep"] {
        let value = json!({"metadata": {"name": name, "labels": {"keep": (name == "keep").to_string()}}});
        maps.create(&PostParams::default(), &object(value)).await.unwrap();
    }
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("keep=false"))
        .await
        .unwrap();
    assert_eq!(names(&maps).await, ["keep"]);
}

#[tokio::test(start_paused = true)]
async fn a_budget_refuses_an_eviction() {
    let server = server();
    let client = server.client("operator");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod = object(
        json!({"metadata": {"name": "a", "labels": {"app": "db"}}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]}}),
    );
    pods.create(&PostParams::default(), &pod).await.unwrap();
    pods.patch_status("a", &PatchParams::default(), &Patch::Merge(json!({"status": {"phase": "Running"}})))
        .await
        .unwrap();
    let budgets = dynamic(&client, "policy/v1", "PodDisruptionBudget", "default");
    let budget: Value = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}}});
    budgets.create(&PostParams::default(), &object(budget)).await.unwrap();
    let allow = |n: i64| {
        Patch::Merge(
            json!({"status": {"disruptionsAllowed": n, "desiredHealthy": 1, "currentHealthy": 1, "observedGeneration": 1}}),
        )
    };
    budgets.patch_status("b", &PatchParams::default(), &allow(0)).await.unwrap();
    let refused = refusal(pods.evict("a", &EvictParams::default()).await);
    assert_eq!((refused.code, refused.reason.as_str()), (429, "TooManyRequests"));
    assert_eq!(refused.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    budgets.patch_status("b", &PatchParams::default(), &allow(1)).await.unwrap();
    pods.evict("a", &EvictParams::default()).await.unwrap();
    assert!(pods.get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    assert_eq!(budgets.get("b").await.unwrap().data["status"]["disruptionsAllowed"], 0);
}
