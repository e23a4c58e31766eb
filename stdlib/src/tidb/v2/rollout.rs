//! When the rolling restart of one group is done, as one pure decision.
//!
//! The operator says of itself that it has seen a change (`observedGeneration`), but its status alone is not believed: every
//! pod must have been made for the new revision, with our marker in its template, after the marker was written.

use serde_json::Value;

use crate::k8s::object::{at, text};
use crate::k8s::patience::{Ailment, ailing, hopeless};
use crate::k8s::pod::{late as told, pod};
use crate::k8s::rollout::{Waiting, replicas};

use super::{pods, state};

/// What is to be seen of one group.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The Cluster.
    pub cluster: &'a Value,
    /// The group.
    pub group: &'a Value,
    /// Its pods, terminating ones too.
    pub pods: &'a [Value],
    /// What its pods run.
    pub component: &'a str,
    /// The restart's marker.
    pub marker: &'a str,
    /// When the marker was written, by the API server's clock, where it says so.
    pub since: Option<&'a str>,
}

/// Whether the rollout is done, and if not, what is missing.
pub fn rollout(seen: Seen<'_>) -> Waiting {
    let name = text(seen.group, &["metadata", "name"]);
    let wanted = u64::try_from(replicas(seen.group)).unwrap_or_default();
    let done = seen.pods.iter().filter(|value| fresh(&seen, value)).count() as u64;
    let wait = |why: String| Waiting::For(why, done, wanted);
    if let Some(why) = hopeless(seen.pods) {
        return Waiting::Stuck(why);
    }
    if done < wanted && at(seen.cluster, &["spec", "paused"]) == Some(&Value::Bool(true)) {
        return wait("the Cluster is paused (`spec.paused`), so the operator restarts nothing".into());
    }
    if let Some(late) = seen.pods.iter().find(|value| !fresh(&seen, value)) {
        return wait(describe(&seen, late));
    }
    if (seen.pods.len() as u64) < wanted {
        return wait(format!("{name}: {} of {wanted} pods are there", seen.pods.len()));
    }
    match state::lacks(seen.group) {
        Some(why) => wait(format!("{name}: {why}")),
        None => Waiting::Done,
    }
}

/// What should pass within moments while a restart goes on, and does not where parties refuse each other or something
/// else is wrong: a pod does not start or is not ready, one is gone and does not come back, or all are well and the
/// operator does not go on.
pub fn ailments(seen: Seen<'_>) -> Vec<Ailment> {
    let stopping = seen.pods.iter().any(|value| pod(value).terminating);
    let mut ailments = ailing(seen.pods, |value| is_restarted(&seen, value));
    let wanted = usize::try_from(replicas(seen.group)).unwrap_or_default();
    if !stopping && seen.pods.len() < wanted {
        ailments.push(Ailment::new(format!(
            "{} of {wanted} pods are there and the operator makes no other; perhaps PD refuses the client that it keeps",
            seen.pods.len()
        )));
        return ailments;
    }
    // TiKV's leaders may take hours to move away.
    let done = seen.pods.iter().filter(|value| is_restarted(&seen, value)).count();
    let well = !stopping && seen.pods.iter().all(|value| pod(value).ready);
    if well && done < wanted && seen.component != "tikv" {
        ailments.push(Ailment::new(format!(
            "all pods are ready, {done} of {wanted} were restarted, and the operator does not go on; perhaps PD refuses the client that it keeps"
        )));
    }
    ailments
}

/// Whether a pod was made by this restart.
fn is_restarted(seen: &Seen<'_>, value: &Value) -> bool {
    let update = text(seen.group, &["status", "updateRevision"]);
    let after = seen.since.is_none_or(|since| text(value, &["metadata", "creationTimestamp"]) >= since);
    // A pod that does not tell its template is known by its revision and by when it was made.
    let marked = match pods::marker(value) {
        Some(marker) => marker == seen.marker,
        None => seen.since.is_some(),
    };
    let current = !update.is_empty() && pods::revision(value) == update;
    current && after && marked
}

fn fresh(seen: &Seen<'_>, value: &Value) -> bool {
    is_restarted(seen, value) && pod(value).ready && !pod(value).terminating
}

