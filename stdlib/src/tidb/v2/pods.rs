//! What a pod of operator v2 says of itself: labels, and the template that its instance had when it was made.

use serde_json::Value;

use crate::k8s::object::{at, text};

/// The annotation of a group's template that restarts its pods when it changes.
pub const RESTARTED_AT: &str = "pingcap.com/restartedAt";
/// The pod's annotation with the template of its instance, as JSON: the operator compares by it.
const LAST_TEMPLATE: &str = "core.pingcap.com/last-instance-template";

/// A label of the operator's.
pub fn label<'a>(pod: &'a Value, key: &str) -> &'a str {
    text(pod, &["metadata", "labels", &format!("pingcap.com/{key}")])
}

/// The revision of its instance that a pod was made for.
pub fn revision(pod: &Value) -> &str {
    label(pod, "instance-revision-hash")
}

/// The restart marker that a pod was made with. The operator does not put it on the pod itself. `None` where the pod does
/// not tell its template: releases before that annotation.
pub fn marker(pod: &Value) -> Option<String> {
    let template = text(pod, &["metadata", "annotations", LAST_TEMPLATE]).parse::<Value>().ok()?;
    Some(text(&template, &["metadata", "annotations", RESTARTED_AT]).to_owned())
}

/// The headless Service that a pod's own name stands under.
pub fn subdomain(pod: &Value) -> Option<&str> {
    at(pod, &["spec", "subdomain"]).and_then(Value::as_str).filter(|name| !name.is_empty())
}

/// The selector of a group's pods.
pub fn selector(cluster: &str, component: &str, group: &str) -> String {
    format!("pingcap.com/cluster={cluster},pingcap.com/component={component},pingcap.com/group={group}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_marker_is_found_in_the_template_that_the_pod_tells() {
        let told = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        let template = told(json!({RESTARTED_AT: "m1"})).to_string();
        assert_eq!(marker(&told(json!({LAST_TEMPLATE: template}))).as_deref(), Some("m1"));
        assert_eq!(marker(&told(json!({LAST_TEMPLATE: "{}"}))).as_deref(), Some(""));
        assert_eq!(marker(&told(json!({RESTARTED_AT: "m1"}))), None, "the operator writes none there");
    }
}
