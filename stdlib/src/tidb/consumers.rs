//! Everybody else who uses a cluster's certificates: workloads beside the operator's components, and stray pods.

use serde_json::Value;

use crate::k8s::object::{Ref, at, text};
use crate::k8s::owned::{self, Owners};
use crate::k8s::partition::partition;
use crate::k8s::rollout::replicas;
use crate::trust::Verifier;

use super::cluster::{Identities, KIND, Part, Runs, label};

/// A workload outside the operator's components that uses Secrets of this cluster: a part for each of them.
pub(super) fn consumer(
    identities: &Identities,
    object: &Ref,
    kind: &'static str,
    workload: &Value,
    pods: &[Value],
) -> Vec<Part> {
    if owned_by_cluster(object, workload) && kind == "StatefulSet" {
        return Vec::new();
    }
    let ours = |name: &str| identities.of(name).is_some();
    users(identities, object, kind, workload, pods, &ours)
}

/// A workload that uses such Secrets: a part for each of them. What the operator runs it restarts itself.
pub(super) fn users(
    identities: &Identities,
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
    // Without one its pods are those of nobody, and its restart is refused.
    let own = Ref::new("apps/v1", kind, &object.namespace, name);
    let selector = owned::selector(&own, workload).ok();
    let owners = Owners::new();
    let matches = |pod: &&Value| {
        selector.as_ref().is_some_and(|selector| owned::finds(selector, pod))
            && owned::is_own(kind, workload, pod, &owners)
    };
    let pods: Vec<Value> = pods.iter().filter(matches).cloned().collect();
    let selector = selector.map(|selector| selector.to_string()).unwrap_or_default();
    let short = name.strip_prefix(&format!("{}-", object.name)).unwrap_or(name);
    let part = |(n, secret): (usize, String)| Part {
        component: match identities.of(&secret) {
            Some(identity) if n > 0 => format!("{short}-{}", identity.name),
            _ => short.to_owned(),
        },
        role: short.to_owned(),
        runs: if operated { Runs::Operator } else { Runs::Workload(kind) },
        namespace: object.namespace.clone(),
        name: name.to_owned(),
        group: None,
        replicas: wanted,
        partition: if operated { 0 } else { partition(workload) },
        secret,
        verifier: Verifier::Go,
        port: None,
        allowed_cn: Vec::new(),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tidb::cluster::reference;

    fn scheme() -> Identities {
        Identities::Scheme("basic".into())
    }

    #[test]
    fn a_consumer_is_found_however_it_uses_the_secret() {
        let ours = |name: &str| scheme().of(name).is_some();
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
        assert!(consumer(&scheme(), &cluster, "StatefulSet", &own, &[]).is_empty());
        let client = json!({
            "metadata": {"name": "basic-client", "uid": "u"},
            "spec": {"replicas": 1, "template": template, "selector": {
                "matchExpressions": [{"key": "app", "operator": "In", "values": ["client"]}]}},
        });
        let pod = |name: &str, app: &str, kind: &str, owner: &str| {
            json!({"metadata": {"name": name, "labels": {"app": app}, "ownerReferences": [
                {"kind": kind, "uid": owner, "controller": true}]}})
        };
        let pods = [
            pod("basic-client-1", "client", "ReplicaSet", "rs"),
            pod("basic-client-0", "client", "StatefulSet", "u"),
            pod("basic-batch-0", "client", "StatefulSet", "another"),
            pod("elsewhere", "other", "ReplicaSet", "rs"),
        ];
        for (kind, own) in [("Deployment", "basic-client-1"), ("StatefulSet", "basic-client-0")] {
            let parts = consumer(&scheme(), &cluster, kind, &client, &pods);
            let [part] = parts.as_slice() else { panic!("{parts:?}") };
            assert!(part.component == "client" && part.port.is_none());
            assert_eq!(part.selector, "app in (client)");
            let names: Vec<&str> = part.pods.iter().map(|pod| text(pod, &["metadata", "name"])).collect();
            assert_eq!(names, [own], "{kind}: what its selector finds and its controller made");
        }
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
        let parts = consumer(&scheme(), &cluster, "Deployment", &tool, &[]);
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
            assert!(consumer(&scheme(), &cluster, "StatefulSet", &workload, &[]).is_empty());
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
            parts.extend(consumer(&scheme(), &cluster, kind, &workload(name), &[]));
        }
        name_apart(&mut parts);
        let names: Vec<&str> = parts.iter().map(|part| part.component.as_str()).collect();
        assert_eq!(names, ["client", "client-deployment", "client-statefulset", "client-daemonset"]);
    }
}
