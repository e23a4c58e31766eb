//! When the rolling restart of one component is done: the six conditions, as one pure decision.
//!
//! The operator's status has no observed generation, so `Ready` right after a change is the old one's; it counts only
//! together with what the StatefulSet and its pods show.

use serde_json::Value;
use time::OffsetDateTime;

use crate::k8s::object::{at, number, text};
use crate::k8s::patience::{Ailment, ailing as ailing_pods, hopeless};
use crate::k8s::pod::{late as told, pod};
use crate::k8s::rollout::{Waiting, condition, replicas};

use super::eviction::Eviction;

/// What is to be seen of one component.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The TidbCluster.
    pub cluster: &'a Value,
    /// The StatefulSet of the component.
    pub set: &'a Value,
    /// Its pods, terminating ones too.
    pub pods: &'a [Value],
    /// Name of the component.
    pub component: &'a str,
    /// The annotation that the restart changes.
    pub key: &'a str,
    /// Its value.
    pub marker: &'a str,
    /// When the marker was written, by the API server's clock, where it says so.
    pub since: Option<&'a str>,
    /// What the time is.
    pub now: OffsetDateTime,
}

/// Whether the rollout is done, and if not, what is missing.
pub fn rollout(seen: Seen<'_>) -> Waiting {
    let Seen { set, pods, component, marker, .. } = seen;
    let name = text(set, &["metadata", "name"]);
    let wanted = u64::try_from(replicas(set)).unwrap_or_default();
    let update = text(set, &["status", "updateRevision"]);
    let fresh = |value: &Value| {
        let pod = pod(value);
        pod.ready
            && !pod.terminating
            && !update.is_empty()
            && pod.revision == update
            && annotated(value, &seen)
    };
    let done = pods.iter().filter(|p| fresh(p)).count() as u64;
    let wait = |why: String| Waiting::For(why, done, wanted);

    // (a) The StatefulSet's template carries our marker, and its controller has seen it.
    if text(set, &["spec", "template", "metadata", "annotations", seen.key]) != marker {
        return wait(
            paused(&seen)
                .unwrap_or_else(|| format!("{name}: the operator has not passed the restart on yet")),
        );
    }
    if number(set, &["status", "observedGeneration"]) < number(set, &["metadata", "generation"]) {
        return wait(format!("{name}: the controller has not seen the restart yet"));
    }
    // (b) Every pod has the new revision and is ready.
    if let Some(why) = hopeless(pods) {
        return Waiting::Stuck(why);
    }
    if let Some(late) = pods.iter().find(|p| !fresh(p)) {
        return wait(describe(&seen, late, update));
    }
    if (pods.len() as u64) < wanted {
        return wait(format!("{name}: {} of {wanted} pods are there", pods.len()));
    }
    // (c) The StatefulSet has made the new revision its current one.
    if text(set, &["status", "currentRevision"]) != update {
        return wait(format!("{name}: revision {update} is not the current one yet"));
    }
    // (d) The operator is through with it.
    let phase = text(seen.cluster, &["status", component, "phase"]);
    if phase != "Normal" {
        return wait(format!("{component}: phase is {}", if phase.is_empty() { "not known" } else { phase }));
    }
    // (e) The cluster is ready, and not from before.
    let ready = condition(seen.cluster, "Ready");
    if ready.is_none_or(|c| text(c, &["status"]) != "True") {
        let why = ready.map_or("no condition `Ready`", |c| text(c, &["reason"]));
        return wait(format!("the cluster is not ready: {why}"));
    }
    if wanted > 0 {
        let turned = ready.map_or("", |c| text(c, &["lastTransitionTime"]));
        if let Some(since) = seen.since.filter(|since| *since > turned && !turned.is_empty()) {
            return wait(format!("the cluster's `Ready` is from {turned}, before the restart at {since}"));
        }
    }
    // (f) Members and stores are well.
    match ailing(seen.cluster) {
        Some(why) => wait(why),
        None => Waiting::Done,
    }
}

/// What should pass within moments while a restart goes on, and does not where parties refuse each other or something
/// else is wrong: the operator cannot ask PD, a pod does not start, or one that was restarted runs and is not ready.
pub fn ailments(seen: Seen<'_>) -> Vec<Ailment> {
    let unsynced = at(seen.cluster, &["status", "pd", "synced"]) == Some(&Value::Bool(false));
    let mut ailments: Vec<Ailment> = unsynced
        .then(|| Ailment::new("the operator cannot reach PD, so it restarts nothing"))
        .into_iter()
        .collect();
    ailments.extend(ailing_pods(seen.pods, |value| annotated(value, &seen)));
    ailments
}

