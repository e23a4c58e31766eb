//! A cluster as a fact, as a trust view, and under proof.

use serde_json::{Value, json};
use stdlib::error::Code;
use stdlib::gate::Past;
use stdlib::k8s::object::Ref;
use stdlib::trust::{Evidence, Handshake, Party, View, matrix};

use super::gate::Remembering;
use super::pods::labels;
use super::scene::{Scene, base64};

const PD: &str = "basic-pd-cluster-secret";
const CLIENT: &str = "basic-cluster-client-secret";
const KEY: &str = "tidb.pingcap.com/restartedAt";

fn pem(value: &Value) -> &str {
    value["cert"].as_str().unwrap()
}

struct Town {
    scene: Scene,
    old: Value,
    new: Value,
    pd: Value,
}

/// PD with two pods, a client Deployment with one; everything of the old CA.
async fn town(scene: Scene) -> Town {
    let (old, new) = (scene.ca("Old").await, scene.ca("New").await);
    let ns = scene.ns.clone();
    let (service, peers) = (format!("basic-pd.{ns}.svc"), format!("*.basic-pd-peer.{ns}.svc"));
    let pd = scene.leaf(&old, &["basic-pd", &service, &peers]).await;
    let client = scene.leaf(&old, &[]).await;
    scene.secret(PD, &pd, pem(&old)).await;
    scene.secret(CLIENT, &client, pem(&old)).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    scene
        .create(json!({
            "apiVersion": "pingcap.com/v1alpha1", "kind": "TidbCluster",
            "metadata": {"name": "basic", "namespace": scene.ns},
            "spec": {"version": "v7.5.0", "tlsCluster": {"enabled": true}, "pd": {"replicas": 2,
                     "config": "[security]\ncert-allowed-cn = [\"TiDB\"]"}},
            "status": {"pd": {"phase": "Normal", "synced": true},
                       "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}]},
        }))
        .await;
    let pod = |name: &str, ip: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": scene.ns, "labels": labels},
            "spec": {"containers": [{"name": "main", "image": "x"}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    for n in 0..2 {
        let ip = format!("10.0.0.{n}");
        put_pod(&scene, pod(&format!("basic-pd-{n}"), &ip, json!(labels("pd")))).await;
        scene.pods.load(&ip, &scene, &pd, pem(&old));
    }
    let labels_of_client = json!({"app": "client"});
    let set = scene
        .create(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "basic-client-1", "namespace": scene.ns},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels_of_client},
                     "template": {"metadata": {"labels": labels_of_client}, "spec": {
                         "containers": [{"name": "main", "image": "x"}]}}},
        }))
        .await;
    let mut client = pod("basic-client-x", "10.0.1.1", labels_of_client);
    client["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "basic-client-1", "uid": set["metadata"]["uid"], "controller": true}]);
    put_pod(&scene, client).await;
    scene
        .create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "basic-client", "namespace": scene.ns},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "client"}},
                     "template": {"metadata": {"labels": {"app": "client"}}, "spec": {
                         "containers": [{"name": "main", "image": "x"}],
                         "volumes": [{"name": "tls", "secret": {"secretName": CLIENT}}]}}},
        }))
        .await;
    Town { scene, old, new, pd }
}

async fn put_pod(scene: &Scene, pod: Value) {
    scene.create(pod.clone()).await;
    let object = Ref::new("v1", "Pod", &scene.ns, pod["metadata"]["name"].as_str().unwrap());
    scene.status(&object, pod["status"].clone()).await;
}

impl Town {
    fn cluster(&self) -> Ref {
        Ref::new("pingcap.com/v1alpha1", "TidbCluster", &self.scene.ns, "basic")
    }
    fn id(&self) -> Value {
        json!({"namespace": self.scene.ns, "name": "basic"})
    }
    async fn fact(&self) -> Result<Value, stdlib::PrimError> {
        self.scene.call(&Remembering::new(""), "tidb::cluster", json!([self.scene.ns, "basic"])).await
    }
    async fn component(&self, name: &str) -> Value {
        let fact = self.fact().await.unwrap();
        let found = fact["components"].as_array().unwrap().iter().find(|c| c["component"] == name);
        found.unwrap().clone()
    }
    async fn view(&self, past: Vec<Past>) -> View {
        let gate = Remembering { past, ..Remembering::new("") };
        serde_json::from_value(self.scene.call(&gate, "tidb::trust", json!([self.id()])).await.unwrap())
            .unwrap()
    }
    async fn put_anchors(&self, secret: &str, text: &str) {
        let data = json!({"data": {"ca.crt": base64(text)}});
        // Before 1.25 a server keeps an entry's time where its own manager writes the same fields again.
        self.scene.edit_as("kubectl-patch", &Ref::secret(&self.scene.ns, secret), data).await;
    }
    fn both(&self) -> String {
        format!("{}{}", pem(&self.new), pem(&self.old))
    }
}

