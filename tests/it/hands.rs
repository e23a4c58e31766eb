//! What a person does to a world with `kubectl`, `cfssl` and `mv`, and what they see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sandbox::world::genesis::{INPUTS, stem};
use sandbox::world::kube::{DEPLOYMENTS, Kube, SECRETS, TIDB_CLUSTERS};
use sandbox::world::volume::secret_files;
use serde_json::{Value, json};
use stdlib::cert::{Certificate, Key};
use stdlib::cfssl::{Config, Request};
use stdlib::world::Disk;
use time::OffsetDateTime;

use crate::lab::{Lab, PKI};

/// The components that have a Secret in the lab's world.
pub(crate) const COMPONENTS: [&str; 4] = ["pd", "tikv", "tidb", "client"];

/// The Secret of a component.
pub(crate) fn secret_name(component: &str) -> String {
    match component {
        "client" => "basic-cluster-client-secret".to_owned(),
        _ => format!("basic-{component}-cluster-secret"),
    }
}

fn input(name: &str) -> &'static [u8] {
    INPUTS.iter().find(|(known, _)| *known == name).unwrap().1.as_bytes()
}

/// `cfssl gencert`: a CA with its key.
pub(crate) struct Authority {
    pub(crate) cert: Certificate,
    pub(crate) key: Key,
}

impl Authority {
    /// `cfssl gencert -initca ca-csr.json`.
    pub(crate) fn make(now: OffsetDateTime) -> Self {
        let request = Request::from_json(input("ca-csr.json"), "ca-csr.json").unwrap();
        let (cert, key) = stdlib::ca::create(&request, now).unwrap();
        Self { cert, key }
    }

    /// The fingerprint as the world writes it.
    pub(crate) fn print(&self) -> String {
        print(&self.cert)
    }

    /// The key as cfssl writes it.
    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.to_pem().unwrap().as_bytes().to_vec()
    }

    /// Certificate and key of a component.
    pub(crate) fn issue(&self, component: &str, now: OffsetDateTime) -> (Vec<u8>, Vec<u8>) {
        let name = format!("{}.json", stem(component));
        let request = Request::from_json(input(&name), &name).unwrap();
        let config = Config::from_json(input("ca-config.json"), "ca-config.json").unwrap();
        let profile = config.profile(if component == "client" { "client" } else { "internal" }).unwrap();
        let (cert, key) = stdlib::cfssl::issue(&self.cert, &self.key, &request, profile, now).unwrap();
        (cert.pem().into_bytes(), key.to_pem().unwrap().as_bytes().to_vec())
    }
}

/// The fingerprint of a certificate as the world writes it.
pub(crate) fn print(cert: &Certificate) -> String {
    cert.fingerprint().trim_start_matches("sha256:").to_owned()
}

impl Lab {
    pub(crate) fn kube(&self) -> Kube {
        Kube::new(self.world.client())
    }

    /// A file of the PKI folder.
    pub(crate) fn pki_file(&self, name: &str) -> Vec<u8> {
        self.disk.read(&Path::new(PKI).join(name)).unwrap()
    }

    pub(crate) fn write_pki(&self, name: &str, bytes: &[u8]) {
        let mode = if name.contains("-key") { 0o600 } else { 0o644 };
        self.disk.write_atomic(&Path::new(PKI).join(name), bytes, mode).unwrap();
    }

    /// `mv` in the PKI folder.
    pub(crate) fn move_pki(&self, from: &str, to: &str) {
        self.write_pki(to, &self.pki_file(from));
        self.disk.remove(&Path::new(PKI).join(from)).unwrap();
    }

    /// All files of the PKI folder.
    pub(crate) fn folder(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = self.disk.files();
        files.retain(|path, _| path.starts_with(PKI));
        files
    }

    /// The files of all Secrets.
    pub(crate) async fn secrets(&self) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
        let (secrets, _) = self.kube().list(SECRETS, "tidb").await.unwrap();
        secrets
            .iter()
            .map(|secret| (sandbox::world::json::name(secret).to_owned(), secret_files(secret)))
            .collect()
    }

    /// Everything that a run may change and a refusal must not.
    pub(crate) async fn all(
        &self,
    ) -> (BTreeMap<String, BTreeMap<String, Vec<u8>>>, BTreeMap<PathBuf, Vec<u8>>, Value) {
        let cluster = self.kube().get(TIDB_CLUSTERS, "tidb", "basic").await.unwrap().unwrap();
        (self.secrets().await, self.folder(), cluster["spec"].clone())
    }

    /// `kubectl apply` of some files of a component's Secret.
    pub(crate) async fn patch(&self, component: &str, files: &[(&str, &[u8])]) {
        let data: BTreeMap<_, _> =
            files.iter().map(|(name, bytes)| (*name, STANDARD.encode(bytes))).collect();
        let name = secret_name(component);
        self.kube().merge(SECRETS, ("tidb", &name), "", &json!({ "data": data })).await.unwrap();
    }

    /// `kubectl delete secret`.
    pub(crate) async fn delete_secret(&self, component: &str) {
        let (kube, name) = (self.kube(), secret_name(component));
        let secret = kube.get(SECRETS, "tidb", &name).await.unwrap().unwrap();
        let uid = sandbox::world::json::text(&secret, "/metadata/uid");
        kube.delete(SECRETS, ("tidb", &name), uid, None).await.unwrap();
    }

    /// The page's rolling restart, and patience.
    pub(crate) async fn restart(&self, marker: &str) {
        let kube = self.kube();
        let mut spec = json!({});
        for component in ["pd", "tikv", "tidb"] {
            spec[component] = json!({ "annotations": { "tidb.pingcap.com/restartedAt": marker } });
        }
        // Secrets reach the pods first.
        tokio::time::sleep(Duration::from_secs(180)).await;
        kube.merge(TIDB_CLUSTERS, ("tidb", "basic"), "", &json!({ "spec": spec })).await.unwrap();
        let template =
            json!({ "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": marker } } });
        let patch = json!({ "spec": { "template": template } });
        kube.merge(DEPLOYMENTS, ("tidb", "basic-client"), "", &patch).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1800)).await;
        self.world.steady(Duration::from_secs(3600)).await.unwrap();
    }
}
