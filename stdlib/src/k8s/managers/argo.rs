//! What an Application of Argo CD says about itself: pure functions.

use serde_json::Value;

use super::Verdict;
use crate::k8s::object::{Ref, at, text};

/// A sync that has been asked for or runs. Taking the automated policy away does not end it.
pub(super) fn busy(app: &Value) -> Option<String> {
    let asked = app.get("operation").is_some_and(|operation| !operation.is_null());
    let phase = text(app, &["status", "operationState", "phase"]);
    (asked || matches!(phase, "Running" | "Terminating")).then(|| "a sync is running".into())
}

/// It says when it last compared with the newest revision of its source.
pub(super) fn looked(app: &Value, since: &str) -> bool {
    // Both in whole seconds of UTC: text in that form sorts as time does.
    text(app, &["status", "reconciledAt"]) > since
}

pub(super) fn verdict(app: &Value, was: &Value, object: &Ref, live: &Value, written: &str) -> Verdict {
    if !looked(app, written) {
        return Verdict::Soon("Argo CD has not compared it since it was written".into());
    }
    let resources = at(app, &["status", "resources"]).and_then(Value::as_array);
    let Some(found) = resources.into_iter().flatten().find(|one| is(one, object)) else {
        return Verdict::Stays;
    };
    if found.get("requiresPruning") == Some(&Value::Bool(true)) {
        let kept = options(live).any(|option| option == "Prune=false");
        return if was.get("prune") == Some(&Value::Bool(true)) && !kept {
            Verdict::Unproved("its source has it no more, and the policy that would come back prunes".into())
        } else {
            Verdict::Stays
        };
    }
    match text(found, &["status"]) {
        "Synced" if ignored(app, object) && !respects(app) => Verdict::Unproved(
            "it counts as synced because of `ignoreDifferences`, and a sync writes the source's version all the same, unless the sync option `RespectIgnoreDifferences=true` is set".into(),
        ),
        "Synced" => Verdict::Stays,
        "" => Verdict::Unproved("Argo CD says nothing of its state".into()),
        state => Verdict::Unproved(format!("Argo CD says that it is {state}: its source has another version")),
    }
}

/// Namespace and name of the Application that a sign names: `APP`, or `NAMESPACE_APP` where it lies elsewhere.
pub(super) fn place(sign: &str, argocd: &str) -> (String, String) {
    let (namespace, app) = sign.split_once('_').unwrap_or((argocd, sign));
    (namespace.to_owned(), app.to_owned())
}

/// Whether an object is among those that it keeps, by its own word.
pub(super) fn lists(app: &Value, object: &Ref) -> bool {
    let resources = at(app, &["status", "resources"]).and_then(Value::as_array);
    resources.into_iter().flatten().any(|one| is(one, object))
}

fn is(resource: &Value, object: &Ref) -> bool {
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    text(resource, &["group"]) == group
        && text(resource, &["kind"]) == object.kind
        && text(resource, &["namespace"]) == object.namespace
        && text(resource, &["name"]) == object.name
}

/// The object's own sync options.
fn options(live: &Value) -> impl Iterator<Item = &str> {
    text(live, &["metadata", "annotations", "argocd.argoproj.io/sync-options"]).split(',').map(str::trim)
}

/// Whether a rule of the Application leaves some difference of the object out. Its patterns are Argo CD's globs.
fn ignored(app: &Value, object: &Ref) -> bool {
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    let fits = |rule: &Value, field: &str, value: &str, any: bool| {
        let pattern = text(rule, &[field]);
        // A pattern that we cannot rule out counts as one that fits.
        pattern == value || (any && pattern.is_empty()) || pattern.contains(['*', '?', '['])
    };
    let rules = at(app, &["spec", "ignoreDifferences"]).and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| {
        fits(rule, "group", group, false)
            && fits(rule, "kind", &object.kind, false)
            && fits(rule, "namespace", &object.namespace, true)
            && fits(rule, "name", &object.name, true)
    })
}

