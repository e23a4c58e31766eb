//! The loop of the workload controllers: an ordinary API client that watches, decides and writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{deployment, disruption, statefulset, template};
use crate::api::selector::Labels;
use crate::world::bell::Bell;
use crate::world::cache::{Cache, Key};
use crate::world::json as js;
use crate::world::kube::{
    CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, Kind, Kube, PODS, REPLICA_SETS, STATEFUL_SETS,
};
use crate::world::timing::{Dice, Timing};

struct Controllers {
    kube: Kube,
    pods: Cache,
    sets: Cache,
    revisions: Cache,
    deployments: Cache,
    replica_sets: Cache,
    daemon_sets: Cache,
    budgets: Cache,
    kind_of_budgets: Kind,
    dice: Dice,
    /// Pods that were made and have not been seen yet: until then their owner is not looked at again.
    awaited: BTreeMap<String, (Vec<Key>, Instant)>,
    /// Hashes of templates, by uid and generation of their owner.
    hashes: Mutex<HashMap<(String, i64), String>>,
}

/// How long to wait for the sight of something that was made: it may have been deleted at once.
const AWAIT: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is dropped. `budgets` is the kind of PodDisruptionBudgets that the server has.
pub async fn run(kube: Kube, budgets: Kind, timing: Timing, seed: u64) {
    let (bell, mut tasks) = (Bell::default(), JoinSet::new());
    let mut heard = bell.listen();
    let mut follow = |kind| Cache::follow(&kube, kind, &bell, &mut tasks);
    let mut controllers = Controllers {
        pods: follow(PODS),
        sets: follow(STATEFUL_SETS),
        revisions: follow(CONTROLLER_REVISIONS),
        deployments: follow(DEPLOYMENTS),
        replica_sets: follow(REPLICA_SETS),
        daemon_sets: follow(DAEMON_SETS),
        budgets: follow(budgets),
        kube: kube.clone(),
        kind_of_budgets: budgets,
        dice: Dice::new(seed, "controllers"),
        awaited: BTreeMap::new(),
        hashes: Mutex::default(),
    };
    loop {
        heard.mark_heard();
        let wait = if controllers.synced() { controllers.pass().await } else { None };
        let wait = wait.unwrap_or_else(|| controllers.dice.span(timing.resync));
        let _ = tokio::time::timeout(wait, heard.rings()).await;
    }
}

impl Controllers {
    fn synced(&self) -> bool {
        let caches = [
            &self.pods,
            &self.sets,
            &self.revisions,
            &self.deployments,
            &self.replica_sets,
            &self.daemon_sets,
            &self.budgets,
        ];
        caches.iter().all(|cache| cache.synced())
    }

    /// Looks at everything once; `Some` when something failed and should be tried again soon.
    async fn pass(&mut self) -> Option<Duration> {
        let mut failed = false;
        for set in self.sets.all() {
            failed |= report(&set, self.stateful_set(&set).await);
        }
        for deployment in self.deployments.all() {
            let done = self.deployment(&deployment).await;
            failed |= report(&deployment, done);
        }
        for set in self.daemon_sets.all() {
            let done = self.daemon_set(&set).await;
            failed |= report(&set, done);
        }
        for budget in self.budgets.all() {
            failed |= report(&budget, self.budget(&budget).await);
        }
        failed.then_some(RETRY)
    }

    /// The hash of an object's template, which changes with its generation alone.
    fn hash(&self, object: &Value) -> String {
        let key = (js::uid(object).to_owned(), js::generation(object));
        let mut known = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || template::hash(&object.pointer("/spec/template").cloned().unwrap_or_default());
        known.entry(key).or_insert_with(fresh).clone()
    }

    fn owned(&self, object: &Value) -> Vec<Arc<Value>> {
        let uid = js::uid(object);
        self.pods.within(js::namespace(object), |pod| js::controller(pod) == uid)
    }

    fn arrived(&mut self, uid: &str) -> bool {
        let Some((keys, since)) = self.awaited.get(uid) else { return true };
        let here = keys.iter().all(|(ns, name)| self.pods.get(ns, name).is_some()) || since.elapsed() > AWAIT;
        if here {
            self.awaited.remove(uid);
        }
        here
    }

    async fn status(&self, kind: Kind, object: &Value, status: Value) -> kube::Result<()> {
        let now = object.get("status");
        let same = status
            .as_object()
            .is_some_and(|new| new.iter().all(|(k, v)| now.and_then(|n| n.get(k)) == Some(v)));
        if !same {
            let at = (js::namespace(object), js::name(object));
            self.kube.merge(kind, at, "/status", &json!({ "status": status })).await?;
        }
        Ok(())
    }

