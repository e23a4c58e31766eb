//! Objects that Argo CD or Flux keeps: stories told on the sandbox's API server and on a real one.

mod repository;

use runner::events::{EndState, Ending};
use runner::exit_code::ExitCode;
use sandbox::world::kube::{Kube, SECRETS};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::stage::Stage;

use repository::{NS, PERIOD, SPARE, live};
pub use repository::{Repository, Tool};

const WORKFLOW: &str = "tidb/cfssl-components";
/// One component is enough: what is tried is not its restart.
const PAUSE: &[(&str, &str)] = &[("components", "tidb"), ("managed", "pause")];
/// A Secret that the runs change.
const TIDB: &str = "basic-tidb-cluster-secret";

/// That a run stands where everything is done but something is owed, and names the tool's object.
fn is_owed(ending: &Ending, object: &str) {
    owes(ending, object, TIDB);
}

/// The same for another Secret.
fn owes(ending: &Ending, object: &str, secret: &str) {
    assert_eq!((ending.state, ending.exit), (EndState::Stopped, ExitCode::Owed), "{:?}", ending.failure);
    let why = format!("{:?}", ending.failure);
    assert!(why.contains(object) && why.contains(secret) && why.contains("stays paused"), "{why}");
}

/// A whole job on Secrets that a tool keeps, of which this is one: it is paused, nothing is put back and nobody refused, and
/// it goes on as before once its repository has what was written; with `back`, another run is taken back.
pub async fn whole(
    stage: &impl Stage,
    tool: Tool,
    (workflow, set, secret): (&str, &[(&str, &str)], &str),
    back: bool,
) {
    let repository = Repository::new(stage, tool).await;
    let (kind, namespace, name) = tool.at();
    let title = format!("{} {namespace}/{name}", kind.kind);
    let set: Vec<(&str, &str)> = set.iter().copied().chain([("managed", "pause")]).collect();
    let spec = async || repository.object().await["spec"].clone();
    let (whole, before) = (spec().await, live(&repository.kube).await);
    assert!(repository.puts_back().await, "the stand-in bites");

    owes(&stage.forward(workflow, &set).await.unwrap(), &title, secret);
    assert_ne!(spec().await, whole, "it is paused");
    let new = live(&repository.kube).await;
    assert_ne!(new[secret], before[secret]);
    sleep(4 * PERIOD).await;
    assert_eq!(live(&repository.kube).await, new, "nothing is put back");

    repository.commit().await;
    if tool.is_argo() {
        repository.compared("Synced").await;
    } else {
        // `flux resume`, by somebody who knows that the repository has it.
        let resume = json!({ "spec": { "suspend": null } });
        repository.kube.merge(kind, (namespace, name), "", &resume).await.unwrap();
    }
    let done = stage.resume().await;
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    assert_eq!(spec().await, whole, "it goes on exactly as before");
    assert!(repository.puts_back().await, "it does go on");
    assert_eq!(live(&repository.kube).await, new, "and what was written is there");
    if back {
        owes(&stage.forward(workflow, &set).await.unwrap(), &title, secret);
        assert_ne!(live(&repository.kube).await[secret], new[secret]);
        let back = stage.back().await;
        assert_eq!(back.state, EndState::RolledBack, "{:?}", back.failure);
        assert_eq!((live(&repository.kube).await, spec().await), (new, whole));
        assert!(repository.puts_back().await, "it goes on after that too");
    }
    stage.world().steady(stage.patience()).await.unwrap();
    let end = stage.world().end_state().await;
    assert!(end.holds(), "{:?}", end.broken);
    let counters = stage.world().counters();
    assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
}

/// The rotation of all certificates between components, and the Secret that is named when something is owed.
pub const ROTATION: (&str, &[(&str, &str)], &str) = ("tidb/cfssl-rotate", &[("remove_old_ca", "true")], TIDB);
/// The renewal of the MySQL side.
pub const SQL: (&str, &[(&str, &str)], &str) =
    ("tidb/server-tls", &[("remove_old_ca", "true")], "basic-tidb-server-secret");

/// Argo CD: paused for the run, and let go on only when its repository has what the run wrote; taken back it is as it was.
pub async fn argo(stage: &impl Stage, tool: Tool) {
    let repository = Repository::new(stage, tool).await;
    // The stand-in says what is its own when it has looked.
    repository.compared("Synced").await;
    let policy = async || repository.object().await["spec"]["syncPolicy"].clone();
    let (whole, before) = (policy().await, live(&repository.kube).await);
    assert!(repository.puts_back().await, "the stand-in bites");

    // Not asked for, it is refused, and nothing is changed.
    let refused = stage.forward(WORKFLOW, &[("components", "tidb")]).await.unwrap_err().to_string();
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

/// A label that Helm and operators set too is no sign of Argo CD by itself: not where there is no Argo CD, and not where the
/// Application that it names has other objects.
pub async fn labelled(stage: &impl Stage) {
    let kube = Kube::new(stage.world().client());
    for instance in ["shop", "database"] {
        let label = json!({ "metadata": { "labels": { "app.kubernetes.io/instance": instance } } });
        kube.merge(SECRETS, (NS, TIDB), "", &label).await.unwrap();
        let others = async || {
            let repository = Repository::of(stage, Tool::Labels, |name| name == SPARE).await;
            repository.compared("Synced").await;
            repository
        };
        let repository = if instance == "shop" { None } else { Some(others().await) };
        let before = live(&kube).await;
        let done = stage.forward(WORKFLOW, &[("components", "tidb")]).await.unwrap();
        assert_eq!(done.state, EndState::Done, "{instance}: {:?}", done.failure);
        assert_ne!(live(&kube).await[TIDB], before[TIDB]);
        drop(repository);
    }
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
    repository.leaves_alone().await;
    let done = stage.forward(WORKFLOW, PAUSE).await.unwrap();
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    assert_eq!(suspended().await, Value::Null, "it goes on exactly as before");
    assert!(repository.puts_back().await, "it does go on");
    assert_ne!(live(&repository.kube).await[TIDB], new[TIDB], "and what was written is there");
}
