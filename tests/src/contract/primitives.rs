//! The primitives of `k8s` on a server.

use std::sync::Mutex;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::error::PrimError;
use stdlib::gate::{Effect, Gate, Past, Permit, Progress, RecordedEffect};
use stdlib::k8s::client::Objects;
use stdlib::k8s::discovery;
use stdlib::k8s::object::Ref;
use stdlib::registry;
use stdlib::world::World;

use super::Peer;
use super::talk::{How, NS, Talk, config_map, path, secret, version};
use super::weather::Weather;

/// A gate that lets everything pass and remembers it.
#[derive(Default)]
pub(super) struct Remembering(Mutex<Vec<Effect>>);

impl Remembering {
    pub(super) fn effects(&self) -> Vec<Effect> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn last(&self) -> RecordedEffect {
        let effect = self.effects().pop().unwrap();
        RecordedEffect {
            place: effect.place,
            before: effect.before,
            after: effect.after,
            backup: effect.backup,
        }
    }
}

impl Gate for Remembering {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        self.0.lock().unwrap().push(effect);
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        "run/phase/f".into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

pub(super) fn world(client: kube::Client) -> World {
    World::system(Some(client), "/".into())
}

pub(super) async fn call(
    world: &World,
    gate: &Remembering,
    name: &str,
    args: Value,
) -> Result<Value, PrimError> {
    (registry().get(name).unwrap().run)(world, args.as_array().unwrap(), gate).await
}

/// What came of a call, in a line.
pub(super) fn outcome(result: &Result<Value, PrimError>) -> String {
    match result {
        Ok(value) => format!("changed={} warnings={}", value["changed"], value["warnings"]),
        Err(error) => {
            let hint = error.hint.as_deref().unwrap_or_default();
            format!("{:?}: {error}; hint: {hint}", error.code)
        }
    }
}

pub(super) async fn talk(talk: &mut Talk, peer: &Peer) {
    let world = world(peer.admin.clone());
    secrets(talk, &world).await;
    others(talk, peer).await;
    config_maps(talk, &world).await;
    annotations(talk, &world).await;
    fields(talk, &world).await;
    deletions(talk, peer, &world).await;
    making(talk, &world).await;
    reads(talk, peer, &world).await;
}

async fn secrets(talk: &mut Talk, world: &World) {
    talk.about("k8s::patch_secret");
    let owner = talk.send("POST", &path("configmaps"), How::Json, &config_map("boss", json!({}))).await.1;
    let owners =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "boss", "uid": owner["metadata"]["uid"]}]);
    let kept = secret(
        "kept",
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "Yw==", "tls.key": "aw==", "more": "bQ=="},
               "metadata": {"labels": {"app": "db"}, "annotations": {"meta.helm.sh/release-name": "shop"}, "ownerReferences": owners}}),
    );
    talk.send("POST", &path("secrets"), How::Json, &kept).await;
    let gate = Remembering::default();
    let args = json!([{"namespace": NS, "name": "kept"}, {"extra": "text"}]);
    let result = call(world, &gate, "k8s::patch_secret", args.clone()).await;
    talk.say(format!("a key: {}", outcome(&result)));
    let now = talk.get(&path("secrets/kept")).await;
    talk.show(
        &now,
        &["/type", "/data", "/metadata/labels", "/metadata/annotations", "/metadata/ownerReferences/0/name"],
    );
    talk.say(format!("  effects {}", gate.effects().len()));
    let again = call(world, &gate, "k8s::patch_secret", args).await;
    let same = talk.get(&path("secrets/kept")).await;
    talk.say(format!("again: {} a new version: {}", outcome(&again), version(&same) != version(&now)));
    let restore = registry().get("k8s::patch_secret").unwrap().restore.unwrap();
    restore(world, &gate.last(), &gate).await.unwrap();
    let back = talk.get(&path("secrets/kept")).await;
    talk.say("put back");
    talk.show(&back, &["/type", "/data", "/metadata/labels"]);

    let gate = Remembering::default();
    let args = json!([{"namespace": NS, "name": "kept"}, {"extra": "other"}]);
    call(world, &gate, "k8s::patch_secret", args).await.unwrap();
    // A second later, so that the server's times tell who was last.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let foreign = format!("{}?fieldManager=kubectl-edit", path("secrets/kept"));
    talk.send("PATCH", &foreign, How::Merge, &json!({"data": {"extra": "Zm9yZWlnbg=="}})).await;
    let refused = restore(world, &gate.last(), &gate).await.unwrap_err();
    talk.say(format!("put back after somebody changed it: {:?}: {}", refused.code, named(&refused.message)));

    let frozen = secret("frozen", json!({"immutable": true, "data": {"k": "dg=="}}));
    talk.send("POST", &path("secrets"), How::Json, &frozen).await;
    let gate = Remembering::default();
    let result =
        call(world, &gate, "k8s::patch_secret", json!([{"namespace": NS, "name": "frozen"}, {"k": "w"}]))
            .await;
    talk.say(format!("an immutable one: {}; effects {}", outcome(&result), gate.effects().len()));
    let result =
        call(world, &gate, "k8s::patch_secret", json!([{"namespace": NS, "name": "none"}, {"k": "w"}])).await;
    talk.say(format!("one that is not there: {}", outcome(&result)));
}

