use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::Api;
use kube::api::{ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{object, refusal, server, statefulset};

#[tokio::test(start_paused = true)]
async fn secrets_keep_their_type_and_their_promise() {
    let server = server();
    let secrets: Api<Secret> = Api::namespaced(server.client("operator"), "default");
    let make = |value: Value| {
        let secrets = secrets.clone();
        async move { secrets.create(&PostParams::default(), &object(value)).await }
    };
    let merge = |name: &'static str, value: Value| {
        let secrets = secrets.clone();
        async move { secrets.patch(name, &PatchParams::default(), &Patch::Merge(value)).await }
    };
    let refused = refusal(
        make(json!({"metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "data": {"tls.crt": ""}}))
            .await,
    );
    assert_eq!(refused.message, "Secret \"tls\" is invalid: data[tls.key]: Required value");
    make(json!({"metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": "c", "tls.key": "k"}})).await.unwrap();
    let refused = refusal(merge("tls", json!({"type": "Opaque"})).await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (422, "Secret \"tls\" is invalid: type: Invalid value: \"Opaque\": field is immutable")
    );
    let refused = refusal(merge("tls", json!({"data": {"tls.crt": "%%"}})).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    merge("tls", json!({"immutable": true})).await.unwrap();
    let refused = refusal(merge("tls", json!({"stringData": {"tls.crt": "d"}})).await);
    assert_eq!(
        refused.message,
        "Secret \"tls\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
    merge("tls", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();

    let refused = refusal(make(json!({"metadata": {"name": "Bad_Name"}})).await);
    assert!(refused.message.starts_with("Secret \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain"), "{}", refused.message);
    let one = make(json!({"metadata": {"generateName": "gen-"}})).await.unwrap().metadata.name.unwrap();
    assert!(one.starts_with("gen-") && one.len() == 9, "{one}");

    let strict = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let typo = Patch::Merge(json!({"Data": {"x": "eA=="}}));
    let refused = refusal(secrets.patch("tls", &strict, &typo).await);
    assert!(
        refused.message.ends_with("strict decoding error: unknown field \"Data\""),
        "{}",
        refused.message
    );
    let before = secrets.get("tls").await.unwrap();
    assert_eq!(
        secrets.patch("tls", &PatchParams::default(), &typo).await.unwrap(),
        before,
        "what the type does not have is dropped"
    );

    let dry = PostParams { dry_run: true, ..PostParams::default() };
    secrets.create(&dry, &object(json!({"metadata": {"name": "dry"}}))).await.unwrap();
    assert!(secrets.get_opt("dry").await.unwrap().is_none());
    let typed = secrets.list(&ListParams::default().fields("type=kubernetes.io/tls")).await.unwrap();
    assert_eq!(typed.items.len(), 1);
    let metadata = secrets.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(metadata.items.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn workloads_get_defaults_and_keep_what_is_fixed() {
    let server = server();
    let client = server.client("operator");
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
    let made = sets.create(&PostParams::default(), &object(statefulset("db"))).await.unwrap();
    let spec = made.spec.unwrap();
    assert_eq!(spec.update_strategy.unwrap().type_.as_deref(), Some("RollingUpdate"));
    assert_eq!(spec.template.spec.as_ref().unwrap().termination_grace_period_seconds, Some(30));
    let refused = refusal(
        sets.patch("db", &PatchParams::default(), &Patch::Merge(json!({"spec": {"serviceName": "other"}})))
            .await,
    );
    assert!(
        refused.message.contains("updates to statefulset spec for fields other than"),
        "{}",
        refused.message
    );
    let mut wrong = statefulset("wrong");
    wrong["spec"]["template"]["metadata"]["labels"] = json!({"app": "else"});
    let refused = refusal(sets.create(&PostParams::default(), &object(wrong)).await);
    assert!(refused.message.contains("`selector` does not match template `labels`"), "{}", refused.message);

    let mut scale = sets.get_scale("db").await.unwrap();
    assert_eq!(scale.spec.as_ref().unwrap().replicas, Some(2));
    scale.spec.as_mut().unwrap().replicas = Some(5);
    sets.replace_scale("db", &PostParams::default(), &scale).await.unwrap();
    let after = sets.get("db").await.unwrap();
    assert_eq!((after.spec.unwrap().replicas, after.metadata.generation), (Some(5), Some(2)));

    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service =
        json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 4000}], "selector": {"app": "db"}}});
    let made = services.create(&PostParams::default(), &object(service)).await.unwrap().spec.unwrap();
    assert!(made.cluster_ip.unwrap().starts_with("10.96."));

    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    pods.create(&PostParams::default(), &object(pod)).await.unwrap();
    let image =
        |image: &str| Patch::Strategic(json!({"spec": {"containers": [{"name": "c", "image": image}]}}));
    pods.patch("p", &PatchParams::default(), &image("i:2")).await.unwrap();
    let refused = refusal(
        pods.patch("p", &PatchParams::default(), &Patch::Merge(json!({"spec": {"nodeName": "n"}}))).await,
    );
    assert!(
        refused
            .message
            .starts_with("Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields"),
        "{}",
        refused.message
    );
    server.set_log_source(std::sync::Arc::new(|_, pod, _, _| Ok(format!("one\ntwo of {pod}\n"))));
    let tail = pods.logs("p", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.unwrap();
    assert_eq!(tail, "two of p\n");

    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let ask = json!({"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": "default"}}});
    server.set_rules("operator", Some(Vec::new()));
    let answer = reviews.create(&PostParams::default(), &object(ask)).await.unwrap();
    assert!(!answer.status.unwrap().allowed);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_not_paused_does_not_say_so() {
    let server = server();
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::namespaced(server.client("operator"), "default");
    let labels = json!({"app": "a"});
    let made = object(json!({
        "metadata": {"name": "a"},
        "spec": {
            "paused": false, "minReadySeconds": 0, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}},
        },
    }));
    deployments.create(&PostParams::default(), &made).await.unwrap();
    let says = async |patch: Value| {
        let spec = deployments.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap().spec;
        spec.map(|spec| (spec.paused, spec.min_ready_seconds)).unwrap()
    };
    assert_eq!(says(json!({})).await, (None, None));
    assert_eq!(says(json!({"spec": {"paused": true, "minReadySeconds": 3}})).await, (Some(true), Some(3)));
    assert_eq!(says(json!({"spec": {"paused": false, "minReadySeconds": 0}})).await, (None, None));
}
