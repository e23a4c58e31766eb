//! Who else manages an object: a tool that would put its own version back over ours.

use serde_json::{Value, json};

use super::object::{Ref, at};

/// `(field of the metadata, key, who)`.
const SIGNS: [(&str, &str, &str); 8] = [
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
    ("annotations", "meta.helm.sh/release-name", "Helm"),
    ("annotations", "cert-manager.io/certificate-name", "cert-manager"),
    ("labels", "reconcile.external-secrets.io/managed", "External Secrets"),
    ("annotations", "sealedsecrets.bitnami.com/managed", "Sealed Secrets"),
];

/// The label by which Argo CD before 3.0 knows what it keeps, unless it was told another way. Helm and operators set it too.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The tool that manages the object and the name of its application, if a sign of one is there.
pub fn manager(value: &Value) -> Option<(&'static str, String)> {
    let metadata = value.get("metadata")?;
    SIGNS.iter().find_map(|(field, key, who)| {
        let name = at(metadata, &[field, key])?.as_str()?;
        Some((*who, name.to_owned()))
    })
}

/// Whether a tool puts its own version back all the time, and not only when somebody runs it.
pub fn reconciled(value: &Value) -> bool {
    manager(value).is_some_and(|(who, _)| who != "Helm")
}

/// A warning for the operator, where somebody else manages the object.
pub fn warning(object: &Ref, value: &Value) -> Option<String> {
    let (who, name) = manager(value)?;
    Some(told(object, who, &name))
}

/// That warning.
pub fn told(object: &Ref, who: &str, name: &str) -> String {
    format!(
        "{object} is managed by {who} (`{name}`), which may put its own version back: pause it, or change it there"
    )
}

/// What [`INSTANCE`] says, where no other sign says more.
pub fn instance(value: &Value) -> Option<&str> {
    let label = at(value, &["metadata", "labels", INSTANCE])?.as_str()?;
    (manager(value).is_none() && !label.is_empty()).then_some(label)
}

/// Those of some objects that have that label, as `k8s::tracked` takes them.
pub fn labelled<'a>(objects: impl Iterator<Item = (Ref, &'a Value)>) -> Vec<Value> {
    let labelled = objects.filter_map(|(object, value)| {
        let instance = instance(value)?;
        Some(json!({ "api_version": object.api_version, "kind": object.kind, "namespace": object.namespace,
            "name": object.name, "instance": instance }))
    });
    labelled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_cert_manager_is_recognised_and_a_plain_one_is_not() {
        let object = Ref::secret("tidb", "basic-pd-cluster-secret");
        let managed = json!({"metadata": {"annotations": {"cert-manager.io/certificate-name": "basic-pd-cluster-secret"}}});
        assert!(warning(&object, &managed).is_some_and(|w| w.contains("cert-manager")));
        assert!(reconciled(&managed));
        let helm = json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "shop"}}});
        assert!(manager(&helm).is_some() && !reconciled(&helm), "Helm writes when somebody runs it");
        assert_eq!(warning(&object, &json!({"metadata": {"labels": {"app": "tidb"}}})), None);
    }

    #[test]
    fn a_label_that_many_set_is_asked_about_and_taken_for_no_sign() {
        let object = Ref::secret("tidb", "s");
        let labelled_as = |more: Value| {
            let mut value = json!({"metadata": {"labels": {INSTANCE: "shop"}}});
            json_patch::merge(&mut value, &more);
            value
        };
        let alone = labelled_as(json!({}));
        assert_eq!((warning(&object, &alone), instance(&alone)), (None, Some("shop")));
        let helm = labelled_as(json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "shop"}}}));
        assert_eq!(instance(&helm), None, "Helm says that it is its own");
        let found = labelled([(object, &alone)].into_iter());
        assert_eq!(found[0]["instance"], "shop", "{found:?}");
    }
}
