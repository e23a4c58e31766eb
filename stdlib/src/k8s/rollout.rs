//! When a rollout is done: pure decisions about Deployments, StatefulSets and DaemonSets and their pods.

use serde_json::Value;

use super::object::{at, number, text};
use super::partition::partition;

/// What a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing: it is done.
    Done,
    /// For this; with pods done of all.
    For(String, u64, u64),
    /// It will not get there by itself: the reason.
    Stuck(String),
}

/// A pod, as far as rollouts care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodState<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it has the condition `Ready`.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Label `controller-revision-hash`.
    pub revision: &'a str,
    /// Why a container does not run, e.g. `CrashLoopBackOff`.
    pub trouble: Option<&'a str>,
}

/// Reads a pod.
pub fn pod(value: &Value) -> PodState<'_> {
    let ready = at(value, &["status", "conditions"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|c| text(c, &["type"]) == "Ready" && text(c, &["status"]) == "True");
    let trouble = at(value, &["status", "containerStatuses"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|c| text(c, &["state", "waiting", "reason"]))
        .find(|reason| {
            matches!(
                *reason,
                "CrashLoopBackOff"
                    | "ImagePullBackOff"
                    | "ErrImagePull"
                    | "CreateContainerConfigError"
                    | "RunContainerError"
            )
        });
    PodState {
        name: text(value, &["metadata", "name"]),
        ready,
        terminating: at(value, &["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_null()),
        revision: text(value, &["metadata", "labels", "controller-revision-hash"]),
        trouble,
    }
}

/// Whether a workload has replaced every pod. `pods` are all that its selector finds, terminating ones too: as long as an
/// old one lives it serves and dials with what it loaded.
pub fn workload(kind: &str, object: &Value, pods: &[Value], key: &str, marker: &str) -> Waiting {
    let total = pods.len() as u64;
    let fresh =
        pods.iter().filter(|p| text(p, &["metadata", "annotations", key]) == marker && pod(p).ready).count()
            as u64;
    let wait = |why: String| Waiting::For(why, fresh, total);
    if at(object, &["spec", "paused"]) == Some(&Value::Bool(true)) {
        return Waiting::Stuck("it is paused; `kubectl rollout resume` lets it go on".into());
    }
    let held = partition(object);
    if held > 0 {
        return Waiting::Stuck(format!(
            "its update partition keeps the pods below {held} back; set it to 0, if what they would get may be rolled out"
        ));
    }
    if number(object, &["status", "observedGeneration"]) < number(object, &["metadata", "generation"]) {
        return wait("the controller has not seen the change yet".into());
    }
    if let Some(late) =
        condition(object, "Progressing").filter(|c| text(c, &["reason"]) == "ProgressDeadlineExceeded")
    {
        return Waiting::Stuck(format!("the controller gave up: {}", text(late, &["message"])));
    }
    let status = |field: &str| number(object, &["status", field]);
    let (wanted, updated, ready) = match kind {
        "DaemonSet" => {
            (status("desiredNumberScheduled"), status("updatedNumberScheduled"), status("numberReady"))
        }
        _ => (replicas(object), status("updatedReplicas"), status("readyReplicas")),
    };
    // Where pods are replaced by hand, the controller never calls the new revision the current one.
    if kind == "StatefulSet"
        && !on_delete(object)
        && text(object, &["status", "currentRevision"]) != text(object, &["status", "updateRevision"])
    {
        return wait(format!("{updated} of {wanted} pods have the new revision"));
    }
    if updated < wanted {
        return wait(format!("{updated} of {wanted} pods are new"));
    }
    if let Some(troubled) = pods.iter().map(pod).find(|p| p.trouble.is_some()) {
        return wait(format!("{} does not start: {}", troubled.name, troubled.trouble.unwrap_or_default()));
    }
    if ready < wanted {
        return wait(format!("{ready} of {wanted} pods are ready"));
    }
    match pods.iter().find(|p| text(p, &["metadata", "annotations", key]) != marker) {
        Some(old) => wait(format!("{} still runs as before", pod(old).name)),
        None => Waiting::Done,
    }
}

/// Whether the controller leaves it to others to take the old pods away.
fn on_delete(object: &Value) -> bool {
    text(object, &["spec", "updateStrategy", "type"]) == "OnDelete"
}

/// The pod to take away next, where nobody else does: one at a time, the highest number first, while all others are well.
pub fn next_to_go<'a>(object: &Value, pods: &'a [Value], key: &str, marker: &str) -> Option<&'a Value> {
    let seen =
        number(object, &["status", "observedGeneration"]) >= number(object, &["metadata", "generation"]);
    let all = at(object, &["status", "desiredNumberScheduled"]).and_then(Value::as_i64);
    let all = all.unwrap_or_else(|| replicas(object));
    let well = |value: &&Value| pod(value).ready && !pod(value).terminating;
    let wells = i64::try_from(pods.iter().filter(well).count()).unwrap_or(i64::MAX);
    if !on_delete(object) || !seen || wells < all {
        return None;
    }
    let number = |value: &&Value| {
        let name = text(value, &["metadata", "name"]);
        name.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok())
    };
    pods.iter().filter(|p| text(p, &["metadata", "annotations", key]) != marker).max_by_key(number)
}