fn party<'a>(view: &'a View, id: &str) -> &'a Party {
    view.parties.iter().find(|p| p.id == id).unwrap_or_else(|| panic!("no party {id}"))
}

fn sizes(party: &Party) -> Vec<usize> {
    party.anchors.iter().map(|set| set.0.len()).collect()
}

pub(super) async fn the_fact_lists_components_in_restart_order_and_every_other_user_of_the_secrets(
    scene: Scene,
) {
    let town = town(scene).await;
    let fact = town.fact().await.unwrap();
    let components: Vec<(&str, &str, &str)> = fact["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            (c["component"].as_str().unwrap(), c["kind"].as_str().unwrap(), c["secret"].as_str().unwrap())
        })
        .collect();
    assert_eq!(components, [("pd", "tidb", PD), ("client", "deployment", CLIENT)]);
    let secrets: Vec<(&str, &str, &str)> = fact["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            (s["name"].as_str().unwrap(), s["request"].as_str().unwrap(), s["profile"].as_str().unwrap())
        })
        .collect();
    assert_eq!(secrets, [(PD, "pd-server", "internal"), (CLIENT, "client", "client")]);
    assert_eq!(fact["components"][0]["endpoints"][1]["host"], "10.0.0.1");
    assert_eq!(fact["target"]["title"], format!("TidbCluster {}/basic", town.scene.ns));
    assert!(fact["warnings"].to_string().contains("fewer than 3"), "{}", fact["warnings"]);
    let key = town.scene.open(&town.pd["key"]);
    assert!(!fact.to_string().contains(key.lines().nth(1).unwrap()), "the fact shows a key");
}

pub(super) async fn each_thing_that_must_hold_before_a_rotation_has_its_own_error(scene: Scene) {
    let town = town(scene).await;
    let gate = Remembering::new("");
    let wrong = town.scene.call(&gate, "tidb::cluster", json!([town.scene.ns, "basik"])).await.unwrap_err();
    assert_eq!(wrong.code, Code::NoTarget);
    let there = format!("`{}/basic`", town.scene.ns);
    assert!(wrong.hint.unwrap().contains(&there));
    let elsewhere = town.scene.call(&gate, "tidb::cluster", json!(["prod", "basic"])).await.unwrap_err();
    assert!(elsewhere.hint.unwrap().contains(&there), "the other namespaces are looked through");

    let condition = |status: &str, reason: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": reason}]}});
    town.scene.edit(&town.cluster(), condition("False", "PDUnhealthy")).await;
    let unready = town.fact().await.unwrap_err();
    assert_eq!(unready.code, Code::Unproved);
    assert!(unready.message.contains("PDUnhealthy"), "{unready}");
    town.scene.edit(&town.cluster(), condition("True", "Ready")).await;
    town.scene.edit(&town.cluster(), json!({"spec": {"paused": true}})).await;
    assert!(town.fact().await.unwrap_err().message.contains("paused"));
    town.scene
        .edit(&town.cluster(), json!({"spec": {"paused": false, "tlsCluster": {"enabled": false}}}))
        .await;
    assert_eq!(town.fact().await.unwrap_err().code, Code::Invalid);
    town.scene
        .edit(&town.cluster(), json!({"spec": {"tlsCluster": {"enabled": true}, "tikv": {"replicas": 3}}}))
        .await;
    let missing = town.fact().await.unwrap_err();
    assert_eq!(
        (missing.code, missing.object.as_str()),
        (Code::NotFound, format!("Secret {}/basic-tikv-cluster-secret", town.scene.ns).as_str())
    );
    town.scene.edit(&town.cluster(), json!({"spec": {"tikv": null}})).await;
    town.scene.pass(std::time::Duration::from_secs(9000 * 3600)).await;
    let expired = town.fact().await.unwrap_err();
    assert_eq!(expired.code, Code::Expired);
    assert!(expired.object.contains("key `tls.crt`"), "{}", expired.object);
}