/// Without the time of day.
fn named(message: &str) -> String {
    message.split(", 2").next().unwrap_or(message).to_owned()
}

/// Somebody else writes between our read and our write.
async fn others(talk: &mut Talk, peer: &Peer) {
    talk.about("Somebody else writes in between");
    let one = path("secrets/kept");
    let args = |value: &str| json!([{"namespace": NS, "name": "kept"}, {"extra": value}]);
    for (what, edit) in [
        ("another field", json!({"metadata": {"annotations": {"touched": "yes"}}})),
        ("the same data", json!({"data": {"more": "bmV3"}})),
    ] {
        let weather = Weather::around(peer.admin.clone());
        weather.before_write("PATCH", &one, edit);
        let gate = Remembering::default();
        let seen = super::primitives::world(weather.client());
        let result = call(&seen, &gate, "k8s::patch_secret", args(what)).await;
        talk.say(format!("{what}: {}; decided {} times", outcome(&result), gate.effects().len()));
        let now = talk.get(&one).await;
        talk.show(&now, &["/data", "/metadata/annotations/touched"]);
    }
    let stranger = super::primitives::world(peer.stranger.clone());
    let gate = Remembering::default();
    let result = call(&stranger, &gate, "k8s::patch_secret", args("stranger")).await;
    talk.say(format!("by a stranger: {}", outcome(&result)));
}

async fn config_maps(talk: &mut Talk, world: &World) {
    talk.about("k8s::config_map");
    let one = path("configmaps/roots");
    let gate = Remembering::default();
    let result = call(world, &gate, "k8s::config_map", json!([NS, "roots", {"ca.crt": "one"}])).await;
    talk.say(format!("made: {}", outcome(&result)));
    let made = gate.last();
    talk.say(format!("  before {}", made.before));
    let gate = Remembering::default();
    let result =
        call(world, &gate, "k8s::config_map", json!([NS, "roots", {"ca.crt": "two", "b": "b"}])).await;
    let now = talk.get(&one).await;
    talk.say(format!("changed: {}", outcome(&result)));
    talk.show(&now, &["/data"]);
    talk.managers(&now);
    let restore = registry().get("k8s::config_map").unwrap().restore.unwrap();
    restore(world, &gate.last(), &gate).await.unwrap();
    let now = talk.get(&one).await;
    talk.say("put back");
    talk.show(&now, &["/data"]);
    restore(world, &made, &gate).await.unwrap();
    talk.ask("and what was made is gone", "GET", &one, How::Json, Value::Null).await;
}

async fn annotations(talk: &mut Talk, world: &World) {
    talk.about("k8s::annotate");
    let gate = Remembering::default();
    let kind =
        |kind: &str, namespace: &str, name: &str, keys: Value| json!(["v1", kind, namespace, name, keys]);
    let args = kind("Secret", NS, "kept", json!({"example.com/a": "1", "touched": null}));
    let result = call(world, &gate, "k8s::annotate", args).await;
    talk.say(format!("a Secret: {}", outcome(&result)));
    let now = talk.get(&path("secrets/kept")).await;
    talk.show(&now, &["/metadata/annotations"]);
    let restore = registry().get("k8s::annotate").unwrap().restore.unwrap();
    restore(world, &gate.last(), &gate).await.unwrap();
    let now = talk.get(&path("secrets/kept")).await;
    talk.show(&now, &["/metadata/annotations"]);
    let result =
        call(world, &gate, "k8s::annotate", kind("Namespace", "", NS, json!({"example.com/a": "1"}))).await;
    talk.say(format!("what has no namespace: {}", outcome(&result)));
    let town = json!(["contract.example.com/v1", "Town", NS, "t", {"example.com/a": "1"}]);
    let result = call(world, &gate, "k8s::annotate", town).await;
    talk.say(format!("a kind of others: {}", outcome(&result)));
}

