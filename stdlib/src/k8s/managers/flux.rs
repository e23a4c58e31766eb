//! What a Kustomization or `HelmRelease` of Flux says about itself: pure functions.

use serde_json::Value;

use super::{Verdict, marked};
use crate::k8s::object::{Ref, at, number, text};
use crate::k8s::rollout::condition;

/// A reconciliation that runs. Suspending does not end it.
pub(super) fn busy(value: &Value) -> Option<String> {
    let runs = condition(value, "Reconciling").is_some_and(|c| text(c, &["status"]) == "True");
    runs.then(|| "a reconciliation is running".into())
}

/// Whether it has reconciled since it was resumed, which is a change of its generation.
pub(super) fn looked(value: &Value) -> bool {
    number(value, &["status", "observedGeneration"]) >= number(value, &["metadata", "generation"])
        && busy(value).is_none()
}

/// What a Kustomization makes of an object. Its own status says nothing of the source while it is suspended.
pub(super) fn verdict(value: &Value, object: &Ref, live: &Value) -> Verdict {
    // The controller looks for these on the object in the cluster, and leaves it alone.
    let disabled = marked(live, "kustomize.toolkit.fluxcd.io/reconcile").eq_ignore_ascii_case("disabled");
    let once = matches!(marked(live, "kustomize.toolkit.fluxcd.io/ssa"), "Ignore" | "IfNotPresent");
    if disabled || once {
        return Verdict::Stays;
    }
    let Some(entries) = at(value, &["status", "inventory", "entries"]).and_then(Value::as_array) else {
        return Verdict::Unproved("it has no inventory that would tell what its source carries".into());
    };
    let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
    let id = format!("{}_{}_{group}_{}", object.namespace, object.name, object.kind);
    if entries.iter().any(|entry| text(entry, &["id"]) == id) {
        return Verdict::Unproved("its inventory has it, so its source carries it".into());
    }
    Verdict::Stays
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_it_was_told_to_leave_alone_or_does_not_carry_stays() {
        let secret = Ref::secret("tidb", "s");
        let carries = json!({"status": {"inventory": {"entries": [{"id": "tidb_s__Secret", "v": "v1"}]}}});
        let judged = |value: &Value, live: Value| verdict(value, &secret, &live);
        assert!(matches!(judged(&carries, json!({})), Verdict::Unproved(_)));
        let key = "kustomize.toolkit.fluxcd.io/reconcile";
        assert_eq!(judged(&carries, json!({"metadata": {"annotations": {key: "disabled"}}})), Verdict::Stays);
        assert_eq!(judged(&carries, json!({"metadata": {"labels": {key: "disabled"}}})), Verdict::Stays);
        let enabled = json!({"metadata": {"annotations": {key: "enabled"}}});
        assert!(matches!(judged(&carries, enabled), Verdict::Unproved(_)));
        let others = json!({"status": {"inventory": {"entries": [{"id": "tidb_t__Secret"}]}}});
        assert_eq!(judged(&others, json!({})), Verdict::Stays);
        assert!(matches!(judged(&json!({}), json!({})), Verdict::Unproved(_)));
    }

    #[test]
    fn it_has_looked_when_it_has_seen_its_own_change_and_is_done() {
        let at = |observed: i64, reconciling: &str| {
            json!({"metadata": {"generation": 3}, "status": {"observedGeneration": observed,
                "conditions": [{"type": "Reconciling", "status": reconciling}]}})
        };
        assert!(looked(&at(3, "False")));
        assert!(!looked(&at(2, "False")));
        assert!(!looked(&at(3, "True")) && busy(&at(3, "True")).is_some());
    }
}
