//! Objects that Argo CD or Flux keeps: stories told on the sandbox's API server and on a real one.
//!
//! A stand-in keeps the Secrets as its repository has them, and really writes them back. It says of itself what the real
//! controllers say: Argo CD's in an Application without a subresource for its status, Flux's in a Kustomization with one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runner::events::{EndState, Ending};
use runner::exit_code::ExitCode;
use sandbox::world::json as js;
use sandbox::world::kube::{CRDS, Kind, Kube, NAMESPACES, SECRETS, is, kind};
use serde_json::{Value, json};
use stdlib::world::Clock;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinHandle;

use crate::stage::Stage;

const APPLICATIONS: Kind = kind("argoproj.io/v1alpha1", "Application", "applications", true);
const KUSTOMIZATIONS: Kind = kind("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "kustomizations", true);
const WORKFLOW: &str = "tidb/cfssl-components";
/// One component is enough: what is tried is not its restart.
const PAUSE: &[(&str, &str)] = &[("components", "tidb"), ("managed", "pause")];
/// A Secret that the cluster does not use, and one that the runs change.
const SPARE: &str = "spare";
const TIDB: &str = "basic-tidb-cluster-secret";
const NS: &str = "tidb";
/// How long the stand-in may take, in its world's time.
const PATIENCE: Duration = Duration::from_secs(120);
const PERIOD: Duration = Duration::from_secs(1);
const DISABLED: &str = "kustomize.toolkit.fluxcd.io/reconcile";

/// Data of Secrets by name.
type Files = BTreeMap<String, Value>;

/// Which tool it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Argo,
    Flux,
}

impl Tool {
    /// Its object: kind, namespace, name.
    fn at(self) -> (Kind, &'static str, &'static str) {
        match self {
            Self::Argo => (APPLICATIONS, "argocd", "database"),
            Self::Flux => (KUSTOMIZATIONS, "flux-system", "database"),
        }
    }

    /// What it writes on the objects that it keeps.
    fn sign(self, secret: &str) -> Value {
        match self {
            Self::Argo => {
                json!({ "annotations": { "argocd.argoproj.io/tracking-id": format!("database:/Secret:{NS}/{secret}") } })
            }
            Self::Flux => json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "database",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-system" } }),
        }
    }

    /// What its object begins with.
    fn spec(self) -> Value {
        match self {
            Self::Argo => json!({ "project": "default", "syncPolicy": {
                "automated": { "prune": true, "selfHeal": true }, "syncOptions": ["CreateNamespace=false"] } }),
            Self::Flux => json!({ "interval": "10m", "prune": true, "path": "./database" }),
        }
    }
}

/// A tool at work, and its repository.
struct Repository {
    tool: Tool,
    kube: Kube,
    files: Arc<Mutex<Files>>,
    works: JoinHandle<()>,
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.works.abort();
    }
}

/// What the live Secrets hold that the tool keeps.
async fn live(kube: &Kube) -> Files {
    let all = kube.list(SECRETS, NS).await.unwrap().0;
    let kept = all.into_iter().filter(|one| js::name(one).starts_with("basic-") || js::name(one) == SPARE);
    kept.map(|one| (js::name(&one).to_owned(), one["data"].clone())).collect()
}

impl Repository {
    /// Defines what the tool knows, hands it the cluster's Secrets, and has it work.
    async fn new(stage: &impl Stage, tool: Tool) -> Self {
        let kube = Kube::new(stage.world().client());
        let (kind, namespace, name) = tool.at();
        let (group, version) = kind.api_version.split_once('/').unwrap();
        let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let subresources = if tool == Tool::Flux { json!({ "status": {} }) } else { json!({}) };
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
        kube.create(NAMESPACES, "", json!({ "metadata": { "name": namespace } })).await.unwrap();
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
        kube.create(SECRETS, NS, spare).await.unwrap();
        let files = live(&kube).await;
        for name in files.keys() {
            let sign = json!({ "metadata": tool.sign(name) });
            kube.merge(SECRETS, (NS, name), "", &sign).await.unwrap();
        }
        let files = Arc::new(Mutex::new(files));
        let (clock, theirs, repository) = (stage.world().clock(), kube.clone(), Arc::clone(&files));
        let works = tokio::spawn(async move {
            loop {
                // What a server that is away for a moment does not do is done the next time.
                let _ = works(tool, &theirs, &repository, &*clock).await;
                tokio::time::sleep(PERIOD).await;
            }
        });
        Self { tool, kube, files, works }
    }

    async fn object(&self) -> Value {
        let (kind, namespace, name) = self.tool.at();
        self.kube.get(kind, namespace, name).await.unwrap().unwrap()
    }

    /// Puts into the repository what is there now.
    async fn commit(&self) {
        let now = live(&self.kube).await;
        *self.files.lock().unwrap() = now;
    }

