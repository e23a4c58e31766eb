//! Reading a TiDB cluster: its object, its components, and everybody else who uses its certificates.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Code, PrimError};
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, text};
use crate::k8s::restart::selector;
use crate::k8s::rollout::replicas;
use crate::k8s::secret::Tls;
use crate::trust::Verifier;
use crate::world::World;

use super::components::{self, CLIENT, COMPONENTS};

/// `apiVersion` of a TidbCluster, operator v1.
pub const API_VERSION: &str = "pingcap.com/v1alpha1";
/// Its kind.
pub const KIND: &str = "TidbCluster";

/// What runs a part's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The TiDB operator, by a StatefulSet of its own.
    Operator,
    /// A plain workload of this kind.
    Workload(&'static str),
}

impl Runs {
    /// As facts name it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "tidb",
            Self::Workload("StatefulSet") => "statefulset",
            Self::Workload("DaemonSet") => "daemonset",
            Self::Workload(_) => "deployment",
        }
    }
}

/// A set of pods that share an identity and are restarted together.
#[derive(Debug, Clone)]
pub struct Part {
    /// `pd`, `client`, or a workload's own name.
    pub component: String,
    /// Who restarts it.
    pub runs: Runs,
    /// Name of its StatefulSet or workload.
    pub name: String,
    /// Wanted pods.
    pub replicas: i64,
    /// The Secret with its identity and trust.
    pub secret: String,
    /// By whose rules it verifies.
    pub verifier: Verifier,
    /// Where its pods answer with the cluster certificate; `None` for clients.
    pub port: Option<u16>,
    /// Labels of its pods.
    pub selector: String,
    /// Its pods now.
    pub pods: Vec<Value>,
}

/// A cluster as it was read.
pub struct Cluster {
    /// The TidbCluster.
    pub object: Ref,
    /// As the API gave it.
    pub value: Value,
    /// In the order to restart them in.
    pub parts: Vec<Part>,
    /// The Secrets of all parts and of the operator, checked, by name.
    pub secrets: BTreeMap<String, Tls>,
    /// What the operator of this program should know.
    pub warnings: Vec<String>,
}

impl Cluster {
    /// Reference of a Secret of the cluster.
    pub fn secret_ref(&self, name: &str) -> Ref {
        Ref::secret(&self.object.namespace, name)
    }

    /// The Secret of clients, the operator's too.
    pub fn client_secret(&self) -> String {
        components::secret_name(&self.object.name, CLIENT)
    }
}

/// The reference of a cluster.
pub fn reference(namespace: &str, name: &str) -> Ref {
    Ref::new(API_VERSION, KIND, namespace, name)
}

/// The labels of a component's pods.
pub fn labels(cluster: &str, component: &str) -> String {
    format!(
        "app.kubernetes.io/managed-by=tidb-operator,app.kubernetes.io/instance={cluster},app.kubernetes.io/component={component}"
    )
}

/// The TidbCluster, or an error that names those that exist.
pub async fn find(objects: &Objects<'_>, object: &Ref) -> Result<Value, PrimError> {
    if let Some(value) = objects.find(object).await? {
        return Ok(value);
    }
    let missing = |message: &str| PrimError::new(Code::NoTarget, message).on(object.to_string());
    let here = match objects.list(API_VERSION, KIND, &object.namespace, "").await {
        Ok(here) => here,
        Err(error) if error.code == Code::NotFound => {
            return Err(missing(
                "this cluster has no TidbCluster objects: TiDB operator v1 is not installed",
            ));
        }
        Err(_) => Vec::new(),
    };
    let mut known = here;
    if known.is_empty() {
        // Whoever may not list all namespaces gets the shorter answer.
        known = objects.list(API_VERSION, KIND, "", "").await.unwrap_or_default();
    }
    let names: Vec<String> = known
        .iter()
        .map(|v| format!("`{}/{}`", text(v, &["metadata", "namespace"]), text(v, &["metadata", "name"])))
        .collect();
    let error = missing("there is no such TiDB cluster");
    Err(if names.is_empty() {
        error.hint(format!("no TidbCluster is visible in namespace `{}`", object.namespace))
    } else {
        error
            .hint(format!("there are: {}; choose with `--set namespace=… --set cluster=…`", names.join(", ")))
    })
}