async fn fields(talk: &mut Talk, world: &World) {
    talk.about("k8s::patch");
    let at = "/apis/apps/v1/namespaces/contract/deployments/fields".replace("contract", NS);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "fields", "namespace": NS, "labels": {"app": "f"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "f"}},
                 "template": {"metadata": {"labels": {"app": "f"}}, "spec": {"containers": [{"name": "c", "image": "none"}]}}},
    });
    talk.send("POST", at.trim_end_matches("/fields"), How::Json, &deployment).await;
    let of = |patch: Value| json!(["apps/v1", "Deployment", NS, "fields", patch]);
    let seen = ["/metadata/labels", "/spec/paused", "/spec/strategy", "/spec/minReadySeconds"];
    let restore = registry().get("k8s::patch").unwrap().restore.unwrap();
    for (what, patch) in [
        (
            "a merge patch",
            json!({"metadata": {"labels": {"app": null, "tier": "x"}}, "spec": {"paused": true, "strategy": {"type": "Recreate", "rollingUpdate": null}}}),
        ),
        (
            "a JSON patch",
            json!([{"op": "test", "path": "/spec/replicas", "value": 0}, {"op": "add", "path": "/spec/minReadySeconds", "value": 3}]),
        ),
    ] {
        let gate = Remembering::default();
        let result = call(world, &gate, "k8s::patch", of(patch.clone())).await;
        talk.say(format!("{what}: {}", outcome(&result)));
        let now = talk.get(&at).await;
        talk.show(&now, &seen);
        let again = Remembering::default();
        let result = call(world, &again, "k8s::patch", of(patch)).await;
        talk.say(format!("again: {}; effects {}", outcome(&result), again.effects().len()));
        restore(world, &gate.last(), &gate).await.unwrap();
        let now = talk.get(&at).await;
        talk.say("put back");
        talk.show(&now, &seen);
    }
    let gate = Remembering::default();
    for (what, patch) in [
        ("what does not fit", json!([{"op": "test", "path": "/spec/replicas", "value": 7}])),
        ("what may not be", json!({"spec": {"replicas": -1}})),
    ] {
        let result = call(world, &gate, "k8s::patch", of(patch)).await;
        talk.say(format!("{what}: {}; effects {}", outcome(&result), gate.effects().len()));
    }
    let made = Remembering::default();
    call(world, &made, "k8s::patch", of(json!({"spec": {"minReadySeconds": 4}}))).await.unwrap();
    talk.send("PATCH", &at, How::Merge, &json!({"spec": {"minReadySeconds": 5}})).await;
    let refused = restore(world, &made.last(), &made).await.unwrap_err();
    talk.say(format!("changed by others since: {:?} {}", refused.code, refused.message));

    talk.about("k8s::apply");
    let one = path("configmaps/manifest");
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "manifest", "namespace": NS}, "data": data});
    let restore = registry().get("k8s::apply").unwrap().restore.unwrap();
    let first = Remembering::default();
    let result = call(world, &first, "k8s::apply", json!([map(json!({"a": "1"}))])).await;
    talk.say(format!("made: {}", outcome(&result)));
    let now = talk.get(&one).await;
    talk.show(&now, &["/data"]);
    talk.managers(&now);
    let gate = Remembering::default();
    let result = call(world, &gate, "k8s::apply", json!([map(json!({"a": "1"}))])).await;
    talk.say(format!("again: {}; effects {}", outcome(&result), gate.effects().len()));
    let gate = Remembering::default();
    let result = call(world, &gate, "k8s::apply", json!([map(json!({"b": "2"}))])).await;
    talk.say(format!("another set of fields: {}", outcome(&result)));
    let now = talk.get(&one).await;
    talk.show(&now, &["/data"]);
    restore(world, &gate.last(), &gate).await.unwrap();
    let now = talk.get(&one).await;
    talk.say("put back");
    talk.show(&now, &["/data"]);
    talk.send("PATCH", &one, How::Merge, &json!({"data": {"a": "theirs"}})).await;
    let result = call(world, &gate, "k8s::apply", json!([map(json!({"a": "ours"}))])).await;
    talk.say(format!("a field of another manager: {:?}", result.as_ref().map_err(|error| error.code)));
    let result = call(world, &gate, "k8s::apply", json!([map(json!({"a": "1"})), {"force": true}])).await;
    talk.say(format!("by force: {}", outcome(&result)));
    restore(world, &first.last(), &first).await.unwrap();
    talk.ask("and what was made is gone", "GET", &one, How::Json, Value::Null).await;
    let secret = json!([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": NS}}]);
    let refused = call(world, &gate, "k8s::apply", secret).await.unwrap_err();
    talk.say(format!("a Secret: {:?} {}", refused.code, refused.message));
}

async fn deletions(talk: &mut Talk, peer: &Peer, world: &World) {
    talk.about("k8s::delete_secret");
    let at = path("secrets/leaf");
    let leaf = secret(
        "leaf",
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "Yw==", "tls.key": "aw=="},
               "metadata": {"labels": {"app": "db"}, "annotations": {"example.com/a": "1"}}}),
    );
    talk.send("POST", &path("secrets"), How::Json, &leaf).await;
    let this = json!([{"namespace": NS, "name": "leaf"}]);
    let gate = Remembering::default();
    let result = call(world, &gate, "k8s::delete_secret", this.clone()).await.unwrap();
    talk.say(format!("deleted: {}; after {}", !result["deleted"].is_null(), gate.last().after));
    talk.ask("it has gone", "GET", &at, How::Json, Value::Null).await;
    let again = Remembering::default();
    let result = call(world, &again, "k8s::delete_secret", this.clone()).await.unwrap();
    talk.say(format!("again: {}; effects {}", result["deleted"], again.effects().len()));
    let restore = registry().get("k8s::delete_secret").unwrap().restore.unwrap();
    let (made, back) = (gate.last(), Remembering::default());
    restore(world, &made, &back).await.unwrap();
    let now = talk.get(&at).await;
    talk.say("put back");
    talk.show(&now, &["/type", "/data", "/metadata/labels", "/metadata/annotations"]);
    restore(world, &made, &back).await.unwrap();
    talk.say(format!("  effects {}", back.effects().len()));

    let gate = Remembering::default();
    call(world, &gate, "k8s::delete_secret", this.clone()).await.unwrap();
    let by = path("secrets?fieldManager=kubectl-create");
    talk.send("POST", &by, How::Json, &secret("leaf", json!({"data": {"tls.crt": "eA=="}}))).await;
    let refused = restore(world, &gate.last(), &gate).await.unwrap_err();
    talk.say(format!("put back after somebody made it: {:?}: {}", refused.code, named(&refused.message)));
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    talk.send("PATCH", &at, How::Merge, &held).await;
    let let_go = async {
        let (_, marked) = talk.until(&at, |_, value| !value["metadata"]["deletionTimestamp"].is_null()).await;
        let free = json!({"metadata": {"finalizers": null}});
        (marked["metadata"]["name"].clone(), talk.send("PATCH", &at, How::Merge, &free).await.0)
    };
    let gate = Remembering::default();
    let (result, freed) = futures::join!(call(world, &gate, "k8s::delete_secret", this.clone()), let_go);
    talk.say(format!("with a finalizer: {}, until {} is let go ({})", result.is_ok(), freed.0, freed.1));
    talk.ask("it has gone", "GET", &at, How::Json, Value::Null).await;
    talk.send("POST", &path("secrets"), How::Json, &leaf).await;
    let stranger = super::primitives::world(peer.stranger.clone());
    let refused = call(&stranger, &gate, "k8s::delete_secret", this.clone()).await;
    talk.say(format!("by a stranger: {}", outcome(&refused)));
    let other = json!([{"namespace": NS, "name": "leaf"}, {"propagation": "sideways"}]);
    let refused = call(world, &gate, "k8s::delete_secret", other).await;
    talk.say(format!("sideways: {}", outcome(&refused)));
    call(world, &gate, "k8s::delete_secret", this).await.unwrap();

    talk.about("k8s::recreate_pods");
    // There is no StatefulSet of this name: they are an operator's, but for one, which the selector finds too.
    for (name, operated) in [("doomed-0", true), ("doomed-1", true), ("doomed-stranger", false)] {
        let owner = json!([{"apiVersion": "core.pingcap.com/v1alpha1", "kind": "PD", "name": name, "uid": format!("uid-of-{name}"),
            "controller": true}]);
        let owners = if operated { owner } else { json!([]) };
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "doomed"}, "ownerReferences": owners},
            "spec": {"containers": [{"name": "main", "image": "main:1"}]}});
        talk.send("POST", &path("pods"), How::Json, &pod).await;
    }
    let set = json!([[{"namespace": NS, "name": "doomed", "selector": "app=doomed", "replicas": 0}]]);
    let gate = Remembering::default();
    let result = call(world, &gate, "k8s::recreate_pods", set.clone()).await.unwrap();
    let places: Vec<bool> = gate
        .effects()
        .iter()
        .map(|effect| effect.place.0.starts_with("k8s:v1/Pod/contract/doomed-"))
        .collect();
    talk.say(format!("deleted {}; announced {places:?}", result["pods"]));
    let at = path("pods?labelSelector=app%3Ddoomed");
    let (_, left) =
        talk.until(&at, |_, list| list["items"].as_array().is_some_and(|all| all.len() == 1)).await;
    talk.say(format!("left: {}", left["items"][0]["metadata"]["name"]));
    let refused = call(&stranger, &gate, "k8s::recreate_pods", set).await;
    talk.say(format!("by a stranger: {}", outcome(&refused)));
    let all = json!([[{"namespace": NS, "name": "doomed", "selector": "", "replicas": 0}]]);
    let refused = call(world, &gate, "k8s::recreate_pods", all).await;
    talk.say(format!("without a selector: {}", outcome(&refused)));
}

