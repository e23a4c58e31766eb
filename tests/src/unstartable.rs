//! A restart that a pod does not survive, of TiDB and of a workload beside it: one story on the sandbox's server and on a
//! real one, which asks the kubelet for the pod's log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, SECRETS, STATEFUL_SETS};
use serde_json::{Value, json};
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, Gate, Past, Permit, Progress};
use stdlib::world::Clock;
use stdlib::{World, registry};
use time::OffsetDateTime;
use tokio::time::Instant;

const NS: &str = "tidb";
const SECRET: &str = "basic-pd-cluster-secret";
const BATCH: &str = "basic-batch";
const BATCH_SECRET: &str = "basic-batch-tls";
/// Long enough for pods on a loaded machine, and for a lifelike rolling restart.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A gate that lets everything pass, and keeps why a step waits where its deadline is near.
struct Open {
    marker: &'static str,
    is_late: bool,
    said: Mutex<Vec<String>>,
    why: Mutex<Option<String>>,
}

impl Open {
    fn new(marker: &'static str) -> Self {
        Self { marker, is_late: false, said: Mutex::default(), why: Mutex::default() }
    }
}

impl Gate for Open {
    fn effect(&self, _: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, progress: Progress) {
        self.said.lock().unwrap().push(progress.text);
    }
    fn is_late(&self) -> bool {
        self.is_late
    }
    fn explain(&self, why: &str) {
        *self.why.lock().unwrap() = Some(why.to_owned());
    }
    fn marker(&self) -> String {
        self.marker.into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

/// A clock on which waiting for ten minutes takes some seconds.
struct Hurried(OffsetDateTime, Instant);

impl Clock for Hurried {
    fn now(&self) -> OffsetDateTime {
        self.0 + self.1.elapsed() * 40
    }
}

/// PD of the cluster.
async fn restart(world: &World, gate: &Open) -> Result<Value, PrimError> {
    let pd =
        json!({ "component": "pd", "kind": "tidb", "namespace": NS, "cluster": "basic", "name": "basic-pd" });
    let restart = registry().get("tidb::rolling_restart").unwrap().run;
    tokio::time::timeout(PATIENCE, restart(world, &[pd], gate)).await.expect("it must end")
}

/// The StatefulSet beside it.
async fn restart_batch(world: &World, gate: &Open) -> Result<Value, PrimError> {
    let batch = json!({ "kind": "statefulset", "namespace": NS, "name": BATCH });
    let restart = registry().get("k8s::rollout_restart").unwrap().run;
    tokio::time::timeout(PATIENCE, restart(world, &[batch], gate)).await.expect("it must end")
}

/// How often it has restarted by then is the machine's affair.
fn uncounted(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let count = |at: usize| words.get(at + 1).is_some_and(|next| next.starts_with("restarts"));
    let word = |(at, word): (usize, &&str)| if count(at) { "N".to_owned() } else { (*word).to_owned() };
    words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

/// Tells the story.
pub async fn story(client: kube::Client, world: &World) {
    let kube = Kube::new(client);
    let sound = kube.get(SECRETS, NS, SECRET).await.unwrap().unwrap()["data"].clone();
    let broken = json!({ "data": { "ca.crt": "bm90aGluZwo=" } });
    kube.merge(SECRETS, (NS, SECRET), "", &broken).await.unwrap();
    let gate = Open::new("unstartable/pd/f");
    let error = restart(world, &gate).await.unwrap_err();
    assert_eq!(error.code, Code::Unproved);
    assert_eq!(
        uncounted(&error.message),
        "basic-pd-2 does not start (CrashLoopBackOff); the others are left alone. Pod tidb/basic-pd-2: \
         container pd waits: CrashLoopBackOff: ca.crt: no certificate found; \
         it ended with code 1 (Error), N restarts; \
         BackOff: Back-off restarting failed container: ca.crt: no certificate found; \
         the last lines of pd were: starting | fatal: ca.crt: no certificate found"
    );
    // What it says was wrong is put right, and the same restart goes on.
    kube.merge(SECRETS, (NS, SECRET), "", &json!({ "data": sound })).await.unwrap();
    ready(&kube, "basic-pd-2").await;
    restart(world, &gate).await.unwrap();
    beside(&kube, world).await;
}

async fn ready(kube: &Kube, pod: &str) {
    let begun = Instant::now();
    while !kube.get(PODS, NS, pod).await.unwrap().is_some_and(|pod| js::ready(&pod)) {
        assert!(begun.elapsed() < PATIENCE, "{pod} does not start");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The same of a StatefulSet beside the cluster, whom no operator looks after.
async fn beside(kube: &Kube, world: &World) {
    let sound = kube.get(SECRETS, NS, "basic-cluster-client-secret").await.unwrap().unwrap()["data"].clone();
    let secret = json!({ "metadata": { "name": BATCH_SECRET }, "data": sound });
    kube.create(SECRETS, NS, secret.clone()).await.unwrap();
    let labels = json!({ "app.kubernetes.io/name": BATCH, "app.kubernetes.io/instance": "basic" });
    let template = json!({
        "metadata": { "labels": labels },
        "spec": {
            "containers": [{ "name": "batch", "image": "example.com/tidb-client:v1",
                "volumeMounts": [{ "name": "tls", "mountPath": "/var/lib/cluster-client-tls", "readOnly": true }] }],
            "volumes": [{ "name": "tls", "secret": { "secretName": BATCH_SECRET } }],
        },
    });
    let spec = json!({ "replicas": 2, "serviceName": BATCH, "selector": { "matchLabels": labels }, "template": template });
    kube.create(STATEFUL_SETS, NS, json!({ "metadata": { "name": BATCH }, "spec": spec })).await.unwrap();
    ready(kube, "basic-batch-0").await;
    ready(kube, "basic-batch-1").await;

    let broken = json!({ "data": { "ca.crt": "bm90aGluZwo=" } });
    kube.merge(SECRETS, (NS, BATCH_SECRET), "", &broken).await.unwrap();
    let gate = Open::new("unstartable/batch/f");
    let error = restart_batch(world, &gate).await.unwrap_err();
    assert_eq!(error.code, Code::Unproved);
    assert_eq!(
        uncounted(&error.message),
        "basic-batch-1 does not start (CrashLoopBackOff); the others are left alone. Pod tidb/basic-batch-1: \
         container batch waits: CrashLoopBackOff: ca.crt: no certificate found; \
         it ended with code 1 (Error), N restarts; \
         BackOff: Back-off restarting failed container: ca.crt: no certificate found; \
         the last lines of batch were: starting | fatal: ca.crt: no certificate found"
    );
    // It was told before it was given up: which pod, which revision, what fails.
    let said = gate.said.lock().unwrap().join("\n");
    assert!(said.contains("basic-batch-1: starts (revision basic-batch-"), "{said}");
    assert!(said.contains("container batch waits: CrashLoopBackOff)"), "{said}");
    kube.merge(SECRETS, (NS, BATCH_SECRET), "", &json!({ "data": sound })).await.unwrap();
    ready(kube, "basic-batch-1").await;
    restart_batch(world, &gate).await.unwrap();

    // A Secret that is missing keeps a pod from beginning at all. It may still come, so it is waited for a while.
    let (namespace, name) = (NS, BATCH_SECRET);
    let uid = js::uid(&kube.get(SECRETS, namespace, name).await.unwrap().unwrap()).to_owned();
    kube.delete(SECRETS, (namespace, name), &uid, None).await.unwrap();
    let hurried = Hurried(world.clock.now(), Instant::now());
    let hurried = World { clock: Arc::new(hurried), ..world.clone() };
    let gate = Open { is_late: true, ..Open::new("unstartable/mount/f") };
    let error = restart_batch(&hurried, &gate).await.unwrap_err();
    assert_eq!(error.code, Code::Unproved);
    let missing = "Pod tidb/basic-batch-1: container batch waits: ContainerCreating; \
         FailedMount: MountVolume.SetUp failed: secret \"basic-batch-tls\" not found";
    assert!(
        error.message.starts_with(
            "basic-batch-1 does not start: its containers have not begun: ContainerCreating, for 1"
        ) && error.message.ends_with(&format!(" minutes now. {missing}")),
        "{error}"
    );
    // Whoever waits when a deadline is near says the same: it is told where the deadline passes.
    let why = gate.why.lock().unwrap().clone().unwrap();
    assert!(why.starts_with("Pod tidb/basic-batch-"), "{why}");
    kube.create(SECRETS, NS, secret).await.unwrap();
    ready(kube, "basic-batch-1").await;
    restart_batch(world, &gate).await.unwrap();
}
