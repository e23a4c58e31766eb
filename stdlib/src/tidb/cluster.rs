//! Reading a TiDB cluster: its object, its components, everybody else who uses its certificates, and its Secrets.

use std::collections::BTreeMap;

use futures::future::{join_all, join3};
use serde_json::Value;

use crate::error::PrimError;
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, text};
use crate::k8s::secret::Tls;
use crate::trust::Verifier;
use crate::world::World;

use super::components::{self, CLIENT};
use super::consumers::{consumer, name_apart, strays};
use super::keeper::{Keeper, Named};
use super::{v1, v2};

/// `apiVersion` of a TidbCluster, operator v1.
pub const API_VERSION: &str = "pingcap.com/v1alpha1";
/// Its kind.
pub const KIND: &str = "TidbCluster";

/// Kinds whose pods may load a cluster's certificates beside what an operator runs.
const WORKLOADS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

/// What runs a part's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// TiDB operator v1, by a StatefulSet of its own.
    Operator,
    /// TiDB operator v2, by a group.
    Group,
    /// A plain workload of this kind.
    Workload(&'static str),
}

impl Runs {
    /// As facts name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "tidb",
            Self::Group => "group",
            Self::Workload("StatefulSet") => "statefulset",
            Self::Workload("DaemonSet") => "daemonset",
            Self::Workload(_) => "deployment",
        }
    }
}

/// A set of pods that share an identity and are restarted together.
#[derive(Debug, Clone)]
pub struct Part {
    /// `pd`, `client`, or a workload's own name; of several groups of one component, with the group's.
    pub component: String,
    /// What its pods run, as the table of links has it: `pd`, where several groups are called otherwise.
    pub role: String,
    /// Who restarts it.
    pub runs: Runs,
    /// Namespace of its pods: the cluster's, or that of the operator.
    pub namespace: String,
    /// Name of its StatefulSet or workload, or (under operator v2) of its Service.
    pub name: String,
    /// Under operator v2, its group as the API gave it.
    pub group: Option<Value>,
    /// Wanted pods.
    pub replicas: i64,
    /// Below which number its pods are kept back from rolling updates, where no operator sees to that.
    pub partition: i64,
    /// The Secret with its identity and trust.
    pub secret: String,
    /// By whose rules it verifies.
    pub verifier: Verifier,
    /// Where its pods answer with the cluster certificate; `None` for clients.
    pub port: Option<u16>,
    /// The common names that its servers allow; empty where they allow all.
    pub allowed_cn: Vec<String>,
    /// Labels of its pods.
    pub selector: String,
    /// Its pods now.
    pub pods: Vec<Value>,
}

impl Part {
    /// Whether a TiDB operator runs its pods.
    pub fn is_operators(&self) -> bool {
        matches!(self.runs, Runs::Operator | Runs::Group)
    }

    /// Its group's name under operator v2.
    pub fn group_name(&self) -> Option<&str> {
        self.group.as_ref().map(|group| text(group, &["metadata", "name"]))
    }
}

/// Whose identity lies in a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As the part is called.
    pub name: String,
    /// What its pods run.
    pub role: String,
}

/// A cluster as it was read.
pub struct Cluster {
    /// Which operator keeps it.
    pub keeper: Keeper,
    /// The TidbCluster, or Cluster.
    pub object: Ref,
    /// As the API gave it.
    pub value: Value,
    /// In the order to restart them in.
    pub parts: Vec<Part>,
    /// The Secrets of all parts and of the operator, checked, by name.
    pub secrets: BTreeMap<String, Tls>,
    /// Whose identity lies in which of them.
    pub identities: Identities,
    /// The Secret of clients, the operator's too.
    pub client_secret: String,
    /// What the operator of this program should know.
    pub warnings: Vec<String>,
}

impl Cluster {
    /// Reference of a Secret of the cluster.
    pub fn secret_ref(&self, name: &str) -> Ref {
        Ref::secret(&self.object.namespace, name)
    }
}

/// How a cluster's Secrets are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identities {
    /// By operator v1's scheme for the cluster of this name.
    Scheme(String),
    /// As its objects say.
    Known(BTreeMap<String, Identity>),
}

impl Identities {
    /// Whose identity lies in a Secret; nothing where it is none of the cluster's.
    pub fn of(&self, secret: &str) -> Option<Identity> {
        match self {
            Self::Scheme(cluster) => components::component_of_secret(cluster, secret)
                .map(|name| Identity { name: name.into(), role: name.into() }),
            Self::Known(known) => known.get(secret).cloned(),
        }
    }
}

/// The reference of a TidbCluster.
pub fn reference(namespace: &str, name: &str) -> Ref {
    Ref::new(API_VERSION, KIND, namespace, name)
}

/// Reads everything that belongs to a cluster.
pub async fn load(world: &World, named: &Named) -> Result<Cluster, PrimError> {
    let objects = Objects::of(world)?;
    let object = &named.object;
    let found = async {
        match named.keeper {
            Keeper::V1 => v1::read::find(&objects, object).await,
            Keeper::V2 { .. } => v2::read::find(&objects, object).await,
        }
    };
    // Asked side by side: what was read first and what last is no further apart than an answer takes.
    let workloads = join_all(WORKLOADS.map(|kind| objects.list("apps/v1", kind, &object.namespace, "")));
    let (value, pods, workloads) =
        join3(found, objects.list("v1", "Pod", &object.namespace, ""), workloads).await;
    let (value, pods) = (value?, pods?);
    let (mut parts, identities, client_secret) = match &named.keeper {
        Keeper::V1 => (
            v1::read::parts(object, &value, &pods),
            Identities::Scheme(object.name.clone()),
            components::secret_name(&object.name, CLIENT),
        ),
        Keeper::V2 { namespace } => {
            let read = v2::read::read(&objects, object, &value, namespace, &pods).await?;
            (read.parts, Identities::Known(read.identities), read.client_secret)
        }
    };
    let mut warnings = Vec::new();
    for (kind, workloads) in WORKLOADS.into_iter().zip(workloads) {
        for workload in workloads? {
            parts.extend(consumer(&identities, object, kind, &workload, &pods));
        }
    }
    name_apart(&mut parts);
    let ours = |name: &str| identities.of(name).is_some();
    warnings.extend(strays(&parts, &pods, &ours));
    let mut names: Vec<String> = parts.iter().map(|part| part.secret.clone()).collect();
    names.push(client_secret.clone());
    names.sort();
    names.dedup();
    let references: Vec<Ref> = names.iter().map(|name| Ref::secret(&object.namespace, name)).collect();
    let all = join_all(references.iter().map(|reference| objects.find(reference))).await;
    let mut secrets = BTreeMap::new();
    for ((name, reference), found) in names.into_iter().zip(references).zip(all) {
        let Some(found) = found? else {
            let user =
                parts.iter().find(|p| p.secret == name).map_or("the operator and clients", |p| &p.component);
            return Err(PrimError::not_found(format!("this Secret, from which {user} would load its certificate, does not exist"))
                .on(reference.to_string())
                .hint(format!("create it with `tls.crt`, `tls.key` and `ca.crt`, as the TiDB documentation says; `kubectl --namespace {} get secrets`", object.namespace)));
        };
        let tls = Tls::of(&reference, found)?;
        secrets.insert(name, tls);
    }
    let (keeper, object) = (named.keeper.clone(), object.clone());
    Ok(Cluster { keeper, object, value, parts, secrets, identities, client_secret, warnings })
}

pub(super) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &["metadata", "labels", key])
}
