//! The API itself: reading, writing, watching, deleting.

use futures::TryStreamExt as _;
use kube::Api;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::Peer;
use super::talk::{How, NS, Talk, config_map, path, secret, version, word};

pub(super) async fn talk(talk: &mut Talk, peer: &Peer) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}});
    talk.ask("a namespace", "POST", "/api/v1/namespaces", How::Json, namespace).await;
    secrets(talk).await;
    patches(talk).await;
    applies(talk).await;
    lists(talk).await;
    watches(talk, peer).await;
    deletes(talk).await;
    workloads(talk).await;
    customs(talk).await;
    odds(talk).await;
}

async fn secrets(talk: &mut Talk) {
    talk.about("Secrets");
    let (all, one) = (path("secrets"), path("secrets/tls"));
    let tls = secret(
        "tls",
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "Yw==", "tls.key": "aw=="},
               "metadata": {"labels": {"app": "db"}, "annotations": {"note": "kept"}}}),
    );
    let made = talk.ask("made", "POST", &all, How::Json, tls.clone()).await;
    talk.show(&made, &["/type", "/data", "/metadata/labels", "/metadata/annotations"]);
    talk.ask("made again", "POST", &all, How::Json, tls).await;
    talk.ask("one that is not there", "GET", &path("secrets/none"), How::Json, Value::Null).await;
    talk.ask("patched that is not there", "PATCH", &path("secrets/none"), How::Merge, json!({"data": {}}))
        .await;
    let half = secret("half", json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "Yw=="}}));
    talk.ask("a pair without its key", "POST", &all, How::Json, half).await;
    let patched = talk
        .ask("another certificate", "PATCH", &one, How::Merge, json!({"data": {"tls.crt": "ZA=="}}))
        .await;
    talk.show(&patched, &["/type", "/data", "/metadata/labels", "/metadata/annotations"]);
    let same =
        talk.ask("the same again", "PATCH", &one, How::Merge, json!({"data": {"tls.crt": "ZA=="}})).await;
    talk.say(format!("  a new version: {}", version(&same) != version(&patched)));
    talk.ask("another type", "PATCH", &one, How::Merge, json!({"type": "Opaque"})).await;
    talk.ask_code("no base64", "PATCH", &one, How::Merge, json!({"data": {"tls.crt": "%%"}})).await;
    talk.ask("a key taken away", "PATCH", &one, How::Merge, json!({"data": {"tls.key": null}})).await;
    talk.ask("made immutable", "PATCH", &one, How::Merge, json!({"immutable": true})).await;
    talk.ask("its data", "PATCH", &one, How::Merge, json!({"data": {"tls.crt": "ZQ=="}})).await;
    talk.ask("made mutable", "PATCH", &one, How::Merge, json!({"immutable": false})).await;
    talk.ask("its labels", "PATCH", &one, How::Merge, json!({"metadata": {"labels": {"app": null}}})).await;
    let plain = secret("plain", json!({"stringData": {"k": "text"}}));
    let plain = talk.ask("from texts", "POST", &all, How::Json, plain).await;
    talk.show(&plain, &["/type", "/data", "/stringData"]);
    talk.ask("only tried", "POST", &format!("{all}?dryRun=All"), How::Json, secret("dry", json!({}))).await;
    talk.ask("and not there", "GET", &path("secrets/dry"), How::Json, Value::Null).await;
    let named = talk
        .ask(
            "a name that the server makes",
            "POST",
            &all,
            How::Json,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "gen-"}}),
        )
        .await;
    talk.say(format!("  length {}", word(&named, "/metadata/name").len()));
    talk.ask_code("a name that is none", "POST", &all, How::Json, secret("Bad_Name", json!({}))).await;
}

