//! The status of groups and of a Cluster under operator v2: pure functions of what the operator sees.

use std::sync::Arc;

use serde_json::{Value, json};

use super::next::View;
use super::objects::label;
use crate::world::json as js;

/// The status of a group, with conditions that keep their time from before.
pub fn group(group: &Value, view: &View<'_>, seen: i64, now: &str) -> Value {
    let pod_revision = |pod: &Arc<Value>| label(pod, "instance-revision-hash").to_owned();
    let all = view.instances.len();
    let updated = view.instances.iter().filter(|instance| view.is_updated(instance)).count();
    let available = view.instances.iter().filter(|instance| view.is_well(instance)).count();
    let synced = updated == all
        && all == view.replicas
        && view.pods.len() == all
        && view.pods.iter().all(|pod| !js::terminating(pod) && pod_revision(pod) == view.revision);
    let before = js::text(group, "/status/currentRevision");
    let current = if synced || before.is_empty() { view.revision } else { before };
    let on_current = view.pods.iter().filter(|pod| pod_revision(pod) == current).count();
    let ready = available == all && all == view.replicas;
    let said = |kind: &str, holds: bool, otherwise: &str| {
        let status = if holds { "True" } else { "False" };
        let reason = if holds { kind } else { otherwise };
        // Servers before 1.21 take an empty text for none.
        let message = if holds { "all instances are" } else { "some instances are not" };
        let known = js::items(group, "/status/conditions").iter().find(|c| js::text(c, "/type") == kind);
        let since =
            known.filter(|c| js::text(c, "/status") == status).map(|c| js::text(c, "/lastTransitionTime"));
        json!({ "type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": seen,
            "lastTransitionTime": since.unwrap_or(now) })
    };
    json!({
        "observedGeneration": seen,
        "updateRevision": view.revision,
        "currentRevision": current,
        "replicas": all,
        "updatedReplicas": updated,
        "currentReplicas": on_current,
        "readyReplicas": available,
        "selector": format!("pingcap.com/cluster={},pingcap.com/component={},pingcap.com/group={}",
            js::text(group, "/spec/cluster/name"), view.component, js::name(group)),
        "version": js::text(group, "/spec/template/spec/version"),
        "conditions": [said("Ready", ready, "NotAllInstancesReady"), said("Synced", synced, "NotAllInstancesUpToDate")],
    })
}

/// The status of a Cluster: where PD is asked.
pub fn cluster(cluster: &Value, pd: &str) -> Value {
    let pd = format!("https://{pd}-pd.{}:2379", js::namespace(cluster));
    json!({ "id": js::uid(cluster), "observedGeneration": js::generation(cluster), "pd": pd })
}
