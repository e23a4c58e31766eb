//! `etcd::move_leader`: a member leads, when the cluster can bear it.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Member};
use super::look::{Look, Seen, until};
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, Place, Progress};
use crate::world::World;

/// How long the cluster may need to be well, and to follow another leader.
const WITHIN: Duration = Duration::from_secs(60);

/// Who leads a cluster that is well.
fn well(look: &Look) -> Result<Seen, String> {
    if let Some(trouble) = look.trouble() {
        return Err(trouble);
    }
    let leader = look.leader();
    let seen = look.members.iter().find(|seen| Some(seen.id) == leader).cloned();
    seen.ok_or_else(|| "a member leads that is not named here".to_owned())
}

/// Has a member lead.
pub(super) async fn lead(
    world: &World,
    cluster: &Cluster,
    member: &Member,
    gate: &dyn Gate,
) -> Result<Value, PrimError> {
    let name = member.host.name.as_str();
    let on = || format!("etcd member {name}");
    if gate.marker().is_empty() {
        return Err(PrimError::new(Code::Refused, "only a step of a run may move the leadership").on(on()));
    }
    if !cluster.members.iter().any(|known| known.host.name == name) {
        return Err(PrimError::argument("`member` is none of `cluster.members`").on(on()));
    }
    let now = until(world, cluster, WITHIN, gate, &well)
        .await
        .map_err(|error| error.on(on()).hint("nothing was moved; bring the cluster in order, then resume"))?;
    let told = |moved: bool| json!({ "host": name, "moved": moved, "from": now.host });
    if now.host == name {
        return Ok(told(false));
    }
    let look = cluster.look(world).await?;
    let next = look.members.iter().find(|seen| seen.host == name).filter(|seen| seen.id != 0);
    let next = next.ok_or_else(|| PrimError::new(Code::Unavailable, "it does not answer").on(on()))?.id;
    let led_by = |host: &str| format!("led-by:{host}");
    let effect = Effect {
        place: Place(format!("host:{name}:leadership:{}", member.service.name())),
        before: led_by(&now.host),
        after: led_by(name),
        class: EffectClass::Compensable,
        backup: None,
        summary: json!({ "before": now.host, "after": name }),
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(told(false));
    }
    let from = cluster.members.iter().find(|known| known.host.name == now.host);
    let from = from.ok_or_else(|| PrimError::internal("a leader without an endpoint"))?;
    gate.progress(Progress {
        text: format!("moving the leadership from {} to {name}", now.host),
        done: None,
    });
    gate.holds().await?;
    cluster.hand_over(world, &from.endpoint, next).await?;
    let leads = |look: &Look| match well(look)? {
        seen if seen.host == name => Ok(()),
        seen => Err(format!("{} still leads", seen.host)),
    };
    until(world, cluster, WITHIN, gate, &leads).await.map_err(|error| error.on(on()))?;
    Ok(told(true))
}
