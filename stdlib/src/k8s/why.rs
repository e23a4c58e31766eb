//! Why a pod does not get ready, in the cluster's own words: its conditions, how its containers ended, its last warnings,
//! the last lines of its log.
//!
//! Nothing rests on it, so it asks for no right of its own: without those to list events and to get `pods/log`, it says
//! what the pod itself says, and which rule would let it say more.

use serde_json::Value;

use crate::error::{Code, PrimError};

use super::client::Objects;
use super::object::{Ref, at, number, text};
use super::pod::{containers as all_containers, hindrance};

/// How many warnings are told.
const WARNINGS: usize = 3;
/// How many lines of a log are told, and how much of each.
const LINES: u32 = 3;
const WIDTH: usize = 200;

/// What is known of why this object waits: of one of its pods that is not ready, first one that does not even run; where
/// all are, what was warned of about the object itself.
pub async fn waits(objects: &Objects<'_>, object: &Ref, pods: &[Value]) -> Option<String> {
    let late = pods.iter().filter_map(|value| Some((value, hindrance(value)?)));
    let Some((late, _)) = late.min_by_key(|(_, hindrance)| hindrance.runs()) else {
        // Several at once have none.
        if object.api_version.is_empty() {
            return None;
        }
        let fields = format!("involvedObject.kind={},involvedObject.name={}", object.kind, object.name);
        let said = events(objects, &object.namespace, &fields).await;
        return (!said.is_empty()).then(|| format!("{object}: {}", said.join("; ")));
    };
    let (namespace, name) = (text(late, &["metadata", "namespace"]), text(late, &["metadata", "name"]));
    let fields =
        format!("involvedObject.name={name},involvedObject.uid={}", text(late, &["metadata", "uid"]));
    let own = Ref::new("v1", "Pod", namespace, name);
    let mut said = [conditions(late), containers(late), events(objects, namespace, &fields).await].concat();
    if let Some((container, before)) = talkative(late) {
        match objects.log(&own, container, before, LINES).await {
            Ok(log) => said
                .extend(last_words(&log).map(|words| format!("the last lines of {container} were: {words}"))),
            Err(error) => said.push(unread(&format!("the log of {container}"), &error)),
        }
    }
    (!said.is_empty()).then(|| format!("{own}: {}", said.join("; ")))
}

/// The warnings about an object, or why they are not known.
async fn events(objects: &Objects<'_>, namespace: &str, fields: &str) -> Vec<String> {
    match objects.list_where("v1", "Event", namespace, "", fields).await {
        Ok(events) => warnings(&events),
        Err(error) => vec![unread("the events", &error)],
    }
}

/// That something could not be read, and what would help.
fn unread(what: &str, error: &PrimError) -> String {
    match (error.code, &error.hint) {
        (Code::Forbidden, Some(hint)) => format!("{what} may not be read; to see more, {hint}"),
        _ => format!("{what} could not be read: {}", error.message),
    }
}

/// The container whose log may say why, and whether that of its last life does. One that has not begun has none.
fn talkative(value: &Value) -> Option<(&str, bool)> {
    let is = |container: &Value, path: &[&str]| at(container, path).is_some_and(Value::is_object);
    all_containers(value)
        .filter(|container| at(container, &["ready"]) != Some(&Value::Bool(true)))
        .map(|c| (text(c, &["name"]), is(c, &["lastState", "terminated"]), is(c, &["state", "running"])))
        .find(|(_, ended, running)| *ended || *running)
        .map(|(name, ended, running)| (name, ended && !running))
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
    for container in all_containers(value) {
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
        let of = |state: Value, last: Value| json!({"status": {"containerStatuses": [{"name": "pd", "ready": false, "state": state, "lastState": last}]}});
        let ended = || json!({"terminated": {"exitCode": 1}});
        assert_eq!(talkative(&of(json!({"waiting": {}}), ended())), Some(("pd", true)), "its last life");
        assert_eq!(talkative(&of(json!({"running": {}}), ended())), Some(("pd", false)));
        assert_eq!(talkative(&of(json!({"waiting": {}}), json!({}))), None, "it never began");
    }

    #[test]
    fn what_may_not_be_read_is_said_with_the_rule_to_add() {
        let hint = "add this rule to a Role in namespace `tidb`: - {apiGroups: [\"\"], resources: [\"events\"], verbs: [\"list\"]}";
        let forbidden = PrimError::new(Code::Forbidden, "this account may not `list` it").hint(hint);
        assert_eq!(
            unread("the events", &forbidden),
            format!("the events may not be read; to see more, {hint}")
        );
        let away = PrimError::new(Code::Unavailable, "its log did not come");
        assert_eq!(unread("the log of pd", &away), "the log of pd could not be read: its log did not come");
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
