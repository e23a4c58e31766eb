//! A stand-in for the tools that keep what their repository has: it really writes it back, and says of itself what the real
//! controllers say, Argo CD's in an Application without a subresource for its status, Flux's in a Kustomization or a
//! `HelmRelease` with one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbox::world::json as js;
use sandbox::world::kube::{CRDS, Kind, Kube, NAMESPACES, SECRETS, is, kind};
use serde_json::{Value, json};
use stdlib::world::Clock;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinHandle;

use crate::stage::Stage;

const APPLICATIONS: Kind = kind("argoproj.io/v1alpha1", "Application", "applications", true);
const KUSTOMIZATIONS: Kind = kind("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "kustomizations", true);
const HELM_RELEASES: Kind = kind("helm.toolkit.fluxcd.io/v2", "HelmRelease", "helmreleases", true);
/// A Secret that the cluster does not use.
pub(super) const SPARE: &str = "spare";
pub(super) const NS: &str = "tidb";
/// How long the stand-in may take, in its world's time.
const PATIENCE: Duration = Duration::from_secs(120);
pub(super) const PERIOD: Duration = Duration::from_secs(1);
const DISABLED: &str = "kustomize.toolkit.fluxcd.io/reconcile";

/// Data of Secrets by name.
pub(super) type Files = BTreeMap<String, Value>;

/// Which tool it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// An Application of Argo CD.
    Argo,
    /// The same, which knows its objects by the label that others set too, as it does before 3.0.
    Labels,
    /// A Kustomization of Flux.
    Flux,
    /// A `HelmRelease` of Flux that puts back whatever drifts.
    Helm,
}

impl Tool {
    /// Its object: kind, namespace, name.
    pub(super) fn at(self) -> (Kind, &'static str, &'static str) {
        match self {
            Self::Argo | Self::Labels => (APPLICATIONS, "argocd", "database"),
            Self::Flux => (KUSTOMIZATIONS, "flux-system", "database"),
            Self::Helm => (HELM_RELEASES, "flux-system", "database"),
        }
    }

    /// Whether that is an Application.
    pub(super) fn is_argo(self) -> bool {
        matches!(self, Self::Argo | Self::Labels)
    }

    /// What it writes on the objects that it keeps.
    fn sign(self, secret: &str) -> Value {
        match self {
            Self::Argo => {
                json!({ "annotations": { "argocd.argoproj.io/tracking-id": format!("database:/Secret:{NS}/{secret}") } })
            }
            Self::Labels => json!({ "labels": { "app.kubernetes.io/instance": "database" } }),
            Self::Flux => json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "database",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-system" } }),
            Self::Helm => json!({
                "labels": { "helm.toolkit.fluxcd.io/name": "database", "helm.toolkit.fluxcd.io/namespace": "flux-system" },
                "annotations": { "meta.helm.sh/release-name": "database", "meta.helm.sh/release-namespace": NS },
            }),
        }
    }

    /// What its object begins with.
    fn spec(self) -> Value {
        match self {
            Self::Argo | Self::Labels => json!({ "project": "default", "syncPolicy": {
                "automated": { "prune": true, "selfHeal": true }, "syncOptions": ["CreateNamespace=false"] } }),
            Self::Flux => json!({ "interval": "10m", "prune": true, "path": "./database" }),
            Self::Helm => {
                json!({ "interval": "10m", "chartRef": { "kind": "OCIRepository", "name": "database" },
                "driftDetection": { "mode": "enabled" } })
            }
        }
    }
}

/// A tool at work, and its repository.
pub struct Repository {
    pub(super) tool: Tool,
    pub(super) kube: Kube,
    files: Arc<Mutex<Files>>,
    diligent: Arc<AtomicBool>,
    works: JoinHandle<()>,
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.works.abort();
    }
}

/// What the live Secrets hold that the tool keeps.
pub(super) async fn live(kube: &Kube) -> Files {
    let all = kube.list(SECRETS, NS).await.unwrap().0;
    let kept = all.into_iter().filter(|one| js::name(one).starts_with("basic-") || js::name(one) == SPARE);
    kept.map(|one| (js::name(&one).to_owned(), one["data"].clone())).collect()
}

