//! TiDB operator v2: an ordinary API client that makes instances of groups and a pod of each instance, without
//! StatefulSets, and restarts them one by one.
//!
//! It acts while a pod of its own Deployment runs, and keeps the TLS client with which it asks PD for as long as that pod
//! lives: a changed client certificate or CA reaches it by a restart alone.

pub mod next;
pub mod objects;
pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::next::{Step, View};
use super::ask::{self, PdClient};
use super::upgrade::PdView;
use super::{order, status as v1_status};
use crate::world::bell::Bell;
use crate::world::cache::{Cache, Key};
use crate::world::ctx::Ctx;
use crate::world::json as js;
use crate::world::kube::{Kind, Kube, PODS, SECRETS, SERVICES, is, kind};
use crate::world::pod::party::Party;
use crate::world::pod::process::Dialler;
use crate::world::pod::program::{By, Dials, OPERATOR_DIALS, program};
use crate::world::timing::Dice;

/// `apiVersion` of its objects.
pub const GROUP_VERSION: &str = "core.pingcap.com/v1alpha1";
/// Where the operator's own Deployment lies, and the label of its pods.
pub const NAMESPACE: &str = "tidb-admin";
/// The value of the label `app.kubernetes.io/component` there.
pub const COMPONENT: &str = "tidb-operator";
/// Clusters.
pub const CLUSTERS: Kind = kind(GROUP_VERSION, "Cluster", "clusters", true);

/// The groups of one component, and their instances.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// `pd`.
    pub component: &'static str,
    /// `PDGroup`.
    pub group: Kind,
    /// `PD`.
    pub instance: Kind,
}

const fn of(component: &'static str, group: [&'static str; 2], instance: [&'static str; 2]) -> Group {
    Group {
        component,
        group: kind(GROUP_VERSION, group[0], group[1], true),
        instance: kind(GROUP_VERSION, instance[0], instance[1], true),
    }
}

/// All groups.
pub const GROUPS: [Group; 6] = [
    of("pd", ["PDGroup", "pdgroups"], ["PD", "pds"]),
    of("tiproxy", ["TiProxyGroup", "tiproxygroups"], ["TiProxy", "tiproxies"]),
    of("tiflash", ["TiFlashGroup", "tiflashgroups"], ["TiFlash", "tiflashes"]),
    of("tikv", ["TiKVGroup", "tikvgroups"], ["TiKV", "tikvs"]),
    of("tidb", ["TiDBGroup", "tidbgroups"], ["TiDB", "tidbs"]),
    of("ticdc", ["TiCDCGroup", "ticdcgroups"], ["TiCDC", "ticdcs"]),
];

/// With the client that it keeps it asks PD; everybody else with one that it makes each time.
const KEPT: &[Dials] = &[Dials { target: "pd", port: 2379, by: By::Service, needed: false }];

/// What the operator knows of one cluster beyond the API, until it restarts.
#[derive(Default)]
struct Memory {
    view: Option<PdView>,
    /// Whether PD could be asked at the last look.
    asked: bool,
    evicting: BTreeMap<String, Instant>,
    /// By group: the generation that it has acted on, and when it may act on a newer one.
    seen: BTreeMap<String, (i64, Option<Instant>)>,
    served: BTreeSet<String>,
}

type Parties = Arc<Mutex<BTreeMap<Key, Arc<Party>>>>;

struct Operator {
    ctx: Arc<Ctx>,
    kube: Kube,
    clusters: Cache,
    groups: Vec<(Cache, Cache)>,
    pods: Cache,
    secrets: Cache,
    dice: Dice,
    /// The pod that acts.
    own: String,
    memory: BTreeMap<Key, Memory>,
    kept: Parties,
    fresh: Parties,
    versions: BTreeMap<Key, String>,
}

