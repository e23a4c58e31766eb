//! A whole rotation by the primitives alone, in a world of the sandbox on either server, with a trust forecast before each phase.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use sandbox::world::World as Sandbox;
use serde_json::{Value, json};
use stdlib::error::PrimError;
use stdlib::gate::{Effect, EffectClass, Gate, Past, Permit, Progress, RecordedEffect};
use stdlib::registry;
use stdlib::secret::{MemorySecrets, Secret};
use stdlib::trust::{Evidence, View};
use stdlib::world::World;

/// One run: its gate keeps what was written and restarted, for every phase.
#[derive(Clone, Default)]
struct Run {
    marker: String,
    past: Arc<Mutex<Vec<Past>>>,
    effects: Arc<Mutex<Vec<(&'static str, Effect)>>>,
    primitive: &'static str,
}

impl Gate for Run {
    fn effect(&self, effect: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        let place = effect.place.clone();
        let past = match effect.class {
            EffectClass::Compensable => {
                Past::Restarted { marker: effect.summary["marker"].as_str().unwrap().into(), place }
            }
            _ => Past::Wrote { place, summary: effect.summary.clone() },
        };
        self.past.lock().unwrap().push(past);
        self.effects.lock().unwrap().push((self.primitive, effect));
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        self.marker.clone()
    }
    fn history(&self) -> Vec<Past> {
        self.past.lock().unwrap().clone()
    }
}

struct Rig<'a> {
    sandbox: &'a Sandbox,
    world: World,
    run: Run,
    fact: Value,
    old: Value,
    new: Value,
}

impl<'a> Rig<'a> {
    async fn new(sandbox: &'a Sandbox) -> Self {
        let mut world = World::system(Some(sandbox.client()), "/".into());
        world.clock = sandbox.clock();
        world.net = sandbox.net();
        world.secrets = Arc::new(MemorySecrets::default());
        let (ca, key) = sandbox.pki().authority();
        let key: Secret = key.to_secret().unwrap();
        let old = json!({"cert": ca.pem(), "key": world.secrets.put(&key).unwrap()});
        let mut rig = Self { sandbox, world, run: Run::default(), fact: Value::Null, old, new: Value::Null };
        rig.fact = rig.call("tidb::cluster", json!(["tidb", "basic"])).await.unwrap();
        // The same names as the old one: only the keys tell them apart.
        let csr = json!({"CN": "TiDB", "key": {"algo": "ecdsa", "size": 256}, "names":
            [{"C": "US", "L": "CA", "O": "PingCAP", "ST": "Beijing", "OU": "TiDB"}]});
        rig.new = rig.call("ca::create", json!([csr])).await.unwrap();
        rig
    }

    async fn call(&self, name: &'static str, args: Value) -> Result<Value, PrimError> {
        let gate = Run { primitive: name, ..self.run.clone() };
        (registry().get(name).unwrap().run)(&self.world, args.as_array().unwrap(), &gate).await
    }

    fn list(&self, field: &str) -> Vec<Value> {
        self.fact[field].as_array().unwrap().clone()
    }

    async fn view(&self) -> View {
        let id = json!({"namespace": "tidb", "name": "basic"});
        serde_json::from_value(self.call("tidb::trust", json!([id])).await.unwrap()).unwrap()
    }

    async fn restart(&mut self, marker: &str) {
        self.run.marker = marker.into();
        for component in self.list("components") {
            self.call("tidb::rolling_restart", json!([component])).await.unwrap();
        }
    }

    async fn prove(&self, name: &'static str, second: Value) {
        for component in self.list("components") {
            self.call(name, json!([component, second])).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }

    async fn anchors(&self, text: &str) {
        for secret in self.list("secrets") {
            self.call("k8s::patch_secret", json!([secret, {"ca.crt": text}])).await.unwrap();
        }
    }

    fn nothing_refused(&self, when: &str) {
        let seen = self.sandbox.counters();
        assert_eq!(seen.refused, 0, "{when}: {:?}", seen.refusals.first());
        assert!(seen.made > 0);
    }

    fn certain(view: &View) {
        for party in &view.parties {
            assert_ne!(party.anchor_evidence, Evidence::Unknown, "{}", party.id);
            assert_ne!(party.chain_evidence, Evidence::Unknown, "{}", party.id);
            assert_eq!(party.anchors.len(), 1, "{}: {:?}", party.id, party.anchors.len());
            assert_eq!(party.chains.len(), 1, "{}: {:?}", party.id, party.chains.len());
        }
    }
}

fn pem(value: &Value) -> &str {
    value["cert"].as_str().unwrap()
}

/// Tells the story in a world that has just begun.
pub async fn rotation(sandbox: &Sandbox) {
    let mut rig = Rig::new(sandbox).await;
    Rig::certain(&rig.view().await);
    let both = format!("{}{}", pem(&rig.new), pem(&rig.old));
    let before = rig.sandbox.end_state().await;

    rig.anchors(&both).await;
    rig.restart("r1-trust-both").await;
    let usages = json!(["signing", "key encipherment", "server auth", "client auth"]);
    let profile = json!({"expiry": "8760h", "usages": usages});
    let request = json!({"CN": "TiDB", "names": [{"C": "US"}]});
    let probe = rig.call("cfssl::issue", json!([rig.new, request, profile])).await.unwrap();
    rig.prove("tidb::accepts", probe).await;
    let view = rig.view().await;
    Rig::certain(&view);
    assert!(view.parties.iter().all(|p| p.anchors[0].0.len() == 2), "everybody trusts both");
    rig.nothing_refused("trust-both");

    for secret in rig.list("secrets") {
        let leaf = rig.call("cfssl::leaf", json!([rig.new, request, profile, secret])).await.unwrap();
        let data = json!({"tls.crt": leaf["cert"], "tls.key": leaf["key"]});
        rig.call("k8s::patch_secret", json!([secret, data])).await.unwrap();
    }
    rig.restart("r1-switch-leaves").await;
    rig.prove("tidb::serves", json!({"issued_by": pem(&rig.new), "trusted_by": pem(&rig.new)})).await;
    Rig::certain(&rig.view().await);
    rig.nothing_refused("switch-leaves");
    let id = json!({"namespace": "tidb", "name": "basic"});
    rig.call("tidb::none_presents", json!([id, pem(&rig.old)])).await.unwrap();

    // Back: both phases, in reverse, with fresh markers.
    let effects: Vec<(&str, Effect)> = rig.run.effects.lock().unwrap().clone();
    for key in ["tls.crt", "ca.crt"] {
        for (name, effect) in effects.iter().rev() {
            if effect.class == EffectClass::Restorable && effect.summary["after"].get(key).is_some() {
                let effect = effect.clone();
                let recorded = RecordedEffect {
                    place: effect.place,
                    before: effect.before,
                    after: effect.after,
                    backup: effect.backup,
                };
                let gate = Run { primitive: "k8s::patch_secret", ..rig.run.clone() };
                (registry().get(name).unwrap().restore.unwrap())(&rig.world, &recorded, &gate).await.unwrap();
            }
        }
        rig.restart(&format!("r1-{key}-back")).await;
        Rig::certain(&rig.view().await);
    }
    rig.call("tidb::healthy", json!([id])).await.unwrap();
    rig.nothing_refused("going back");
    let after = rig.sandbox.end_state().await;
    assert!(after.holds(), "{:?}", after.broken);
    for (pod, served) in &after.pods {
        // The client's pod has another name after its restart.
        if let Some(first) = before.pods.get(pod) {
            assert_eq!((&served.chain, &served.anchors), (&first.chain, &first.anchors), "{pod}");
        }
    }
}