/// Reads everything that belongs to a cluster.
pub async fn load(world: &World, object: &Ref) -> Result<Cluster, PrimError> {
    let objects = Objects::of(world)?;
    let value = find(&objects, object).await?;
    let pods = objects.list("v1", "Pod", &object.namespace, "").await?;
    let mut parts = operator_parts(object, &value, &pods);
    let mut warnings = Vec::new();
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        for workload in objects.list("apps/v1", kind, &object.namespace, "").await? {
            parts.extend(consumer(object, kind, &workload, &pods));
        }
    }
    name_apart(&mut parts);
    let ours = |name: &str| components::component_of_secret(&object.name, name).is_some();
    warnings.extend(strays(&parts, &pods, &ours));
    let mut names: Vec<String> = parts.iter().map(|part| part.secret.clone()).collect();
    names.push(components::secret_name(&object.name, CLIENT));
    names.sort();
    names.dedup();
    let mut secrets = BTreeMap::new();
    for name in names {
        let reference = Ref::secret(&object.namespace, &name);
        let Some(found) = objects.find(&reference).await? else {
            let user =
                parts.iter().find(|p| p.secret == name).map_or("the operator and clients", |p| &p.component);
            return Err(PrimError::not_found(format!("this Secret, from which {user} would load its certificate, does not exist"))
                .on(reference.to_string())
                .hint(format!("create it with `tls.crt`, `tls.key` and `ca.crt`, as the TiDB documentation says; `kubectl --namespace {} get secrets`", object.namespace)));
        };
        let tls = Tls::of(&reference, found)?;
        secrets.insert(name, tls);
    }
    Ok(Cluster { object: object.clone(), value, parts, secrets, warnings })
}

fn operator_parts(object: &Ref, cluster: &Value, pods: &[Value]) -> Vec<Part> {
    COMPONENTS
        .iter()
        .filter(|component| at(cluster, &["spec", component.name]).is_some_and(Value::is_object))
        .map(|component| {
            let wanted =
                at(cluster, &["spec", component.name, "replicas"]).and_then(Value::as_i64).unwrap_or(0);
            Part {
                component: component.name.to_owned(),
                runs: Runs::Operator,
                name: format!("{}-{}", object.name, component.name),
                replicas: wanted,
                secret: components::secret_name(&object.name, component.name),
                verifier: component.verifier,
                port: Some(component.port),
                selector: labels(&object.name, component.name),
                pods: pods
                    .iter()
                    .filter(|pod| {
                        label(pod, "app.kubernetes.io/instance") == object.name
                            && label(pod, "app.kubernetes.io/component") == component.name
                    })
                    .cloned()
                    .collect(),
            }
        })
        .collect()
}

/// A workload outside the operator's components that uses Secrets of this cluster: a part for each of them.
fn consumer(object: &Ref, kind: &'static str, workload: &Value, pods: &[Value]) -> Vec<Part> {
    if owned_by_cluster(object, workload) && kind == "StatefulSet" {
        return Vec::new();
    }
    let ours = |name: &str| components::component_of_secret(&object.name, name).is_some();
    users(object, kind, workload, pods, &ours)
}

/// A workload that uses such Secrets: a part for each of them. What the operator runs it restarts itself.
pub(super) fn users(
    object: &Ref,
    kind: &'static str,
    workload: &Value,
    pods: &[Value],
    ours: &dyn Fn(&str) -> bool,
) -> Vec<Part> {
    if of_another_cluster(object, workload) {
        return Vec::new();
    }
    let operated = owned_by_cluster(object, workload) && kind == "StatefulSet";
    let Some(template) = at(workload, &["spec", "template", "spec"]) else { return Vec::new() };
    let name = text(workload, &["metadata", "name"]);
    let wanted = if kind == "DaemonSet" {
        at(workload, &["status", "desiredNumberScheduled"]).and_then(Value::as_i64).unwrap_or(0)
    } else {
        replicas(workload)
    };
    let selector = selector(workload);
    let matches = |pod: &&Value| {
        !selector.is_empty()
            && selector.split(',').all(|pair| pair.split_once('=').is_some_and(|(k, v)| label(pod, k) == v))
    };
    let pods: Vec<Value> = pods.iter().filter(matches).cloned().collect();
    let short = name.strip_prefix(&format!("{}-", object.name)).unwrap_or(name);
    let part = |(n, secret): (usize, String)| Part {
        component: match components::component_of_secret(&object.name, &secret) {
            Some(identity) if n > 0 => format!("{short}-{identity}"),
            _ => short.to_owned(),
        },
        runs: if operated { Runs::Operator } else { Runs::Workload(kind) },
        name: name.to_owned(),
        replicas: wanted,
        secret,
        verifier: Verifier::Go,
        port: None,
        pods: pods.clone(),
        selector: selector.clone(),
    };
    secrets_used(template, ours).into_iter().enumerate().map(part).collect()
}