fn describe(seen: &Seen<'_>, late: &Value) -> String {
    let does = match pod(late) {
        state if state.terminating => "stops",
        _ if !is_restarted(seen, late) && seen.component == "tikv" => {
            "waits for its turn, or for its leaders to move away"
        }
        _ if !is_restarted(seen, late) => "waits for its turn",
        _ => "starts",
    };
    told(late, does, (pods::revision(late), text(seen.group, &["status", "updateRevision"])))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Scene {
        cluster: Value,
        group: Value,
        pods: Vec<Value>,
    }

    fn scene() -> Scene {
        let template = json!({"metadata": {"annotations": {pods::RESTARTED_AT: "m"}}}).to_string();
        let pod = |n: usize| {
            json!({
                "metadata": {
                    "name": format!("pd-pd-{n}"), "creationTimestamp": "2026-11-22T10:00:05Z",
                    "labels": {"pingcap.com/instance-revision-hash": "pd-b"},
                    "annotations": {"core.pingcap.com/last-instance-template": template},
                },
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            })
        };
        Scene {
            cluster: json!({"spec": {}}),
            group: state::tests::group(),
            pods: vec![pod(0), pod(1), pod(2)],
        }
    }

    fn seen(scene: &Scene) -> Seen<'_> {
        Seen {
            cluster: &scene.cluster,
            group: &scene.group,
            pods: &scene.pods,
            component: "pd",
            marker: "m",
            since: Some("2026-11-22T10:00:00Z"),
        }
    }

    fn why(scene: &Scene) -> String {
        match rollout(seen(scene)) {
            Waiting::For(why, ..) => why,
            Waiting::Stuck(why) => format!("STUCK {why}"),
            Waiting::Done => "DONE".into(),
        }
    }

    #[test]
    fn each_condition_alone_holds_the_rollout_back_and_is_named() {
        type Spoil = fn(&mut Scene);
        assert_eq!(why(&scene()), "DONE");
        let cases: [(&str, Spoil, &str); 8] = [
            (
                "revision",
                |s| s.pods[1]["metadata"]["labels"]["pingcap.com/instance-revision-hash"] = json!("pd-a"),
                "pd-pd-1: waits for its turn (revision pd-a, wanted pd-b)",
            ),
            // The operator may write a changed template into a pod that it leaves running.
            (
                "made before the marker",
                |s| s.pods[0]["metadata"]["creationTimestamp"] = json!("2026-11-22T09:59:59Z"),
                "pd-pd-0: waits for its turn (revision pd-b)",
            ),
            (
                "another restart's pod",
                |s| {
                    s.pods[0]["metadata"]["annotations"]["core.pingcap.com/last-instance-template"] =
                        json!("{}")
                },
                "pd-pd-0: waits for its turn (revision pd-b)",
            ),
            (
                "readiness",
                |s| s.pods[2]["status"]["conditions"][0]["status"] = json!("False"),
                "pd-pd-2: starts (revision pd-b; it is not ready)",
            ),
            (
                "terminating",
                |s| s.pods[2]["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:06Z"),
                "pd-pd-2: stops (revision pd-b)",
            ),
            (
                "count",
                |s| {
                    s.pods.pop();
                },
                "pd: 2 of 3 pods are there",
            ),
            (
                "the group",
                |s| s.group["status"]["currentRevision"] = json!("pd-a"),
                "pd: revision pd-b is not the current one yet",
            ),
            (
                "paused",
                |s| {
                    s.cluster["spec"]["paused"] = json!(true);
                    s.pods[1]["metadata"]["labels"]["pingcap.com/instance-revision-hash"] = json!("pd-a");
                },
                "the Cluster is paused (`spec.paused`), so the operator restarts nothing",
            ),
        ];
        for (name, spoil, expected) in cases {
            let mut scene = scene();
            spoil(&mut scene);
            assert_eq!(why(&scene), expected, "{name}");
        }
    }

    #[test]
    fn a_pod_that_does_not_tell_its_template_is_known_by_when_it_was_made() {
        let mut scene = scene();
        for pod in &mut scene.pods {
            pod["metadata"]["annotations"] = json!({});
        }
        assert_eq!(why(&scene), "DONE");
        let unknown = Seen { since: None, ..seen(&scene) };
        assert!(matches!(rollout(unknown), Waiting::For(..)), "neither is told");
    }

    #[test]
    fn an_operator_that_does_not_go_on_ails() {
        let ailment = |seen: Seen<'_>| ailments(seen).first().map(|ailment| ailment.what.clone());
        assert_eq!(ailment(seen(&scene())), None);
        let mut refused = scene();
        refused.pods[0]["metadata"]["labels"]["pingcap.com/instance-revision-hash"] = json!("pd-a");
        assert!(ailment(seen(&refused)).unwrap().contains("2 of 3 were restarted"));
        assert_eq!(ailment(Seen { component: "tikv", ..seen(&refused) }), None, "leaders move away");
        refused.pods.remove(0);
        assert!(ailment(seen(&refused)).unwrap().contains("2 of 3 pods are there"));
        refused.pods[0]["status"]["conditions"][0]["status"] = json!("False");
        assert!(ailment(seen(&refused)).unwrap().contains("pd-pd-1 was restarted"));
    }
}
