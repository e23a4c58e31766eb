//! Changing Secrets in place: what is kept, what is announced, what a failing server or another writer does to it.

use sandbox::api::{Effect as Strike, Fault, Rule};
use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::k8s::object::Ref;

use super::gate::Remembering;
use super::scene::{Scene, base64, call, unbase64};

const NAME: &str = "basic-pd-cluster-secret";

struct Cas {
    scene: Scene,
    old: Value,
    new: Value,
    leaf: Value,
}

impl Cas {
    fn pd(&self) -> Ref {
        Ref::secret(&self.scene.ns, NAME)
    }
    fn named(&self) -> Value {
        json!({"namespace": self.scene.ns, "name": NAME})
    }
    fn pem(ca: &Value) -> &str {
        ca["cert"].as_str().unwrap()
    }
    fn both(&self) -> String {
        format!("{}{}", Self::pem(&self.new), Self::pem(&self.old))
    }
    async fn patch(&self, gate: &Remembering, data: Value) -> Result<Value, stdlib::PrimError> {
        self.scene.call(gate, "k8s::patch_secret", json!([self.named(), data])).await
    }
    async fn ca_crt(&self) -> String {
        unbase64(&self.scene.get(&self.pd()).await["data"]["ca.crt"])
    }
}

/// A Secret `basic-pd-cluster-secret` of the old CA, and a new CA.
async fn cas(scene: Scene) -> Cas {
    let (old, new) = (scene.ca("Old").await, scene.ca("New").await);
    let leaf = scene.leaf(&old, &["basic-pd"]).await;
    scene.secret(NAME, &leaf, Cas::pem(&old)).await;
    Cas { scene, old, new, leaf }
}

pub(super) async fn a_patch_changes_one_key_and_keeps_everything_else(scene: Scene) {
    let cas = cas(scene).await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap",
                       "metadata": {"name": "owner", "namespace": cas.scene.ns}});
    let owner = cas.scene.create(owner).await;
    let extra = json!({
        "metadata": {
            "labels": {"team": "db"},
            "annotations": {"note": "mine"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
                                 "uid": owner["metadata"]["uid"]}],
        },
        "data": {"extra": base64("kept")},
    });
    cas.scene.edit(&cas.pd(), extra).await;
    let before = cas.scene.get(&cas.pd()).await;
    let gate = Remembering::new("m");
    let answer = cas.patch(&gate, json!({"ca.crt": cas.both()})).await.unwrap();
    assert_eq!(answer["changed"], true);
    let after = cas.scene.get(&cas.pd()).await;
    assert_eq!(unbase64(&after["data"]["ca.crt"]), cas.both());
    for path in [
        "/type",
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/ownerReferences",
        "/metadata/uid",
        "/data/extra",
        "/data/tls.crt",
        "/data/tls.key",
    ] {
        assert_eq!(before.pointer(path), after.pointer(path), "{path}");
        assert!(after.pointer(path).is_some(), "{path}");
    }
    let effect = gate.effects().remove(0);
    assert_eq!(effect.place.0, cas.pd().place().0);
    assert_eq!(effect.summary["before"], json!({"ca.crt": Cas::pem(&cas.old)}));
    assert_eq!(effect.summary["after"], json!({"ca.crt": cas.both()}));
    assert_ne!(effect.before, effect.after);
}

pub(super) async fn what_says_the_same_already_is_left_alone_and_announced_to_nobody(scene: Scene) {
    let cas = cas(scene).await;
    cas.patch(&Remembering::new("m"), json!({"ca.crt": cas.both()})).await.unwrap();
    // A person's bundle: the same certificates, another layout.
    let by_hand = format!("\n{}\n\n{}", Cas::pem(&cas.new), Cas::pem(&cas.old));
    cas.scene.edit(&cas.pd(), json!({"data": {"ca.crt": base64(&by_hand)}})).await;
    let version = cas.scene.get(&cas.pd()).await["metadata"]["resourceVersion"].clone();
    let gate = Remembering::new("m");
    let answer = cas.patch(&gate, json!({"ca.crt": cas.both()})).await.unwrap();
    assert_eq!(answer["changed"], false);
    assert!(gate.effects().is_empty());
    assert_eq!(cas.scene.get(&cas.pd()).await["metadata"]["resourceVersion"], version);
    // Joined without a line break it is not the same: programs lose one of the two.
    let glued = format!("{}{}", Cas::pem(&cas.new).trim_end(), Cas::pem(&cas.old));
    cas.scene.edit(&cas.pd(), json!({"data": {"ca.crt": base64(&glued)}})).await;
    let found = cas.scene.call(&gate, "k8s::secret", json!([cas.scene.ns, NAME])).await.unwrap();
    assert!(!found["warnings"].as_array().unwrap().is_empty(), "{found}");
    assert_eq!(cas.patch(&gate, json!({"ca.crt": cas.both()})).await.unwrap()["changed"], true);
    assert_eq!(cas.ca_crt().await, cas.both());
}

