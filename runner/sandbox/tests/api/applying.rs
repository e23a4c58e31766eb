use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{object, refusal, server, statefulset};

fn apply(manager: &str) -> PatchParams {
    PatchParams::apply(manager)
}

#[tokio::test(start_paused = true)]
async fn two_appliers_share_an_object_and_quarrel_over_one_field() {
    let server = server();
    let maps: Api<ConfigMap> = Api::namespaced(server.client("operator"), "default");
    let of = |data: Value| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}),
        )
    };
    maps.patch("m", &apply("one"), &of(json!({"a": "1", "b": "1"}))).await.unwrap();
    maps.patch("m", &apply("two"), &of(json!({"c": "2"}))).await.unwrap();
    let quarrel = refusal(maps.patch("m", &apply("two"), &of(json!({"c": "2", "a": "2"}))).await);
    assert_eq!((quarrel.code, quarrel.reason.as_str()), (409, "Conflict"));
    assert_eq!(quarrel.message, "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    let causes = quarrel.details.unwrap().causes;
    assert_eq!((causes[0].reason.as_str(), causes[0].field.as_str()), ("FieldManagerConflict", ".data.a"));

    // The same value is shared, not fought over.
    maps.patch("m", &apply("two"), &of(json!({"c": "2", "b": "1"}))).await.unwrap();
    // What `one` drops goes, unless another holds it too.
    let left = maps.patch("m", &apply("one"), &of(json!({}))).await.unwrap();
    assert_eq!(serde_json::to_value(left.data).unwrap(), json!({"b": "1", "c": "2"}));

    // An update takes fields over; the applier is told by whom and when.
    maps.patch(
        "m",
        &PatchParams { field_manager: Some("hand".into()), ..PatchParams::default() },
        &Patch::Merge(json!({"data": {"c": "9"}})),
    )
    .await
    .unwrap();
    let quarrel = refusal(maps.patch("m", &apply("two"), &of(json!({"c": "2", "b": "1"}))).await);
    assert_eq!(
        quarrel.message,
        "Apply failed with 1 conflict: conflict with \"hand\" using v1 at 2026-11-22T06:00:00Z: .data.c"
    );
    let won = maps.patch("m", &apply("two").force(), &of(json!({"c": "2", "b": "1"}))).await.unwrap();
    assert_eq!(won.data.unwrap()["c"], "2");
    let managers: Vec<String> =
        won.metadata.managed_fields.unwrap().into_iter().map(|entry| entry.manager.unwrap()).collect();
    assert_eq!(managers, ["one", "two"], "who owns nothing any more is no manager");
}

#[tokio::test(start_paused = true)]
async fn applying_the_same_twice_writes_once() {
    let server = server();
    let secrets: Api<Secret> = Api::namespaced(server.client("operator"), "default");
    let body =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="}});
    let first = secrets.patch("s", &apply("rollover"), &Patch::Apply(&body)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let second = secrets.patch("s", &apply("rollover"), &Patch::Apply(&body)).await.unwrap();
    assert_eq!(first, second);
    let mut stale = body.clone();
    stale["metadata"]["resourceVersion"] = json!("1");
    stale["data"]["k"] = json!("dw==");
    let refused = refusal(secrets.patch("s", &apply("rollover"), &Patch::Apply(&stale)).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    stale["metadata"]["resourceVersion"] = json!(second.metadata.resource_version.unwrap());
    secrets.patch("s", &apply("rollover"), &Patch::Apply(&stale)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_of_containers_merge_by_name() {
    let server = server();
    let sets: Api<StatefulSet> = Api::namespaced(server.client("operator"), "default");
    sets.create(&PostParams::default(), &object(statefulset("db"))).await.unwrap();
    let annotate = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": {"template": {
        "metadata": {"annotations": {"rollover.dev/restart": "r1"}},
        "spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "1"}]}]},
    }}});
    let set = sets.patch("db", &apply("rollover"), &Patch::Apply(&annotate)).await.unwrap();
    assert_eq!(set.metadata.generation, Some(2));
    let spec = serde_json::to_value(set.spec.unwrap().template.spec.unwrap()).unwrap();
    assert_eq!(spec["containers"][0]["image"], "img:1", "the rest of the container stays");
    assert_eq!(spec["containers"][0]["env"], json!([{"name": "A", "value": "1"}]));

    let strategic =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "img:2"}]}}}});
    let set = sets.patch("db", &PatchParams::default(), &Patch::Strategic(strategic)).await.unwrap();
    let spec = serde_json::to_value(set.spec.unwrap().template.spec.unwrap()).unwrap();
    assert_eq!(spec["containers"][0]["env"], json!([{"name": "A", "value": "1"}]));
    assert_eq!(spec["containers"][0]["image"], "img:2");

    let operations = json!([
        {"op": "test", "path": "/spec/replicas", "value": 2},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
    assert_eq!(
        sets.patch("db", &PatchParams::default(), &patch).await.unwrap().spec.unwrap().replicas,
        Some(3)
    );
    assert_eq!(
        refusal(sets.patch("db", &PatchParams::default(), &patch).await).code,
        422,
        "the test no longer holds"
    );
}
