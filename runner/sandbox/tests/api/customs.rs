use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use crate::support::{dynamic, object, refusal, server};

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "tidbclusters.pingcap.com"},
        "spec": {
            "group": "pingcap.com",
            "scope": "Namespaced",
            "names": {"plural": "tidbclusters", "kind": "TidbCluster", "shortNames": ["tc"]},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                    "spec": {"type": "object", "required": ["version"], "properties": {
                        "version": {"type": "string"},
                        "tlsCluster": {"type": "object", "properties": {"enabled": {"type": "boolean", "default": false}}},
                    }},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_definition_serves_objects_with_a_status_of_their_own() {
    let server = server();
    let client = server.client("operator");
    let clusters = dynamic(&client, "pingcap.com/v1alpha1", "TidbCluster", "default");
    assert_eq!(refusal(clusters.list(&kube::api::ListParams::default()).await).message, "404 page not found");

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &object(definition())).await.unwrap();
    await_condition(definitions.clone(), "tidbclusters.pingcap.com", conditions::is_crd_established())
        .await
        .unwrap();

    let of = |spec: Value| -> DynamicObject {
        object(
            json!({"apiVersion": "pingcap.com/v1alpha1", "kind": "TidbCluster", "metadata": {"name": "basic"}, "spec": spec, "status": {"x": 1}}),
        )
    };
    let wrong = refusal(
        clusters.create(&PostParams::default(), &of(json!({"tlsCluster": {"enabled": "yes"}}))).await,
    );
    assert_eq!((wrong.code, wrong.reason.as_str()), (422, "Invalid"));
    assert!(
        wrong
            .message
            .starts_with("TidbCluster.pingcap.com \"basic\" is invalid: [spec.version: Required value"),
        "{}",
        wrong.message
    );

    let made = clusters
        .create(&PostParams::default(), &of(json!({"version": "v8", "tlsCluster": {}, "typo": 1})))
        .await
        .unwrap();
    assert_eq!(
        made.data["spec"],
        json!({"version": "v8", "tlsCluster": {"enabled": false}}),
        "pruned and defaulted"
    );
    assert!(made.data.get("status").is_none(), "a new object has no status");
    assert_eq!(made.metadata.generation, Some(1));

    let status = Patch::Merge(json!({"spec": {"version": "v9"}, "status": {"phase": "Normal"}}));
    let after = clusters.patch_status("basic", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(
        (after.data["status"]["phase"].as_str(), after.data["spec"]["version"].as_str()),
        (Some("Normal"), Some("v8"))
    );
    assert_eq!(after.metadata.generation, Some(1), "a status is no new generation");
    let spec = Patch::Merge(json!({"spec": {"version": "v9"}, "status": {"phase": "Lost"}}));
    let after = clusters.patch("basic", &PatchParams::default(), &spec).await.unwrap();
    assert_eq!(
        (after.data["status"]["phase"].as_str(), after.metadata.generation),
        (Some("Normal"), Some(2))
    );

    let mut blind = after.clone();
    blind.metadata.resource_version = None;
    let refused = refusal(clusters.replace("basic", &PostParams::default(), &blind).await);
    assert!(refused.message.contains("metadata.resourceVersion"), "{}", refused.message);
    let strategic = clusters.patch("basic", &PatchParams::default(), &Patch::Strategic(json!({}))).await;
    assert_eq!(refusal(strategic).code, 415);

    let discovery = kube::discovery::group(&client, "pingcap.com").await.unwrap();
    let (resource, capabilities) = discovery.recommended_kind("TidbCluster").unwrap();
    assert_eq!(resource.plural, "tidbclusters");
    assert_eq!(capabilities.subresources[0].0.plural, "status");
    kube::discovery::Discovery::new(client.clone()).run().await.unwrap();
    kube::discovery::Discovery::new(client.clone()).run_aggregated().await.unwrap();

    definitions.delete("tidbclusters.pingcap.com", &DeleteParams::default()).await.unwrap();
    assert_eq!(refusal(clusters.get("basic").await).code, 404);
    assert_eq!(client.apiserver_version().await.unwrap().minor, "33");
}