pub(super) async fn nothing_is_written_that_was_not_announced(scene: Scene) {
    let cas = cas(scene).await;
    let gate = Remembering { refusing: true, ..Remembering::new("m") };
    let error = cas.patch(&gate, json!({"ca.crt": cas.both()})).await.unwrap_err();
    assert_eq!(error.code, Code::Refused);
    assert_eq!(cas.ca_crt().await, Cas::pem(&cas.old));
}

pub(super) async fn a_pair_is_swapped_as_one_or_not_at_all_and_its_key_is_never_shown(scene: Scene) {
    let cas = cas(scene).await;
    let fresh = cas.scene.leaf(&cas.new, &["basic-pd"]).await;
    let gate = Remembering::new("m");
    let error = cas.patch(&gate, json!({"tls.crt": fresh["cert"]})).await.unwrap_err();
    assert_eq!(error.code, Code::KeyMismatch);
    assert!(gate.effects().is_empty());
    cas.patch(&gate, json!({"tls.crt": fresh["cert"], "tls.key": fresh["key"]})).await.unwrap();
    let stored = cas.scene.get(&cas.pd()).await;
    assert_eq!(unbase64(&stored["data"]["tls.key"]), cas.scene.open(&fresh["key"]));
    let shown = format!("{:?}", gate.effects());
    for key in [cas.scene.open(&cas.leaf["key"]), cas.scene.open(&fresh["key"])] {
        let body = key.lines().nth(1).unwrap();
        assert!(!shown.contains(body) && !shown.contains(&base64(&key)), "a private key is shown");
    }
    let summary = &gate.effects()[0].summary;
    assert!(summary["after"]["tls.key"].as_str().unwrap().starts_with("spki:"), "{summary}");
}

pub(super) async fn going_back_restores_the_bytes_and_is_no_change_the_second_time(scene: Scene) {
    let cas = cas(scene).await;
    let before = cas.scene.get(&cas.pd()).await["data"].clone();
    let forward = Remembering::new("m");
    let fresh = cas.scene.leaf(&cas.new, &["basic-pd"]).await;
    let data = json!({"ca.crt": cas.both(), "tls.crt": fresh["cert"], "tls.key": fresh["key"], "added": "x"});
    cas.patch(&forward, data).await.unwrap();
    assert_ne!(cas.scene.get(&cas.pd()).await["data"], before);
    let back = Remembering::new("m-back");
    cas.scene.restore(&back, "k8s::patch_secret", &forward.recorded()).await.unwrap();
    assert_eq!(cas.scene.get(&cas.pd()).await["data"], before);
    let undone = back.recorded();
    assert_eq!((undone.before, undone.after), (forward.recorded().after, forward.recorded().before));
    cas.scene.restore(&back, "k8s::patch_secret", &forward.recorded()).await.unwrap();
    assert_eq!(back.effects().len(), 1);
}

pub(super) async fn going_back_over_somebody_elses_change_stops_and_names_them(scene: Scene) {
    let cas = cas(scene).await;
    let forward = Remembering::new("m");
    cas.patch(&forward, json!({"ca.crt": cas.both()})).await.unwrap();
    cas.scene.edit(&cas.pd(), json!({"data": {"ca.crt": base64(Cas::pem(&cas.new))}})).await;
    let back = Remembering::new("m-back");
    let error = cas.scene.restore(&back, "k8s::patch_secret", &forward.recorded()).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    let stored = cas.scene.get(&cas.pd()).await;
    let theirs = stored["metadata"]["managedFields"].as_array().unwrap();
    let theirs = theirs.iter().find(|entry| entry["manager"] == "kubectl-edit").unwrap();
    let named = format!("kubectl-edit, {}", theirs["time"].as_str().unwrap());
    assert!(error.message.contains(&named), "{named}: {error}");
    assert!(back.effects().is_empty());
    assert_eq!(cas.ca_crt().await, Cas::pem(&cas.new));
}

