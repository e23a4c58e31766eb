//! The TiDB operator (v1): an ordinary API client that makes StatefulSets of a TidbCluster, rolls them in its order,
//! and tells the cluster's status, which lags behind what it was told.

mod ask;
pub mod component;
pub mod status;
pub mod upgrade;
pub mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::ask::PdClient;
use self::status::Seen;
use self::upgrade::{Eviction, PdView, Step, View};
use super::bell::Bell;
use super::cache::{Cache, Key};
use super::ctx::Ctx;
use super::json as js;
use super::kube::{Kube, PODS, SECRETS, SERVICES, STATEFUL_SETS, TIDB_CLUSTERS, is};
use super::pod::dial::Ask;
use super::pod::party::Party;
use super::pod::process::Dialler;
use super::pod::program::{OPERATOR_DIALS, Program};
use super::timing::Dice;

/// The annotation of a pod with which the operator keeps since when its leaders are to move away.
const EVICTION_BEGUN: &str = "evictLeaderBeginTime";

struct Remembered {
    before: u32,
    since: Instant,
    ended: Option<Instant>,
}

/// What the operator knows of one cluster beyond the API.
#[derive(Default)]
struct Memory {
    /// The wishes that it has acted on, and when it may act on others. The generation also counts its own writes.
    acted_on: Value,
    due: Option<Instant>,
    evictions: BTreeMap<String, Remembered>,
    served: bool,
}

struct Operator {
    ctx: Arc<Ctx>,
    kube: Kube,
    clusters: Cache,
    sets: Cache,
    pods: Cache,
    secrets: Cache,
    dice: Dice,
    memory: BTreeMap<Key, Memory>,
    parties: Parties,
}

/// The operator's identity for each cluster, as the Secret in the API has it now.
type Parties = Arc<Mutex<BTreeMap<Key, Option<(String, Arc<Party>)>>>>;

/// Runs until it is dropped.
pub async fn run(kube: Kube, ctx: Arc<Ctx>) {
    let (bell, mut tasks) = (Bell::default(), JoinSet::new());
    let mut heard = bell.listen();
    let mut follow = |kind| Cache::follow(&kube, kind, &bell, &mut tasks);
    let mut operator = Operator {
        clusters: follow(TIDB_CLUSTERS),
        sets: follow(STATEFUL_SETS),
        pods: follow(PODS),
        secrets: follow(SECRETS),
        dice: ctx.dice("operator"),
        kube: kube.clone(),
        memory: BTreeMap::new(),
        parties: Parties::default(),
        ctx: Arc::clone(&ctx),
    };
    let mut dialling: BTreeSet<Key> = BTreeSet::new();
    loop {
        heard.mark_heard();
        let synced = [&operator.clusters, &operator.sets, &operator.pods, &operator.secrets];
        let mut wait = operator.dice.span(ctx.timing.resync);
        if synced.iter().all(|cache| cache.synced()) {
            operator.identities();
            for cluster in operator.clusters.all() {
                let key = (js::namespace(&cluster).to_owned(), js::name(&cluster).to_owned());
                if dialling.insert(key.clone()) {
                    tasks.spawn(dial_all(Arc::clone(&ctx), Arc::clone(&operator.parties), key));
                }
                wait = wait.min(operator.cluster(&cluster).await);
            }
        }
        let _ = tokio::time::timeout(wait, heard.rings()).await;
        // An operator works from a queue with a rate limit; many events in a row are one look.
        if ctx.pace.settled() {
            ctx.clock.sleep(Duration::from_millis(ctx.timing.requeue.least)).await;
        }
    }
}

async fn dial_all(ctx: Arc<Ctx>, parties: Parties, key: Key) {
    let dice = ctx.dice(&format!("operator dials/{}/{}", key.0, key.1));
    let party = || {
        let held = parties.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&key).and_then(|p| p.as_ref().map(|(_, party)| Arc::clone(party)))
    };
    let targets = || ctx.directory.targets(&key.0, &key.1, OPERATOR_DIALS, None);
    Dialler::new(&ctx, dice).run(party, targets).await;
}

impl Operator {
    fn identities(&self) {
        let mut changed = false;
        for cluster in self.clusters.all() {
            let key = (js::namespace(&cluster).to_owned(), js::name(&cluster).to_owned());
            let secret = self.secrets.get(&key.0, &format!("{}-cluster-client-secret", key.1));
            let version = secret.as_ref().map(|s| js::text(s, "/metadata/resourceVersion").to_owned());
            let mut held = self.parties.lock().unwrap_or_else(PoisonError::into_inner);
            let known = held.get(&key).and_then(|p| p.as_ref().map(|(v, _)| v.clone()));
            if !held.contains_key(&key) || known != version {
                let party = ask::party(&self.ctx, secret.as_deref());
                held.insert(key, version.zip(party.ok()));
                changed = true;
            }
        }
        if changed {
            self.ctx.bell.ring();
        }
    }

