//! `tidb::rolling_restart` of a component: a marker in the TidbCluster, and waiting until the operator has restarted every pod.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::Gate;
use crate::k8s::client::Objects;
use crate::k8s::marker::{self, Spot};
use crate::k8s::object::{Ref, at, text};
use crate::k8s::patience::Patience;
use crate::k8s::restart::{Poll, is_done};
use crate::k8s::rollout::Waiting;
use crate::world::World;

use super::read::labels;
use super::rollout::{Seen, ailments, rollout};

/// The annotation that makes the operator restart a component.
pub(in crate::tidb) const ANNOTATION: &str = "tidb.pingcap.com/restartedAt";

/// Where a component of a TidbCluster carries the marker.
pub(in crate::tidb) fn spot(component: &str) -> Spot {
    Spot { path: vec!["spec".into(), component.into(), "annotations".into()], key: ANNOTATION }
}

/// Restarts a component of a TidbCluster and waits.
pub(in crate::tidb) async fn component(
    world: &World,
    gate: &dyn Gate,
    cluster: &Ref,
    component: &str,
    set_name: &str,
) -> Result<Value, PrimError> {
    let spot = spot(component);
    let marker = marker::put(world, gate, cluster, &spot).await?;
    let objects = Objects::of(world)?;
    let set = Ref::new("apps/v1", "StatefulSet", &cluster.namespace, set_name);
    let selector = labels(&cluster.name, component);
    let mut patience = Patience::default();
    let hint = format!(
        "`kubectl --namespace {} get pods -l app.kubernetes.io/component={component}` and the logs say why; then `rollover resume` or `rollover rollback`",
        cluster.namespace
    );
    let mut poll = Poll::default();
    loop {
        let state = async {
            let value = objects.get(cluster).await?;
            if spot.value(&value) != marker {
                return Err(PrimError::new(
                    Code::Conflict,
                    "somebody restarted this component while we waited for it",
                )
                .on(spot.place(cluster).0)
                .expected(&marker, spot.value(&value))
                .hint("`rollover resume` restarts it once more"));
            }
            let Some(set) = objects.find(&set).await? else {
                let why = format!("{set_name}: the operator has not made it yet");
                return Ok((Waiting::For(why, 0, 0), Vec::new()));
            };
            let pods = objects.list("v1", "Pod", &cluster.namespace, &selector).await?;
            let seen = Seen {
                cluster: &value,
                set: &set,
                pods: &pods,
                component,
                key: ANNOTATION,
                marker: &marker,
                since: written_at(&value, component, &world.manager),
                now: world.clock.now(),
            };
            Ok((patience.judge(rollout(seen), &ailments(seen), seen.now), pods))
        };
        let state = state.await;
        if is_done(world, gate, &mut poll, (cluster, &hint), state).await? {
            return Ok(json!({ "marker": marker }));
        }
    }
}

/// When we wrote the marker, by the API server's clock: the time of our entry among the field owners.
fn written_at<'a>(cluster: &'a Value, component: &str, us: &str) -> Option<&'a str> {
    at(cluster, &["metadata", "managedFields"])?
        .as_array()?
        .iter()
        .filter(|entry| text(entry, &["manager"]) == us)
        .filter(|entry| {
            at(entry, &["fieldsV1", "f:spec", &format!("f:{component}"), "f:annotations"]).is_some()
        })
        .map(|entry| text(entry, &["time"]))
        .filter(|time| !time.is_empty())
        .max()
}