async fn patches(talk: &mut Talk) {
    talk.about("Writes for the version that was read");
    let one = path("configmaps/m");
    let made = talk
        .ask("made", "POST", &path("configmaps"), How::Json, config_map("m", json!({"data": {"a": "1"}})))
        .await;
    let stale = |data: Value| json!({"metadata": {"resourceVersion": version(&made)}, "data": data});
    talk.ask("for this version", "PATCH", &one, How::Merge, stale(json!({"a": "2"}))).await;
    talk.ask("for it once more", "PATCH", &one, How::Merge, stale(json!({"a": "3"}))).await;
    let mut whole = made.clone();
    whole["data"]["a"] = json!("4");
    talk.ask("replaced, late", "PUT", &one, How::Json, whole).await;
    let now = talk.get(&one).await;
    let operations = |version: &str, value: &str| {
        json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": "/data/a", "value": value},
        ])
    };
    let patched = talk.ask("JSON patch", "PATCH", &one, How::JsonPatch, operations(version(&now), "5")).await;
    talk.show(&patched, &["/data"]);
    talk.ask_code("JSON patch, late", "PATCH", &one, How::JsonPatch, operations(version(&now), "6")).await;
    let remove = json!([{"op": "remove", "path": "/data/none"}]);
    talk.ask_code("JSON patch of what is not there", "PATCH", &one, How::JsonPatch, remove).await;
    let mut other = stale(json!({"a": "7"}));
    other["metadata"] = json!({"uid": "another"});
    talk.ask_code("for another uid", "PATCH", &one, How::Merge, other).await;
    talk.ask_code("another name", "PATCH", &one, How::Merge, json!({"metadata": {"name": "n"}})).await;
    talk.ask_code("no such patch", "PATCH", &one, How::Json, json!({"data": {}})).await;
}

async fn applies(talk: &mut Talk) {
    talk.about("Server-side apply");
    let at = |manager: &str, force: bool| {
        format!("{}?fieldManager={manager}&force={force}", path("configmaps/applied"))
    };
    let of = |data: Value| config_map("applied", json!({"data": data}));
    talk.ask("by one", "PATCH", &at("one", false), How::Apply, of(json!({"a": "1", "b": "1"}))).await;
    talk.ask("beside it by two", "PATCH", &at("two", false), How::Apply, of(json!({"c": "2"}))).await;
    talk.ask_code(
        "what is one's, by two",
        "PATCH",
        &at("two", false),
        How::Apply,
        of(json!({"c": "2", "a": "2"})),
    )
    .await;
    talk.ask("the same value", "PATCH", &at("two", false), How::Apply, of(json!({"c": "2", "b": "1"}))).await;
    let left = talk
        .ask("dropped by one", "PATCH", &at("one", false), How::Apply, config_map("applied", json!({})))
        .await;
    talk.show(&left, &["/data"]);
    let forced = talk.ask("by force", "PATCH", &at("three", true), How::Apply, of(json!({"c": "3"}))).await;
    talk.show(&forced, &["/data"]);
    talk.managers(&forced);
    let again =
        talk.ask("the same again", "PATCH", &at("three", true), How::Apply, of(json!({"c": "3"}))).await;
    talk.say(format!("  a new version: {}", version(&again) != version(&forced)));
    let stale = config_map("applied", json!({"metadata": {"resourceVersion": "1"}, "data": {"c": "4"}}));
    talk.ask("for another version", "PATCH", &at("three", true), How::Apply, stale).await;
    let nobody = format!("{}?force=true", path("configmaps/applied"));
    talk.ask_code("by nobody", "PATCH", &nobody, How::Apply, of(json!({}))).await;
}

fn names(list: &Value) -> String {
    let items = list["items"].as_array().into_iter().flatten();
    items.map(|item| word(item, "/metadata/name")).collect::<Vec<_>>().join(" ")
}

async fn lists(talk: &mut Talk) {
    talk.about("Lists");
    for n in 0..5 {
        let labels = json!({"set": "five", "even": (n % 2 == 0).to_string()});
        let map = config_map(&format!("l{n}"), json!({"metadata": {"labels": labels}}));
        talk.send("POST", &path("configmaps"), How::Json, &map).await;
    }
    for selector in
        ["set%3Dfive", "set%3Dfive,even%21%3Dtrue", "even%20in%20(true),set", "set%3Dfive,%21even"]
    {
        let found = talk.get(&path(&format!("configmaps?labelSelector={selector}"))).await;
        talk.say(format!("{selector}: {} ({})", names(&found), word(&found, "/kind")));
    }
    let found = talk.get(&path("configmaps?fieldSelector=metadata.name%3Dl3")).await;
    talk.say(format!("by its name: {}", names(&found)));
    let found = talk.get(&path("secrets?fieldSelector=type%3Dkubernetes.io/tls")).await;
    talk.say(format!("Secrets by type: {}", names(&found)));
    talk.ask_code(
        "by a field that nobody knows",
        "GET",
        &path("configmaps?fieldSelector=data.a%3D1"),
        How::Json,
        Value::Null,
    )
    .await;
    let first = talk.get(&path("configmaps?labelSelector=set%3Dfive&limit=2")).await;
    talk.say(format!("the first two: {}", names(&first)));
    talk.send("DELETE", &path("configmaps/l4"), How::Json, &Value::Null).await;
    let token = word(&first, "/metadata/continue");
    let rest =
        talk.get(&path(&format!("configmaps?labelSelector=set%3Dfive&limit=10&continue={token}"))).await;
    talk.say(format!("and the rest, as it was then: {}", names(&rest)));
    talk.ask_code(
        "with a token that is none",
        "GET",
        &path("configmaps?limit=2&continue=none"),
        How::Json,
        Value::Null,
    )
    .await;
    let none = talk.get(&path("endpoints?labelSelector=none%3Dnone")).await;
    talk.show(&none, &["/kind", "/apiVersion", "/items"]);
}