/// What is not well among PD members, TiKV stores and TiDB servers; nothing when all are.
pub fn ailing(cluster: &Value) -> Option<String> {
    if at(cluster, &["status", "pd", "synced"]) == Some(&Value::Bool(false)) {
        return Some("pd: the operator cannot reach it".into());
    }
    let map = |path: &[&str]| at(cluster, path).and_then(Value::as_object).into_iter().flatten();
    let unwell = |member: &Value| member.get("health") != Some(&Value::Bool(true));
    if let Some((name, _)) = map(&["status", "pd", "members"]).find(|(_, member)| unwell(member)) {
        return Some(format!("pd: member {name} is not healthy"));
    }
    for kind in ["tikv", "tiflash"] {
        if let Some((_, store)) = map(&["status", kind, "stores"]).find(|(_, s)| text(s, &["state"]) != "Up")
        {
            return Some(format!(
                "{kind}: the store of {} is {}",
                text(store, &["podName"]),
                text(store, &["state"])
            ));
        }
    }
    map(&["status", "tidb", "members"])
        .find(|(_, member)| unwell(member))
        .map(|(name, _)| format!("tidb: {name} is not healthy"))
}

fn annotated(pod: &Value, seen: &Seen<'_>) -> bool {
    text(pod, &["metadata", "annotations", seen.key]) == seen.marker
}

fn describe(seen: &Seen<'_>, late: &Value, update: &str) -> String {
    if let Some(eviction) = Eviction::of(seen.cluster, late) {
        return eviction.told(seen.now);
    }
    let state = pod(late);
    let does = match &state {
        p if p.terminating => "stops",
        p if p.revision != update => "waits for its turn",
        p if !p.ready => "starts",
        _ => "is not the restarted one yet",
    };
    told(late, does, (state.revision, update))
}

