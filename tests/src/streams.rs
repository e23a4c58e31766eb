//! Streams into pods, `pods/portforward` and `pods/exec`: two stories on the sandbox's server with its own kubelet, and on
//! a real one that proxies to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sandbox::world::json as js;
use sandbox::world::kube::{Kube, PODS, SERVICES};
use serde_json::{Value, json};
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, Gate, Past, Permit, Progress, ReadOnly};
use stdlib::k8s::forward::Forward;
use stdlib::tls::TlsFailure;
use stdlib::world::{Net, Stream};
use stdlib::{World, registry};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

const NS: &str = "tidb";
const PD: &str = "basic-pd-0";
const PD_NAME: &str = "basic-pd-0.basic-pd-peer.tidb.svc";
const PD_PORT: u16 = 2379;
/// Long enough for pods on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A network from which no pod can be reached, as a laptop's. It counts who tries.
#[derive(Default)]
pub struct Nowhere(AtomicUsize);

impl Nowhere {
    /// How often somebody tried.
    pub fn tried(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Net for Nowhere {
    fn dial(&self, host: &str, _: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let text = format!("{host} is nowhere");
        Box::pin(async move { Err(io::Error::new(io::ErrorKind::HostUnreachable, text)) })
    }
}

/// A network that reaches the cluster's pods through its API server alone.
pub fn through(client: kube::Client, nowhere: &Arc<Nowhere>) -> Arc<dyn Net> {
    Arc::new(Forward::new(client, vec![NS.into()], Arc::clone(nowhere) as Arc<dyn Net>))
}

/// A server with a TiDB cluster, and who asks it.
pub struct Place<'a> {
    /// One who may do everything.
    pub admin: kube::Client,
    /// One who may read pods and Secrets, and nothing else.
    pub reader: kube::Client,
    /// What primitives see, but for the network.
    pub world: &'a World,
}

/// A gate that lets everything pass, and tells that something is under way.
#[derive(Default)]
struct Telling(Notify);

impl Gate for Telling {
    fn effect(&self, _: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {
        self.0.notify_one();
    }
    fn marker(&self) -> String {
        "one".into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

async fn call(world: &World, name: &str, args: &[Value]) -> Result<Value, PrimError> {
    let primitive = registry().get(name).unwrap();
    tokio::time::timeout(PATIENCE, (primitive.run)(world, args, &ReadOnly)).await.expect("it must end")
}

async fn pod(kube: &Kube, name: &str) -> Value {
    kube.get(PODS, NS, name).await.unwrap().unwrap_or_default()
}

/// Waits until another pod of this name is ready.
async fn replaced(kube: &Kube, name: &str, uid: &str) {
    let begun = tokio::time::Instant::now();
    loop {
        let found = pod(kube, name).await;
        if js::uid(&found) != uid && js::ready(&found) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{name} does not come back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn probe(world: &World, host: &str, port: u16) -> Result<Value, PrimError> {
    call(world, "tls::probe", &[json!(host), json!(port), json!({ "name": PD_NAME })]).await
}

impl Place<'_> {
    fn reached_by(&self, client: &kube::Client, net: Arc<dyn Net>) -> World {
        World { net, cluster: Some(client.clone()), ..self.world.clone() }
    }

    /// Whether the server can tell a command that its input has ended, as servers do since 1.30.
    async fn ends_input(&self) -> bool {
        let version = self.admin.apiserver_version().await.unwrap();
        version.minor.trim_end_matches('+').parse::<u32>().unwrap() >= 30
    }

    /// Tells the story of connections that are forwarded.
    pub async fn forwarding(&self) {
        let kube = Kube::new(self.admin.clone());
        let nowhere = Arc::<Nowhere>::default();
        let world = self.reached_by(&self.admin, through(self.admin.clone(), &nowhere));
        let before = pod(&kube, PD).await;
        let ip = js::text(&before, "/status/podIP").to_owned();
        let served =
            call(&world, "k8s::secret", &[json!(NS), json!("basic-pd-cluster-secret")]).await.unwrap();

        // By its address no pod can be reached; through the API server it is, under the same name, with the same certificate.
        let direct = self.reached_by(&self.admin, nowhere.clone());
        assert_eq!(probe(&direct, &ip, PD_PORT).await.unwrap_err().code, Code::Unavailable);
        assert_eq!(nowhere.tried(), 1);
        let seen = probe(&world, &ip, PD_PORT).await.unwrap();
        assert_eq!(seen["fingerprint"], served["fingerprint"]);

        // So it is by the names of the cluster, and by a Service's port, which is another than the pods'.
        let seen = probe(&world, PD_NAME, PD_PORT).await.unwrap();
        assert_eq!(seen["fingerprint"], served["fingerprint"]);
        let labels = before["metadata"]["labels"].clone();
        let selector: serde_json::Map<String, Value> = labels
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| *key == "app.kubernetes.io/component" || *key == "app.kubernetes.io/instance")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let front = json!({
            "metadata": { "name": "front" },
            "spec": { "selector": selector, "ports": [{ "name": "api", "port": 443, "targetPort": PD_PORT }] },
        });
        kube.create(SERVICES, NS, front).await.unwrap();
        let seen = probe(&world, "front.tidb.svc", 443).await.unwrap();
        assert!(seen["fingerprint"].as_str().unwrap().starts_with("sha256:"), "{seen}");
        let error = probe(&world, "front.tidb.svc", 444).await.unwrap_err();
        assert!(error.message.contains("it has no port 444"), "{error}");

        // What is no pod of the cluster is dialled as ever.
        let tried = nowhere.tried();
        probe(&world, "192.0.2.7", PD_PORT).await.unwrap_err();
        assert_eq!(nowhere.tried(), tried + 1);

        // Where nobody listens, nobody has refused a certificate.
        let client =
            call(&world, "k8s::secret", &[json!(NS), json!("basic-cluster-client-secret")]).await.unwrap();
        let identity = json!({ "cert": client["tls.crt"], "key": client["tls.key"] });
        let closed = json!({ "endpoints": [{ "pod": PD, "host": ip, "port": 9, "names": [PD_NAME] }] });
        let options = json!({ "identity": identity, "within": "1s" });
        let error = call(&world, "tls::refuses", &[closed, options]).await.unwrap_err();
        assert_eq!(error.code, Code::Unproved);
        assert!(error.message.contains("it did not get as far as refusing"), "{error}");
        assert!(error.message.contains("port-forward to tidb/basic-pd-0:9 failed"), "{error}");
        assert!(error.hint.as_ref().unwrap().contains("--pods forward"), "{:?}", error.hint);

        // Where somebody listens and refuses, the alert comes through.
        let stranger = rcgen::generate_simple_self_signed(vec!["stranger".into()]).unwrap();
        let key = stdlib::secret::Secret::new(stranger.signing_key.serialize_pem(), "stranger");
        let identity = json!({ "cert": stranger.cert.pem(), "key": world.secrets.put(&key).unwrap() });
        let open = json!({ "endpoints": [{ "pod": PD, "host": ip, "port": PD_PORT, "names": [PD_NAME] }] });
        let refused = call(&world, "tls::refuses", &[open, json!({ "identity": identity })]).await.unwrap();
        assert!(refused["endpoints"][0]["alert"].is_string(), "{refused}");

        self.forbidden(&ip).await;
        self.gone(&kube, &world, &ip, js::uid(&before)).await;
        assert_eq!(nowhere.tried(), tried + 1, "no pod was dialled by its address");
    }

    /// Who may not forward is told the rule to add, at once.
    async fn forbidden(&self, ip: &str) {
        let nowhere = Arc::<Nowhere>::default();
        let world = self.reached_by(&self.reader, through(self.reader.clone(), &nowhere));
        let component =
            json!({ "endpoints": [{ "pod": PD, "host": ip, "port": PD_PORT, "names": [PD_NAME] }] });
        let ca = call(&world, "k8s::secret", &[json!(NS), json!("basic-pd-cluster-secret")]).await.unwrap();
        let expected = json!({ "trusted_by": ca["ca.crt"], "within": "1h" });
        let error = call(&world, "tls::serves", &[component, expected]).await.unwrap_err();
        assert_eq!(error.code, Code::Forbidden, "{error}");
        let rule = "{apiGroups: [\"\"], resources: [\"pods/portforward\"], verbs: [\"create\", \"get\"]}";
        assert!(error.message.contains(rule), "{error}");
        assert_eq!(nowhere.tried(), 0);
    }

    /// A pod that goes away in the middle is told for what it is, and its successor is not taken for it.
    async fn gone(&self, kube: &Kube, world: &World, ip: &str, uid: &str) {
        let mut stream = world.net.dial(ip, PD_PORT).await.unwrap();
        kube.delete(PODS, (NS, PD), uid, Some(0)).await.unwrap();
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut byte)).await.expect("it must end");
        let error = read.unwrap_err();
        assert!(error.to_string().contains("tidb/basic-pd-0:2379 was closed at the pod's end"), "{error}");
        assert!(!TlsFailure::from(error).is_refusal());
        replaced(kube, PD, uid).await;
        let error = world.net.dial(ip, PD_PORT).await.err().unwrap();
        assert!(error.to_string().contains("is gone"), "{error}");
    }

    /// Tells the story of commands.
    pub async fn commands(&self) {
        let kube = Kube::new(self.admin.clone());
        let world = self.reached_by(&self.admin, Arc::new(Nowhere::default()));
        let pd = json!({ "namespace": NS, "name": PD });
        let exec = async |command: &[&str], options: Value| {
            call(&world, "k8s::exec", &[pd.clone(), json!(""), json!(command), options]).await
        };
        let one = |told: &Value| told["pods"][0].clone();

        let told = exec(&["cat", "/var/lib/pd-tls/ca.crt"], json!({ "stdout": "BEGIN CERTIFICATE" })).await;
        let told = one(&told.unwrap());
        assert_eq!((&told["pod"], &told["exit"], &told["cut"]), (&json!(PD), &json!(0), &json!(false)));
        let error = exec(&["echo", "a  b"], json!({ "stdout": "c" })).await.unwrap_err();
        assert_eq!(error.code, Code::Unproved);
        assert_eq!(error.found.as_deref(), Some("`a  b`"), "an argument stays one, without a shell");

        // Every pod that a selector finds.
        let component = pod(&kube, PD).await["metadata"]["labels"]["app.kubernetes.io/component"].clone();
        let all = json!({ "namespace": NS, "selector": format!("app.kubernetes.io/component={}", component.as_str().unwrap()) });
        let told = call(&world, "k8s::exec", &[all, json!(""), json!(["true"])]).await.unwrap();
        assert_eq!(told["pods"].as_array().unwrap().len(), 3, "{told}");

        // Input: a text, and a secret that must not come back.
        let told = exec(&["head", "-n", "1"], json!({ "stdin": "first\nsecond\n" })).await.unwrap();
        assert_eq!(one(&told)["stdout"], "first\n");
        let password = stdlib::secret::Secret::new("correct horse", "hmac:x");
        let handle = world.secrets.put(&password).unwrap();
        let told = exec(&["true"], json!({ "stdin": handle })).await.unwrap();
        assert!(!told.to_string().contains("horse"));
        let until_its_end = json!({ "stdin": "all of it\n", "within": "3s" });
        let told = exec(&["cat"], until_its_end).await;
        if self.ends_input().await {
            assert_eq!(one(&told.unwrap())["stdout"], "all of it\n");
            let error = exec(&["cat"], json!({ "stdin": handle })).await.unwrap_err();
            assert!(error.message.contains("printed a secret"), "{error}");
        } else {
            let error = told.unwrap_err();
            assert_eq!(error.code, Code::Timeout);
            assert!(error.hint.as_ref().unwrap().contains("before 1.30"), "{:?}", error.hint);
        }
        let key = exec(&["cat", "/var/lib/pd-tls/tls.key"], json!({})).await.unwrap_err();
        assert!(key.message.contains("printed a secret"), "{key}");

        // It ends otherwise than it should, prints too much, takes too long, is not there.
        let error = exec(&["cat", "/nowhere/x"], json!({})).await.unwrap_err();
        assert_eq!(error.code, Code::Unproved);
        assert_eq!(error.expected.as_deref(), Some("0"));
        assert_eq!(error.found.as_deref(), Some("1: cat: /nowhere/x: No such file or directory"));
        assert_eq!(one(&exec(&["false"], json!({ "exit": 1 })).await.unwrap())["exit"], 1);
        let told = one(&exec(&["seq", "4000"], json!({})).await.unwrap());
        assert_eq!((told["stdout"].as_str().unwrap().len(), &told["cut"]), (8192, &json!(true)));
        for endless in [&["sleep", "600"][..], &["yes"]] {
            let error = exec(endless, json!({ "within": "2s" })).await.unwrap_err();
            assert_eq!(error.code, Code::Timeout, "{error}");
            assert!(error.message.contains("has not ended within 2s"), "{error}");
        }
        let error = exec(&["rm", "-rf", "/"], json!({})).await.unwrap_err();
        assert!(error.message.contains("could not be run"), "{error}");
        assert!(error.message.contains("executable file not found"), "{error}");

        // Who may not is told the rule to add; a pod or container that is not there is named.
        let reader = self.reached_by(&self.reader, Arc::new(Nowhere::default()));
        let error = call(&reader, "k8s::exec", &[pd.clone(), json!(""), json!(["true"])]).await.unwrap_err();
        assert_eq!(error.code, Code::Forbidden, "{error}");
        let rule = "{apiGroups: [\"\"], resources: [\"pods/exec\"], verbs: [\"create\", \"get\"]}";
        assert!(error.hint.as_ref().unwrap().contains(rule), "{:?}", error.hint);
        let nobody = json!({ "namespace": NS, "name": "nobody" });
        let error = call(&world, "k8s::exec", &[nobody, json!(""), json!(["true"])]).await.unwrap_err();
        assert_eq!((error.code, error.object.as_str()), (Code::NotFound, "Pod tidb/nobody"));
        let error =
            call(&world, "k8s::exec", &[pd.clone(), json!("other"), json!(["true"])]).await.unwrap_err();
        assert!(error.message.contains("container other is not valid for pod basic-pd-0"), "{error}");

        // The pod goes away while the command runs.
        let uid = js::uid(&pod(&kube, PD).await).to_owned();
        let gate = Telling::default();
        let args = [pd.clone(), json!(""), json!(["sleep", "600"]), json!({ "within": "1h" })];
        let running = (registry().get("k8s::exec").unwrap().run)(&world, &args, &gate);
        let deleting = async {
            gate.0.notified().await;
            kube.delete(PODS, (NS, PD), &uid, Some(0)).await.unwrap();
        };
        let both = futures::future::join(running, deleting);
        let (ended, ()) = tokio::time::timeout(PATIENCE, both).await.expect("it must end");
        let error = ended.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "{error}");
        assert!(error.message.contains("was cut off before it said how it ended"), "{error}");
        replaced(&kube, PD, &uid).await;
    }
}
