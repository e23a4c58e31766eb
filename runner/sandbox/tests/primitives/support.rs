//! A cluster with certificates, a gate that remembers, and pods that speak TLS.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use sandbox::api::{Options, Server};
use serde_json::{Value, json};
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, EffectClass, Gate, Past, Permit, Progress, RecordedEffect};
use stdlib::k8s::client::Objects;
use stdlib::k8s::object::{Ref, text};
use stdlib::secret::MemorySecrets;
use stdlib::tls::config::{Identity, Trust, always, server as tls_server};
use stdlib::tls::handshake_server;
use stdlib::trust::{Certs, Verifier};
use stdlib::world::{Net, Stream, TokioClock, World};
use stdlib::{Secret, registry};

pub(crate) const NS: &str = "tidb";

/// A server, and a world that sees it as `rollover`.
pub(crate) struct Scene {
    pub(crate) server: Arc<Server>,
    pub(crate) world: World,
    pub(crate) pods: Arc<Pods>,
}

pub(crate) async fn scene() -> Scene {
    let clock = TokioClock::starting_at(time::macros::datetime!(2026-11-22 06:00:00 UTC));
    let server = Server::new(Options::new(Arc::new(clock)).seed(7));
    let pods = Arc::new(Pods::default());
    let mut world = World::system(Some(server.client("rollover")), "/nowhere".into());
    world.clock = Arc::new(clock);
    world.net = Arc::clone(&pods) as Arc<dyn Net>;
    world.secrets = Arc::new(MemorySecrets::default());
    let scene = Scene { server, world, pods };
    scene.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})).await;
    scene.create(crd()).await;
    scene
}

fn crd() -> Value {
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
    /// Everybody else: `kubectl` in somebody's hands.
    pub(crate) fn other(&self) -> World {
        let mut world = self.world.clone();
        world.cluster = Some(self.server.client("somebody"));
        world.manager = "kubectl-edit".into();
        world
    }

    pub(crate) async fn create(&self, body: Value) -> Value {
        let other = self.other();
        let object = Ref::new(
            text(&body, &["apiVersion"]),
            text(&body, &["kind"]),
            text(&body, &["metadata", "namespace"]),
            text(&body, &["metadata", "name"]),
        );
        Objects::of(&other).unwrap().create(&object, &body).await.unwrap()
    }

    pub(crate) async fn get(&self, object: &Ref) -> Value {
        Objects::of(&self.other()).unwrap().get(object).await.unwrap()
    }

    /// Somebody else's merge patch.
    pub(crate) async fn edit(&self, object: &Ref, patch: Value) -> Value {
        let other = self.other();
        let objects = Objects::of(&other).unwrap();
        let now = objects.get(object).await.unwrap();
        objects.merge(object, text(&now, &["metadata", "resourceVersion"]), patch).await.unwrap()
    }

    pub(crate) async fn call(&self, gate: &dyn Gate, name: &str, args: Value) -> Result<Value, PrimError> {
        let primitive = registry().get(name).unwrap_or_else(|| panic!("no primitive {name}"));
        (primitive.run)(&self.world, args.as_array().unwrap(), gate).await
    }

    pub(crate) async fn restore(
        &self,
        gate: &dyn Gate,
        name: &str,
        effect: &RecordedEffect,
    ) -> Result<(), PrimError> {
        (registry().get(name).unwrap().restore.unwrap())(&self.world, effect, gate).await
    }

    /// A CA with this common name.
    pub(crate) async fn ca(&self, cn: &str) -> Value {
        let csr = json!({"CN": cn, "key": {"algo": "ecdsa", "size": 256}, "ca": {"expiry": "87600h"}});
        self.call(&Remembering::new("none"), "ca::create", json!([csr])).await.unwrap()
    }

    /// A leaf of a CA for these names.
    pub(crate) async fn leaf(&self, ca: &Value, hosts: &[&str]) -> Value {
        let request = json!({"CN": "TiDB", "hosts": hosts, "key": {"algo": "ecdsa", "size": 256},
                             "names": [{"O": "leaf"}]});
        let profile = json!({"expiry": "8760h",
                             "usages": ["signing", "key encipherment", "server auth", "client auth"]});
        self.call(&Remembering::new("none"), "cfssl::issue", json!([ca, request, profile])).await.unwrap()
    }

    /// The text of a secret handle.
    pub(crate) fn open(&self, handle: &Value) -> String {
        String::from_utf8(self.world.secrets.get(handle).unwrap().expose().to_vec()).unwrap()
    }

    /// A Secret with this leaf and these anchors.
    pub(crate) async fn secret(&self, name: &str, leaf: &Value, anchors: &str) -> Value {
        self.create(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NS},
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

pub(crate) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub(crate) fn unbase64(value: &Value) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A gate that lets everything pass and remembers it.
#[derive(Default)]
pub(crate) struct Remembering {
    pub(crate) marker: String,
    pub(crate) effects: Mutex<Vec<Effect>>,
    pub(crate) progress: Mutex<Vec<String>>,
    pub(crate) refusing: bool,
    pub(crate) past: Vec<Past>,
}

impl Remembering {
    pub(crate) fn new(marker: &str) -> Self {
        Self { marker: marker.into(), ..Self::default() }
    }

    pub(crate) fn effects(&self) -> Vec<Effect> {
        self.effects.lock().unwrap().clone()
    }

    /// The only effect, as the record gives it back.
    pub(crate) fn recorded(&self) -> RecordedEffect {
        let effects = self.effects();
        assert_eq!(effects.len(), 1, "{effects:?}");
        let effect = effects[0].clone();
        assert_eq!(effect.class, EffectClass::Restorable);
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
        Box::pin(async move {
            if self.refusing {
                return Err(PrimError::new(Code::Refused, "the record cannot be written"));
            }
            self.effects.lock().unwrap().push(effect);
            Ok(Permit::Apply)
        })
    }
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress.text);
    }
    fn marker(&self) -> String {
        self.marker.clone()
    }
    fn history(&self) -> Vec<Past> {
        self.past.clone()
    }
}