/// Whether a workload is run for another TiDB cluster, whose name may begin like ours.
fn of_another_cluster(object: &Ref, workload: &Value) -> bool {
    let owners = at(workload, &["metadata", "ownerReferences"]).and_then(Value::as_array);
    let another = |owner: &Value| text(owner, &["kind"]) == KIND && text(owner, &["name"]) != object.name;
    owners.into_iter().flatten().any(another)
        || (label(workload, "app.kubernetes.io/managed-by") == "tidb-operator"
            && !["", object.name.as_str()].contains(&label(workload, "app.kubernetes.io/instance")))
}

/// Gives parts that would be called alike names of their own: a Deployment `client` beside one called `basic-client`.
pub(super) fn name_apart(parts: &mut [Part]) {
    for n in 1..parts.len() {
        let (earlier, rest) = parts.split_at_mut(n);
        let Some(part) = rest.first_mut() else { return };
        let taken = |name: &str| earlier.iter().any(|known| known.component == name);
        if !taken(&part.component) {
            continue;
        }
        let kind = format!("{}-{}", part.component, part.runs.word());
        let full = format!("{}-{}", part.name, part.runs.word());
        let numbered = (2..).map(|n| format!("{kind}-{n}"));
        if let Some(free) = [kind.clone(), full].into_iter().chain(numbered).find(|name| !taken(name)) {
            part.component = free;
        }
    }
}

