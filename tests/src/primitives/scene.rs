//! Where a story takes place: a namespace of its own on a server, and a world that sees it as `rollover`.

use std::sync::Arc;
use std::time::Duration;

use sandbox::api::{Fault, FaultId, Rule};
use serde_json::{Value, json};
use stdlib::error::PrimError;
use stdlib::gate::{Gate, RecordedEffect};
use stdlib::k8s::client::Objects;
use stdlib::k8s::object::{Ref, text};
use stdlib::registry;
use stdlib::secret::MemorySecrets;
use stdlib::world::{Clock as _, Net, World};

use super::gate::Remembering;
use super::place::Place;
use super::pods::Pods;
use crate::clock::Turned;

/// A namespace of a server, and a world that sees it as `rollover`.
pub(super) struct Scene {
    pub(super) place: Arc<dyn Place>,
    pub(super) ns: String,
    pub(super) world: World,
    pub(super) pods: Arc<Pods>,
    clock: Arc<Turned>,
}

/// The first scene of a story.
pub(super) async fn scene(place: Arc<dyn Place>, story: &str) -> Scene {
    let ns = place.namespace(story);
    let clock = Arc::new(Turned::new(place.clock()));
    let pods = Arc::new(Pods::new(clock.clone()));
    let mut world = World::system(Some(place.client("rollover")), "/nowhere".into());
    world.clock = clock.clone();
    world.net = Arc::clone(&pods) as Arc<dyn Net>;
    world.secrets = Arc::new(MemorySecrets::default());
    let scene = Scene { place, ns, world, pods, clock };
    scene.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scene.ns}})).await;
    // No controller makes it, and without it a real server takes no pods.
    scene
        .create(json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false,
                       "metadata": {"name": "default", "namespace": scene.ns}}))
        .await;
    scene
}

