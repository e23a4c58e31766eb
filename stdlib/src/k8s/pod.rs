//! What a pod says of itself: whether it is ready, which revision it is of, and what hinders it.

use std::fmt;

use serde_json::Value;

use super::object::{at, number, text};

/// A pod, as far as rollouts care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it has the condition `Ready`.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Label `controller-revision-hash`, or that of a Deployment's template.
    pub revision: &'a str,
    /// Why a container does not run, e.g. `CrashLoopBackOff`.
    pub trouble: Option<&'a str>,
}

/// Reads a pod.
pub fn pod(value: &Value) -> PodState<'_> {
    let label = |key: &str| text(value, &["metadata", "labels", key]);
    let revision = label("controller-revision-hash");
    PodState {
        name: text(value, &["metadata", "name"]),
        ready: condition(value, "Ready").is_some_and(|c| text(c, &["status"]) == "True"),
        terminating: at(value, &["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_null()),
        revision: if revision.is_empty() { label("pod-template-hash") } else { revision },
        trouble: containers(value).map(reason).find(|reason| is_trouble(reason)),
    }
}

/// What its containers do, those that prepare it first.
pub fn containers(value: &Value) -> impl Iterator<Item = &Value> {
    let list = |key: &str| at(value, &["status", key]).and_then(Value::as_array).into_iter().flatten();
    list("initContainerStatuses").chain(list("containerStatuses"))
}

/// A condition of a pod, by type.
fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    at(value, &["status", "conditions"])?.as_array()?.iter().find(|c| text(c, &["type"]) == kind)
}

/// What a container waits for; empty where it does not.
fn reason(container: &Value) -> &str {
    text(container, &["state", "waiting", "reason"])
}

/// Whether a container waits for something that is wrong, and not for its turn.
fn is_trouble(reason: &str) -> bool {
    matches!(
        reason,
        "CrashLoopBackOff"
            | "ImagePullBackOff"
            | "ErrImagePull"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
    )
}

/// How often a container in trouble has been started again.
pub fn restarts_in_trouble(value: &Value) -> i64 {
    let troubled = containers(value).any(|container| is_trouble(reason(container)));
    let restarts = containers(value).map(|container| number(container, &["restartCount"]));
    restarts.max().filter(|_| troubled).unwrap_or_default()
}

/// What keeps a pod from being ready, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance<'a> {
    /// No node takes it: what the scheduler says.
    Unplaced(&'a str),
    /// A container of it is in trouble: its name and why.
    Trouble(&'a str, &'a str),
    /// It has a node, and its containers have not begun: a volume, an image or an address is waited for.
    NotBegun(&'a str),
    /// It has ended, for this reason.
    Ended(&'a str),
    /// It runs: what its condition `Ready` says.
    NotReady(&'a str),
}

impl Hindrance<'_> {
    /// Whether the pod runs all the same.
    pub fn runs(&self) -> bool {
        matches!(self, Self::NotReady(_))
    }
}

impl fmt::Display for Hindrance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unplaced("") => f.write_str("no node takes it"),
            Self::Unplaced(why) => write!(f, "no node takes it: {why}"),
            Self::Trouble(container, why) => write!(f, "container {container} waits: {why}"),
            Self::NotBegun("") => f.write_str("its containers have not begun"),
            Self::NotBegun(why) => write!(f, "its containers have not begun: {why}"),
            Self::Ended(why) => write!(f, "it has ended: {why}"),
            Self::NotReady("") => f.write_str("it is not ready"),
            Self::NotReady(why) => write!(f, "it is not ready: {why}"),
        }
    }
}

