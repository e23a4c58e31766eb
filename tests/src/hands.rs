//! What a person does to a world with `kubectl`, `cfssl` and `mv`, and what they see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandbox::world::genesis::{INPUTS, stem};
use sandbox::world::json as js;
use sandbox::world::kube::{DEPLOYMENTS, Kube, PODS, SECRETS, STATEFUL_SETS, TIDB_CLUSTERS};
use sandbox::world::volume::secret_files;
use serde_json::{Value, json};
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use stdlib::world::Disk;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::stage::Stage;
use crate::state::{LEASES, State};

/// The components that have a Secret in the lab's world.
pub const COMPONENTS: [&str; 4] = ["pd", "tikv", "tidb", "client"];

/// The Secret of a component.
pub fn secret_name(component: &str) -> String {
    match component {
        "client" => "basic-cluster-client-secret".to_owned(),
        _ => format!("basic-{component}-cluster-secret"),
    }
}

fn input(name: &str) -> &'static [u8] {
    INPUTS.iter().find(|(known, _)| *known == name).unwrap().1.as_bytes()
}

/// `cfssl gencert`: a CA with its key.
pub struct Authority {
    /// Its own certificate.
    pub cert: Certificate,
    /// Its key.
    pub key: Key,
}

impl Authority {
    /// `cfssl gencert -initca ca-csr.json`.
    pub fn make(now: OffsetDateTime) -> Self {
        let request = Request::from_json(input("ca-csr.json"), "ca-csr.json").unwrap();
        let (cert, key) = stdlib::ca::create(&request, now).unwrap();
        Self { cert, key }
    }

    /// The fingerprint as the world writes it.
    pub fn print(&self) -> String {
        print(&self.cert)
    }

    /// The key as cfssl writes it.
    pub fn key_pem(&self) -> Vec<u8> {
        self.key.to_pem().unwrap().as_bytes().to_vec()
    }

    /// Certificate and key of a component.
    pub fn issue(&self, component: &str, now: OffsetDateTime) -> (Vec<u8>, Vec<u8>) {
        let name = format!("{}.json", stem(component));
        let request = Request::from_json(input(&name), &name).unwrap();
        let config = Config::from_json(input("ca-config.json"), "ca-config.json").unwrap();
        let profile = config.profile(if component == "client" { "client" } else { "internal" }).unwrap();
        let (cert, key) = stdlib::cfssl::issue(&self.cert, &self.key, &request, profile, now).unwrap();
        (cert.pem().into_bytes(), key.to_pem().unwrap().as_bytes().to_vec())
    }
}

/// The fingerprint of a certificate as the world writes it.
pub fn print(cert: &Certificate) -> String {
    cert.fingerprint().trim_start_matches("sha256:").to_owned()
}

/// A Secret's files by their names.
pub type Secrets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;
/// Files by where they lie.
pub type Folder = BTreeMap<PathBuf, Vec<u8>>;

/// What a person does on a stage.
#[allow(async_fn_in_trait, reason = "only tests use it")]
pub trait Hands: Stage {
    /// The API server.
    fn kube(&self) -> Kube {
        Kube::new(self.world().client())
    }

    /// A file of the PKI folder.
    fn pki_file(&self, name: &str) -> Vec<u8> {
        self.pki(name)
    }

    /// Writes a file of the PKI folder.
    fn write_pki(&self, name: &str, bytes: &[u8]) {
        let mode = if name.contains("-key") { 0o600 } else { 0o644 };
        self.disk().write_atomic(&self.folder().join(name), bytes, mode).unwrap();
    }

    /// `rm` in the PKI folder.
    fn remove_pki(&self, name: &str) {
        self.disk().remove(&self.folder().join(name)).unwrap();
    }

    /// `mv` in the PKI folder.
    fn move_pki(&self, from: &str, to: &str) {
        self.write_pki(to, &self.pki_file(from));
        self.remove_pki(from);
    }

    /// All files of the PKI folder and of those below it.
    fn files(&self) -> Folder {
        let mut files = Folder::new();
        found(&*self.disk(), &self.folder(), &mut files);
        files
    }

