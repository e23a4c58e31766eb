//! What the kubelet reports of a pod: pure functions.

use serde_json::{Value, json};

use crate::world::json as js;

/// A container's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    /// Its volumes are being mounted.
    Creating,
    /// It runs since.
    Running {
        /// The time, as Kubernetes writes it.
        since: String,
        /// Whether its readiness probe passes.
        ready: bool,
    },
    /// It does not start, or has just ended.
    Waiting {
        /// `CrashLoopBackOff`.
        reason: String,
        /// Its last words.
        message: String,
    },
}

/// What there is to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// How the container does.
    pub run: Run,
    /// The pod's address, once it has one.
    pub ip: Option<String>,
    /// How often it restarted.
    pub restarts: u32,
    /// When the last run began and ended, if there was one.
    pub last: Option<(String, String)>,
    /// When the kubelet took the pod.
    pub started: String,
}

fn condition(pod: &Value, now: &str, kind: &str, holds: bool) -> Value {
    let status = if holds { "True" } else { "False" };
    let before = js::items(pod, "/status/conditions").iter().find(|c| js::text(c, "/type") == kind);
    let since = before
        .filter(|c| js::text(c, "/status") == status)
        .map_or(now, |c| js::text(c, "/lastTransitionTime"));
    json!({ "type": kind, "status": status, "lastTransitionTime": since, "lastProbeTime": null })
}

/// The pod's status. `before` is the pod with the status reported last.
pub(crate) fn status(before: &Value, report: &Report, now: &str) -> Value {
    let (state, ready, running) = match &report.run {
        Run::Creating => (json!({ "waiting": { "reason": "ContainerCreating" } }), false, false),
        Run::Waiting { reason, message } => {
            (json!({ "waiting": { "reason": reason, "message": message } }), false, false)
        }
        Run::Running { since, ready } => (json!({ "running": { "startedAt": since } }), *ready, true),
    };
    let last = match &report.last {
        Some((from, to)) => json!({ "terminated": {
            "startedAt": from, "finishedAt": to, "exitCode": 1, "reason": "Error" } }),
        None => json!({}),
    };
    let containers: Vec<Value> = js::items(before, "/spec/containers")
        .iter()
        .map(|container| {
            json!({
                "name": js::text(container, "/name"),
                "image": js::text(container, "/image"),
                "imageID": js::text(container, "/image"),
                "containerID": format!("sandbox://{}-{}", js::uid(before), report.restarts),
                "ready": ready,
                "started": running,
                "restartCount": report.restarts,
                "state": state,
                "lastState": last,
            })
        })
        .collect();
    let mut status = json!({
        "phase": if report.ip.is_some() { "Running" } else { "Pending" },
        "hostIP": "127.0.0.1",
        "startTime": report.started,
        "conditions": [
            condition(before, now, "Initialized", true),
            condition(before, now, "Ready", ready),
            condition(before, now, "ContainersReady", ready),
            condition(before, now, "PodScheduled", true),
        ],
        "containerStatuses": containers,
    });
    if let (Some(ip), Some(map)) = (&report.ip, status.as_object_mut()) {
        map.insert("podIP".into(), json!(ip));
        map.insert("podIPs".into(), json!([{ "ip": ip }]));
    }
    status
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let mut pod = json!({ "metadata": { "uid": "u" }, "spec": { "containers": [{ "name": "pd", "image": "pd" }] } });
        let mut report = Report {
            run: Run::Running { since: "t1".into(), ready: false },
            ip: Some("127.1.1.1".into()),
            restarts: 0,
            last: None,
            started: "t0".into(),
        };
        pod["status"] = status(&pod, &report, "t1");
        assert!(!js::ready(&pod));
        report.run = Run::Running { since: "t1".into(), ready: true };
        pod["status"] = status(&pod, &report, "t2");
        pod["status"] = status(&pod, &report, "t3");
        assert!(js::ready(&pod));
        let ready = js::items(&pod, "/status/conditions").iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(ready["lastTransitionTime"], "t2");
        assert_eq!(js::text(&pod, "/status/containerStatuses/0/state/running/startedAt"), "t1");
    }
}
