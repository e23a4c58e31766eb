use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::support::{namespace, object, refusal, server};

#[tokio::test(start_paused = true)]
async fn a_secret_lives_and_dies() {
    let server = server();
    let client = server.client("operator");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &object(namespace())).await.unwrap();

    let secrets: Api<Secret> = Api::namespaced(client.clone(), "tidb");
    let made = secrets
        .create(
            &PostParams { field_manager: Some("page".into()), ..PostParams::default() },
            &object(json!({"metadata": {"name": "a"}, "stringData": {"ca.crt": "one"}})),
        )
        .await
        .unwrap();
    assert_eq!(made.type_.as_deref(), Some("Opaque"));
    assert_eq!(made.data.as_ref().unwrap()["ca.crt"].0, b"one");
    assert!(made.string_data.is_none());
    let managed = serde_json::to_value(made.metadata.managed_fields.as_ref().unwrap()).unwrap();
    assert_eq!(managed[0]["manager"], "page");
    assert_eq!(managed[0]["fieldsV1"]["f:data"]["f:ca.crt"], json!({}));
    assert_eq!(made.metadata.creation_timestamp.as_ref().unwrap().0.to_string(), "2026-11-22T06:00:00Z");

    let twice = refusal(secrets.create(&PostParams::default(), &made_again("a")).await);
    assert_eq!((twice.code, twice.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(twice.message, "secrets \"a\" already exists");

    let patched = secrets
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"ca.crt": "dHdv"}})))
        .await
        .unwrap();
    assert_eq!(patched.data.as_ref().unwrap()["ca.crt"].0, b"two");
    assert_ne!(patched.metadata.resource_version, made.metadata.resource_version);

    let same = secrets
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"ca.crt": "dHdv"}})))
        .await
        .unwrap();
    assert_eq!(
        same.metadata.resource_version, patched.metadata.resource_version,
        "a patch that changes nothing writes nothing"
    );

    let stale = refusal(secrets.replace("a", &PostParams::default(), &made).await);
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on secrets \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    secrets.replace("a", &PostParams::default(), &patched).await.unwrap();

    let gone = secrets.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(gone.right().unwrap().status, Some(kube::core::response::StatusSummary::Success));
    let missing = refusal(secrets.get("a").await);
    assert_eq!((missing.code, missing.message.as_str()), (404, "secrets \"a\" not found"));
    assert!(secrets.get_opt("a").await.unwrap().is_none());
}

fn made_again(name: &str) -> Secret {
    object(json!({"metadata": {"name": name}}))
}

#[tokio::test(start_paused = true)]
async fn lists_and_watches_see_the_same() {
    let server = server();
    let client = server.client("operator");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    for n in 0..5 {
        let labels = json!({"even": if n % 2 == 0 { "yes" } else { "no" }});
        maps.create(
            &PostParams::default(),
            &object(json!({"metadata": {"name": format!("m{n}"), "labels": labels}})),
        )
        .await
        .unwrap();
    }
    let even = maps.list(&ListParams::default().labels("even=yes")).await.unwrap();
    assert_eq!(even.items.len(), 3);

    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, Some(3)));
    maps.delete("m4", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let second = maps.list(&ListParams::default().limit(10).continue_token(&token)).await.unwrap();
    let names: Vec<_> = second.items.iter().map(|map| map.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["m2", "m3", "m4"], "a list that is continued shows one moment");

    let from = even.metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default().labels("even=yes"), &from).await.unwrap().boxed();
    maps.patch("m0", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"even": "no"}}})))
        .await
        .unwrap();
    maps.patch(
        "m1",
        &PatchParams::default(),
        &Patch::Merge(json!({"metadata": {"labels": {"even": "yes"}}})),
    )
    .await
    .unwrap();
    maps.patch("m2", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "v"}}))).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => format!("+{}", map.metadata.name.unwrap()),
            WatchEvent::Modified(map) => format!("~{}", map.metadata.name.unwrap()),
            WatchEvent::Deleted(map) => format!("-{}", map.metadata.name.unwrap()),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["-m4", "-m0", "+m1", "~m2"]);
    // The client asked for 290 seconds; then the stream ends.
    while let Some(event) = events.try_next().await.unwrap() {
        assert!(matches!(event, WatchEvent::Bookmark(_)), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_end_gracefully() {
    let server = server();
    let client = server.client("kubelet");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = |name: &str| {
        object::<Pod>(
            json!({"metadata": {"name": name}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i:1"}]}}),
        )
    };
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let ending = pods.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(30));
    assert_eq!(ending.metadata.deletion_timestamp.unwrap().0.to_string(), "2026-11-22T06:00:30Z");
    assert!(pods.get_opt("a").await.unwrap().is_some(), "the kubelet has not finished");
    pods.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("a").await.unwrap().is_none());
}