async fn watches(talk: &mut Talk, peer: &Peer) {
    talk.about("Watches");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
    let maps: Api<DynamicObject> = Api::namespaced_with(peer.admin.clone(), NS, &resource);
    let list = talk.get(&path("configmaps?labelSelector=set%3Dfive")).await;
    let by_label = WatchParams::default().labels("even=true").timeout(5);
    let by_name = WatchParams::default().fields("metadata.name=l1").timeout(5);
    let even = maps.watch(&by_label, version(&list)).await.unwrap();
    let one = maps.watch(&by_name, version(&list)).await.unwrap();
    let label = |even: &str| json!({"metadata": {"labels": {"even": even}}});
    talk.send("PATCH", &path("configmaps/l0"), How::Merge, &label("false")).await;
    talk.send("PATCH", &path("configmaps/l1"), How::Merge, &label("true")).await;
    talk.send("PATCH", &path("configmaps/l2"), How::Merge, &json!({"data": {"k": "v"}})).await;
    talk.send("PATCH", &path("configmaps/l2"), How::Merge, &json!({"data": {"k": "v"}})).await;
    talk.send("DELETE", &path("configmaps/l1"), How::Json, &Value::Null).await;
    for (what, events) in [("by label", told(even).await), ("by name", told(one).await)] {
        talk.say(format!("{what}: {events}"));
    }
    let old = maps.watch(&WatchParams::default().timeout(5), "1").await.map(|_| ());
    talk.say(format!("from a version long ago: {}", if old.is_ok() { "begins" } else { "refused" }));
}

/// What a watch said until the server ended it.
async fn told(events: impl futures::Stream<Item = kube::Result<WatchEvent<DynamicObject>>>) -> String {
    let events: Vec<_> = events.try_collect().await.unwrap();
    let name = |object: DynamicObject| object.metadata.name.unwrap_or_default();
    let said = events.into_iter().filter_map(|event| match event {
        WatchEvent::Added(object) => Some(format!("+{}", name(object))),
        WatchEvent::Modified(object) => Some(format!("~{}", name(object))),
        WatchEvent::Deleted(object) => Some(format!("-{}", name(object))),
        WatchEvent::Bookmark(_) => None,
        WatchEvent::Error(status) => Some(format!("{} {}", status.code, status.reason)),
    });
    said.collect::<Vec<_>>().join(" ")
}

