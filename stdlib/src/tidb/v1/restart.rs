//! `tidb::rolling_restart` of a component: a marker in the TidbCluster, and waiting until the operator has restarted every pod.

use serde_json::{Value, json};

use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::client::Objects;
use crate::k8s::marker::{self, Spot};
use crate::k8s::object::{Ref, at, text};
use crate::k8s::restart::{Poll, because};
use crate::k8s::rollout::Waiting;
use crate::k8s::why;
use crate::tidb::patience::Patience;
use crate::world::World;

use super::read::labels;
use super::rollout::{Seen, ailment, rollout};

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
    let mut poll = Poll::default();
    let mut patience = Patience::default();
    let mut pods = Vec::new();
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
                return Ok(Waiting::For(format!("{set_name}: the operator has not made it yet"), 0, 0));
            };
            pods = objects.list("v1", "Pod", &cluster.namespace, &selector).await?;
            let seen = Seen {
                cluster: &value,
                set: &set,
                pods: &pods,
                component,
                key: ANNOTATION,
                marker: &marker,
                since: written_at(&value, component, &world.manager),
            };
            Ok(match (rollout(seen), patience.seen(ailment(seen), world.clock.now())) {
                (Waiting::For(..), Some(why)) => Waiting::Stuck(why),
                (waiting, _) => waiting,
            })
        };
        let state: Result<Waiting, PrimError> = state.await;
        match poll.seen(state)? {
            Some(Waiting::Done) => return Ok(json!({ "marker": marker })),
            Some(Waiting::Stuck(why)) => {
                let why = because(why, why::unready(&objects, &pods).await);
                return Err(PrimError::new(Code::Unproved, why).on(cluster.to_string()).hint(format!(
                    "`kubectl --namespace {} get pods -l app.kubernetes.io/component={component}` and the logs say why; then `rollover resume` or `rollover rollback`",
                    cluster.namespace
                )));
            }
            Some(Waiting::For(text, done, total)) => {
                gate.progress(Progress { text, done: Some((done, total)) });
            }
            None => gate.progress(Progress { text: "waiting for the API server".into(), done: None }),
        }
        world.clock.sleep(poll.pause()).await;
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
