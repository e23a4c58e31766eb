//! When a rollout is done: pure decisions about Deployments, StatefulSets and DaemonSets and their pods.

use serde_json::Value;

use super::object::{at, number, text};
use super::partition::partition;
use super::patience::{Ailment, ailing, hopeless};
use super::pod::{late, pod};

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

/// Whether a workload has replaced every pod. `pods` are all that its selector finds, terminating ones too: as long as an
/// old one lives it serves and dials with what it loaded.
pub fn workload(kind: &str, object: &Value, pods: &[Value], key: &str, marker: &str) -> Waiting {
    let total = pods.len() as u64;
    let is_new = |p: &&Value| is_restarted(p, key, marker);
    let is_fresh = |p: &&Value| is_new(p) && pod(p).ready && !pod(p).terminating;
    let fresh = pods.iter().filter(is_fresh).count() as u64;
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
    if let Some(why) = hopeless(pods) {
        return Waiting::Stuck(why);
    }
    let revision = wanted_revision(object, pods, key, marker);
    let told = |p: &Value, does: &str| wait(late(p, does, (pod(p).revision, revision)));
    if let Some(starting) = pods.iter().filter(is_new).find(|p| !is_fresh(p)) {
        return told(starting, if pod(starting).terminating { "stops" } else { "starts" });
    }
    if let Some(stopping) = pods.iter().find(|p| pod(p).terminating) {
        return told(stopping, "stops");
    }
    if let Some(old) = pods.iter().find(|p| !is_fresh(p)) {
        return told(old, "still runs as before");
    }
    let status = |field: &str| number(object, &["status", field]);
    let wanted = wanted(kind, object);
    let (updated, ready) = match kind {
        "DaemonSet" => (status("updatedNumberScheduled"), status("numberReady")),
        _ => (status("updatedReplicas"), status("readyReplicas")),
    };
    if i64::try_from(total).unwrap_or(i64::MAX) < wanted {
        return wait(format!("{total} of {wanted} pods are there"));
    }
    // Where pods are replaced by hand, the controller never calls the new revision the current one.
    let update = text(object, &["status", "updateRevision"]);
    if kind == "StatefulSet" && !on_delete(object) && text(object, &["status", "currentRevision"]) != update {
        return wait(format!(
            "revision {update} is not the current one yet; {updated} of {wanted} pods have it"
        ));
    }
    if updated < wanted {
        return wait(format!("the controller counts {updated} of {wanted} pods as new"));
    }
    if ready < wanted {
        return wait(format!("the controller counts {ready} of {wanted} pods as ready"));
    }
    Waiting::Done
}

/// What should pass within moments while a workload is restarted, and does not where something is wrong with it.
pub fn ailments(kind: &str, object: &Value, pods: &[Value], key: &str, marker: &str) -> Vec<Ailment> {
    let mut ailments = ailing(pods, |value| is_restarted(value, key, marker));
    let wanted = usize::try_from(wanted(kind, object)).unwrap_or_default();
    if pods.len() < wanted && !pods.iter().any(|p| pod(p).terminating) {
        let there = pods.len();
        ailments
            .push(Ailment::new(format!("{there} of {wanted} pods are there and nobody makes the others")));
    }
    ailments
}

/// Whether a pod was made by the restart with this marker.
fn is_restarted(value: &Value, key: &str, marker: &str) -> bool {
    text(value, &["metadata", "annotations", key]) == marker
}

/// The revision that pods are to have; empty where none of it is there and the controller does not say.
fn wanted_revision<'a>(object: &'a Value, pods: &'a [Value], key: &str, marker: &str) -> &'a str {
    match text(object, &["status", "updateRevision"]) {
        "" => pods.iter().find(|p| is_restarted(p, key, marker)).map_or("", |p| pod(p).revision),
        update => update,
    }
}