/// Patches the Secret while somebody else writes between our read and our write.
async fn patch_against(cas: &Cas, gate: &Remembering, meddling: Value) {
    let delay = Strike::Delay(std::time::Duration::from_secs(2));
    cas.scene.inject(Fault::new(delay).verb("patch").times(1));
    let other = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        cas.scene.edit(&cas.pd(), meddling).await;
    };
    let (patched, ()) = futures::future::join(cas.patch(gate, json!({"ca.crt": cas.both()})), other).await;
    patched.unwrap();
}

pub(super) async fn a_write_that_lost_is_decided_anew_and_overwrites_nobody(scene: Scene) {
    let cas = cas(scene).await;
    let gate = Remembering::new("m");
    patch_against(&cas, &gate, json!({"metadata": {"annotations": {"seen": "yes"}}})).await;
    let after = cas.scene.get(&cas.pd()).await;
    assert_eq!(after["metadata"]["annotations"]["seen"], "yes");
    assert_eq!(unbase64(&after["data"]["ca.crt"]), cas.both());
    assert_eq!(gate.effects().len(), 1, "what was announced was still true");

    let cas = self::cas(cas.scene.another().await).await;
    let gate = Remembering::new("m");
    patch_against(&cas, &gate, json!({"data": {"other": base64("theirs")}})).await;
    assert_eq!(unbase64(&cas.scene.get(&cas.pd()).await["data"]["other"]), "theirs");
    let effects = gate.effects();
    assert_eq!(effects.len(), 2, "the data had changed, so that the gate was asked again");
    assert_ne!(effects[0].before, effects[1].before);
}

pub(super) async fn a_server_that_stumbles_is_survived_and_nothing_is_written_twice(scene: Scene) {
    for (verb, strike) in [
        ("get", Strike::Status(429, "slow down".into())),
        ("get", Strike::Status(500, "oops".into())),
        ("patch", Strike::Status(503, "restarting".into())),
        ("patch", Strike::Abort),
        ("patch", Strike::LoseAnswer),
        ("get", Strike::Hang),
    ] {
        let cas = cas(scene.another().await).await;
        let fault = Fault::new(strike.clone()).verb(verb).resource("secrets").times(2);
        let fault = cas.scene.inject(fault);
        let gate = Remembering::new("m");
        cas.patch(&gate, json!({"ca.crt": cas.both()})).await.unwrap_or_else(|e| panic!("{strike:?}: {e}"));
        assert!(cas.scene.hits(fault) >= 1, "{strike:?}");
        assert_eq!(cas.ca_crt().await, cas.both(), "{strike:?}");
        assert_eq!(gate.effects().len(), 1, "{strike:?}");
    }
}

