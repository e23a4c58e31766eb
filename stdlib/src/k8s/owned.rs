//! Which pods are a workload's own: those that its whole label selector finds and its controller has made.
//!
//! A selector alone may find the pods of others too. Theirs are not counted, and above all not taken away.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use serde_json::Value;

use crate::error::PrimError;

use super::client::Objects;
use super::object::{Ref, at, text};

/// The whole label selector of a workload. One that finds every pod of the namespace is refused.
pub fn selector(object: &Ref, workload: &Value) -> Result<Selector, PrimError> {
    let written = at(workload, &["spec", "selector"]).unwrap_or(&Value::Null);
    read(written).filter(|selector| !selector.selects_all()).ok_or_else(|| {
        PrimError::invalid("its label selector does not tell its pods from others")
            .on(object.to_string())
            .expected("`matchLabels` or `matchExpressions` in `spec.selector`", written.to_string())
            .hint(format!(
                "`kubectl --namespace {} get {} {} --output yaml` shows it",
                object.namespace,
                object.kind.to_lowercase(),
                object.name
            ))
    })
}

/// A label selector as the API writes it; nothing where it is none.
pub fn read(written: &Value) -> Option<Selector> {
    let written = Some(written).filter(|written| written.is_object())?;
    Selector::try_from(serde_json::from_value::<LabelSelector>(written.clone()).ok()?).ok()
}

/// Whether a selector finds a pod.
pub fn finds(selector: &Selector, pod: &Value) -> bool {
    let labels = at(pod, &["metadata", "labels"]).and_then(Value::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    selector.matches(&labels)
}

/// Who owns the ReplicaSets that were seen: the uid of each one's controller by its own.
pub type Owners = BTreeMap<String, String>;

/// Whether a workload has made a pod, itself or (a Deployment) by a ReplicaSet. A ReplicaSet that is not among `owners`
/// counts as its own: it has gone and left a pod behind, which serves with what it loaded until it ends.
pub fn is_own(kind: &str, workload: &Value, pod: &Value, owners: &Owners) -> bool {
    let Some(controller) = controller(pod) else { return false };
    let (uid, maker) = (text(workload, &["metadata", "uid"]), text(controller, &["uid"]));
    match kind {
        "Deployment" => {
            text(controller, &["kind"]) == "ReplicaSet" && owners.get(maker).is_none_or(|owner| owner == uid)
        }
        _ => maker == uid,
    }
}

/// Whether a pod is one of a set of this name that goes as a whole: its StatefulSet has made it, or, where there is none of
/// that name, an operator of PingCAP's that runs such pods by objects of its own.
pub fn is_of_set(name: &str, stateful_set: Option<&Value>, pod: &Value) -> bool {
    if let Some(set) = stateful_set {
        return is_own("StatefulSet", set, pod, &Owners::new());
    }
    let Some(controller) = controller(pod) else { return false };
    let group = text(controller, &["apiVersion"]).split('/').next().unwrap_or_default();
    let one_of =
        |one: &str| one.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    (group == "pingcap.com" || group.ends_with(".pingcap.com"))
        && (text(controller, &["name"]) == name || one_of(text(pod, &["metadata", "name"])))
}

/// Whether none of its processes runs any more: one that was evicted from its node lies about and holds nothing.
fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded")
}