    /// Looks at one cluster; returns when to look again at the latest.
    async fn cluster(&mut self, cluster: &Value) -> Duration {
        let key = (js::namespace(cluster).to_owned(), js::name(cluster).to_owned());
        let memory = self.memory.entry(key.clone()).or_default();
        let now = Instant::now();
        let wishes = cluster.get("spec").cloned().unwrap_or_default();
        if wishes != memory.acted_on {
            let settled = self.ctx.pace.settled();
            let lag = || if settled { self.dice.span(self.ctx.timing.status_lag) } else { Duration::ZERO };
            let due = *memory.due.get_or_insert_with(|| now + lag());
            if now < due {
                return due - now;
            }
            memory.acted_on = wishes;
        }
        memory.due = None;
        match self.reconcile(cluster, &key).await {
            Ok(true) => self.dice.span(self.ctx.timing.requeue),
            Ok(false) => self.dice.span(self.ctx.timing.resync),
            Err(e) => {
                tracing::warn!("TidbCluster {}/{}: {e}", key.0, key.1);
                Duration::from_secs(1)
            }
        }
    }

    /// One pass; whether there is something to wait for.
    async fn reconcile(&mut self, cluster: &Value, key: &Key) -> kube::Result<bool> {
        self.serve(cluster, key).await?;
        let party = {
            let held = self.parties.lock().unwrap_or_else(PoisonError::into_inner);
            held.get(key).and_then(|p| p.as_ref().map(|(_, party)| Arc::clone(party)))
        };
        let ctx = Arc::clone(&self.ctx);
        let client =
            party.as_ref().map(|party| PdClient { ctx: &ctx, party, namespace: &key.0, cluster: &key.1 });
        let pd = match &client {
            Some(client) => client.view().await,
            None => Err("the client Secret is not usable".to_owned()),
        };
        let mut waiting = pd.is_err();
        let mut seen: Vec<Seen> = Vec::new();
        for program in component::programs(cluster) {
            let one = self.component(cluster, key, program, &seen, pd.as_ref().ok(), client.as_ref()).await?;
            waiting |= one.1;
            seen.push(one.0);
        }
        let evictions = self.evictions(key);
        let status =
            status::status(cluster, &seen, pd.as_ref().map_err(String::as_str), &evictions, &self.ctx.now());
        let before = cluster.get("status").cloned().unwrap_or_else(|| json!({}));
        if let Some(patch) = status::merge_patch(&before, &status) {
            // Its definition has no subresource: the status is a field like any other, and counts in the generation.
            self.kube.merge(TIDB_CLUSTERS, (&key.0, &key.1), "", &json!({ "status": patch })).await?;
        }
        Ok(waiting)
    }

    fn evictions(&self, key: &Key) -> BTreeMap<String, Eviction> {
        let Some(memory) = self.memory.get(key) else { return BTreeMap::new() };
        let eviction = |r: &Remembered| Eviction {
            before: r.before,
            since: r.since.elapsed(),
            ended: r.ended.map(|e| e.elapsed()),
        };
        memory.evictions.iter().map(|(pod, r)| (pod.clone(), eviction(r))).collect()
    }

    async fn serve(&mut self, cluster: &Value, key: &Key) -> kube::Result<()> {
        if self.memory.get(key).is_some_and(|m| m.served) {
            return Ok(());
        }
        for program in component::programs(cluster) {
            for service in component::services(cluster, program) {
                self.kube.ensure(SERVICES, &key.0, service).await?;
            }
        }
        self.memory.entry(key.clone()).or_default().served = true;
        Ok(())
    }

