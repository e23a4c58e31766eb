//! Why a pod does not get ready, in the cluster's own words: its conditions, how its containers ended, its last warnings.
//!
//! Nothing rests on it, so it asks for no right of its own: without that to list events, it says what the pod itself says.

use serde_json::Value;

use super::client::Objects;
use super::object::{Ref, at, number, text};
use super::rollout::pod;

/// How many warnings are told.
const WARNINGS: usize = 3;

/// What is known of the first of these pods that is not ready; nothing where all are.
pub async fn unready(objects: &Objects<'_>, pods: &[Value]) -> Option<String> {
    let late = pods.iter().find(|value| !pod(value).ready)?;
    let (namespace, name) = (text(late, &["metadata", "namespace"]), text(late, &["metadata", "name"]));
    let fields =
        format!("involvedObject.name={name},involvedObject.uid={}", text(late, &["metadata", "uid"]));
    let events = objects.list_where("v1", "Event", namespace, "", &fields).await.unwrap_or_default();
    let said = [conditions(late), containers(late), warnings(&events)].concat();
    let object = Ref::new("v1", "Pod", namespace, name);
    (!said.is_empty()).then(|| format!("{object}: {}", said.join("; ")))
}

fn list<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    at(value, path).and_then(Value::as_array).into_iter().flatten()
}

/// Conditions that do not hold and say why.
fn conditions(value: &Value) -> Vec<String> {
    list(value, &["status", "conditions"])
        .filter(|c| text(c, &["status"]) == "False" && !text(c, &["message"]).is_empty())
        .map(|c| format!("{} does not hold: {}", text(c, &["type"]), text(c, &["message"])))
        .collect()
}

fn containers(value: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for container in list(value, &["status", "containerStatuses"]) {
        let name = text(container, &["name"]);
        let waiting = text(container, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            let message = text(container, &["state", "waiting", "message"]);
            let colon = if message.is_empty() { "" } else { ": " };
            said.push(format!("container {name} waits: {waiting}{colon}{message}"));
        }
        if at(container, &["lastState", "terminated"]).is_some_and(Value::is_object) {
            said.push(format!(
                "it ended with code {} ({}), {} restarts",
                number(container, &["lastState", "terminated", "exitCode"]),
                text(container, &["lastState", "terminated", "reason"]),
                number(container, &["restartCount"]),
            ));
        }
    }
    said
}

/// The newest warnings, each said once.
fn warnings(events: &[Value]) -> Vec<String> {
    let mut newest: Vec<&Value> = events.iter().filter(|e| text(e, &["type"]) == "Warning").collect();
    newest.sort_by_key(|event| std::cmp::Reverse(text(event, &["lastTimestamp"])));
    let mut said: Vec<String> = Vec::new();
    for event in newest {
        let line = format!("{}: {}", text(event, &["reason"]), text(event, &["message"]));
        if !said.contains(&line) && said.len() < WARNINGS {
            said.push(line);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_of_a_pod_is_what_it_and_its_events_say() {
        let pod = json!({"status": {
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "False", "message": "containers with unready status: [pd]"}],
            "containerStatuses": [{"name": "pd", "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
        }});
        assert_eq!(conditions(&pod), ["Ready does not hold: containers with unready status: [pd]"]);
        assert_eq!(
            containers(&pod),
            [
                "container pd waits: CrashLoopBackOff: back-off 40s",
                "it ended with code 1 (Error), 3 restarts"
            ]
        );
        let event = |kind: &str, at: &str, message: &str| json!({"type": kind, "reason": "Unhealthy", "message": message, "lastTimestamp": at});
        let events = [
            event("Warning", "2026-01-01T00:00:01Z", "old"),
            event("Normal", "2026-01-01T00:00:09Z", "pulled"),
            event("Warning", "2026-01-01T00:00:03Z", "new"),
            event("Warning", "2026-01-01T00:00:02Z", "new"),
        ];
        assert_eq!(warnings(&events), ["Unhealthy: new", "Unhealthy: old"]);
    }
}