    /// Somebody changes the Secret that nobody uses; whether it is put back within a while.
    async fn puts_back(&self) -> bool {
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
    async fn compared(&self, state: &str) {
        let begun = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(2 * PERIOD).await;
            let object = self.object().await;
            let mut resources = js::items(&object, "/status/resources").iter();
            if resources.all(|one| js::text(one, "/status") == state) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{object:#}");
        }
    }
}

/// One round of the tool's work.
async fn works(tool: Tool, kube: &Kube, files: &Mutex<Files>, clock: &dyn Clock) -> kube::Result<()> {
    let (kind, namespace, name) = tool.at();
    let Some(object) = kube.get(kind, namespace, name).await? else { return Ok(()) };
    let paused = match tool {
        Tool::Argo => object.pointer("/spec/syncPolicy/automated").is_none(),
        Tool::Flux => object.pointer("/spec/suspend") == Some(&json!(true)),
    };
    if paused && tool == Tool::Flux {
        return Ok(());
    }
    let mut wanted = files.lock().unwrap().clone();
    let all = kube.list(SECRETS, NS).await?.0;
    for secret in &all {
        let disabled = js::annotation(secret, DISABLED) == "disabled";
        if let Some(file) = wanted.get_mut(js::name(secret)) {
            if *file != secret["data"] && !paused && !disabled {
                let data = json!({ "data": file });
                kube.merge(SECRETS, (NS, js::name(secret)), "", &data).await?;
            }
            *file = json!(if *file == secret["data"] || !paused { "Synced" } else { "OutOfSync" });
        }
    }
    let status = match tool {
        Tool::Argo => {
            let one = |(name, state): (&String, &Value)| {
                json!({ "version": "v1", "kind": "Secret", "namespace": NS,
                "name": name, "status": state })
            };
            let resources: Vec<Value> = wanted.iter().map(one).collect();
            let second = clock.now().replace_nanosecond(0).unwrap();
            json!({ "resources": resources, "reconciledAt": second.format(&Rfc3339).unwrap() })
        }
        Tool::Flux => {
            let one = |name: &String| json!({ "id": format!("{NS}_{name}__Secret"), "v": "v1" });
            let entries: Vec<Value> = wanted.keys().map(one).collect();
            json!({ "observedGeneration": js::generation(&object), "inventory": { "entries": entries },
                "conditions": [{ "type": "Ready", "status": "True" }] })
        }
    };
    if object["status"] != status {
        let part = if tool == Tool::Flux { "/status" } else { "" };
        kube.merge(kind, (namespace, name), part, &json!({ "status": status })).await?;
    }
    Ok(())
}

/// That a run stands where everything is done but something is owed, and names the tool's object.
fn is_owed(ending: &Ending, object: &str) {
    assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::Owed), "{:?}", ending.failure);
    let why = format!("{:?}", ending.failure);
    assert!(why.contains(object) && why.contains(TIDB) && why.contains("stays paused"), "{why}");
}

/// Argo CD: paused for the run, and let go on only when its repository has what the run wrote; taken back it is as it was.
pub async fn argo(stage: &impl Stage) {
    let repository = Repository::new(stage, Tool::Argo).await;
    let policy = async || repository.object().await["spec"]["syncPolicy"].clone();
    let (whole, before) = (policy().await, live(&repository.kube).await);
    assert!(repository.puts_back().await, "the stand-in bites");

    // Not asked for, it is refused, and nothing is changed.
    let refused = stage.forward(WORKFLOW, &[("components", "tidb")]).await.unwrap_err();
    assert!(refused.contains("managed by Argo CD"), "{refused}");
    assert_eq!((live(&repository.kube).await, policy().await), (before.clone(), whole.clone()));

    let owed = stage.forward(WORKFLOW, PAUSE).await.unwrap();
    is_owed(&owed, "Application argocd/database");
    assert_eq!(policy().await, json!({ "syncOptions": ["CreateNamespace=false"] }), "it is paused");
    let new = live(&repository.kube).await;
    assert_ne!(new[TIDB], before[TIDB]);
    // As long as nothing has come of it, another try says the same.
    is_owed(&stage.resume().await, "Application argocd/database");

    repository.commit().await;
    repository.compared("Synced").await;
    let done = stage.resume().await;
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    assert_eq!(policy().await, whole, "it goes on exactly as before");
    assert!(repository.puts_back().await, "it does go on");
    assert_eq!(live(&repository.kube).await, new, "and what was written is there");

    // Another run, taken back from where something is owed.
    is_owed(&stage.forward(WORKFLOW, PAUSE).await.unwrap(), "Application argocd/database");
    assert_ne!(live(&repository.kube).await[TIDB], new[TIDB]);
    let back = stage.back().await;
    assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
    assert_eq!((live(&repository.kube).await, policy().await), (new, whole));
    assert!(repository.puts_back().await, "it goes on after that too");
}

/// Flux: a Kustomization that carries the Secrets stays suspended until somebody lets it go on who knows that it may; one
/// that was told to leave them alone goes on by itself.
pub async fn flux(stage: &impl Stage) {
    let repository = Repository::new(stage, Tool::Flux).await;
    let suspended = async || repository.object().await["spec"]["suspend"].clone();
    let (kind, namespace, name) = repository.tool.at();
    assert!(repository.puts_back().await, "the stand-in bites");

    let before = live(&repository.kube).await;
    is_owed(&stage.forward(WORKFLOW, PAUSE).await.unwrap(), "Kustomization flux-system/database");
    assert_eq!(suspended().await, json!(true));
    let new = live(&repository.kube).await;
    assert_ne!(new[TIDB], before[TIDB]);

    // `flux resume kustomization database`, once the repository has what was written.
    repository.commit().await;
    let resume = json!({ "spec": { "suspend": null } });
    repository.kube.merge(kind, (namespace, name), "", &resume).await.unwrap();
    let done = stage.resume().await;
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    assert_eq!((live(&repository.kube).await, suspended().await), (new.clone(), Value::Null));

    // Told to leave them alone, it may go on whatever its repository has.
    for name in new.keys().filter(|name| *name != SPARE) {
        let told = json!({ "metadata": { "annotations": { DISABLED: "disabled" } } });
        repository.kube.merge(SECRETS, (NS, name), "", &told).await.unwrap();
    }
    let done = stage.forward(WORKFLOW, PAUSE).await.unwrap();
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    assert_eq!(suspended().await, Value::Null, "it goes on exactly as before");
    assert!(repository.puts_back().await, "it does go on");
    assert_ne!(live(&repository.kube).await[TIDB], new[TIDB], "and what was written is there");
}
