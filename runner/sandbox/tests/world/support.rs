//! What the tests share: one PKI made once, and the steps of the page done by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandbox::world::json as js;
use sandbox::world::kube::{DEPLOYMENTS, Kube, PODS, SECRETS, STATEFUL_SETS, TIDB_CLUSTERS};
use sandbox::world::{Memo, Options, Pki, Scenario, World};
use serde_json::{Value, json};
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use time::OffsetDateTime;

pub(crate) const COMPONENTS: [&str; 3] = ["pd", "tikv", "tidb"];

/// The start PKI and the memo of handshakes with it, made once for all tests of this process.
pub(crate) fn options(seed: u64) -> Options {
    static PKI: OnceLock<Pki> = OnceLock::new();
    static MEMO: OnceLock<Arc<Memo>> = OnceLock::new();
    let pki = PKI.get_or_init(|| Pki::make(&Scenario::default(), OffsetDateTime::now_utc()).unwrap());
    let memo = MEMO.get_or_init(Arc::default);
    Options { pki: Some(pki.clone()), memo: Some(Arc::clone(memo)), ..Options::in_process(seed) }
}

pub(crate) async fn world(seed: u64) -> (World, Kube) {
    let world = World::start(options(seed)).await.unwrap();
    let kube = Kube::new(world.client());
    (world, kube)
}

pub(crate) struct Authority {
    pub(crate) cert: Certificate,
    pub(crate) key: Key,
}

fn input(name: &str) -> &'static str {
    sandbox::world::genesis::INPUTS.iter().find(|(n, _)| *n == name).unwrap().1
}

impl Authority {
    pub(crate) fn new(world: &World) -> Self {
        let request = Request::from_json(input("ca-csr.json").as_bytes(), "ca-csr.json").unwrap();
        let (cert, key) = stdlib::ca::create(&request, world.clock().now()).unwrap();
        Self { cert, key }
    }

    /// `tls.crt` and `tls.key` of a component.
    pub(crate) fn issue(&self, world: &World, component: &str) -> (String, Vec<u8>) {
        let name = format!("{}.json", sandbox::world::genesis::stem(component));
        let request = Request::from_json(input(&name).as_bytes(), &name).unwrap();
        let config = Config::from_json(input("ca-config.json").as_bytes(), "ca-config.json").unwrap();
        let profile = config.profile(if component == "client" { "client" } else { "internal" }).unwrap();
        let now = world.clock().now();
        let (cert, key) = stdlib::cfssl::issue(&self.cert, &self.key, &request, profile, now).unwrap();
        (cert.pem(), key.to_pem().unwrap().as_bytes().to_vec())
    }
}

impl Authority {
    /// The CA that the world began with.
    pub(crate) fn of(world: &World) -> Self {
        let (cert, key) = world.pki().authority();
        Self { cert, key }
    }
}

pub(crate) async fn patch_secret(kube: &Kube, component: &str, files: &[(&str, &[u8])]) {
    let name = if component == "client" {
        "basic-cluster-client-secret".to_owned()
    } else {
        format!("basic-{component}-cluster-secret")
    };
    let data: BTreeMap<_, _> = files.iter().map(|(k, v)| (*k, STANDARD.encode(v))).collect();
    kube.merge(SECRETS, ("tidb", &name), "", &json!({ "data": data })).await.unwrap();
}

pub(crate) async fn trust(kube: &Kube, bundle: &str) {
    for component in COMPONENTS.iter().chain(&["client"]) {
        patch_secret(kube, component, &[("ca.crt", bundle.as_bytes())]).await;
    }
}

pub(crate) async fn switch_leaves(world: &World, kube: &Kube, ca: &Authority) {
    for component in COMPONENTS.iter().chain(&["client"]) {
        let (cert, key) = ca.issue(world, component);
        patch_secret(kube, component, &[("tls.crt", cert.as_bytes()), ("tls.key", &key)]).await;
    }
}

const RESTARTED: &str = "tidb.pingcap.com/restartedAt";

pub(crate) async fn annotate(kube: &Kube, marker: &str) {
    let mut spec = json!({});
    for component in COMPONENTS {
        spec[component] = json!({ "annotations": { RESTARTED: marker } });
    }
    kube.merge(TIDB_CLUSTERS, ("tidb", "basic"), "", &json!({ "spec": spec })).await.unwrap();
    let template = json!({ "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": marker } } });
    let patch = json!({ "spec": { "template": template } });
    kube.merge(DEPLOYMENTS, ("tidb", "basic-client"), "", &patch).await.unwrap();
}

/// What is not yet as the marker wants it; empty when the rollout is done.
pub(crate) async fn unfinished(kube: &Kube, marker: &str) -> String {
    for component in COMPONENTS {
        let name = format!("basic-{component}");
        let set = kube.get(STATEFUL_SETS, "tidb", &name).await.unwrap().unwrap();
        let template = set.pointer("/spec/template/metadata/annotations").cloned().unwrap_or_default();
        if template[RESTARTED] != marker {
            return format!("{name}: the template has no marker yet");
        }
        let replicas = js::number(&set, "/spec/replicas");
        let done = js::number(&set, "/status/observedGeneration") == Some(js::generation(&set))
            && js::text(&set, "/status/currentRevision") == js::text(&set, "/status/updateRevision")
            && js::number(&set, "/status/updatedReplicas") == replicas
            && js::number(&set, "/status/readyReplicas") == replicas;
        if !done {
            return format!("{name}: {}", set["status"]);
        }
    }
    let client = kube.get(DEPLOYMENTS, "tidb", "basic-client").await.unwrap().unwrap();
    let number = |p: &str| js::number(&client, p);
    let done = number("/status/observedGeneration") == Some(js::generation(&client))
        && number("/status/updatedReplicas") == Some(1)
        && number("/status/readyReplicas") == Some(1)
        && number("/status/replicas") == Some(1);
    if !done {
        return format!("basic-client: {}", client["status"]);
    }
    let cluster = cluster(kube).await;
    for component in COMPONENTS {
        let phase = js::text(&cluster, &format!("/status/{component}/phase"));
        if phase != "Normal" {
            return format!("{component}: phase {phase}");
        }
    }
    match ready(&cluster) {
        ("True", _) => String::new(),
        (_, reason) => format!("TidbCluster: {reason}"),
    }
}

pub(crate) async fn cluster(kube: &Kube) -> Value {
    kube.get(TIDB_CLUSTERS, "tidb", "basic").await.unwrap().unwrap()
}

/// Status and reason of the condition `Ready`.
pub(crate) fn ready(cluster: &Value) -> (&str, &str) {
    (js::text(cluster, "/status/conditions/0/status"), js::text(cluster, "/status/conditions/0/reason"))
}

pub(crate) async fn wait_rolled(kube: &Kube, marker: &str) {
    let mut last = String::new();
    for _ in 0..2_000 {
        last = unfinished(kube, marker).await;
        if last.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let (pods, _) = kube.list(PODS, "tidb").await.unwrap();
    for pod in pods {
        eprintln!("{} {} {}", js::name(&pod), js::ready(&pod), js::text(&pod, "/status/phase"));
    }
    panic!("the rollout of {marker} does not end: {last}");
}

pub(crate) async fn restart_all(kube: &Kube, marker: &str) {
    annotate(kube, marker).await;
    wait_rolled(kube, marker).await;
}