pub(super) async fn a_server_that_stays_away_is_said_to(scene: Scene) {
    let cas = cas(scene).await;
    cas.scene.place.set_down(&cas.scene.ns, true);
    let started = tokio::time::Instant::now();
    let error = cas.patch(&Remembering::new("m"), json!({"ca.crt": cas.both()})).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(started.elapsed() > std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

pub(super) async fn a_missing_right_names_the_rule_with_which_it_passes(scene: Scene) {
    let cas = cas(scene).await;
    let rule = |verbs: &[&str]| Rule {
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        groups: vec![String::new()],
        resources: vec!["secrets".into()],
        names: vec![NAME.into()],
        namespaces: vec![cas.scene.ns.clone()],
    };
    let args = json!([cas.named(), {"ca.crt": cas.both()}]);
    let reader = cas.scene.limited(rule(&["get"])).await;
    let gate = Remembering::new("m");
    let error = call(&reader, &gate, "k8s::patch_secret", args.clone()).await.unwrap_err();
    assert_eq!(error.code, Code::Forbidden);
    let hint = error.hint.unwrap();
    assert!(
        hint.ends_with(r#"{apiGroups: [""], resources: ["secrets"], verbs: ["patch"], resourceNames: ["basic-pd-cluster-secret"]}"#),
        "{hint}"
    );
    let writer = cas.scene.limited(rule(&["patch", "get"])).await;
    call(&writer, &Remembering::new("m"), "k8s::patch_secret", args).await.unwrap();
}

pub(super) async fn an_immutable_secret_is_refused_before_anything_is_announced(scene: Scene) {
    let cas = cas(scene).await;
    cas.scene.edit(&cas.pd(), json!({"immutable": true})).await;
    let gate = Remembering::new("m");
    let error = cas.patch(&gate, json!({"ca.crt": cas.both()})).await.unwrap_err();
    assert_eq!(error.code, Code::Invalid);
    assert!(error.message.contains("immutable") && gate.effects().is_empty());
}

pub(super) async fn reading_says_what_is_wrong_with_a_secret(scene: Scene) {
    let cas = cas(scene).await;
    let gate = Remembering::new("m");
    let read = |name: &'static str| cas.scene.call(&gate, "k8s::secret", json!([cas.scene.ns, name]));
    let good = read(NAME).await.unwrap();
    assert_eq!(good["fingerprint"], cas.leaf["fingerprint"]);
    assert_eq!(good["ca_fingerprints"], json!([cas.old["fingerprint"]]));
    assert!(good["tls.key"]["$secret"].is_string());
    let missing = read("basic-tikv-cluster-secret").await.unwrap_err();
    assert_eq!(
        (missing.code, missing.object.as_str()),
        (Code::NotFound, format!("Secret {}/basic-tikv-cluster-secret", cas.scene.ns).as_str())
    );
    cas.scene.edit(&cas.pd(), json!({"data": {"ca.crt": null}})).await;
    let lacking = read(NAME).await.unwrap_err();
    assert_eq!((lacking.code, lacking.message.as_str()), (Code::NotFound, "it lacks `ca.crt`"));
    let other = cas.scene.leaf(&cas.old, &["x"]).await;
    let key = base64(&cas.scene.open(&other["key"]));
    cas.scene.edit(&cas.pd(), json!({"data": {"ca.crt": base64(Cas::pem(&cas.old)), "tls.key": key}})).await;
    let mismatch = read(NAME).await.unwrap_err();
    assert_eq!(mismatch.code, Code::KeyMismatch);
    assert!(mismatch.message.contains(cas.leaf["fingerprint"].as_str().unwrap()), "{mismatch}");
}

pub(super) async fn a_config_map_is_made_and_going_back_deletes_it_unless_somebody_changed_it(scene: Scene) {
    let gate = Remembering::new("m");
    let args = json!([&scene.ns, "roots", {"ca.crt": "text"}]);
    scene.call(&gate, "k8s::config_map", args.clone()).await.unwrap();
    let object = Ref::new("v1", "ConfigMap", &scene.ns, "roots");
    assert_eq!(scene.get(&object).await["data"], json!({"ca.crt": "text"}));
    assert_eq!(gate.recorded().before, "absent");
    scene.edit(&object, json!({"data": {"theirs": "x"}})).await;
    let error = scene.restore(&gate, "k8s::config_map", &gate.recorded()).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    scene.edit(&object, json!({"data": {"theirs": null}})).await;
    let recorded = gate.recorded();
    scene.restore(&gate, "k8s::config_map", &recorded).await.unwrap();
    let gone =
        scene.call(&gate, "k8s::get", json!(["v1", "ConfigMap", &scene.ns, "roots"])).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
}

pub(super) async fn annotations_go_back_key_by_key(scene: Scene) {
    let cas = cas(scene).await;
    cas.scene.edit(&cas.pd(), json!({"metadata": {"annotations": {"a": "1", "b": "1"}}})).await;
    let gate = Remembering::new("m");
    let args = json!(["v1", "Secret", &cas.scene.ns, NAME, {"a": "2", "c": "2"}]);
    cas.scene.call(&gate, "k8s::annotate", args).await.unwrap();
    cas.scene.edit(&cas.pd(), json!({"metadata": {"annotations": {"b": "theirs"}}})).await;
    cas.scene.restore(&gate, "k8s::annotate", &gate.recorded()).await.unwrap();
    let after = cas.scene.get(&cas.pd()).await;
    assert_eq!(after["metadata"]["annotations"], json!({"a": "1", "b": "theirs"}));
}

pub(super) async fn any_object_can_be_read_and_a_secrets_keys_stay_where_they_are(scene: Scene) {
    let cas = cas(scene).await;
    let applied = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration":
        format!("{{\"data\":{{\"tls.key\":\"{}\"}}}}", base64(&cas.scene.open(&cas.leaf["key"])))}}});
    cas.scene.edit(&cas.pd(), applied).await;
    let gate = Remembering::new("m");
    let read = cas.scene.call(&gate, "k8s::get", json!(["v1", "Secret", &cas.scene.ns, NAME])).await.unwrap();
    let key = cas.scene.open(&cas.leaf["key"]);
    let shown = read.to_string();
    assert!(!shown.contains(&base64(&key)) && !shown.contains(key.lines().nth(1).unwrap()));
    assert_eq!(read["data"]["ca.crt"], Cas::pem(&cas.old));
}
