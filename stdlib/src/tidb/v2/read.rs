//! Reading a cluster of operator v2: its object, its groups as parts, and the operator itself, which is one too.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Code, PrimError};
use crate::k8s::client::Objects;
use crate::k8s::object::{Ref, at, text};
use crate::k8s::owned::{self, Owners};
use crate::k8s::rollout::replicas;
use crate::tidb::cluster::{Identity, Part, Runs};
use crate::tidb::components::{self, CLIENT};
use crate::tidb::{config, links};
use crate::trust::Verifier;

use super::{API_VERSION, CLUSTER, GROUPS, pods};

/// The label of the operator's Deployment, as its chart writes it.
pub const OPERATOR_LABEL: &str = "app.kubernetes.io/component=tidb-operator";

/// What belongs to a cluster by its operator's objects.
pub struct Read {
    /// Its groups, and the operator.
    pub parts: Vec<Part>,
    /// Whose identity lies in which Secret.
    pub identities: BTreeMap<String, Identity>,
    /// The Secret of clients, the operator's too.
    pub client_secret: String,
}

/// The Cluster, or an error that names those that exist.
pub async fn find(objects: &Objects<'_>, object: &Ref) -> Result<Value, PrimError> {
    if let Some(value) = objects.find(object).await? {
        return Ok(value);
    }
    let missing = |message: &str| PrimError::new(Code::NoTarget, message).on(object.to_string());
    let here = match objects.list(API_VERSION, CLUSTER, &object.namespace, "").await {
        Err(error) if error.code == Code::NotFound => {
            return Err(missing("there are no Cluster objects here: TiDB operator v2 is not installed")
                .hint("`--set operator=v1` where operator v1 keeps the cluster"));
        }
        listed => listed.unwrap_or_default(),
    };
    let names: Vec<&str> = here.iter().map(|value| text(value, &["metadata", "name"])).collect();
    let hint = if names.is_empty() {
        format!("no Cluster is visible in namespace `{}`", object.namespace)
    } else {
        format!("there are: {}; choose with `--set cluster=…`", names.join(", "))
    };
    Err(missing("there is no such TiDB cluster of operator v2").hint(hint))
}

/// Reads the groups of a cluster and its operator's Deployments in the namespace `operator`. `all` are the pods beside it.
pub async fn read(
    objects: &Objects<'_>,
    object: &Ref,
    cluster: &Value,
    operator: &str,
    all: &[Value],
) -> Result<Read, PrimError> {
    let mut groups = Vec::new();
    for (component, kind) in GROUPS {
        let listed = match objects.list(API_VERSION, kind, &object.namespace, "").await {
            // A release that does not have this kind.
            Err(error) if error.code == Code::NotFound => Vec::new(),
            listed => listed?,
        };
        groups.extend(listed.into_iter().map(|group| (component, group)));
    }
    groups.retain(|(_, group)| text(group, &["spec", "cluster", "name"]) == object.name);
    known(object, all)?;
    let client_secret = one_secret(cluster, &["spec", "security", "tls", "client"], object)?
        .unwrap_or_else(|| components::secret_name(&object.name, CLIENT));
    let mut parts = Vec::new();
    let mut identities = BTreeMap::new();
    for (component, group) in &groups {
        let alone = groups.iter().filter(|(other, _)| other == component).count() == 1;
        let part = part(object, component, group, alone, all)?;
        let identity = Identity { name: part.component.clone(), role: part.role.clone() };
        identities.entry(part.secret.clone()).or_insert(identity);
        parts.push(part);
    }
    let client = Identity { name: CLIENT.into(), role: CLIENT.into() };
    identities.entry(client_secret.clone()).or_insert(client);
    parts.extend(operators(objects, operator, &client_secret).await?);
    Ok(Read { parts, identities, client_secret })
}

/// That every pod of the cluster runs something that we know.
fn known(object: &Ref, all: &[Value]) -> Result<(), PrimError> {
    let of_it = |pod: &&Value| pods::label(pod, "cluster") == object.name;
    let ended = |pod: &Value| matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    let stranger = all.iter().filter(of_it).find(|pod| {
        let component = pods::label(pod, "component");
        !ended(pod) && !GROUPS.iter().any(|(name, _)| *name == component)
    });
    match stranger {
        None => Ok(()),
        Some(pod) => Err(PrimError::invalid(format!(
            "it has pods of the component `{}`, of which it is not known whom they dial and how they are restarted",
            pods::label(pod, "component")
        ))
        .on(object.to_string())
        .expected("groups of PD, TiKV, TiDB, TiFlash, TiCDC and TiProxy", text(pod, &["metadata", "name"]))),
    }
}

/// A group as a part. The only group of a component is called as the component is.
pub(in crate::tidb) fn part(
    object: &Ref,
    component: &str,
    group: &Value,
    alone: bool,
    all: &[Value],
) -> Result<Part, PrimError> {
    let name = text(group, &["metadata", "name"]);
    let known = components::by_name(component)
        .ok_or_else(|| PrimError::internal(format!("{component} is not in the table of components")))?;
    let own =
        Ref::new(API_VERSION, super::group_kind(component).unwrap_or_default(), &object.namespace, name);
    let path = ["spec", "template", "spec", "security", "tls", "cluster"];
    let secret = one_secret(group, &path, &own)?.unwrap_or_else(|| components::secret_name(name, component));
    let ours = |pod: &&Value| {
        pods::label(pod, "cluster") == object.name
            && pods::label(pod, "component") == component
            && pods::label(pod, "group") == name
    };
    Ok(Part {
        component: if alone { component.to_owned() } else { format!("{component}-{name}") },
        role: component.to_owned(),
        runs: Runs::Group,
        namespace: object.namespace.clone(),
        name: format!("{name}-{component}"),
        group: Some(group.clone()),
        replicas: replicas(group),
        partition: 0,
        secret,
        verifier: known.verifier,
        port: Some(known.port),
        allowed_cn: config::of_text(text(group, &["spec", "template", "spec", "config"])),
        selector: pods::selector(&object.name, component, name),
        pods: all.iter().filter(ours).cloned().collect(),
    })
}