impl Repository {
    /// Defines what the tool knows, hands it the cluster's Secrets, and has it work.
    pub(super) async fn new(stage: &impl Stage, tool: Tool) -> Self {
        Self::of(stage, tool, |_| true).await
    }

    /// One that keeps these of the cluster's Secrets and whose keeper is diligent: while it is paused, he puts into it
    /// whatever is there, or has told it to leave things alone.
    pub async fn diligent(stage: &impl Stage, tool: Tool, keeps: impl Fn(&str) -> bool) -> Self {
        let repository = Self::of(stage, tool, keeps).await;
        if tool == Tool::Flux {
            repository.leaves_alone().await;
        }
        repository.diligent.store(true, Ordering::Relaxed);
        repository
    }

    /// Tells it to leave the cluster's Secrets as they are.
    pub(super) async fn leaves_alone(&self) {
        let names: Vec<String> = self.files.lock().unwrap().keys().cloned().collect();
        for name in names.iter().filter(|name| *name != SPARE) {
            let told = json!({ "metadata": { "annotations": { DISABLED: "disabled" } } });
            self.kube.merge(SECRETS, (NS, name), "", &told).await.unwrap();
        }
    }

    /// One that keeps these of the Secrets.
    pub(super) async fn of(stage: &impl Stage, tool: Tool, keeps: impl Fn(&str) -> bool) -> Self {
        let kube = Kube::new(stage.world().client());
        let (kind, namespace, name) = tool.at();
        let (group, version) = kind.api_version.split_once('/').unwrap();
        let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let subresources = if tool.is_argo() { json!({}) } else { json!({ "status": {} }) };
        let definition = json!({
            "metadata": { "name": format!("{}.{group}", kind.plural) },
            "spec": { "group": group, "scope": "Namespaced",
                "names": { "kind": kind.kind, "plural": kind.plural, "singular": kind.kind.to_lowercase(),
                    "listKind": format!("{}List", kind.kind) },
                "versions": [{ "name": version, "served": true, "storage": true, "subresources": subresources,
                    "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                        "spec": open, "status": open, "operation": open } } } }] },
        });
        kube.create(CRDS, "", definition).await.unwrap();
        kube.ensure(NAMESPACES, "", json!({ "metadata": { "name": namespace } })).await.unwrap();
        let object = json!({ "metadata": { "name": name }, "spec": tool.spec() });
        for _ in 0..100 {
            match kube.create(kind, namespace, object.clone()).await {
                Ok(_) => break,
                // It is not served at once.
                Err(e) if is(&e, 404) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(e) => panic!("{e}"),
            }
        }
        let spare = json!({ "metadata": { "name": SPARE }, "type": "Opaque", "data": { "word": "b2xk" } });
        kube.ensure(SECRETS, NS, spare).await.unwrap();
        let mut files = live(&kube).await;
        files.retain(|name, _| keeps(name));
        for name in files.keys() {
            let sign = json!({ "metadata": tool.sign(name) });
            kube.merge(SECRETS, (NS, name), "", &sign).await.unwrap();
        }
        let files = Arc::new(Mutex::new(files));
        let (clock, theirs, repository) = (stage.world().clock(), kube.clone(), Arc::clone(&files));
        let diligent = Arc::<AtomicBool>::default();
        let does_so = Arc::clone(&diligent);
        let works = tokio::spawn(async move {
            loop {
                // What a server that is away for a moment does not do is done the next time.
                let _ = works(tool, &theirs, &repository, &does_so, &*clock).await;
                tokio::time::sleep(PERIOD).await;
            }
        });
        Self { tool, kube, files, diligent, works }
    }

    pub(super) async fn object(&self) -> Value {
        let (kind, namespace, name) = self.tool.at();
        self.kube.get(kind, namespace, name).await.unwrap().unwrap()
    }

    /// Puts into the repository what is there now.
    pub(super) async fn commit(&self) {
        let now = live(&self.kube).await;
        *self.files.lock().unwrap() = now;
    }

    /// Somebody changes the Secret that nobody uses; whether it is put back within a while.
    pub(super) async fn puts_back(&self) -> bool {
        let word = async || self.kube.get(SECRETS, NS, SPARE).await.unwrap().unwrap()["data"]["word"].clone();
        let other = json!({ "data": { "word": "bmV3" } });
        self.kube.merge(SECRETS, (NS, SPARE), "", &other).await.unwrap();
        for _ in 0..8 {
            if word().await == "b2xk" {
                return true;
            }
            tokio::time::sleep(PERIOD).await;
        }
        let back = json!({ "data": { "word": "b2xk" } });
        self.kube.merge(SECRETS, (NS, SPARE), "", &back).await.unwrap();
        false
    }

    /// Waits until the tool says this of every object that it keeps.
    pub async fn compared(&self, state: &str) {
        let begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(2 * PERIOD).await;
            let object = self.object().await;
            // Flux says nothing of single objects.
            let resources = js::items(&object, "/status/resources");
            let all = resources.iter().all(|one| js::text(one, "/status") == state);
            if all && !(self.tool.is_argo() && resources.is_empty()) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{object:#}");
        }
    }
}

/// One round of the tool's work.
async fn works(
    tool: Tool,
    kube: &Kube,
    files: &Mutex<Files>,
    diligent: &AtomicBool,
    clock: &dyn Clock,
) -> kube::Result<()> {
    let (kind, namespace, name) = tool.at();
    let Some(object) = kube.get(kind, namespace, name).await? else { return Ok(()) };
    let paused = match tool {
        Tool::Argo | Tool::Labels => object.pointer("/spec/syncPolicy/automated").is_none(),
        Tool::Flux | Tool::Helm => object.pointer("/spec/suspend") == Some(&json!(true)),
    };
    if paused && diligent.load(Ordering::Relaxed) {
        let now = live(kube).await;
        files.lock().unwrap().iter_mut().for_each(|(name, file)| *file = now[name].clone());
    }
    if paused && !tool.is_argo() {
        return Ok(());
    }
    let mut wanted = files.lock().unwrap().clone();
    let all = kube.list(SECRETS, NS).await?.0;
    for secret in &all {
        let disabled = tool == Tool::Flux && js::annotation(secret, DISABLED) == "disabled";
        if let Some(file) = wanted.get_mut(js::name(secret)) {
            if *file != secret["data"] && !paused && !disabled {
                let data = json!({ "data": file });
                kube.merge(SECRETS, (NS, js::name(secret)), "", &data).await?;
            }
            *file = json!(if *file == secret["data"] || !paused { "Synced" } else { "OutOfSync" });
        }
    }
    let status = match tool {
        Tool::Argo | Tool::Labels => {
            let one = |(name, state): (&String, &Value)| {
                json!({ "version": "v1", "kind": "Secret", "namespace": NS,
                "name": name, "status": state })
            };
            let resources: Vec<Value> = wanted.iter().map(one).collect();
            let second = clock.now().replace_nanosecond(0).unwrap();
            json!({ "resources": resources, "reconciledAt": second.format(&Rfc3339).unwrap() })
        }
        Tool::Helm => json!({ "observedGeneration": js::generation(&object),
            "conditions": [{ "type": "Ready", "status": "True" }] }),
        Tool::Flux => {
            let one = |name: &String| json!({ "id": format!("{NS}_{name}__Secret"), "v": "v1" });
            let entries: Vec<Value> = wanted.keys().map(one).collect();
            json!({ "observedGeneration": js::generation(&object), "inventory": { "entries": entries },
                "conditions": [{ "type": "Ready", "status": "True" }] })
        }
    };
    if object["status"] != status {
        let part = if tool.is_argo() { "" } else { "/status" };
        kube.merge(kind, (namespace, name), part, &json!({ "status": status })).await?;
    }
    Ok(())
}