async fn making(talk: &mut Talk, world: &World) {
    talk.about("k8s::create_secret, k8s::delete, and what is immutable");
    let at = path("secrets/made");
    let gate = Remembering::default();
    let args = json!([NS, "made", {"a": "1"}, {"labels": {"app": "db"}, "immutable": true}]);
    let result = call(world, &gate, "k8s::create_secret", args.clone()).await;
    talk.say(format!("made: {}", outcome(&result)));
    let now = talk.get(&at).await;
    talk.show(&now, &["/type", "/data", "/immutable", "/metadata/labels"]);
    let again = call(world, &Remembering::default(), "k8s::create_secret", args).await;
    talk.say(format!("again: {}", outcome(&again)));
    let changed = Remembering::default();
    let args = json!([{"namespace": NS, "name": "made"}, {"b": "2"}, {"immutable": "replace"}]);
    let result = call(world, &changed, "k8s::patch_secret", args).await;
    talk.say(format!("replaced: {}; effects {}", outcome(&result), changed.effects().len()));
    let next = talk.get(&at).await;
    talk.show(&next, &["/type", "/data", "/immutable", "/metadata/labels"]);
    talk.say(format!("  another object: {}", next["metadata"]["uid"] != now["metadata"]["uid"]));
    let restore = registry().get("k8s::patch_secret").unwrap().restore.unwrap();
    restore(world, &changed.last(), &Remembering::default()).await.unwrap();
    let now = talk.get(&at).await;
    talk.say("put back");
    talk.show(&now, &["/data", "/immutable"]);
    let restore = registry().get("k8s::create_secret").unwrap().restore.unwrap();
    restore(world, &gate.last(), &Remembering::default()).await.unwrap();
    talk.ask("and what was made is gone", "GET", &at, How::Json, Value::Null).await;

    let doomed = json!({"metadata": {"labels": {"app": "db"}}, "data": {"a": "1"}});
    talk.send("POST", &path("configmaps"), How::Json, &config_map("doomed", doomed)).await;
    let gate = Remembering::default();
    let args = json!(["v1", "ConfigMap", NS, "doomed", {"propagation": "foreground"}]);
    let result = call(world, &gate, "k8s::delete", args.clone()).await.unwrap();
    talk.say(format!("deleted: {}; after {}", !result["deleted"].is_null(), gate.last().after));
    talk.ask("it has gone", "GET", &path("configmaps/doomed"), How::Json, Value::Null).await;
    let restore = registry().get("k8s::delete").unwrap().restore.unwrap();
    let back = Remembering::default();
    restore(world, &gate.last(), &back).await.unwrap();
    restore(world, &gate.last(), &back).await.unwrap();
    let now = talk.get(&path("configmaps/doomed")).await;
    talk.say(format!("put back, {} effect", back.effects().len()));
    talk.show(&now, &["/data", "/metadata/labels"]);
    call(world, &Remembering::default(), "k8s::delete", args).await.unwrap();
    for (kind, options) in
        [("Secret", json!({})), ("Namespace", json!({})), ("ConfigMap", json!({"force": true}))]
    {
        let args = json!(["v1", kind, NS, "doomed", options]);
        let refused = call(world, &gate, "k8s::delete", args).await;
        talk.say(format!("{kind}: {}", outcome(&refused)));
    }
}