/// Runs until it is dropped.
pub async fn run(kube: Kube, ctx: Arc<Ctx>) {
    let (bell, mut tasks) = (Bell::default(), JoinSet::new());
    let mut heard = bell.listen();
    let mut follow = |kind| Cache::follow(&kube, kind, &bell, &mut tasks);
    let mut operator = Operator {
        clusters: follow(CLUSTERS),
        groups: GROUPS.iter().map(|group| (follow(group.group), follow(group.instance))).collect(),
        pods: follow(PODS),
        secrets: follow(SECRETS),
        dice: ctx.dice("operator v2"),
        kube: kube.clone(),
        own: String::new(),
        memory: BTreeMap::new(),
        kept: Parties::default(),
        fresh: Parties::default(),
        versions: BTreeMap::new(),
        ctx: Arc::clone(&ctx),
    };
    let mut dialling: BTreeSet<Key> = BTreeSet::new();
    loop {
        heard.mark_heard();
        let mut wait = operator.dice.span(ctx.timing.resync);
        if operator.is_synced() && operator.acts() {
            for cluster in operator.clusters.all() {
                let key = (js::namespace(&cluster).to_owned(), js::name(&cluster).to_owned());
                operator.identities(&key);
                if dialling.insert(key.clone()) {
                    for (parties, dials) in [(&operator.kept, KEPT), (&operator.fresh, OPERATOR_DIALS)] {
                        tasks.spawn(dial_all(Arc::clone(&ctx), Arc::clone(parties), key.clone(), dials));
                    }
                }
                wait = wait.min(match operator.cluster(&cluster, &key).await {
                    Ok(wait) => wait,
                    Err(e) => {
                        tracing::warn!("Cluster {}/{}: {e}", key.0, key.1);
                        Duration::from_secs(1)
                    }
                });
            }
        }
        let _ = tokio::time::timeout(wait, heard.rings()).await;
        if ctx.pace.settled() {
            ctx.clock.sleep(Duration::from_millis(ctx.timing.requeue.least)).await;
        }
    }
}

async fn dial_all(ctx: Arc<Ctx>, parties: Parties, key: Key, dials: &'static [Dials]) {
    let dice = ctx.dice(&format!("operator v2 dials {}/{}/{}", dials.len(), key.0, key.1));
    let party = || parties.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let targets = || ctx.directory.targets(&key.0, &key.1, dials, None);
    Dialler::new(&ctx, dice).run(party, targets).await;
}

impl Operator {
    fn is_synced(&self) -> bool {
        let own = [&self.clusters, &self.pods, &self.secrets];
        own.iter().all(|cache| cache.synced()) && self.groups.iter().all(|(g, i)| g.synced() && i.synced())
    }

    /// Whether a pod of the operator's runs. One acts until it is gone, and another begins with nothing remembered.
    fn acts(&mut self) -> bool {
        let label = "app.kubernetes.io/component";
        let pods = self.pods.within(NAMESPACE, |pod| js::label(pod, label) == COMPONENT);
        if pods.iter().any(|pod| js::uid(pod) == self.own) {
            return true;
        }
        let ready = pods.iter().filter(|pod| js::ready(pod));
        let first = ready.min_by_key(|pod| (js::text(pod, "/metadata/creationTimestamp"), js::name(pod)));
        self.memory.clear();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.own = first.map(|pod| js::uid(pod).to_owned()).unwrap_or_default();
        !self.own.is_empty()
    }

