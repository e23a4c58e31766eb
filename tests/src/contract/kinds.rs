//! Kinds whose plural nobody can guess, and kinds that lie in no namespace: asked for, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use stdlib::k8s::client::Objects;
use stdlib::k8s::discovery;
use stdlib::k8s::object::touch;
use stdlib::registry;

use super::Peer;
use super::primitives::{Remembering, call, outcome, world};
use super::talk::{How, NS, Talk, path};

const GROUP: &str = "kinds.example.com";
const V1: &str = "kinds.example.com/v1";

fn definition(kind: &str, plural: &str, scope: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {"group": GROUP, "scope": scope,
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

/// A client that counts how often it is asked what the group has.
fn counting(client: Client) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        if request.uri().path() == format!("/apis/{V1}") {
            count.fetch_add(1, Ordering::SeqCst);
        }
        let client = client.clone();
        async move { client.send(request).await }
    });
    (Client::new(service, "default"), asked)
}

pub(super) async fn talk(talk: &mut Talk, peer: &Peer) {
    talk.about("Kinds with a plural of their own, and without a namespace");
    let at = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for (kind, plural, scope) in [("Person", "people", "Namespaced"), ("Realm", "realmses", "Cluster")] {
        talk.send("POST", at, How::Json, &definition(kind, plural, scope)).await;
    }
    let both = |_, value: &Value| {
        let all = value["resources"].as_array().cloned().unwrap_or_default();
        ["people", "realmses"].iter().all(|name| all.iter().any(|one| one["name"] == *name))
    };
    talk.until(&format!("/apis/{V1}"), both).await;
    talk.until(&path(&format!("{V1}:people")), |status, _| status == 200).await;
    talk.until(&format!("/apis/{V1}/realmses"), |status, _| status == 200).await;

    let (client, asked) = counting(peer.admin.clone());
    let world_of = world(client);
    let gate = Remembering::default();
    let person = json!({"apiVersion": V1, "kind": "Person", "metadata": {"namespace": NS, "name": "p"}, "spec": {"age": 1}});
    let made = call(&world_of, &gate, "k8s::apply", json!([person])).await;
    talk.say(format!("applied: {}", outcome(&made)));
    let args = json!([V1, "Person", NS, "p", {"spec": {"age": 2}}]);
    let patched = call(&world_of, &Remembering::default(), "k8s::patch", args).await;
    talk.say(format!("patched: {}", outcome(&patched)));
    let args = json!([V1, "Person", NS, "p", {"example.com/a": "1"}]);
    let noted = call(&world_of, &Remembering::default(), "k8s::annotate", args).await;
    talk.say(format!("annotated: {}", outcome(&noted)));
    let read = call(&world_of, &gate, "k8s::get", json!([V1, "Person", NS, "p"])).await.unwrap();
    talk.show(&read, &["/kind", "/spec", "/metadata/annotations"]);
    let all = call(&world_of, &gate, "k8s::list", json!([V1, "Person", ""])).await.unwrap();
    talk.say(format!("everywhere: {}", all.as_array().unwrap().len()));
    let realm = json!({"apiVersion": V1, "kind": "Realm", "metadata": {"name": "r"}});
    let made = call(&world_of, &Remembering::default(), "k8s::apply", json!([realm])).await;
    talk.say(format!("applied without a namespace: {}", outcome(&made)));
    let read = call(&world_of, &gate, "k8s::get", json!([V1, "Realm", "", "r"])).await.unwrap();
    talk.show(&read, &["/kind", "/metadata/name"]);
    talk.say(format!("asked what there is: {}", asked.load(Ordering::SeqCst)));

    let mut refused = async |what: &str, object: [&str; 4]| {
        let result = call(&world_of, &gate, "k8s::get", json!(object)).await;
        talk.say(format!("{what}: {}", outcome(&result)));
    };
    refused("a namespace where there is none", [V1, "Realm", NS, "r"]).await;
    refused("no namespace where there is one", [V1, "Person", "", "p"]).await;
    refused("the same of a kind that is known", ["v1", "Node", NS, "n"]).await;
    refused("misspelt", [V1, "Persn", NS, "p"]).await;
    refused("a kind that is far from any", [V1, "Telescope", NS, "p"]).await;
    refused("another version", ["kinds.example.com/v2", "Person", NS, "p"]).await;
    refused("a misspelt group", ["kind.example.com/v1", "Person", NS, "p"]).await;
    refused("no version", ["kinds.example.com", "Person", NS, "p"]).await;
    refused("what can only be made", ["authorization.k8s.io/v1", "SelfSubjectAccessReview", "", "p"]).await;
    let stranger = world(peer.stranger.clone());
    let result = call(&stranger, &gate, "k8s::get", json!([V1, "Person", NS, "p"])).await;
    talk.say(format!("by a stranger: {}", outcome(&result)));

    let objects = Objects::of(&world_of).unwrap();
    let touched = vec![
        touch(V1, "Person", NS, "p", &["get"]),
        touch("v1", "Secret", NS, "s", &["get"]),
        touch("none.example.com/v1", "Goose", NS, "g", &["get"]),
    ];
    let (touched, guessed) = discovery::named(&objects, touched).await.unwrap();
    let rules: Vec<String> = touched.iter().map(|touch| json!(touch)["resource"].to_string()).collect();
    talk.say(format!("rights are about: {}; not known: {}", rules.join(", "), guessed.join(", ")));

    let restore = registry().get("k8s::apply").unwrap().restore.unwrap();
    let made = gate.last();
    restore(&world_of, &made, &gate).await.map_err(|error| talk.say(format!("changed since: {error}"))).ok();
    let one = path(&format!("{V1}:people/p"));
    talk.send("PATCH", &one, How::Merge, &json!({"spec": {"age": 1}})).await;
    restore(&world_of, &made, &gate).await.map_err(|error| talk.say(format!("by others: {error}"))).ok();
    talk.ask_code("in the end", "GET", &one, How::Json, Value::Null).await;
}