/// Wanted replicas; one where nothing is said.
pub fn replicas(object: &Value) -> i64 {
    at(object, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1)
}

/// A condition of an object's status, by type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    at(object, &["status", "conditions"])?.as_array()?.iter().find(|c| text(c, &["type"]) == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "kubectl.kubernetes.io/restartedAt";

    fn deployment() -> Value {
        json!({
            "metadata": {"generation": 3},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 3, "updatedReplicas": 2, "readyReplicas": 2},
        })
    }

    fn pods(markers: &[&str]) -> Vec<Value> {
        let pod = |(n, marker): (usize, &&str)| {
            json!({
                "metadata": {"name": format!("client-{n}"), "annotations": {KEY: marker}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            })
        };
        markers.iter().enumerate().map(pod).collect()
    }

    fn with(mut object: Value, pointer: &str, value: Value) -> Value {
        if let Some(place) = object.pointer_mut(pointer) {
            *place = value;
        }
        object
    }

    #[test]
    fn a_deployment_is_done_only_when_no_old_pod_lives() {
        assert_eq!(workload("Deployment", &deployment(), &pods(&["m", "m"]), KEY, "m"), Waiting::Done);
        // The controller counts terminating pods out, but they still dial with the old trust.
        assert_eq!(
            workload("Deployment", &deployment(), &pods(&["m", "m", "before"]), KEY, "m"),
            Waiting::For("client-2 still runs as before".into(), 2, 3)
        );
        let unseen = with(deployment(), "/status/observedGeneration", json!(2));
        assert!(matches!(workload("Deployment", &unseen, &pods(&["m", "m"]), KEY, "m"), Waiting::For(..)));
        let unready = with(deployment(), "/status/readyReplicas", json!(1));
        assert!(matches!(workload("Deployment", &unready, &pods(&["m", "m"]), KEY, "m"), Waiting::For(..)));
    }

    #[test]
    fn what_will_never_finish_says_so() {
        let mut paused = deployment();
        paused["spec"]["paused"] = json!(true);
        assert!(matches!(workload("Deployment", &paused, &[], KEY, "m"), Waiting::Stuck(_)));
        let mut kept_back = deployment();
        kept_back["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 2}});
        assert!(matches!(workload("StatefulSet", &kept_back, &[], KEY, "m"), Waiting::Stuck(_)));
        let mut late = deployment();
        late["status"]["conditions"] = json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "has timed out"}]);
        assert!(matches!(workload("Deployment", &late, &[], KEY, "m"), Waiting::Stuck(_)));
    }

    #[test]
    fn pods_that_nobody_else_takes_away_go_one_by_one_the_highest_number_first() {
        let mut set = deployment();
        assert_eq!(next_to_go(&set, &pods(&["before", "before"]), KEY, "m"), None, "the controller does it");
        set["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        let next = |pods: &[Value]| {
            next_to_go(&set, pods, KEY, "m").map(|p| text(p, &["metadata", "name"]).to_owned())
        };
        assert_eq!(next(&pods(&["before", "before"])).as_deref(), Some("client-1"));
        assert_eq!(next(&pods(&["before", "m"])).as_deref(), Some("client-0"));
        assert_eq!(next(&pods(&["m", "m"])), None);
        assert_eq!(next(&pods(&["before"])), None, "one of them is missing");
        let mut late = pods(&["before", "m"]);
        late[1]["status"]["conditions"] = json!([]);
        assert_eq!(next(&late), None, "one of them is not ready");
    }

    #[test]
    fn a_statefulset_waits_for_its_revision() {
        let set = json!({
            "metadata": {"generation": 1},
            "spec": {"replicas": 1},
            "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 1,
                       "currentRevision": "a", "updateRevision": "b"},
        });
        assert!(matches!(workload("StatefulSet", &set, &pods(&["m"]), KEY, "m"), Waiting::For(..)));
        let rolled = with(set, "/status/currentRevision", json!("b"));
        assert_eq!(workload("StatefulSet", &rolled, &pods(&["m"]), KEY, "m"), Waiting::Done);
    }
}