/// Pods that use the cluster's Secrets and belong to nothing that could be restarted.
pub(super) fn strays(parts: &[Part], pods: &[Value], ours: &dyn Fn(&str) -> bool) -> Vec<String> {
    let known = |pod: &Value| {
        let name = text(pod, &["metadata", "name"]);
        parts.iter().flat_map(|p| &p.pods).any(|p| text(p, &["metadata", "name"]) == name)
    };
    pods.iter()
        .filter(|pod| !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed") && !known(pod))
        .filter_map(|pod| {
            let secret = secrets_used(pod.get("spec")?, ours).into_iter().next()?;
            Some(format!(
                "pod {} uses Secret {secret} and belongs to no workload that can be restarted: restart it yourself after each phase",
                text(pod, &["metadata", "name"])
            ))
        })
        .collect()
}

/// Such Secrets that a pod specification mounts or reads.
fn secrets_used(spec: &Value, ours: &dyn Fn(&str) -> bool) -> Vec<String> {
    let list =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for volume in list(spec, "volumes") {
        names.push(text(&volume, &["secret", "secretName"]).to_owned());
        if let Some(projected) = volume.get("projected") {
            names.extend(list(projected, "sources").iter().map(|s| text(s, &["secret", "name"]).to_owned()));
        }
    }
    for container in list(spec, "containers").into_iter().chain(list(spec, "initContainers")) {
        names.extend(
            list(&container, "env")
                .iter()
                .map(|e| text(e, &["valueFrom", "secretKeyRef", "name"]).to_owned()),
        );
        names.extend(list(&container, "envFrom").iter().map(|e| text(e, &["secretRef", "name"]).to_owned()));
    }
    names.retain(|name| ours(name));
    names.sort();
    names.dedup();
    names
}

fn owned_by_cluster(object: &Ref, workload: &Value) -> bool {
    at(workload, &["metadata", "ownerReferences"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|owner| text(owner, &["kind"]) == KIND && text(owner, &["name"]) == object.name)
        || (label(workload, "app.kubernetes.io/managed-by") == "tidb-operator"
            && label(workload, "app.kubernetes.io/instance") == object.name)
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &["metadata", "labels", key])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_consumer_is_found_however_it_uses_the_secret() {
        let cluster = reference("tidb", "basic");
        let ours = |name: &str| components::component_of_secret(&cluster.name, name).is_some();
        let uses = |spec: Value| secrets_used(&spec, &ours);
        let client = "basic-cluster-client-secret";
        assert_eq!(uses(json!({"volumes": [{"secret": {"secretName": client}}]})), [client]);
        assert_eq!(
            uses(json!({"volumes": [{"projected": {"sources": [{"secret": {"name": client}}]}}]})),
            [client]
        );
        assert_eq!(
            uses(json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": client}}}]}]})),
            [client]
        );
        assert_eq!(
            uses(json!({"initContainers": [{"envFrom": [{"secretRef": {"name": client}}]}]})),
            [client]
        );
        assert!(
            uses(json!({"volumes": [{"secret": {"secretName": "other-cluster-client-secret"}}]})).is_empty()
        );
    }

    #[test]
    fn statefulsets_of_the_operator_are_components_and_other_workloads_are_consumers() {
        let cluster = reference("tidb", "basic");
        let template =
            json!({"spec": {"volumes": [{"secret": {"secretName": "basic-cluster-client-secret"}}]}});
        let own = json!({
            "metadata": {"name": "basic-pd", "ownerReferences": [{"kind": "TidbCluster", "name": "basic"}]},
            "spec": {"template": template},
        });
        assert!(consumer(&cluster, "StatefulSet", &own, &[]).is_empty());
        let client = json!({
            "metadata": {"name": "basic-client"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "client"}}, "template": template},
        });
        let pods = [
            json!({"metadata": {"name": "basic-client-1", "labels": {"app": "client"}}}),
            json!({"metadata": {"name": "elsewhere", "labels": {"app": "other"}}}),
        ];
        let parts = consumer(&cluster, "Deployment", &client, &pods);
        let [part] = parts.as_slice() else { panic!("{parts:?}") };
        assert!(part.component == "client" && part.pods.len() == 1 && part.port.is_none());
    }

    #[test]
    fn a_workload_with_two_identities_takes_part_with_both() {
        let cluster = reference("tidb", "basic");
        let volume = |name: &str| json!({"secret": {"secretName": name}});
        let volumes = ["basic-discovery-cluster-secret", "basic-cluster-client-secret"].map(volume);
        let tool = json!({
            "metadata": {"name": "basic-tool"},
            "spec": {"replicas": 1, "template": {"spec": {"volumes": volumes}}},
        });
        let parts = consumer(&cluster, "Deployment", &tool, &[]);
        let told: Vec<(&str, &str)> =
            parts.iter().map(|p| (p.component.as_str(), p.secret.as_str())).collect();
        assert_eq!(
            told,
            [("tool", "basic-cluster-client-secret"), ("tool-discovery", "basic-discovery-cluster-secret")]
        );
    }

    #[test]
    fn a_cluster_whose_name_begins_like_ours_is_no_part_of_ours() {
        let cluster = reference("tidb", "basic");
        let template =
            json!({"spec": {"volumes": [{"secret": {"secretName": "basic-two-pd-cluster-secret"}}]}});
        let owned = json!({
            "metadata": {"name": "basic-two-pd", "ownerReferences": [{"kind": "TidbCluster", "name": "basic-two"}]},
            "spec": {"template": template},
        });
        let labelled = json!({
            "metadata": {"name": "basic-two-pd", "labels": {
                "app.kubernetes.io/managed-by": "tidb-operator", "app.kubernetes.io/instance": "basic-two"}},
            "spec": {"template": template},
        });
        for workload in [owned, labelled] {
            assert!(consumer(&cluster, "StatefulSet", &workload, &[]).is_empty());
        }
    }

    #[test]
    fn parts_that_would_be_called_alike_get_names_of_their_own() {
        let cluster = reference("tidb", "basic");
        let workload = |name: &str| {
            json!({
                "metadata": {"name": name},
                "spec": {"template": {"spec": {"volumes": [{"secret": {"secretName": "basic-cluster-client-secret"}}]}}},
            })
        };
        let mut parts = Vec::new();
        for (kind, name) in [
            ("Deployment", "client"),
            ("Deployment", "basic-client"),
            ("StatefulSet", "client"),
            ("DaemonSet", "client"),
        ] {
            parts.extend(consumer(&cluster, kind, &workload(name), &[]));
        }
        name_apart(&mut parts);
        let names: Vec<&str> = parts.iter().map(|part| part.component.as_str()).collect();
        assert_eq!(names, ["client", "client-deployment", "client-statefulset", "client-daemonset"]);
    }
}