pub(super) async fn the_view_measures_chains_and_infers_anchors(scene: Scene) {
    let town = town(scene).await;
    let view = town.view(Vec::new()).await;
    let ids: Vec<&str> = view.parties.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(
        ids,
        ["pod/basic-pd-0", "pod/basic-pd-1", "pod/basic-client-x", "controller/tidb-operator", "runner"]
    );
    let pd = party(&view, "pod/basic-pd-0");
    assert_eq!((pd.chain_evidence, pd.anchor_evidence), (Evidence::Measured, Evidence::Inferred));
    assert_eq!(pd.source.0, Ref::secret(&town.scene.ns, PD).place().0);
    let name = format!("basic-pd-1.basic-pd-peer.{}.svc", town.scene.ns);
    let link =
        view.links.iter().find(|l| l.client == "pod/basic-client-x" && l.server == "pod/basic-pd-1").unwrap();
    assert!(link.mutual && link.names.contains(&name), "{link:?}");
    assert_eq!(link.client_cn, ["TiDB"]);
    assert!(
        view.links.iter().any(|l| l.client == "runner") && view.links.iter().all(|l| l.client != l.server)
    );
    // Only we can tell what came of our own handshakes.
    for link in &view.links {
        let ours = (link.client == "runner").then_some(Handshake::Accepted);
        assert_eq!(link.handshake, ours, "{} -> {}", link.client, link.server);
    }
    let table = matrix(&view, town.scene.world.clock.now());
    assert_eq!(table.cell("rollover", "pd").unwrap().evidence, Evidence::Measured);
    assert_eq!(table.cell("client", "pd").unwrap().evidence, Evidence::Inferred);
}

pub(super) async fn a_bundle_written_by_hand_without_a_restart_is_not_believed_to_be_loaded(scene: Scene) {
    let town = town(scene).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    town.put_anchors(PD, &town.both()).await;
    let view = town.view(Vec::new()).await;
    let pd = party(&view, "pod/basic-pd-0");
    assert_eq!(pd.anchor_evidence, Evidence::Unknown);
    assert_eq!(sizes(pd), [2, 1], "all of it, or only what the certificates in use need");
    assert_eq!(pd.anchors[1].pem(), pem(&town.old));
}

/// Times of `managedFields` may be too early, or not there: then a Secret seems as old as it is.
pub(super) async fn a_ca_that_begins_after_a_pod_is_not_believed_to_be_loaded_by_it(scene: Scene) {
    let mut town = town(scene).await;
    // A CA begins some minutes before it is made.
    town.scene.pass(std::time::Duration::from_secs(600)).await;
    town.new = town.scene.ca("New").await;
    // Before 1.25 a server keeps an entry's time where its own manager writes the same fields again.
    let secret = Ref::secret(&town.scene.ns, PD);
    town.scene.edit(&secret, json!({"data": {"ca.crt": base64(&town.both())}})).await;
    let not_loaded = async |why: &str| {
        let view = town.view(Vec::new()).await;
        let pd = party(&view, "pod/basic-pd-0");
        assert_eq!((pd.anchor_evidence, sizes(pd)), (Evidence::Unknown, vec![2, 1]), "{why}");
    };
    not_loaded("the Secret's maker wrote it").await;
    town.scene.edit(&secret, json!({"metadata": {"managedFields": [{}]}})).await;
    not_loaded("nobody knows who wrote it").await;
}