    /// The client that it keeps, and the one that it makes of the Secret as it is now.
    fn identities(&mut self, key: &Key) {
        let secret = self.secrets.get(&key.0, &format!("{}-cluster-client-secret", key.1));
        let version = secret.as_ref().map(|s| js::text(s, "/metadata/resourceVersion").to_owned());
        let party = || ask::party(&self.ctx, secret.as_deref()).ok();
        let mut changed = false;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains_key(key)
            && let Some(party) = party()
        {
            kept.insert(key.clone(), party);
            changed = true;
        }
        if self.versions.get(key) != version.as_ref()
            && let (Some(version), Some(party)) = (version, party())
        {
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), party);
            self.versions.insert(key.clone(), version);
            changed = true;
        }
        if changed {
            self.ctx.bell.ring();
        }
    }

    /// Looks at one cluster; returns when to look again at the latest.
    async fn cluster(&mut self, cluster: &Value, key: &Key) -> kube::Result<Duration> {
        if cluster.pointer("/spec/paused") == Some(&json!(true)) {
            return Ok(self.dice.span(self.ctx.timing.resync));
        }
        let ctx = Arc::clone(&self.ctx);
        let party = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let client =
            party.as_ref().map(|party| PdClient { ctx: &ctx, party, namespace: &key.0, cluster: &key.1 });
        let told = match &client {
            Some(client) => client.view().await.ok(),
            None => None,
        };
        let memory = self.memory.entry(key.clone()).or_default();
        memory.asked = told.is_some();
        let mut waits = told.is_none();
        memory.view = told.or(memory.view.take());
        for (kind, (groups, instances)) in GROUPS.iter().zip(self.groups.clone()) {
            let own = groups.within(&key.0, |group| js::text(group, "/spec/cluster/name") == key.1);
            for group in own {
                if kind.component == "pd" {
                    self.status(CLUSTERS, cluster, &status::cluster(cluster, js::name(&group))).await?;
                }
                waits |= self.group((cluster, key), kind, &group, &instances, client.as_ref()).await?;
            }
        }
        let span = if waits { self.ctx.timing.requeue } else { self.ctx.timing.resync };
        Ok(self.dice.span(span))
    }

    /// One look at a group; whether there is something to wait for.
    async fn group(
        &mut self,
        (cluster, key): (&Value, &Key),
        kind: &Group,
        group: &Value,
        instances: &Cache,
        client: Option<&PdClient<'_>>,
    ) -> kube::Result<bool> {
        let Some(program) = program(kind.component) else { return Ok(false) };
        let uid = js::uid(group).to_owned();
        let settled = self.ctx.pace.settled();
        let memory = self.memory.entry(key.clone()).or_default();
        let seen = memory.seen.entry(uid.clone()).or_default();
        if seen.0 != js::generation(group) {
            let lag = if settled { self.dice.span(self.ctx.timing.status_lag) } else { Duration::ZERO };
            if Instant::now() < *seen.1.get_or_insert_with(|| Instant::now() + lag) {
                return Ok(true);
            }
            *seen = (js::generation(group), None);
        }
        let generation = seen.0;
        if memory.served.insert(uid.clone()) {
            for service in objects::services(group, kind, program) {
                self.kube.ensure(SERVICES, &key.0, service).await?;
            }
        }
        let own = instances.within(&key.0, |instance| js::controller(instance) == uid);
        let uids: BTreeSet<&str> = own.iter().map(|instance| js::uid(instance)).collect();
        let pods = self.pods.within(&key.0, |pod| uids.contains(js::controller(pod)));
        let memory = self.memory.entry(key.clone()).or_default();
        let evicting = memory.evicting.iter().map(|(pod, since)| (pod.clone(), since.elapsed())).collect();
        let revision = objects::revision(group);
        let view = View {
            component: kind.component,
            revision: &revision,
            replicas: objects::replicas(group),
            instances: &own,
            pods: &pods,
            pd: memory.view.as_ref(),
            asked: memory.asked,
            evicting: &evicting,
        };
        let step = next::next(&view);
        let told = status::group(group, &view, generation, &self.ctx.now());
        let tls = cluster.pointer("/spec/tlsCluster/enabled") == Some(&json!(true));
        let find = |name: &str| own.iter().find(|instance| js::name(instance) == name);
        let rests = step == Step::Rest;
        if !rests {
            tracing::debug!("{} {}: {step:?}", kind.group.kind, js::name(group));
        }
        match step {
            Step::Rest | Step::Wait(_) => {}
            Step::Grow => {
                let instance = objects::instance(group, kind, &revision, &self.dice.hex(3));
                self.kube.ensure(kind.instance, &key.0, instance).await?;
            }
            Step::Update(name) => {
                if let Some(instance) = find(&name) {
                    let object = objects::updated(instance, group, kind, &revision);
                    match self.kube.replace(kind.instance, &object).await {
                        Err(e) if !is(&e, 409) => return Err(e),
                        _ => {}
                    }
                }
            }
            Step::Make(name) => {
                if let Some(instance) = find(&name) {
                    self.kube.ensure(PODS, &key.0, objects::pod(instance, kind, program, tls)).await?;
                }
            }
            Step::Delete(name) => {
                self.memory.entry(key.clone()).or_default().evicting.remove(&name);
                if let Some(pod) = pods.iter().find(|pod| js::name(pod) == name) {
                    self.kube.delete(PODS, (&key.0, &name), js::uid(pod), None).await?;
                }
            }
            Step::Transfer(to) => {
                order(client, "POST", &format!("/pd/api/v1/leader/transfer/{to}"), Value::Null).await;
            }
            Step::Evict(pod, id) => {
                self.memory.entry(key.clone()).or_default().evicting.entry(pod).or_insert_with(Instant::now);
                let body = json!({ "name": "evict-leader-scheduler", "store_id": id });
                order(client, "POST", "/pd/api/v1/schedulers", body).await;
            }
            Step::EndEviction(_, id) => {
                let path = format!("/pd/api/v1/schedulers/evict-leader-scheduler-{id}");
                order(client, "DELETE", &path, Value::Null).await;
            }
        }
        self.status(kind.group, group, &told).await?;
        Ok(!rests)
    }

    async fn status(&self, kind: Kind, object: &Value, status: &Value) -> kube::Result<()> {
        let before = object.get("status").cloned().unwrap_or_else(|| json!({}));
        if let Some(patch) = v1_status::merge_patch(&before, status) {
            let at = (js::namespace(object), js::name(object));
            self.kube.merge(kind, at, "/status", &json!({ "status": patch })).await?;
        }
        Ok(())
    }
}