/// How many pods there are to be.
fn wanted(kind: &str, object: &Value) -> i64 {
    match kind {
        "DaemonSet" => number(object, &["status", "desiredNumberScheduled"]),
        _ => replicas(object),
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
            Waiting::For("client-2: still runs as before".into(), 2, 3)
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

    fn why(waiting: Waiting) -> String {
        match waiting {
            Waiting::For(why, ..) => why,
            Waiting::Stuck(why) => format!("STUCK {why}"),
            Waiting::Done => "DONE".into(),
        }
    }

    /// A StatefulSet of three that rolls from revision `web-a` to `web-b`, and its pods, the last one restarted.
    fn rolling() -> (Value, Vec<Value>) {
        let set = json!({
            "metadata": {"name": "client", "generation": 2},
            "spec": {"replicas": 3},
            "status": {"observedGeneration": 2, "updatedReplicas": 1, "readyReplicas": 3,
                       "currentRevision": "web-a", "updateRevision": "web-b"},
        });
        let mut pods = pods(&["before", "before", "m"]);
        for (pod, revision) in pods.iter_mut().zip(["web-a", "web-a", "web-b"]) {
            pod["metadata"]["labels"] = json!({"controller-revision-hash": revision});
        }
        (set, pods)
    }

    #[test]
    fn the_pod_that_is_late_is_named_with_its_revision_the_wanted_one_and_what_fails() {
        let (set, mut pods) = rolling();
        let judged = |pods: &[Value]| why(workload("StatefulSet", &set, pods, KEY, "m"));
        assert_eq!(judged(&pods), "client-0: still runs as before (revision web-a, wanted web-b)");
        pods[1]["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:00Z");
        assert_eq!(judged(&pods), "client-1: stops (revision web-a, wanted web-b)");
        // What holds the others up is told first, long before the controller calls the revision the current one.
        pods[2]["status"] = json!({"phase": "Pending", "containerStatuses":
            [{"name": "web", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(judged(&pods), "client-2: starts (revision web-b; container web waits: CrashLoopBackOff)");
        pods[2]["status"]["containerStatuses"][0]["restartCount"] = json!(5);
        assert_eq!(
            judged(&pods),
            "STUCK client-2 does not start (CrashLoopBackOff); the others are left alone"
        );
    }

    #[test]
    fn pods_that_do_not_begin_or_are_not_made_ail_and_those_that_wait_do_not() {
        let (set, mut pods) = rolling();
        let told = |pods: &[Value]| -> Vec<String> {
            let ailments = ailments("StatefulSet", &set, pods, KEY, "m");
            ailments.into_iter().map(|ailment| ailment.what).collect()
        };
        assert_eq!(told(&pods), [""; 0]);
        pods[2]["status"] = json!({"phase": "Pending", "containerStatuses":
            [{"name": "web", "state": {"waiting": {"reason": "ContainerCreating"}}}]});
        assert_eq!(
            told(&pods),
            ["client-2 does not start: its containers have not begun: ContainerCreating"]
        );
        pods.pop();
        assert_eq!(told(&pods), ["2 of 3 pods are there and nobody makes the others"]);
        pods[1]["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:00Z");
        assert_eq!(told(&pods), [""; 0], "one is on its way out, and its successor comes after it");
    }

    #[test]
    fn a_daemonset_is_done_when_every_node_has_a_new_pod_that_is_ready() {
        let mut set = json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2},
        });
        let judged = |set: &Value, pods: &[Value]| why(workload("DaemonSet", set, pods, KEY, "m"));
        assert_eq!(judged(&set, &pods(&["m", "m"])), "DONE");
        assert_eq!(judged(&set, &pods(&["m", "before"])), "client-1: still runs as before");
        assert_eq!(judged(&set, &pods(&["m"])), "1 of 2 pods are there");
        let mut starting = pods(&["m", "m"]);
        starting[1]["status"] = json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "False", "message": "containers with unready status: [agent]"}]});
        starting[1]["metadata"]["labels"] = json!({"controller-revision-hash": "6c9"});
        assert_eq!(
            judged(&set, &starting),
            "client-1: starts (revision 6c9; it is not ready: containers with unready status: [agent])"
        );
        set["status"]["numberReady"] = json!(1);
        assert_eq!(judged(&set, &pods(&["m", "m"])), "the controller counts 1 of 2 pods as ready");
        set["status"]["updatedNumberScheduled"] = json!(1);
        assert_eq!(judged(&set, &pods(&["m", "m"])), "the controller counts 1 of 2 pods as new");
        set["metadata"]["generation"] = json!(3);
        assert_eq!(judged(&set, &pods(&["m", "m"])), "the controller has not seen the change yet");
        // By hand: the next one goes while all nodes are served.
        set["metadata"]["generation"] = json!(2);
        set["spec"] = json!({"updateStrategy": {"type": "OnDelete"}});
        let old = pods(&["m", "before"]);
        let next = next_to_go(&set, &old, KEY, "m").map(|p| text(p, &["metadata", "name"]).to_owned());
        assert_eq!(next.as_deref(), Some("client-1"));
        assert_eq!(next_to_go(&set, &pods(&["before"]), KEY, "m"), None, "a node has none");
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
