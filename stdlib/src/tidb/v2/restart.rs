//! `tidb::rolling_restart` of a group: a marker in its template, and waiting until every pod was made anew.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::Gate;
use crate::k8s::client::Objects;
use crate::k8s::marker::{self, Spot};
use crate::k8s::object::{Ref, at, text};
use crate::k8s::patience::Patience;
use crate::k8s::restart::{Poll, is_done};
use crate::world::World;

use super::pods::{self, RESTARTED_AT};
use super::rollout::{Seen, ailments, rollout};

/// Where a group carries the marker.
pub(in crate::tidb) fn spot() -> Spot {
    Spot {
        path: ["spec", "template", "metadata", "annotations"].map(str::to_owned).to_vec(),
        key: RESTARTED_AT,
    }
}

/// Restarts a group pod by pod and waits.
pub(in crate::tidb) async fn group(
    world: &World,
    gate: &dyn Gate,
    cluster: &Ref,
    group: &Ref,
    component: &str,
) -> Result<Value, PrimError> {
    let spot = spot();
    let marker = marker::put(world, gate, group, &spot).await?;
    let objects = Objects::of(world)?;
    let selector = pods::selector(&cluster.name, component, &group.name);
    let mut patience = Patience::default();
    let hint = format!(
        "`kubectl --namespace {} get pods -l {selector}`, and their logs and the operator's say why; then `rollover resume` or `rollover rollback`",
        group.namespace
    );
    let mut poll = Poll::default();
    loop {
        let state = async {
            let value = objects.get(group).await?;
            if spot.value(&value) != marker {
                return Err(PrimError::new(
                    Code::Conflict,
                    "somebody restarted this group while we waited for it",
                )
                .on(spot.place(group).0)
                .expected(&marker, spot.value(&value))
                .hint("`rollover resume` restarts it once more"));
            }
            let cluster = objects.get(cluster).await?;
            let pods = objects.list("v1", "Pod", &group.namespace, &selector).await?;
            let since = written_at(&value, &world.manager);
            let seen =
                Seen { cluster: &cluster, group: &value, pods: &pods, component, marker: &marker, since };
            Ok((patience.judge(rollout(seen), &ailments(seen), world.clock.now()), pods))
        };
        let state = state.await;
        if is_done(world, gate, &mut poll, (group, &hint), state).await? {
            return Ok(json!({ "marker": marker }));
        }
    }
}

/// When we wrote the marker, by the API server's clock: the time of our entry among the field owners.
fn written_at<'a>(group: &'a Value, us: &str) -> Option<&'a str> {
    let path = ["fieldsV1", "f:spec", "f:template", "f:metadata", "f:annotations"];
    at(group, &["metadata", "managedFields"])?
        .as_array()?
        .iter()
        .filter(|entry| text(entry, &["manager"]) == us && at(entry, &path).is_some())
        .map(|entry| text(entry, &["time"]))
        .filter(|time| !time.is_empty())
        .max()
}