    async fn stateful_set(&self, set: &Value) -> kube::Result<()> {
        let (namespace, name) = (js::namespace(set), js::name(set));
        let update = format!("{name}-{}", self.hash(set));
        if self.revisions.get(namespace, &update).is_none() {
            self.remember(set, "StatefulSet", &update).await?;
        }
        let decision = statefulset::decide(set, &update, &self.owned(set));
        self.status(STATEFUL_SETS, set, decision.status).await?;
        for act in decision.acts {
            match act {
                statefulset::Act::Delete { name, uid } => {
                    self.kube.delete(PODS, (namespace, &name), &uid, None).await?;
                }
                statefulset::Act::Create { ordinal, revision } => {
                    let template = self.template(set, &update, &revision);
                    let pod_name = format!("{name}-{ordinal}");
                    let number = ordinal.to_string();
                    let pod = template::pod(
                        &template,
                        &pod_name,
                        template::owner("apps/v1", "StatefulSet", set),
                        &[
                            (statefulset::REVISION, &revision),
                            ("statefulset.kubernetes.io/pod-name", &pod_name),
                            ("apps.kubernetes.io/pod-index", &number),
                        ],
                        &[("hostname", &pod_name), ("subdomain", js::text(set, "/spec/serviceName"))],
                    );
                    self.kube.ensure(PODS, namespace, pod).await?;
                }
            }
        }
        Ok(())
    }

    /// The template of a revision: the set's own for the newest, the remembered one for an older.
    fn template(&self, set: &Value, update: &str, revision: &str) -> Value {
        let own = || set.pointer("/spec/template").cloned().unwrap_or_default();
        if revision == update {
            return own();
        }
        let remembered = self.revisions.get(js::namespace(set), revision);
        remembered.and_then(|r| r.pointer("/data/spec/template").cloned()).unwrap_or_else(own)
    }

    async fn remember(&self, set: &Value, kind: &str, revision: &str) -> kube::Result<()> {
        let uid = js::uid(set);
        let of_set = self.revisions.within(js::namespace(set), |r| js::controller(r) == uid);
        let number = of_set.iter().filter_map(|r| js::number(r, "/revision")).max().unwrap_or(0) + 1;
        let object = json!({
            "metadata": {
                "name": revision,
                "labels": set.pointer("/spec/template/metadata/labels").cloned().unwrap_or_else(|| json!({})),
                "ownerReferences": [template::owner("apps/v1", kind, set)],
            },
            "revision": number,
            "data": { "spec": { "template": set.pointer("/spec/template") } },
        });
        self.kube.ensure(CONTROLLER_REVISIONS, js::namespace(set), object).await
    }

    async fn deployment(&mut self, object: &Value) -> kube::Result<()> {
        let (namespace, name, uid) = (js::namespace(object), js::name(object), js::uid(object));
        if !self.arrived(uid) {
            return Ok(());
        }
        let template = object.pointer("/spec/template").cloned().unwrap_or_default();
        let hash = self.hash(object);
        let newest = format!("{name}-{hash}");
        let sets = self.replica_sets.within(namespace, |rs| js::controller(rs) == uid);
        let Some(replica_set) = sets.iter().find(|rs| js::name(rs) == newest).cloned() else {
            return self.kube.ensure(REPLICA_SETS, namespace, replica_set(object, &newest, &hash)).await;
        };
        let pods: Vec<_> = sets.iter().flat_map(|rs| self.owned(rs)).collect();
        let decision = deployment::decide(object, &hash, &pods);
        self.status(DEPLOYMENTS, object, decision.status).await?;
        for rs in &sets {
            self.scale(rs, &pods, if js::name(rs) == newest { decision.create } else { 0 }).await?;
        }
        for (pod, pod_uid) in decision.delete {
            self.kube.delete(PODS, (namespace, &pod), &pod_uid, None).await?;
        }
        for _ in 0..decision.create {
            let pod_name = format!("{newest}-{}", self.dice.hex(3));
            let owner = template::owner("apps/v1", "ReplicaSet", &replica_set);
            let pod = template::pod(&template, &pod_name, owner, &[(deployment::TEMPLATE_HASH, &hash)], &[]);
            self.kube.create(PODS, namespace, pod).await?;
            self.await_pod(uid, namespace, pod_name);
        }
        Ok(())
    }