/// What a pod has loaded.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) identity: Identity,
    pub(crate) anchors: Certs,
}

/// Pods by address, each a TLS server of what it has loaded.
#[derive(Default)]
pub(crate) struct Pods(Mutex<HashMap<String, Loaded>>);

impl Pods {
    pub(crate) fn load(&self, host: &str, scene: &Scene, leaf: &Value, anchors: &str) {
        let key: Secret = scene.world.secrets.get(&leaf["key"]).unwrap();
        let chain = Certs::from_pem(leaf["cert"].as_str().unwrap()).unwrap();
        let loaded = Loaded {
            identity: Identity::new(&chain, &key).unwrap(),
            anchors: Certs::from_pem(anchors).unwrap(),
        };
        self.0.lock().unwrap().insert(host.into(), loaded);
    }
}

impl Net for Pods {
    fn dial(&self, host: &str, _port: u16) -> BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        let found = self.0.lock().unwrap().get(host).cloned();
        Box::pin(async move {
            let Loaded { identity, anchors } = found.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            let clock = Arc::new(TokioClock::starting_at(time::macros::datetime!(2026-11-22 06:00:00 UTC)));
            let trust = Trust { verifier: Verifier::Go, anchors: Arc::new(anchors), allowed_cn: Vec::new() };
            let config = tls_server(always(identity), Some(trust), clock.clone(), &[]).unwrap();
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                let within = std::time::Duration::from_secs(5);
                let _ = handshake_server(Box::new(theirs), config, within, clock.as_ref()).await;
            });
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// Labels of a component's pods.
pub(crate) fn labels(component: &str) -> BTreeMap<String, String> {
    let label = |key: &str, value: &str| (format!("app.kubernetes.io/{key}"), value.to_owned());
    [
        label("name", "tidb-cluster"),
        label("managed-by", "tidb-operator"),
        label("instance", "basic"),
        label("component", component),
    ]
    .into()
}