/// What keeps a pod from being ready; nothing where it is, or is on its way out.
pub fn hindrance(value: &Value) -> Option<Hindrance<'_>> {
    let state = pod(value);
    if state.ready || state.terminating {
        return None;
    }
    let phase = text(value, &["status", "phase"]);
    if matches!(phase, "Failed" | "Succeeded") {
        let why = text(value, &["status", "reason"]);
        return Some(Hindrance::Ended(if why.is_empty() { phase } else { why }));
    }
    let message = |c| text(c, &["message"]);
    if let Some(unplaced) = condition(value, "PodScheduled").filter(|c| text(c, &["status"]) == "False") {
        return Some(Hindrance::Unplaced(message(unplaced)));
    }
    if let Some(troubled) = containers(value).find(|container| is_trouble(reason(container))) {
        return Some(Hindrance::Trouble(text(troubled, &["name"]), reason(troubled)));
    }
    if phase == "Pending" {
        return Some(Hindrance::NotBegun(
            containers(value).map(reason).find(|r| !r.is_empty()).unwrap_or(""),
        ));
    }
    Some(Hindrance::NotReady(condition(value, "Ready").map(message).unwrap_or_default()))
}

/// A pod that is late, for people: what it does, of which revision it is where that is not the wanted one, and the
/// condition that fails.
pub fn late(value: &Value, does: &str, (revision, wanted): (&str, &str)) -> String {
    let name = text(value, &["metadata", "name"]);
    let mut said = Vec::new();
    match (revision, wanted) {
        ("", _) => {}
        (revision, wanted) if revision == wanted || wanted.is_empty() => {
            said.push(format!("revision {revision}"));
        }
        (revision, wanted) => said.push(format!("revision {revision}, wanted {wanted}")),
    }
    said.extend(hindrance(value).map(|hindrance| hindrance.to_string()));
    let said = if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) };
    format!("{name}: {does}{said}")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A pod that cannot be placed, one whose volume is missing, one without its image, and one that was evicted.
    pub(crate) fn never_begun() -> [(Value, &'static str); 4] {
        let waiting = |reason: &str| json!([{"name": "web", "restartCount": 0, "state": {"waiting": {"reason": reason}}}]);
        let conditions = |kind: &str, message: &str| {
            json!([
            {"type": kind, "status": "False", "message": message}, {"type": "Ready", "status": "False"}])
        };
        let pod =
            |name: &str, status: Value| json!({"metadata": {"name": name, "uid": name}, "status": status});
        [
            (
                pod(
                    "web-0",
                    json!({"phase": "Pending", "conditions": conditions("PodScheduled", "0/3 nodes are available")}),
                ),
                "no node takes it: 0/3 nodes are available",
            ),
            (
                pod("web-1", json!({"phase": "Pending", "containerStatuses": waiting("ContainerCreating")})),
                "its containers have not begun: ContainerCreating",
            ),
            (
                pod("web-2", json!({"phase": "Pending", "containerStatuses": waiting("ImagePullBackOff")})),
                "container web waits: ImagePullBackOff",
            ),
            (pod("web-3", json!({"phase": "Failed", "reason": "Evicted"})), "it has ended: Evicted"),
        ]
    }

    #[test]
    fn what_hinders_a_pod_is_named_whatever_it_is() {
        for (value, expected) in never_begun() {
            assert_eq!(hindrance(&value).map(|h| h.to_string()).as_deref(), Some(expected));
        }
        let ready = |status: &str| {
            json!({"status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": status, "message": "containers with unready status: [web]"}]}})
        };
        assert_eq!(hindrance(&ready("True")), None);
        assert_eq!(
            hindrance(&ready("False")),
            Some(Hindrance::NotReady("containers with unready status: [web]"))
        );
        let preparing = json!({"status": {"phase": "Pending", "initContainerStatuses": [
            {"name": "copy", "restartCount": 6, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        assert_eq!(hindrance(&preparing), Some(Hindrance::Trouble("copy", "CrashLoopBackOff")));
        assert_eq!(restarts_in_trouble(&preparing), 6);
    }

    #[test]
    fn a_late_pod_is_told_with_its_revision_the_wanted_one_and_what_fails() {
        let [(web, _), ..] = never_begun();
        assert_eq!(
            late(&web, "starts", ("web-b", "web-b")),
            "web-0: starts (revision web-b; no node takes it: 0/3 nodes are available)"
        );
        let old = json!({"metadata": {"name": "web-0"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(
            late(&old, "waits for its turn", ("web-a", "web-b")),
            "web-0: waits for its turn (revision web-a, wanted web-b)"
        );
        assert_eq!(late(&old, "still runs as before", ("", "")), "web-0: still runs as before");
    }
}