async fn deletes(talk: &mut Talk) {
    talk.about("Deletions");
    let all = path("configmaps");
    let made = talk.send("POST", &all, How::Json, &config_map("gone", json!({}))).await.1;
    let with = |uid: &str, version: Option<&str>| json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid, "resourceVersion": version}});
    let uid = word(&made, "/metadata/uid");
    let gone = path("configmaps/gone");
    talk.ask_code("another uid", "DELETE", &gone, How::Json, with("another", None)).await;
    talk.ask_code("another version", "DELETE", &gone, How::Json, with(uid, Some("1"))).await;
    let answer =
        talk.ask("as it was read", "DELETE", &gone, How::Json, with(uid, Some(version(&made)))).await;
    talk.show(&answer, &["/kind", "/status", "/details/name", "/details/kind"]);
    talk.ask("once more", "DELETE", &gone, How::Json, Value::Null).await;

    for policy in ["Background", "Foreground", "Orphan"] {
        let owner = talk.send("POST", &all, How::Json, &config_map("owner", json!({}))).await.1;
        let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
            "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
        let child = config_map("child", json!({"metadata": {"ownerReferences": reference}}));
        talk.send("POST", &all, How::Json, &child).await;
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        let at = path("configmaps/owner");
        talk.ask(&format!("{policy} deletion of an owner"), "DELETE", &at, How::Json, options).await;
        talk.until(&at, |status, _| status == 404).await;
        let child = path("configmaps/child");
        if policy == "Orphan" {
            let (_, orphan) =
                talk.until(&child, |_, child| child["metadata"]["ownerReferences"].is_null()).await;
            talk.show(&orphan, &["/metadata/name", "/metadata/ownerReferences"]);
            talk.send("DELETE", &child, How::Json, &Value::Null).await;
        } else {
            talk.until(&child, |status, _| status == 404).await;
            talk.say("  its dependent is gone");
        }
    }
    let held = config_map("held", json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    talk.send("POST", &all, How::Json, &held).await;
    let at = path("configmaps/held");
    let ending = talk.ask("deletion of what is held", "DELETE", &at, How::Json, Value::Null).await;
    talk.say(format!("  ends: {}", !ending["metadata"]["deletionTimestamp"].is_null()));
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    talk.ask_code("another finalizer", "PATCH", &at, How::Merge, more).await;
    talk.ask("let go", "PATCH", &at, How::Merge, json!({"metadata": {"finalizers": null}})).await;
    talk.ask("and gone", "GET", &at, How::Json, Value::Null).await;
    for n in 0..3 {
        let map =
            config_map(&format!("c{n}"), json!({"metadata": {"labels": {"sweep": (n < 2).to_string()}}}));
        talk.send("POST", &all, How::Json, &map).await;
    }
    talk.ask(
        "all of a label",
        "DELETE",
        &format!("{all}?labelSelector=sweep%3Dtrue"),
        How::Json,
        Value::Null,
    )
    .await;
    let left = talk.get(&format!("{all}?labelSelector=sweep")).await;
    talk.say(format!("  left: {}", names(&left)));
}

async fn workloads(talk: &mut Talk) {
    talk.about("Workloads");
    let template = |annotations: Value| {
        json!({"metadata": {"labels": {"app": "db"}, "annotations": annotations},
               "spec": {"containers": [{"name": "main", "image": "img:1"}]}})
    };
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"replicas": 0, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template(json!(null))}});
    let made = talk.ask("a StatefulSet", "POST", &path("apps/v1:statefulsets"), How::Json, set).await;
    talk.show(
        &made,
        &[
            "/metadata/generation",
            "/spec/updateStrategy",
            "/spec/podManagementPolicy",
            "/spec/template/spec/terminationGracePeriodSeconds",
            "/spec/template/spec/restartPolicy",
            "/spec/template/spec/containers/0/imagePullPolicy",
        ],
    );
    let one = path("apps/v1:statefulsets/db");
    let marker = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "r1"}}}}});
    let marked = talk.ask("a marker in its template", "PATCH", &one, How::Merge, marker).await;
    talk.show(&marked, &["/metadata/generation", "/spec/template/metadata/annotations"]);
    let noted = talk
        .ask(
            "an annotation of its own",
            "PATCH",
            &one,
            How::Merge,
            json!({"metadata": {"annotations": {"a": "b"}}}),
        )
        .await;
    talk.show(&noted, &["/metadata/generation"]);
    talk.ask_code("another Service", "PATCH", &one, How::Merge, json!({"spec": {"serviceName": "other"}}))
        .await;
    let environment = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "1"}]}]}}}});
    let patched =
        talk.ask("strategic merge of a container", "PATCH", &one, How::Strategic, environment.clone()).await;
    talk.show(&patched, &["/spec/template/spec/containers/0/image", "/spec/template/spec/containers/0/env"]);
    talk.ask_code("merge of a container without its image", "PATCH", &one, How::Merge, environment).await;
    let scale = path("apps/v1:statefulsets/db/scale");
    let scaled = talk.ask("its scale", "PATCH", &scale, How::Merge, json!({"spec": {"replicas": 1}})).await;
    talk.show(&scaled, &["/kind", "/spec/replicas"]);
    let status = path("apps/v1:statefulsets/db/status");
    let told = talk
        .ask("its status takes no spec", "PATCH", &status, How::Merge, json!({"spec": {"replicas": 9}}))
        .await;
    talk.show(&told, &["/spec/replicas"]);
    talk.ask("its end", "DELETE", &one, How::Json, json!({"propagationPolicy": "Background"})).await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lock"},
        "spec": {"holderIdentity": "me", "renewTime": "2026-11-22T06:00:00.123456Z", "leaseDurationSeconds": 30}});
    let lease = talk.ask("a Lease", "POST", &path("coordination.k8s.io/v1:leases"), How::Json, lease).await;
    talk.show(&lease, &["/spec"]);
}