    /// The CAs whose certificates lie in the PKI folder, those retired included.
    fn cas_ever_in_the_folder(&self) -> BTreeSet<String> {
        let files = self.files();
        let certs = files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "pem"));
        let certs = certs.filter(|(path, _)| !path.to_string_lossy().contains("-key"));
        let parsed = certs
            .flat_map(|(path, bytes)| stdlib::cert::parse_many(bytes, &path.display().to_string()).unwrap());
        parsed.filter(Certificate::is_ca).map(|cert| print(&cert)).collect()
    }

    /// The files of all Secrets.
    async fn secrets(&self) -> Secrets {
        let (secrets, _) = self.kube().list(SECRETS, "tidb").await.unwrap();
        // A server before 1.24 makes one for each account; what it holds is the server's own.
        let ours = secrets.iter().filter(|secret| secret["type"] != "kubernetes.io/service-account-token");
        ours.map(|secret| (js::name(secret).to_owned(), secret_files(secret))).collect()
    }

    /// Everything that a run may change and a refusal must not.
    async fn all(&self) -> (Secrets, Folder, Value) {
        let cluster = self.kube().get(TIDB_CLUSTERS, "tidb", "basic").await.unwrap().unwrap();
        (self.secrets().await, self.files(), cluster["spec"].clone())
    }

    /// What any write would move: versions of what nobody but runs writes, of the rest what is wanted, and modes of files.
    async fn versions(&self) -> State {
        let mut versions = State::new();
        for kind in [SECRETS, LEASES, TIDB_CLUSTERS, STATEFUL_SETS, DEPLOYMENTS] {
            for object in self.kube().list(kind, "tidb").await.unwrap().0 {
                let metadata = &object["metadata"];
                // The others' versions move by themselves, when their status is written, and so does a TidbCluster's generation.
                let version = match kind {
                    SECRETS | LEASES => metadata["resourceVersion"].clone(),
                    _ => json!([object["spec"], metadata["annotations"]]),
                };
                versions.insert(format!("{} {}", kind.kind, js::name(&object)), version);
            }
        }
        let modes = self.files().into_keys().map(|path| {
            (path.display().to_string(), json!(format!("{:o}", self.disk().mode(&path).unwrap())))
        });
        versions.extend(modes);
        versions
    }

    /// `kubectl apply` of some files of a component's Secret.
    async fn patch(&self, component: &str, files: &[(&str, &[u8])]) {
        let data: BTreeMap<_, _> =
            files.iter().map(|(name, bytes)| (*name, STANDARD.encode(bytes))).collect();
        let name = secret_name(component);
        self.kube().merge(SECRETS, ("tidb", &name), "", &json!({ "data": data })).await.unwrap();
    }

    /// `kubectl delete secret`.
    async fn delete_secret(&self, component: &str) {
        let (kube, name) = (self.kube(), secret_name(component));
        let secret = kube.get(SECRETS, "tidb", &name).await.unwrap().unwrap();
        kube.delete(SECRETS, ("tidb", &name), js::uid(&secret), None).await.unwrap();
    }

    /// The names and uids of the cluster's pods.
    async fn pods(&self) -> BTreeMap<String, String> {
        let pods = self.kube().list(PODS, "tidb").await.unwrap().0;
        pods.iter().map(|pod| (js::name(pod).to_owned(), js::uid(pod).to_owned())).collect()
    }

    /// The page's marker, which asks for a rolling restart.
    async fn ask_to_restart(&self, marker: &str) {
        let kube = self.kube();
        let mut spec = json!({});
        for component in ["pd", "tikv", "tidb"] {
            spec[component] = json!({ "annotations": { "tidb.pingcap.com/restartedAt": marker } });
        }
        kube.merge(TIDB_CLUSTERS, ("tidb", "basic"), "", &json!({ "spec": spec })).await.unwrap();
        let template =
            json!({ "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": marker } } });
        let patch = json!({ "spec": { "template": template } });
        kube.merge(DEPLOYMENTS, ("tidb", "basic-client"), "", &patch).await.unwrap();
    }

    /// The page's rolling restart, and patience.
    async fn restart(&self, marker: &str) {
        // Secrets reach the pods first.
        sleep(self.patience() / 20).await;
        let before = self.pods().await;
        self.ask_to_restart(marker).await;
        let begun = Instant::now();
        while self.pods().await.values().any(|uid| before.values().any(|old| old == uid)) {
            assert!(begun.elapsed() < self.patience(), "not every pod was restarted");
            sleep(Duration::from_secs(1)).await;
        }
        self.world().steady(self.patience()).await.unwrap();
    }
}

impl<T: Stage> Hands for T {}

fn found(disk: &dyn Disk, folder: &Path, files: &mut Folder) {
    for name in disk.list(folder).unwrap() {
        let path = folder.join(name);
        match disk.read(&path) {
            Ok(bytes) => drop(files.insert(path, bytes)),
            Err(_) => found(disk, &path, files),
        }
    }
}
