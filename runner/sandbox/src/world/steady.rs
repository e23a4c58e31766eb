//! Waiting until a cluster is as its scenario wants it, or is as unwell as it begins.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::bell::Bell;
use super::cache::Cache;
use super::genesis::{IssuedBy, Operator, Scenario};
use super::json as js;
use super::kube::{CERTIFICATES, DEPLOYMENTS, Kind, TIDB_CLUSTERS};
use super::operator::v2::GROUPS;
use super::start::World;

impl World {
    /// Waits until the cluster is ready, all its pods are as its templates want them, and its clients run.
    ///
    /// # Errors
    /// What is missing when the time is up.
    pub async fn steady(&self, within: Duration) -> Result<(), String> {
        self.steady_as(&self.scenario, within).await
    }

    /// Waits until the operator has found out that nobody talks with it any more.
    pub(super) async fn ailing(&self, within: Duration) -> Result<(), String> {
        let kube = self.kube("system:admin");
        let namespace = &self.scenario.namespace;
        let (kind, name) = match self.scenario.operator {
            Operator::V1 => (TIDB_CLUSTERS, self.scenario.cluster.as_str()),
            // It asks PD about PD's own group.
            Operator::V2 => (GROUPS[0].group, self.scenario.stem("pd")),
        };
        let deadline = tokio::time::Instant::now() + within;
        while tokio::time::Instant::now() < deadline {
            let object = kube.get(kind, namespace, name).await.map_err(|e| e.to_string())?;
            if object.is_some_and(|object| js::condition(&object, "Ready") == "False") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(format!("{} {namespace}/{name} is still content although everything has expired", kind.kind))
    }

    pub(super) async fn steady_as(&self, scenario: &Scenario, within: Duration) -> Result<(), String> {
        let (bell, mut tasks) = (Bell::default(), JoinSet::new());
        let kube = self.kube("system:admin");
        let mut heard = bell.listen();
        let kinds: Vec<Kind> = match scenario.operator {
            Operator::V1 => vec![TIDB_CLUSTERS],
            Operator::V2 => GROUPS.iter().map(|group| group.group).collect(),
        };
        let clusters: Vec<Cache> =
            kinds.into_iter().map(|kind| Cache::follow(&kube, kind, &bell, &mut tasks)).collect();
        let deployments = Cache::follow(&kube, DEPLOYMENTS, &bell, &mut tasks);
        let certificates = (scenario.issued_by == IssuedBy::CertManager)
            .then(|| Cache::follow(&kube, CERTIFICATES, &bell, &mut tasks));
        let (namespace, name) = (&scenario.namespace, &scenario.cluster);
        let missing = || -> Option<String> {
            let unready = match scenario.operator {
                Operator::V1 => {
                    let cluster = clusters.first()?.get(namespace, name)?;
                    let ready = js::items(&cluster, "/status/conditions")
                        .iter()
                        .find(|c| js::text(c, "/type") == "Ready");
                    let ready = ready.cloned().unwrap_or_else(|| json!({ "reason": "no status yet" }));
                    (js::text(&ready, "/status") != "True")
                        .then(|| format!("TidbCluster {namespace}/{name}: {}", js::text(&ready, "/reason")))
                }
                Operator::V2 => {
                    let groups: Vec<_> =
                        clusters.iter().flat_map(|cache| cache.within(namespace, |_| true)).collect();
                    if groups.len() < scenario.components.len() {
                        return None;
                    }
                    let unwell = groups.iter().find(|group| !is_well(group));
                    unwell.map(|group| format!("group {namespace}/{} is not ready", js::name(group)))
                }
            };
            if unready.is_some() {
                return unready;
            }
            let clients: &[&str] = match (scenario.clients, scenario.sql_tls) {
                (0, _) => &[],
                (_, false) => &["client"],
                (_, true) => &["client", "sql-client"],
            };
            for component in clients {
                let client = deployments.get(namespace, &format!("{name}-{component}"))?;
                let up = js::number(&client, "/status/readyReplicas").unwrap_or(0);
                let updated = js::number(&client, "/status/updatedReplicas").unwrap_or(0);
                let wanted = i64::from(scenario.clients);
                let all = js::number(&client, "/status/replicas").unwrap_or(0);
                if up != wanted || updated != wanted || all != wanted {
                    return Some(format!(
                        "Deployment {namespace}/{name}-{component}: {up} of {wanted} ready"
                    ));
                }
            }
            let settled =
                |c: &Value| js::condition(c, "Ready") == "True" && js::condition(c, "Issuing") != "True";
            let unsettled = certificates.as_ref().and_then(|cache| {
                if !cache.synced() {
                    return Some("Certificates are not there yet".to_owned());
                }
                let open = cache.within(namespace, |certificate| !settled(certificate));
                open.first().map(|c| format!("Certificate {namespace}/{} is not ready", js::name(c)))
            });
            Some(unsettled.unwrap_or_default())
        };
        let deadline = tokio::time::Instant::now() + within;
        loop {
            heard.mark_heard();
            let found = missing().unwrap_or_else(|| "objects are not there yet".to_owned());
            if found.is_empty() {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, heard.rings()).await.is_err() {
                return Err(found);
            }
        }
    }
}

/// Whether a group of operator v2 is as it should be.
fn is_well(group: &Value) -> bool {
    let holds = |kind: &str| js::condition(group, kind) == "True";
    js::number(group, "/status/observedGeneration") == Some(js::generation(group))
        && holds("Ready")
        && holds("Synced")
}