fn definition() -> Value {
    let spec = json!({"type": "object", "required": ["version"], "properties": {
        "version": {"type": "string"},
        "replicas": {"type": "integer", "minimum": 1, "default": 3},
    }});
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "towns.contract.example.com"},
        "spec": {"group": "contract.example.com", "scope": "Namespaced",
            "names": {"plural": "towns", "singular": "town", "kind": "Town", "listKind": "TownList", "shortNames": ["tn"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                          "schema": {"openAPIV3Schema": schema}}]}})
}

async fn customs(talk: &mut Talk) {
    talk.about("Kinds of others");
    let all = path("contract.example.com/v1:towns");
    talk.ask_code("before they are defined", "GET", &all, How::Json, Value::Null).await;
    let at = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    talk.ask("defined", "POST", at, How::Json, definition()).await;
    talk.until(&all, |status, _| status == 200).await;
    let town = |spec: Value| json!({"apiVersion": "contract.example.com/v1", "kind": "Town", "metadata": {"name": "t"}, "spec": spec, "status": {"x": 1}});
    talk.ask_code("without what is required", "POST", &all, How::Json, town(json!({}))).await;
    talk.ask_code("with a wrong type", "POST", &all, How::Json, town(json!({"version": 7}))).await;
    let made =
        talk.ask("made", "POST", &all, How::Json, town(json!({"version": "v1", "unknown": true}))).await;
    talk.show(&made, &["/metadata/generation", "/spec", "/status"]);
    let one = path("contract.example.com/v1:towns/t");
    let annotated = talk
        .ask("annotated", "PATCH", &one, How::Merge, json!({"metadata": {"annotations": {"a": "b"}}}))
        .await;
    talk.show(&annotated, &["/metadata/generation"]);
    let changed = talk.ask("changed", "PATCH", &one, How::Merge, json!({"spec": {"version": "v2"}})).await;
    talk.show(&changed, &["/metadata/generation", "/spec"]);
    talk.ask_code("strategic merge", "PATCH", &one, How::Strategic, json!({"spec": {"version": "v3"}})).await;
    let told = talk
        .ask(
            "its status",
            "PATCH",
            &path("contract.example.com/v1:towns/t/status"),
            How::Merge,
            json!({"status": {"ready": true}, "spec": {"version": "v9"}}),
        )
        .await;
    talk.show(&told, &["/metadata/generation", "/spec/version", "/status"]);
    let applied = json!({"apiVersion": "contract.example.com/v1", "kind": "Town", "metadata": {"name": "t"}, "spec": {"version": "v2", "replicas": 5}});
    let applied =
        talk.ask_code("applied", "PATCH", &format!("{one}?fieldManager=rollover"), How::Apply, applied).await;
    talk.show(&applied, &["/spec"]);
    let group = talk.get("/apis/contract.example.com").await;
    talk.show(&group, &["/kind", "/preferredVersion"]);
    let resources = talk.get("/apis/contract.example.com/v1").await;
    talk.show(
        &resources,
        &["/resources/0/name", "/resources/0/kind", "/resources/0/namespaced", "/resources/0/shortNames"],
    );
}

async fn odds(talk: &mut Talk) {
    talk.about("What is not there");
    talk.ask_code("no such kind", "GET", &path("nothings"), How::Json, Value::Null).await;
    talk.ask_code("no such group", "GET", &path("none.example.com/v1:nothings"), How::Json, Value::Null)
        .await;
    let map = config_map("m", json!({}));
    talk.ask("no such namespace", "POST", "/api/v1/namespaces/none/configmaps", How::Json, map.clone()).await;
    talk.ask_code(
        "another namespace than its own",
        "POST",
        &path("configmaps"),
        How::Json,
        json!({"metadata": {"name": "x", "namespace": "default"}}),
    )
    .await;
    talk.ask_code(
        "another kind than its own",
        "POST",
        &path("configmaps"),
        How::Json,
        secret("x", json!({})),
    )
    .await;
    talk.ask_code("no object at all", "POST", &path("configmaps"), How::Json, json!("text")).await;
}