/// The Secret that `ca` and `certKeyPair` below a path name, if they do.
pub(in crate::tidb) fn one_secret(
    value: &Value,
    path: &[&str],
    object: &Ref,
) -> Result<Option<String>, PrimError> {
    let Some(tls) = at(value, path) else { return Ok(None) };
    let (ca, pair) = (text(tls, &["ca", "name"]), text(tls, &["certKeyPair", "name"]));
    match (ca, pair) {
        ("", "") => Ok(None),
        (ca, pair) if ca == pair => Ok(Some(ca.to_owned())),
        (ca, pair) => Err(PrimError::invalid(
            "its CA and its certificate lie in different Secrets, which these workflows do not know how to change in step",
        )
        .on(object.to_string())
        .expected(format!("one Secret in `{}.ca.name` and `.certKeyPair.name`", path.join(".")), format!("`{ca}` and `{pair}`"))),
    }
}

/// The operator's Deployments: each asks PD with the client that it made when it started.
async fn operators(objects: &Objects<'_>, namespace: &str, secret: &str) -> Result<Vec<Part>, PrimError> {
    let found = objects.list("apps/v1", "Deployment", namespace, OPERATOR_LABEL).await?;
    if found.is_empty() {
        return Err(PrimError::not_found(
            "no Deployment of TiDB operator v2 is here; it keeps the TLS client with which it asks PD, so it has to be restarted too",
        )
        .on(format!("namespace {namespace}"))
        .expected(format!("a Deployment labelled `{OPERATOR_LABEL}`"), "none")
        .hint("say where it is: `--set operator_namespace=…`"));
    }
    let mut parts = Vec::new();
    for deployment in found {
        let name = text(&deployment, &["metadata", "name"]).to_owned();
        let own = Ref::new("apps/v1", "Deployment", namespace, &name);
        let selector = owned::selector(&own, &deployment)?.to_string();
        let mut pods = objects.list("v1", "Pod", namespace, &selector).await?;
        pods.retain(|pod| owned::is_own("Deployment", &deployment, pod, &Owners::new()));
        parts.push(Part {
            component: links::OPERATOR.to_owned(),
            role: links::OPERATOR_PD.to_owned(),
            runs: Runs::Workload("Deployment"),
            namespace: namespace.to_owned(),
            name,
            group: None,
            replicas: replicas(&deployment),
            partition: 0,
            secret: secret.to_owned(),
            verifier: Verifier::Go,
            port: None,
            allowed_cn: Vec::new(),
            pods,
            selector,
        });
    }
    Ok(parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> Ref {
        Ref::new(API_VERSION, CLUSTER, "tidb", "basic")
    }

    #[test]
    fn two_groups_of_one_component_are_two_parties() {
        let group = |name: &str| json!({"metadata": {"name": name}, "spec": {"replicas": 2, "cluster": {"name": "basic"}}});
        let pod = |group: &str| {
            json!({"metadata": {"name": format!("{group}-tidb-abc"), "labels": {
                "pingcap.com/cluster": "basic", "pingcap.com/component": "tidb", "pingcap.com/group": group}}})
        };
        let pods = [pod("read"), pod("write")];
        let read = part(&cluster(), "tidb", &group("read"), false, &pods).unwrap();
        assert_eq!(
            (read.component.as_str(), read.secret.as_str()),
            ("tidb-read", "read-tidb-cluster-secret")
        );
        assert_eq!((read.name.as_str(), read.pods.len()), ("read-tidb", 1));
        let only = part(&cluster(), "tidb", &group("write"), true, &pods).unwrap();
        assert_eq!((only.component.as_str(), only.role.as_str()), ("tidb", "tidb"));
    }

    #[test]
    fn a_secret_of_another_name_is_used_and_two_for_one_identity_are_refused() {
        let group = |ca: &str, pair: &str| {
            let tls = json!({"cluster": {"ca": {"name": ca}, "certKeyPair": {"name": pair}}});
            json!({"metadata": {"name": "pd"}, "spec": {"template": {"spec": {"security": {"tls": tls}}}}})
        };
        let found = part(&cluster(), "pd", &group("mine", "mine"), true, &[]).unwrap();
        assert_eq!(found.secret, "mine");
        let refused = part(&cluster(), "pd", &group("bundle", "mine"), true, &[]).unwrap_err();
        assert!(
            refused.message.contains("different Secrets") && refused.object == "PDGroup tidb/pd",
            "{refused}"
        );
    }

    #[test]
    fn pods_of_a_component_that_we_do_not_know_are_refused() {
        let pod = |component: &str, cluster: &str| {
            json!({"metadata": {"name": "x", "labels": {
                "pingcap.com/cluster": cluster, "pingcap.com/component": component}}})
        };
        assert!(known(&cluster(), &[pod("pd", "basic"), pod("tso", "other")]).is_ok());
        let refused = known(&cluster(), &[pod("tso", "basic")]).unwrap_err();
        assert!(refused.message.contains("`tso`"), "{refused}");
    }
}
