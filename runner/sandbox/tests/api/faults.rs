use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use sandbox::api::{Effect, Fault, Rule};
use serde_json::json;

use crate::support::{object, refusal, server};

#[tokio::test(start_paused = true)]
async fn faults_strike_what_they_match_and_are_counted() {
    let server = server();
    let secrets: Api<Secret> = Api::namespaced(server.client("operator"), "default");
    secrets.create(&PostParams::default(), &object(json!({"metadata": {"name": "s"}}))).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "dg=="}}));
    let params = PatchParams::default();
    let change = || secrets.patch("s", &params, &patch);

    let broken = server.inject(
        Fault::new(Effect::Status(500, "etcd is away".into()))
            .verb("patch")
            .resource("secrets")
            .skip(1)
            .times(2),
    );
    change().await.unwrap();
    for _ in 0..2 {
        let refused = refusal(change().await);
        assert_eq!((refused.code, refused.message.as_str()), (500, "etcd is away"));
    }
    change().await.unwrap();
    secrets.get("s").await.unwrap();
    assert_eq!(server.hits(broken), 2);

    let busy = server.inject(Fault::new(Effect::Status(429, "slow down".into())).name("other"));
    secrets.get("s").await.unwrap();
    let refused = refusal(secrets.get("other").await);
    assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, 1));
    server.heal(busy);
    assert_eq!(refusal(secrets.get("other").await).code, 404);

    server.inject(Fault::new(Effect::Delay(Duration::from_secs(30))).verb("list").times(1));
    let began = tokio::time::Instant::now();
    secrets.list(&ListParams::default()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(30));

    server.inject(Fault::new(Effect::LoseAnswer).verb("create").times(1));
    let lost = secrets.create(&PostParams::default(), &object(json!({"metadata": {"name": "t"}}))).await;
    assert!(!matches!(lost, Err(kube::Error::Api(_)) | Ok(_)), "the connection broke");
    secrets.get("t").await.unwrap();
    server.inject(Fault::new(Effect::Abort).verb("create").times(1));
    let lost = secrets.create(&PostParams::default(), &object(json!({"metadata": {"name": "u"}}))).await;
    assert!(lost.is_err());
    assert!(secrets.get_opt("u").await.unwrap().is_none());

    server.set_down(true);
    assert!(secrets.get("s").await.is_err());
    server.set_down(false);
    secrets.get("s").await.unwrap();
    let patches = server.counters()[&("operator".to_owned(), "patch".to_owned(), "secrets".to_owned())];
    assert_eq!(patches, 4);
}

#[tokio::test(start_paused = true)]
async fn users_may_do_what_their_rules_say() {
    let server = server();
    let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rule = Rule {
        verbs: words(&["get", "patch"]),
        groups: words(&[""]),
        resources: words(&["secrets"]),
        names: words(&["mine"]),
        namespaces: words(&["default"]),
    };
    server.set_rules("robot", Some(vec![rule]));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = heard.clone();
    server.on_request(Arc::new(move |info| {
        log.lock().unwrap().push(format!("{} {} {}", info.user, info.verb, info.resource));
    }));

    let admin: Api<Secret> = Api::namespaced(server.client("admin"), "default");
    admin.create(&PostParams::default(), &object(json!({"metadata": {"name": "mine"}}))).await.unwrap();
    let robot = server.client("robot");
    let secrets: Api<Secret> = Api::namespaced(robot.clone(), "default");
    secrets.get("mine").await.unwrap();
    let refused = refusal(secrets.patch("x", &PatchParams::default(), &Patch::Merge(json!({}))).await);
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "secrets \"x\" is forbidden: User \"robot\" cannot patch resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    let refused = refusal(Api::<ConfigMap>::all(robot).list(&ListParams::default()).await);
    assert_eq!(
        refused.message,
        "configmaps is forbidden: User \"robot\" cannot list resource \"configmaps\" in API group \"\" at the cluster scope"
    );
    assert_eq!(
        *heard.lock().unwrap(),
        ["admin create secrets", "robot get secrets", "robot patch secrets", "robot list configmaps"]
    );
}
