//! Why a pod does not get ready, in the cluster's own words: its conditions, how its containers ended, its last warnings,
//! the last lines of its log.
//!
//! Nothing rests on it, so it asks for no right of its own: without those to list events and to get `pods/log`, it says
//! what the pod itself says.

use serde_json::Value;

use super::client::Objects;
use super::object::{Ref, at, number, text};
use super::rollout::pod;

/// How many warnings are told.
const WARNINGS: usize = 3;
/// How many lines of a log are told, and how much of each.
const LINES: u32 = 3;
const WIDTH: usize = 200;

/// What is known of the first of these pods that is not ready; nothing where all are.
pub async fn unready(objects: &Objects<'_>, pods: &[Value]) -> Option<String> {
    let late = pods.iter().find(|value| !pod(value).ready)?;
    let (namespace, name) = (text(late, &["metadata", "namespace"]), text(late, &["metadata", "name"]));
    let fields =
        format!("involvedObject.name={name},involvedObject.uid={}", text(late, &["metadata", "uid"]));
    let events = objects.list_where("v1", "Event", namespace, "", &fields).await.unwrap_or_default();
    let object = Ref::new("v1", "Pod", namespace, name);
    let mut said = [conditions(late), containers(late), warnings(&events)].concat();
    if let Some((container, before)) = talkative(late) {
        let log = objects.log(&object, container, before, LINES).await.unwrap_or_default();
        said.extend(last_words(&log).map(|words| format!("the last lines of {container} were: {words}")));
    }
    (!said.is_empty()).then(|| format!("{object}: {}", said.join("; ")))
}

/// The container whose log may say why, and whether that of its last life does.
fn talkative(value: &Value) -> Option<(&str, bool)> {
    let container = list(value, &["status", "containerStatuses"])
        .find(|container| at(container, &["ready"]) != Some(&Value::Bool(true)))?;
    let ended = at(container, &["lastState", "terminated"]).is_some_and(Value::is_object);
    let running = at(container, &["state", "running"]).is_some_and(Value::is_object);
    Some((text(container, &["name"]), ended && !running))
}

/// Some lines of a log, without what may be secret: a log is not ours, and what is told is recorded.
fn last_words(log: &str) -> Option<String> {
    let plain = |line: &&str| {
        let encoded = |word: &str| {
            word.len() >= 40 && word.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-.".contains(c))
        };
        let lower = line.to_ascii_lowercase();
        let secret = ["-----", "password", "passwd", "secret", "token", "authorization"];
        !secret.iter().any(|word| lower.contains(word)) && !line.split_whitespace().any(encoded)
    };
    let cut = |line: &str| line.chars().take(WIDTH).collect::<String>();
    let lines: Vec<String> =
        log.lines().map(str::trim).filter(|line| !line.is_empty()).filter(plain).map(cut).collect();
    (!lines.is_empty()).then(|| lines.join(" | "))
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
    fn a_log_is_told_without_what_may_be_secret() {
        let log = "starting\n\nlogin with password=hunter2\n-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\ncannot read /tls/tls.crt\n";
        assert_eq!(last_words(log).as_deref(), Some("starting | cannot read /tls/tls.crt"));
        assert_eq!(last_words("token=abc\n"), None);
        let of = |state: Value| json!({"status": {"containerStatuses": [{"name": "pd", "ready": false, "state": state, "lastState": {"terminated": {"exitCode": 1}}}]}});
        assert_eq!(talkative(&of(json!({"waiting": {}}))), Some(("pd", true)), "its last life");
        assert_eq!(talkative(&of(json!({"running": {}}))), Some(("pd", false)));
    }

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