pub(super) async fn what_this_run_wrote_and_restarted_tells_what_a_pod_holds(scene: Scene) {
    let town = town(scene).await;
    town.put_anchors(PD, &town.both()).await;
    let source = Ref::secret(&town.scene.ns, PD).place();
    let wrote = Past::Wrote {
        place: source,
        summary: json!({"before": {"ca.crt": pem(&town.old)}, "after": {"ca.crt": town.both()}}),
    };
    let restarted =
        Past::Restarted { marker: "m1".into(), place: town.cluster().part("spec.pd.annotations") };
    let pod = Ref::new("v1", "Pod", &town.scene.ns, "basic-pd-1");
    town.scene.edit(&pod, json!({"metadata": {"annotations": {KEY: "m1"}}})).await;
    let view = town.view(vec![wrote, restarted]).await;
    let (stale, fresh) = (party(&view, "pod/basic-pd-0"), party(&view, "pod/basic-pd-1"));
    assert_eq!((stale.anchor_evidence, sizes(stale)), (Evidence::Unknown, vec![1, 2]));
    assert_eq!((fresh.anchor_evidence, sizes(fresh)), (Evidence::Inferred, vec![2]));
}

pub(super) async fn proofs_look_at_the_wire(scene: Scene) {
    let town = town(scene).await;
    let gate = Remembering::new("");
    let pd = town.component("pd").await;
    let prove = |name: &'static str, args: Value| town.scene.call(&gate, name, args);
    let served = prove("tidb::serves", json!([pd, {"issued_by": pem(&town.old), "trusted_by": town.both()}]))
        .await
        .unwrap();
    assert_eq!(
        (served["endpoints"].as_u64(), &served["fingerprints"][1]),
        (Some(2), &town.pd["fingerprint"])
    );
    let other = prove("tidb::serves", json!([pd, {"issued_by": pem(&town.new)}])).await.unwrap_err();
    assert_eq!((other.code, other.object.as_str()), (Code::Unproved, "basic-pd-0"));

    // A certificate of the new CA is refused by every pod until it has loaded that CA.
    let probe = town.scene.leaf(&town.new, &[]).await;
    prove("tidb::refuses", json!([pd, probe])).await.unwrap();
    let refused = prove("tidb::accepts", json!([pd, probe])).await.unwrap_err();
    assert!(refused.message.contains("refuses the certificate") && refused.hint.unwrap().contains("restart"));
    for ip in ["10.0.0.0", "10.0.0.1"] {
        town.scene.pods.load(ip, &town.scene, &town.pd, &town.both());
    }
    prove("tidb::accepts", json!([pd, probe])).await.unwrap();
    let accepts = prove("tidb::refuses", json!([pd, probe])).await.unwrap_err();
    assert!(accepts.message.contains("accepts a client that it must refuse"), "{accepts}");

    // Pods move: the proof finds them where they are.
    town.scene.pods.load("10.0.0.9", &town.scene, &town.pd, &town.both());
    let pod = Ref::new("v1", "Pod", &town.scene.ns, "basic-pd-0");
    town.scene.status(&pod, json!({"podIP": "10.0.0.9"})).await;
    prove("tidb::serves", json!([pd, {"trusted_by": pem(&town.old)}])).await.unwrap();
    prove("tidb::healthy", json!([town.id()])).await.unwrap();
}

pub(super) async fn whoever_still_presents_an_old_certificate_is_named(scene: Scene) {
    let town = town(scene).await;
    let gate = Remembering::new("");
    let none = |ca: &Value| town.scene.call(&gate, "tidb::none_presents", json!([town.id(), pem(ca)]));
    none(&town.new).await.unwrap();
    let error = none(&town.old).await.unwrap_err();
    assert_eq!(error.code, Code::Unproved);
    for holder in [PD, CLIENT, "pod/basic-pd-0", "pod/basic-pd-1", "pod/basic-client-x"] {
        assert!(error.message.contains(holder), "{holder}: {error}");
    }
    // All Secrets are new, and one pod still serves what it had.
    let fresh =
        town.scene.leaf(&town.new, &["basic-pd", &format!("*.basic-pd-peer.{}.svc", town.scene.ns)]).await;
    for name in [PD, CLIENT] {
        let key = base64(&town.scene.open(&fresh["key"]));
        let data =
            json!({"data": {"tls.crt": base64(pem(&fresh)), "tls.key": key, "ca.crt": base64(&town.both())}});
        town.scene.edit(&Ref::secret(&town.scene.ns, name), data).await;
    }
    town.scene.pods.load("10.0.0.0", &town.scene, &fresh, &town.both());
    town.scene.pods.load("10.0.0.1", &town.scene, &town.pd, &town.both());
    let error = none(&town.old).await.unwrap_err();
    assert!(error.message.ends_with("still in use: pod/basic-pd-1"), "{error}");
}