fn respects(app: &Value) -> bool {
    let options = at(app, &["spec", "syncPolicy", "syncOptions"]).and_then(Value::as_array);
    options.into_iter().flatten().any(|option| option == "RespectIgnoreDifferences=true")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WRITTEN: &str = "2026-06-01T12:00:05Z";

    fn app(status: &str, more: Value) -> Value {
        let mut resource =
            json!({"version": "v1", "kind": "Secret", "namespace": "tidb", "name": "s", "status": status});
        json_patch::merge(&mut resource, &more);
        json!({"spec": {}, "status": {"reconciledAt": "2026-06-01T12:00:06Z", "resources": [resource]}})
    }

    fn judged(app: &Value, was: &Value, live: &Value) -> Verdict {
        verdict(app, was, &Ref::secret("tidb", "s"), live, WRITTEN)
    }

    #[test]
    fn only_what_was_compared_since_and_is_the_same_in_git_stays() {
        let (was, live) = (json!({"prune": true}), json!({}));
        assert_eq!(judged(&app("Synced", json!({})), &was, &live), Verdict::Stays);
        assert!(matches!(judged(&app("OutOfSync", json!({})), &was, &live), Verdict::Unproved(_)));
        assert_eq!(judged(&app("OutOfSync", json!({"name": "another"})), &was, &live), Verdict::Stays);
        let mut early = app("Synced", json!({}));
        early["status"]["reconciledAt"] = json!(WRITTEN);
        assert!(matches!(judged(&early, &was, &live), Verdict::Soon(_)), "in the same second");
    }

    #[test]
    fn what_git_has_no_more_stays_where_nothing_prunes_it() {
        let extra = app("OutOfSync", json!({"requiresPruning": true}));
        let kept = json!({"metadata": {"annotations": {"argocd.argoproj.io/sync-options": "Replace=true, Prune=false"}}});
        assert!(matches!(judged(&extra, &json!({"prune": true}), &json!({})), Verdict::Unproved(_)));
        assert_eq!(judged(&extra, &json!({"prune": true}), &kept), Verdict::Stays);
        assert_eq!(judged(&extra, &json!({"selfHeal": true}), &json!({})), Verdict::Stays);
    }

    #[test]
    fn a_difference_that_is_only_ignored_in_the_comparison_is_written_back_by_a_sync() {
        let mut ignoring = app("Synced", json!({}));
        ignoring["spec"]["ignoreDifferences"] = json!([{"kind": "Secret", "jsonPointers": ["/data"]}]);
        assert!(matches!(judged(&ignoring, &json!({}), &json!({})), Verdict::Unproved(_)));
        let mut respecting = ignoring.clone();
        respecting["spec"]["syncPolicy"] = json!({"syncOptions": ["RespectIgnoreDifferences=true"]});
        assert_eq!(judged(&respecting, &json!({}), &json!({})), Verdict::Stays);
        ignoring["spec"]["ignoreDifferences"] = json!([{"group": "apps", "kind": "Deployment"}]);
        assert_eq!(judged(&ignoring, &json!({}), &json!({})), Verdict::Stays, "of others");
    }

    #[test]
    fn its_own_objects_are_those_that_it_lists() {
        let lists = |more: Value| lists(&app("Synced", more), &Ref::secret("tidb", "s"));
        assert!(lists(json!({})));
        for other in [json!({"name": "t"}), json!({"namespace": "shop"}), json!({"group": "apps"})] {
            assert!(!lists(other.clone()), "{other}");
        }
        assert!(!super::lists(&json!({}), &Ref::secret("tidb", "s")), "that has not looked yet");
        let own = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        assert_eq!(place("shop", "argocd"), own("argocd", "shop"));
        assert_eq!(place("team_shop", "argocd"), own("team", "shop"));
    }

    #[test]
    fn a_sync_that_runs_is_waited_for() {
        assert_eq!(busy(&json!({"status": {"operationState": {"phase": "Succeeded"}}})), None);
        assert!(busy(&json!({"operation": {"sync": {}}})).is_some());
        assert!(busy(&json!({"status": {"operationState": {"phase": "Running"}}})).is_some());
    }
}