async fn reads(talk: &mut Talk, peer: &Peer, world: &World) {
    talk.about("k8s::get and discovery");
    let gate = Remembering::default();
    let get = |kind: &str, name: &str| json!(["v1", kind, NS, name]);
    let read = call(world, &gate, "k8s::get", get("ConfigMap", "m")).await.unwrap();
    talk.show(&read, &["/kind", "/data", "/metadata/managedFields"]);
    let missing = call(world, &gate, "k8s::get", get("ConfigMap", "none")).await;
    talk.say(format!("missing: {}", outcome(&missing)));
    let stranger = super::primitives::world(peer.stranger.clone());
    let refused = call(&stranger, &gate, "k8s::get", get("ConfigMap", "m")).await;
    talk.say(format!("by a stranger: {}", outcome(&refused)));
    let objects = Objects::of(world).unwrap();
    for (group, plural) in [
        ("", "secrets"),
        ("apps", "statefulsets"),
        ("contract.example.com", "towns"),
        ("none.example.com", "x"),
        ("apps", "x"),
    ] {
        let kind = discovery::kind_of(&objects, group, plural).await.unwrap();
        talk.say(format!("{plural} of `{group}`: {kind:?}"));
    }
    let strangers = Objects::of(&stranger).unwrap();
    let kind = discovery::kind_of(&strangers, "apps", "deployments").await.unwrap();
    talk.say(format!("by a stranger: {kind:?}"));
    let read = objects.get(&Ref::new("v1", "ConfigMap", NS, "m")).await.unwrap();
    let uid = read["metadata"]["uid"].as_str().unwrap().to_owned();
    let stale = objects.delete(&Ref::new("v1", "ConfigMap", NS, "m"), &uid, "1").await.unwrap_err();
    talk.say(format!("deleted for another version: {:?}", stale.code));
    objects.delete(&Ref::new("v1", "ConfigMap", NS, "m"), &uid, version(&read)).await.unwrap();
    let listed = objects.list("v1", "ConfigMap", NS, "set=five").await.unwrap();
    talk.say(format!("listed: {}", listed.len()));

    talk.about("k8s::list");
    let hidden = secret(
        "listed",
        json!({"metadata": {"labels": {"set": "listed"}}, "data": {"password": "aHVudGVyMg=="}}),
    );
    talk.send("POST", &path("secrets"), How::Json, &hidden).await;
    let list = |kind: &str, options: Value| json!(["v1", kind, NS, options]);
    let found =
        call(world, &gate, "k8s::list", list("Secret", json!({"labels": "set=listed"}))).await.unwrap();
    talk.show(&found[0], &["/kind", "/metadata/name", "/metadata/managedFields"]);
    let kept = found[0]["data"]["password"].as_str().unwrap().to_owned();
    talk.say(format!("of its data: {}", kept.split(':').next().unwrap()));
    let found =
        call(world, &gate, "k8s::list", list("ConfigMap", json!({"fields": "metadata.name=boss"}))).await;
    talk.say(format!("by field: {}", found.unwrap().as_array().unwrap().len()));
    let none =
        call(world, &gate, "k8s::list", list("ConfigMap", json!({"labels": "set=none"}))).await.unwrap();
    talk.say(format!("none: {none}"));
    let wrong = call(world, &gate, "k8s::list", list("ConfigMap", json!({"labels": "=="}))).await;
    talk.say(format!("no selector: {:?}", wrong.unwrap_err().code));
    let unknown = call(world, &gate, "k8s::list", list("Nothing", json!({}))).await;
    talk.say(format!("no such kind: {:?}", unknown.unwrap_err().code));
    let refused = call(&stranger, &gate, "k8s::list", list("ConfigMap", json!({}))).await;
    talk.say(format!("by a stranger: {}", outcome(&refused)));
}