fn paused(seen: &Seen<'_>) -> Option<String> {
    (at(seen.cluster, &["spec", "paused"]) == Some(&Value::Bool(true)))
        .then(|| "the TidbCluster is paused (`spec.paused`), so the operator restarts nothing".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const KEY: &str = "tidb.pingcap.com/restartedAt";

    struct Scene {
        cluster: Value,
        set: Value,
        pods: Vec<Value>,
    }

    fn scene() -> Scene {
        let pod = |n: usize| {
            json!({
                "metadata": {
                    "name": format!("basic-pd-{n}"),
                    "labels": {"controller-revision-hash": "basic-pd-b"},
                    "annotations": {KEY: "m"},
                },
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            })
        };
        Scene {
            cluster: json!({
                "spec": {},
                "status": {
                    "pd": {"phase": "Normal", "synced": true, "members": {
                        "basic-pd-0": {"health": true}, "basic-pd-1": {"health": true}, "basic-pd-2": {"health": true}}},
                    "tikv": {"stores": {"1": {"podName": "basic-tikv-0", "state": "Up", "leaderCount": 7}}},
                    "tidb": {"members": {"basic-tidb-0": {"health": true}}},
                    "conditions": [{"type": "Ready", "status": "True", "reason": "Ready",
                                    "lastTransitionTime": "2026-11-22T10:00:05Z"}],
                },
            }),
            set: json!({
                "metadata": {"name": "basic-pd", "generation": 2},
                "spec": {"replicas": 3, "template": {"metadata": {"annotations": {KEY: "m"}}}},
                "status": {"observedGeneration": 2, "currentRevision": "basic-pd-b", "updateRevision": "basic-pd-b"},
            }),
            pods: vec![pod(0), pod(1), pod(2)],
        }
    }

    fn judge(scene: &Scene) -> Waiting {
        rollout(Seen {
            cluster: &scene.cluster,
            set: &scene.set,
            pods: &scene.pods,
            component: "pd",
            key: KEY,
            marker: "m",
            since: Some("2026-11-22T10:00:00Z"),
            now: datetime!(2026-11-22 10:12 UTC),
        })
    }

    fn why(scene: &Scene) -> String {
        match judge(scene) {
            Waiting::For(why, ..) => why,
            Waiting::Stuck(why) => format!("STUCK {why}"),
            Waiting::Done => "DONE".into(),
        }
    }

    #[test]
    fn all_six_conditions_together_are_done() {
        assert_eq!(judge(&scene()), Waiting::Done);
    }

    #[test]
    fn each_condition_alone_holds_the_rollout_back_and_is_named() {
        type Spoil = fn(&mut Scene);
        let cases: [(&str, Spoil, &str); 13] = [
            (
                "a: template",
                |s| s.set["spec"]["template"]["metadata"]["annotations"][KEY] = json!("before"),
                "basic-pd: the operator has not passed the restart on yet",
            ),
            (
                "a: paused",
                |s| {
                    s.set["spec"]["template"]["metadata"]["annotations"] = json!({});
                    s.cluster["spec"]["paused"] = json!(true);
                },
                "the TidbCluster is paused (`spec.paused`), so the operator restarts nothing",
            ),
            (
                "a: generation",
                |s| s.set["metadata"]["generation"] = json!(3),
                "basic-pd: the controller has not seen the restart yet",
            ),
            (
                "b: revision",
                |s| s.pods[1]["metadata"]["labels"]["controller-revision-hash"] = json!("basic-pd-a"),
                "basic-pd-1: waits for its turn (revision basic-pd-a, wanted basic-pd-b)",
            ),
            (
                "b: readiness",
                |s| s.pods[2]["status"]["conditions"][0]["status"] = json!("False"),
                "basic-pd-2: starts (revision basic-pd-b; it is not ready)",
            ),
            (
                "b: terminating",
                |s| s.pods[2]["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:01Z"),
                "basic-pd-2: stops (revision basic-pd-b)",
            ),
            (
                "b: count",
                |s| {
                    s.pods.pop();
                },
                "basic-pd: 2 of 3 pods are there",
            ),
            (
                "c: current revision",
                |s| s.set["status"]["currentRevision"] = json!("basic-pd-a"),
                "basic-pd: revision basic-pd-b is not the current one yet",
            ),
            ("d: phase", |s| s.cluster["status"]["pd"]["phase"] = json!("Upgrade"), "pd: phase is Upgrade"),
            (
                "e: not ready",
                |s| {
                    s.cluster["status"]["conditions"][0]["status"] = json!("False");
                    s.cluster["status"]["conditions"][0]["reason"] = json!("PDUnhealthy");
                },
                "the cluster is not ready: PDUnhealthy",
            ),
            // The trap: everything looks right, but `Ready` was said before the restart.
            (
                "e: stale",
                |s| {
                    s.cluster["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-11-22T09:59:59Z")
                },
                "the cluster's `Ready` is from 2026-11-22T09:59:59Z, before the restart at 2026-11-22T10:00:00Z",
            ),
            (
                "f: member",
                |s| s.cluster["status"]["pd"]["members"]["basic-pd-1"]["health"] = json!(false),
                "pd: member basic-pd-1 is not healthy",
            ),
            (
                "f: store",
                |s| s.cluster["status"]["tikv"]["stores"]["1"]["state"] = json!("Down"),
                "tikv: the store of basic-tikv-0 is Down",
            ),
        ];
        for (name, spoil, expected) in cases {
            let mut scene = scene();
            spoil(&mut scene);
            assert_eq!(why(&scene), expected, "{name}");
        }
    }

    #[test]
    fn parties_that_refuse_each_other_ail() {
        let ailment = |scene: &Scene| {
            let ailments = ailments(Seen {
                cluster: &scene.cluster,
                set: &scene.set,
                pods: &scene.pods,
                component: "pd",
                key: KEY,
                marker: "m",
                since: None,
                now: datetime!(2026-11-22 10:12 UTC),
            });
            ailments.first().map(|ailment| ailment.what.clone())
        };
        let well = scene();
        assert_eq!(ailment(&well), None);
        let mut cut_off = scene();
        cut_off.cluster["status"]["pd"]["synced"] = json!(false);
        assert_eq!(ailment(&cut_off).unwrap(), "the operator cannot reach PD, so it restarts nothing");
        let mut alone = scene();
        alone.pods[1]["status"] =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
        assert_eq!(ailment(&alone).unwrap(), "basic-pd-1 was restarted, runs and does not become ready");
        // One that has not had its turn is somebody else's business, and one that stops is on its way.
        alone.pods[1]["metadata"]["annotations"][KEY] = json!("before");
        assert_eq!(ailment(&alone), None);
        alone.pods[1]["metadata"]["annotations"][KEY] = json!("m");
        alone.pods[1]["metadata"]["deletionTimestamp"] = json!("2026-11-22T10:00:01Z");
        assert_eq!(ailment(&alone), None);
    }

    #[test]
    fn right_after_the_patch_everything_still_looks_ready_and_nothing_is_done() {
        // What the API shows in the first moment: old template, old pods, `Ready` true.
        let mut scene = scene();
        scene.set["spec"]["template"]["metadata"]["annotations"] = json!({KEY: "earlier"});
        for pod in &mut scene.pods {
            pod["metadata"]["annotations"] = json!({KEY: "earlier"});
        }
        assert!(matches!(judge(&scene), Waiting::For(_, 0, 3)));
    }

    #[test]
    fn progress_counts_pods_and_names_leaders_that_move() {
        let mut scene = scene();
        scene.pods[0]["metadata"]["labels"]["controller-revision-hash"] = json!("basic-pd-a");
        assert!(matches!(judge(&scene), Waiting::For(_, 2, 3)));
        scene.pods[0]["metadata"]["name"] = json!("basic-tikv-0");
        scene.cluster["status"]["tikv"]["evictLeader"] = json!({"basic-tikv-0": {"podCreateTime": "x"}});
        assert_eq!(
            why(&scene),
            "basic-tikv-0: 7 leaders have to move away; the operator waits at most 25h for them"
        );
    }

    #[test]
    fn a_pod_that_cannot_start_ends_the_wait_before_the_next_is_touched() {
        let mut scene = scene();
        scene.pods[2]["status"] = json!({"containerStatuses":
            [{"name": "pd", "restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(
            why(&scene),
            "STUCK basic-pd-2 does not start (CrashLoopBackOff); the others are left alone"
        );
        scene.pods[2]["status"]["containerStatuses"][0]["restartCount"] = json!(1);
        assert_eq!(
            why(&scene),
            "basic-pd-2: starts (revision basic-pd-b; container pd waits: CrashLoopBackOff)"
        );
    }
}