/// The owner that controls an object.
fn controller(object: &Value) -> Option<&Value> {
    let owners = at(object, &["metadata", "ownerReferences"])?.as_array()?;
    owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Reads a workload's own pods, and keeps what it learns of ReplicaSets between two looks.
#[derive(Debug, Default)]
pub struct Own(Owners);

impl Own {
    /// The pods, terminating ones too; not those that have ended.
    pub async fn pods(
        &mut self,
        objects: &Objects<'_>,
        object: &Ref,
        workload: &Value,
    ) -> Result<Vec<Value>, PrimError> {
        let selector = selector(object, workload)?.to_string();
        let mut pods = objects.list("v1", "Pod", &object.namespace, &selector).await?;
        if object.kind == "Deployment" && pods.iter().any(|pod| self.is_strange(pod)) {
            for set in objects.list("apps/v1", "ReplicaSet", &object.namespace, "").await? {
                let owner = controller(&set).map(|owner| text(owner, &["uid"])).unwrap_or_default();
                self.0.insert(text(&set, &["metadata", "uid"]).to_owned(), owner.to_owned());
            }
        }
        pods.retain(|pod| is_own(&object.kind, workload, pod, &self.0) && !has_ended(pod));
        Ok(pods)
    }

    /// Whether it is not known yet who owns the ReplicaSet that made a pod.
    fn is_strange(&self, pod: &Value) -> bool {
        controller(pod).is_some_and(|maker| !self.0.contains_key(text(maker, &["uid"])))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(selector: Value) -> Value {
        json!({"metadata": {"name": "db", "uid": "u-db"}, "spec": {"selector": selector}})
    }

    fn db() -> Ref {
        Ref::new("apps/v1", "StatefulSet", "shop", "db")
    }

    fn pod(labels: Value, kind: &str, owner: &str) -> Value {
        json!({"metadata": {"labels": labels, "ownerReferences": [
            {"kind": "Audit", "uid": "u-db"}, {"kind": kind, "uid": owner, "controller": true}]}})
    }

    #[test]
    fn a_selector_is_rendered_whole() {
        let asked = |written: Value| selector(&db(), &workload(written)).unwrap().to_string();
        let expressions = json!([
            {"key": "app", "operator": "In", "values": ["db"]},
            {"key": "tier", "operator": "NotIn", "values": ["test"]},
            {"key": "role", "operator": "Exists"},
            {"key": "old", "operator": "DoesNotExist"}]);
        assert_eq!(
            asked(json!({"matchExpressions": expressions})),
            "app in (db),tier notin (test),role,!old",
            "without `matchLabels` it is not everything"
        );
        assert_eq!(
            asked(
                json!({"matchLabels": {"app": "db"}, "matchExpressions": [{"key": "role", "operator": "Exists"}]})
            ),
            "app=db,role"
        );
    }

    #[test]
    fn a_selector_that_would_find_everybody_is_refused() {
        for written in [
            json!({}),
            json!({"matchLabels": {}, "matchExpressions": []}),
            json!(null),
            json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["d"]}]}),
        ] {
            let refused = selector(&db(), &workload(written.clone())).unwrap_err();
            assert_eq!(refused.object, "StatefulSet shop/db");
            assert!(refused.message.contains("does not tell its pods from others"), "{written}: {refused}");
        }
    }

    #[test]
    fn only_what_its_controller_has_made_is_a_workloads_own() {
        let set = workload(json!({}));
        let none = Owners::new();
        let own = |pod: &Value| is_own("StatefulSet", &set, pod, &none);
        assert!(own(&pod(json!({}), "StatefulSet", "u-db")));
        assert!(!own(&pod(json!({}), "StatefulSet", "u-other")), "of another with the same labels");
        assert!(!own(&json!({"metadata": {}})), "of nobody");
    }

    #[test]
    fn the_pods_of_a_deployment_are_those_of_its_replica_sets() {
        let deployment = workload(json!({}));
        let owners = Owners::from([
            ("rs-1".into(), "u-db".into()),
            ("rs-2".into(), "u-other".into()),
            ("rs-3".into(), String::new()),
        ]);
        let own = |pod: &Value| is_own("Deployment", &deployment, pod, &owners);
        assert!(own(&pod(json!({}), "ReplicaSet", "rs-1")));
        assert!(!own(&pod(json!({}), "ReplicaSet", "rs-2")));
        assert!(!own(&pod(json!({}), "ReplicaSet", "rs-3")), "a ReplicaSet of nobody");
        assert!(own(&pod(json!({}), "ReplicaSet", "rs-gone")), "what outlives its ReplicaSet still serves");
        assert!(!own(&pod(json!({}), "StatefulSet", "u-db")));
    }

    #[test]
    fn a_set_that_goes_as_a_whole_has_the_pods_that_its_maker_made() {
        let set = workload(json!({}));
        let made = pod(json!({}), "StatefulSet", "u-db");
        assert!(is_of_set("db", Some(&set), &made));
        assert!(!is_of_set("db", Some(&set), &pod(json!({}), "StatefulSet", "u-other")));
        assert!(!is_of_set("db", None, &made), "nobody says whose it is");
        let by = |group: &str, name: &str| {
            json!({"metadata": {"name": name, "ownerReferences": [
                {"apiVersion": format!("{group}/v1alpha1"), "kind": "PD", "name": "db-x1", "uid": "u", "controller": true}]}})
        };
        assert!(is_of_set("db-pd", None, &by("core.pingcap.com", "db-pd-x1")));
        assert!(!is_of_set("db-pd", None, &by("core.pingcap.com", "db-pdms-x1")), "of another group");
        assert!(!is_of_set("db-pd", None, &by("example.com", "db-pd-x1")));
        assert!(!is_of_set("db-pd", None, &json!({"metadata": {"name": "db-pd-x1"}})), "of nobody");
    }

    #[test]
    fn a_selector_finds_by_labels_and_expressions() {
        let selector =
            read(&json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}));
        let selector = selector.unwrap();
        assert!(finds(&selector, &pod(json!({"app": "b"}), "", "")));
        assert!(!finds(&selector, &pod(json!({"app": "c"}), "", "")));
    }
}
