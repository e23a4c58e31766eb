//! Somebody's policy, which the API server asks before each write: one story on the sandbox's server, which refuses in a
//! webhook's name, and on a real one, which asks a real webhook.

mod webhook;

use futures::future::BoxFuture;
use runner::events::EndState;
use sandbox::world::json as js;
use sandbox::world::kube::{CONFIG_MAPS, Kube, SECRETS};
use serde_json::{Value, json};
use stdlib::error::{Code, PrimError};
use stdlib::gate::{Effect, Gate, Past, Permit, Progress};
use stdlib::{World, registry};

use crate::stage::Stage;

pub use webhook::Webhook;

/// The webhook's name.
pub const WEBHOOK: &str = "policy.example.com";
/// What it says to what it denies.
pub const WORDS: &str = "not on a Sunday";
const NS: &str = "tidb";
const WORKFLOW: &str = "tidb/cfssl-components";
const TIDB: &str = "basic-tidb-cluster-secret";

/// What is denied.
#[derive(Debug, Clone)]
pub struct Denied {
    /// Writes of objects of this plural name.
    pub resource: &'static str,
    /// That are called so.
    pub name: &'static str,
    /// With this code.
    pub code: u16,
    /// So often; always where nothing is said.
    pub times: Option<u64>,
}

/// Who may be told what to deny.
#[allow(async_fn_in_trait, reason = "only tests use it")]
pub trait Policy {
    /// Denies it from here on.
    async fn denies(&self, denied: Denied);
    /// Denies nothing any more.
    async fn allows(&self);
}

/// A gate that lets everything pass.
struct Open;

impl Gate for Open {
    fn effect(&self, _: Effect) -> BoxFuture<'_, Result<Permit, PrimError>> {
        Box::pin(async { Ok(Permit::Apply) })
    }
    fn progress(&self, _: Progress) {}
    fn marker(&self) -> String {
        "run/phase/f".into()
    }
    fn history(&self) -> Vec<Past> {
        Vec::new()
    }
}

/// What is said of a denial: the object, the words, and whose it is to allow it.
fn explains(told: &str, object: &str) {
    let denied =
        format!("an admission rule says no: admission webhook \"{WEBHOOK}\" denied the request: {WORDS}");
    for words in [object, denied.as_str(), "the rule's owner has to allow this change"] {
        assert!(told.contains(words), "`{words}` is missing: {told}");
    }
}

/// Tells the story.
pub async fn story(stage: &impl Stage, policy: &impl Policy) {
    let kube = Kube::new(stage.world().client());
    let system = World::system(Some(stage.world().client()), "/".into());
    let world = World { clock: stage.world().clock(), ..system };
    kube.create(SECRETS, NS, json!({ "metadata": { "name": "word" }, "data": { "word": "b2xk" } }))
        .await
        .unwrap();
    kube.create(CONFIG_MAPS, NS, json!({ "metadata": { "name": "limits" }, "data": { "most": "2" } }))
        .await
        .unwrap();
    let patch = json!([{ "namespace": NS, "name": "word" }, { "word": "new" }]);
    let apply = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": NS, "name": "limits" },
        "data": { "least": "1" } }]);
    for (kind, name, primitive, args) in
        [(SECRETS, "word", "k8s::patch_secret", patch), (CONFIG_MAPS, "limits", "k8s::apply", apply)]
    {
        let data = async || kube.get(kind, NS, name).await.unwrap().unwrap()["data"].clone();
        let call =
            async || (registry().get(primitive).unwrap().run)(&world, args.as_array().unwrap(), &Open).await;
        let before = data().await;
        policy.denies(Denied { resource: kind.plural, name, code: 403, times: None }).await;
        let denied = call().await.unwrap_err();
        assert_eq!(denied.code, Code::Forbidden, "{denied:?}");
        explains(
            &format!("{denied} {}", denied.hint.clone().unwrap_or_default()),
            &format!("{} {NS}/{name}", kind.kind),
        );
        assert_eq!(data().await, before, "{primitive}");
        // One that asks us to slow down is asked again.
        policy.denies(Denied { resource: kind.plural, name, code: 429, times: Some(2) }).await;
        let done = call().await.unwrap();
        assert_eq!(done["changed"], json!(true), "{done}");
        assert_ne!(data().await, before, "{primitive}");
        policy.allows().await;
    }

    // Within a run: it stops there and says why, nothing is lost, and it goes on when it may.
    let secret = async || kube.get(SECRETS, NS, TIDB).await.unwrap().unwrap();
    let before: Value = secret().await["data"].clone();
    policy.denies(Denied { resource: "secrets", name: TIDB, code: 403, times: None }).await;
    let stopped = stage.forward(WORKFLOW, &[("components", "tidb")]).await.unwrap();
    let failure = stopped.failure.unwrap();
    assert_eq!(stopped.state, EndState::Stopped, "{failure:?}");
    explains(&format!("{failure} {}", failure.hint.clone().unwrap_or_default()), TIDB);
    assert_eq!(secret().await["data"], before);
    policy.allows().await;
    let done = stage.resume().await;
    assert_eq!(done.state, EndState::Done, "{:?}", done.failure);
    assert_ne!(secret().await["data"], before);
    assert!(!js::uid(&secret().await).is_empty());
    let counters = stage.world().counters();
    assert_eq!(counters.refused, 0, "{:#?}", counters.refusals);
}