    async fn component(
        &mut self,
        cluster: &Value,
        key: &Key,
        program: &'static Program,
        before: &[Seen],
        pd: Option<&PdView>,
        client: Option<&PdClient<'_>>,
    ) -> kube::Result<(Seen, bool)> {
        let component = program.component;
        let name = program.service(&key.1);
        let wanted = component::template(cluster, program);
        let blocked_by = component::waits_for(component)
            .iter()
            .find(|other| before.iter().any(|seen| seen.component == **other && seen.upgrading))
            .copied();
        let Some(set) = self.sets.get(&key.0, &name) else {
            let mut waiting = true;
            if before.iter().all(|seen| seen.set.is_some()) {
                let replicas = component::replicas(cluster, component);
                let object = component::set(cluster, program, &wanted, replicas);
                self.kube.ensure(STATEFUL_SETS, &key.0, object).await?;
                waiting = false;
            }
            return Ok((Seen { component, set: None, pods: Vec::new(), upgrading: false }, waiting));
        };
        let uid = js::uid(&set);
        let pods = self.pods.within(&key.0, |pod| js::controller(pod) == uid);
        let evictions = self.evictions(key);
        let view = View {
            component,
            cluster,
            set: &set,
            pods: &pods,
            wanted: &wanted,
            pd,
            blocked_by,
            evictions: &evictions,
        };
        let step = upgrade::next(&view);
        let mut upgrading = upgrade::upgrading(&set, &pods);
        let mut waiting = upgrading;
        match step {
            Step::Rest => self.scale(cluster, &set, component).await?,
            Step::Wait(why) => {
                waiting = true;
                tracing::debug!("{name}: {why}");
            }
            Step::Write(partition) => {
                upgrading = true;
                tracing::info!("{name}: new template, partition {partition}");
                self.write(cluster, program, &set, Some(&wanted), partition).await?;
            }
            Step::Partition(partition) => {
                tracing::info!("{name}: partition {partition}");
                self.write(cluster, program, &set, None, partition).await?;
            }
            Step::Transfer(to) => {
                tracing::info!("{name}: leadership to {to}");
                waiting = true;
                order(client, "POST", &format!("/pd/api/v1/leader/transfer/{to}"), Value::Null).await;
            }
            Step::Evict(pod, id) => {
                waiting = true;
                let leaders =
                    pd.and_then(|pd| pd.stores.iter().find(|s| s.id == id)).map_or(0, |s| s.leaders);
                let remembered = Remembered { before: leaders, since: Instant::now(), ended: None };
                self.memory.entry(key.clone()).or_default().evictions.insert(pod.clone(), remembered);
                let body = json!({ "name": "evict-leader-scheduler", "store_id": id });
                order(client, "POST", "/pd/api/v1/schedulers", body).await;
                let begun = json!({ "metadata": { "annotations": { EVICTION_BEGUN: self.ctx.now() } } });
                self.kube.merge(PODS, (&key.0, &pod), "", &begun).await?;
            }
            Step::EndEviction(pod, id) => {
                waiting = true;
                if let Some(known) = self.memory.entry(key.clone()).or_default().evictions.get_mut(&pod) {
                    known.ended = Some(Instant::now());
                }
                let path = format!("/pd/api/v1/schedulers/evict-leader-scheduler-{id}");
                order(client, "DELETE", &path, Value::Null).await;
            }
        }
        Ok((Seen { component, set: Some(set), pods, upgrading }, waiting))
    }

    /// Writes the template or the partition, at the version that was seen: a stale sight changes nothing.
    async fn write(
        &self,
        cluster: &Value,
        program: &'static Program,
        set: &Value,
        template: Option<&Value>,
        partition: u32,
    ) -> kube::Result<()> {
        let mut object = set.clone();
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
        let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": partition } });
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("updateStrategy".into(), rolling);
            if let Some(template) = template {
                spec.insert("template".into(), template.clone());
            }
        }
        if let Some(template) = template {
            let fresh = component::set(cluster, program, template, partition);
            let mut annotations = js::texts(&object, "/metadata/annotations");
            annotations.extend(js::texts(&fresh, "/metadata/annotations"));
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("annotations".into(), json!(annotations));
            }
        }
        match self.kube.replace(STATEFUL_SETS, &object).await {
            Err(e) if !is(&e, 409) => Err(e),
            _ => Ok(()),
        }
    }

    async fn scale(&self, cluster: &Value, set: &Value, component: &str) -> kube::Result<()> {
        let replicas = component::replicas(cluster, component);
        if js::number(set, "/spec/replicas") == Some(i64::from(replicas)) {
            return Ok(());
        }
        let at = (js::namespace(set), js::name(set));
        self.kube.merge(STATEFUL_SETS, at, "", &json!({ "spec": { "replicas": replicas } })).await.map(|_| ())
    }
}

/// An order to PD; one that fails is given again at the next look.
async fn order(client: Option<&PdClient<'_>>, method: &str, path: &str, body: Value) {
    if let Some(client) = client
        && let Err(e) = client.call(&Ask { method, path, body }).await
    {
        tracing::warn!("PD: {method} {path}: {e}");
    }
}