    fn await_pod(&mut self, owner: &str, namespace: &str, pod: String) {
        let entry = self.awaited.entry(owner.to_owned()).or_insert_with(|| (Vec::new(), Instant::now()));
        entry.0.push((namespace.to_owned(), pod));
    }

    /// Keeps a ReplicaSet's numbers true, for those who look at it.
    async fn scale(&self, rs: &Value, pods: &[Arc<Value>], more: usize) -> kube::Result<()> {
        let own: Vec<_> =
            pods.iter().filter(|pod| js::controller(pod) == js::uid(rs) && !js::terminating(pod)).collect();
        let wanted = own.len() + more;
        if js::number(rs, "/spec/replicas") != i64::try_from(wanted).ok() {
            let at = (js::namespace(rs), js::name(rs));
            self.kube.merge(REPLICA_SETS, at, "", &json!({ "spec": { "replicas": wanted } })).await?;
        }
        let ready = own.iter().filter(|pod| js::ready(pod)).count();
        let status = json!({ "replicas": own.len(), "readyReplicas": ready, "availableReplicas": ready,
            "observedGeneration": js::generation(rs) });
        self.status(REPLICA_SETS, rs, status).await
    }

    async fn budget(&self, budget: &Value) -> kube::Result<()> {
        let namespace = js::namespace(budget);
        let selector = budget.pointer("/spec/selector").map(Labels::of_object);
        // Before `policy/v1` an empty selector found nothing; since then it finds every pod.
        let all = self.kind_of_budgets.api_version == "policy/v1";
        let selector = selector.filter(|selector| all || !selector.is_empty());
        let pods = self.pods.within(namespace, |pod| selector.as_ref().is_some_and(|s| s.matches(pod)));
        let owners: BTreeSet<&str> = pods.iter().map(|pod| js::controller(pod)).collect();
        let scaled = [&self.sets, &self.replica_sets]
            .into_iter()
            .flat_map(|cache| cache.within(namespace, |owner| owners.contains(js::uid(owner))));
        let scale = scaled.filter_map(|owner| js::number(&owner, "/spec/replicas")).sum::<i64>();
        let scale = usize::try_from(scale).unwrap_or_default();
        self.status(self.kind_of_budgets, budget, disruption::decide(budget, &pods, scale)).await
    }

    async fn daemon_set(&mut self, set: &Value) -> kube::Result<()> {
        let (namespace, name, uid) = (js::namespace(set), js::name(set), js::uid(set));
        if !self.arrived(uid) {
            return Ok(());
        }
        let hash = self.hash(set);
        let decision = deployment::decide_daemon(set, &hash, &self.owned(set));
        self.status(DAEMON_SETS, set, decision.status).await?;
        for (pod, pod_uid) in decision.delete {
            self.kube.delete(PODS, (namespace, &pod), &pod_uid, None).await?;
        }
        for _ in 0..decision.create {
            let template = set.pointer("/spec/template").cloned().unwrap_or_default();
            let pod_name = format!("{name}-{}", self.dice.hex(3));
            let owner = template::owner("apps/v1", "DaemonSet", set);
            let pod = template::pod(&template, &pod_name, owner, &[(statefulset::REVISION, &hash)], &[]);
            self.kube.create(PODS, namespace, pod).await?;
            self.await_pod(uid, namespace, pod_name);
        }
        Ok(())
    }
}

/// Whether it failed, said once.
fn report(object: &Value, done: kube::Result<()>) -> bool {
    let Err(e) = done else { return false };
    tracing::warn!("{} {}/{}: {e}", js::text(object, "/kind"), js::namespace(object), js::name(object));
    true
}

fn replica_set(deployment: &Value, name: &str, hash: &str) -> Value {
    let mut template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
    let mut selector = deployment.pointer("/spec/selector").cloned().unwrap_or_else(|| json!({}));
    for labels in [template.pointer_mut("/metadata/labels"), selector.pointer_mut("/matchLabels")] {
        if let Some(map) = labels.and_then(Value::as_object_mut) {
            map.insert(deployment::TEMPLATE_HASH.into(), json!(hash));
        }
    }
    json!({
        "metadata": {
            "name": name,
            "labels": template.pointer("/metadata/labels"),
            "ownerReferences": [template::owner("apps/v1", "Deployment", deployment)],
        },
        "spec": { "replicas": 0, "selector": selector, "template": template },
    })
}