/// The definition of TiDB clusters, without the subresource `status`, so that stories write both at once.
pub(super) fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "tidbclusters.pingcap.com"},
        "spec": {
            "group": "pingcap.com",
            "names": {"kind": "TidbCluster", "listKind": "TidbClusterList", "plural": "tidbclusters",
                      "singular": "tidbcluster", "shortNames": ["tc"]},
            "scope": "Namespaced",
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

impl Scene {
    /// Another namespace on the same server, where nothing has happened yet.
    pub(super) async fn another(&self) -> Self {
        scene(Arc::clone(&self.place), "again").await
    }

    /// Adds a fault to what `rollover` asks here.
    pub(super) fn inject(&self, fault: Fault) -> FaultId {
        self.place.inject(fault.user("rollover").namespace(&self.ns))
    }

    /// How often a fault has struck.
    pub(super) fn hits(&self, fault: FaultId) -> u64 {
        self.place.hits(fault)
    }

    /// Ends a fault.
    pub(super) fn heal(&self, fault: FaultId) {
        self.place.heal(fault);
    }

    /// Time passes: the sandbox's as a whole, beside a real server only ours.
    pub(super) async fn pass(&self, while_: Duration) {
        if self.place.turns_clocks() {
            tokio::time::sleep(while_).await;
        } else {
            self.clock.turn(while_);
        }
    }

    /// Our time, as the API writes it.
    pub(super) fn now(&self) -> String {
        let now = self.clock.now().replace_nanosecond(0).unwrap();
        now.format(&time::format_description::well_known::Rfc3339).unwrap()
    }

    /// What we see where we may do no more than this.
    pub(super) async fn limited(&self, rule: Rule) -> World {
        World { cluster: Some(self.place.limited(&self.ns, rule).await), ..self.world.clone() }
    }

    /// Everybody else: `kubectl` in somebody's hands.
    pub(super) fn other(&self) -> World {
        let mut world = self.world.clone();
        world.cluster = Some(self.place.client("somebody"));
        world.manager = "kubectl-edit".into();
        world
    }

    pub(super) async fn create(&self, body: Value) -> Value {
        let other = self.other();
        let object = Ref::new(
            text(&body, &["apiVersion"]),
            text(&body, &["kind"]),
            text(&body, &["metadata", "namespace"]),
            text(&body, &["metadata", "name"]),
        );
        Objects::of(&other).unwrap().create(&object, &body).await.unwrap()
    }

    pub(super) async fn get(&self, object: &Ref) -> Value {
        Objects::of(&self.other()).unwrap().get(object).await.unwrap()
    }

    /// Somebody else's merge patch.
    pub(super) async fn edit(&self, object: &Ref, patch: Value) -> Value {
        self.edit_as("kubectl-edit", object, patch).await
    }

    /// The same by another program.
    pub(super) async fn edit_as(&self, manager: &str, object: &Ref, patch: Value) -> Value {
        let other = World { manager: manager.into(), ..self.other() };
        let objects = Objects::of(&other).unwrap();
        let now = objects.get(object).await.unwrap();
        objects.merge(object, text(&now, &["metadata", "resourceVersion"]), patch).await.unwrap()
    }

    /// What a controller writes.
    pub(super) async fn status(&self, object: &Ref, status: Value) {
        let client = self.place.client("controller");
        let api: kube::Api<kube::api::DynamicObject> =
            kube::Api::namespaced_with(client, &object.namespace, &object.resource());
        let params = kube::api::PatchParams::default();
        let patch = kube::api::Patch::Merge(json!({ "status": status }));
        match api.patch_status(&object.name, &params, &patch).await {
            Ok(_) => {}
            // A CRD without the subresource.
            Err(_) => drop(api.patch(&object.name, &params, &patch).await.unwrap()),
        }
    }

    pub(super) async fn call(&self, gate: &dyn Gate, name: &str, args: Value) -> Result<Value, PrimError> {
        call(&self.world, gate, name, args).await
    }

    pub(super) async fn restore(
        &self,
        gate: &dyn Gate,
        name: &str,
        effect: &RecordedEffect,
    ) -> Result<(), PrimError> {
        (registry().get(name).unwrap().restore.unwrap())(&self.world, effect, gate).await
    }

    /// A CA with this common name.
    pub(super) async fn ca(&self, cn: &str) -> Value {
        let csr = json!({"CN": cn, "key": {"algo": "ecdsa", "size": 256}, "ca": {"expiry": "87600h"}});
        self.call(&Remembering::new("none"), "ca::create", json!([csr])).await.unwrap()
    }

    /// A leaf of a CA for these names.
    pub(super) async fn leaf(&self, ca: &Value, hosts: &[&str]) -> Value {
        let request = json!({"CN": "TiDB", "hosts": hosts, "key": {"algo": "ecdsa", "size": 256},
                             "names": [{"O": "leaf"}]});
        let profile = json!({"expiry": "8760h",
                             "usages": ["signing", "key encipherment", "server auth", "client auth"]});
        self.call(&Remembering::new("none"), "cfssl::issue", json!([ca, request, profile])).await.unwrap()
    }

    /// The text of a secret handle.
    pub(super) fn open(&self, handle: &Value) -> String {
        String::from_utf8(self.world.secrets.get(handle).unwrap().expose().to_vec()).unwrap()
    }

    /// A Secret with this leaf and these anchors.
    pub(super) async fn secret(&self, name: &str, leaf: &Value, anchors: &str) -> Value {
        self.create(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.ns},
            "type": "Opaque",
            "data": {
                "tls.crt": base64(leaf["cert"].as_str().unwrap()),
                "tls.key": base64(&self.open(&leaf["key"])),
                "ca.crt": base64(anchors),
            },
        }))
        .await
    }
}

/// Calls a primitive.
pub(super) async fn call(
    world: &World,
    gate: &dyn Gate,
    name: &str,
    args: Value,
) -> Result<Value, PrimError> {
    let primitive = registry().get(name).unwrap_or_else(|| panic!("no primitive {name}"));
    (primitive.run)(world, args.as_array().unwrap(), gate).await
}

pub(super) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub(super) fn unbase64(value: &Value) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}
