//! `etcd::restart`: one member, when the others can bear it.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::cluster::{Cluster, Member};
use super::look::{Look, until};
use super::quorum::may_stop;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::host::timer::confirm::{self, Armed, Guarded};
use crate::host::{Entry, restart};
use crate::world::World;

/// How long the others may need to be well before a member is stopped, and a leader to be another.
const READY: Duration = Duration::from_secs(60);
/// How long a member may need to come back and catch up.
const BACK: Duration = Duration::from_secs(180);
/// How long the command that restarts it may take: one that waits for a quorum that does not come never returns.
const COMMAND: Duration = Duration::from_secs(120);

/// How a restart of a member is confirmed: nothing where it need not be.
pub(super) fn guarded(member: &Member, options: Option<&Value>) -> Result<Option<Guarded>, PrimError> {
    let Some(within) = confirm::within(options)? else { return Ok(None) };
    Ok(Some(Guarded { paths: member.loads.clone(), within }))
}

/// Moves the leadership away from a member, stops and starts it when the others keep the quorum without it, and waits
/// until it has caught up with what the others had before.
pub(super) async fn run(
    world: &World,
    cluster: &Cluster,
    member: &Member,
    guarded: Option<&Guarded>,
    gate: &dyn Gate,
) -> Result<Value, PrimError> {
    let name = member.host.name.clone();
    let moved = std::sync::atomic::AtomicBool::new(false);
    let check = || -> BoxFuture<'_, Result<(), PrimError>> {
        Box::pin(async {
            if guarded.is_some() {
                let others = cluster.members.iter().map(|member| &member.host);
                let others: Vec<&Entry> = others.filter(|host| host.name != name).collect();
                confirm::quiet(world, gate, &others).await?;
            }
            let may = |look: &Look| {
                may_stop(&look.voters(), &name).map_err(|why| format!("{name} may not be stopped now: {why}"))
            };
            until(world, cluster, READY, gate, &may).await.map_err(|error| {
                error
                    .on(format!("etcd member {name}"))
                    .hint("nothing was stopped; bring the others back, then resume")
            })?;
            if lead_away(world, cluster, &name, gate).await? {
                moved.store(true, std::sync::atomic::Ordering::Relaxed);
                until(world, cluster, READY, gate, &may)
                    .await
                    .map_err(|error| error.on(format!("etcd member {name}")))?;
            }
            Ok(())
        })
    };
    let (host, service) = (&member.host, &member.service);
    // Whoever waits longer than the host's timer does waits for nothing.
    let command = guarded.map_or(COMMAND, |guarded| COMMAND.min(guarded.within));
    let came = restart::restart(world, gate, host, service, command, guarded, &check).await?;
    let left = |armed: &Armed| Duration::try_from(armed.until - world.clock.now()).unwrap_or_default();
    let patience = came.armed.as_ref().map_or(BACK, |armed| BACK.min(left(armed)));
    // What the others have now it must have too; nothing that was acknowledged before is later than that.
    let goal = std::sync::atomic::AtomicU64::new(0);
    let back = |look: &Look| -> Result<u64, String> {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        if goal.load(relaxed) == 0 {
            goal.store(look.index(), relaxed);
        }
        let goal = goal.load(relaxed);
        let seen = look
            .members
            .iter()
            .find(|seen| seen.host == name)
            .ok_or_else(|| format!("{name} is no member"))?;
        let status = seen.status.as_ref().map_err(|why| format!("{name}: {why}"))?;
        if look.leader().is_none() {
            return Err("the members do not agree on a leader".into());
        }
        if status.applied < goal {
            return Err(format!("{name} has caught up to {} of {goal}", status.applied));
        }
        if let Some(other) = look.voters().iter().find(|voter| !voter.up) {
            return Err(format!("{} is not back", other.name));
        }
        Ok(status.applied)
    };
    let applied = until(world, cluster, patience, gate, &back).await.map_err(|error| {
        let error = error.on(format!("etcd member {name}")).hint(format!(
            "the others keep the quorum; look at the log of service {} on {}, then resume, or roll back",
            service.name(),
            host.title()
        ));
        match &came.armed {
            Some(armed) => restart::owing(error, armed, host, service),
            None => error,
        }
    })?;
    if let Some(armed) = &came.armed {
        confirm::confirm(world, gate, host, armed).await?;
    }
    let moved = moved.load(std::sync::atomic::Ordering::Relaxed);
    Ok(json!({
        "host": name,
        "restarted": came.anew,
        "came_back": came.came_back,
        "led": moved,
        "applied": applied.to_string(),
    }))
}

/// Gives the leadership to another member, where this one has it.
async fn lead_away(world: &World, cluster: &Cluster, name: &str, gate: &dyn Gate) -> Result<bool, PrimError> {
    let look = cluster.look(world).await?;
    let leader = look.leader();
    let Some(own) = look.members.iter().find(|seen| seen.host == name && Some(seen.id) == leader) else {
        return Ok(false);
    };
    let ahead = look
        .members
        .iter()
        .filter(|seen| seen.id != own.id && !seen.learner)
        .filter_map(|seen| Some((seen.status.as_ref().ok()?.index, seen)))
        .max_by_key(|(index, _)| *index);
    let Some((_, next)) = ahead else {
        return Err(PrimError::new(Code::Unavailable, "nobody else could lead").on("etcd"));
    };
    gate.progress(Progress {
        text: format!("{name} leads: moving the leadership to {}", next.host),
        done: None,
    });
    let endpoint =
        cluster.members.iter().find(|member| member.host.name == name).map(|member| member.endpoint.clone());
    let endpoint = endpoint.ok_or_else(|| PrimError::internal("a leader without an endpoint"))?;
    gate.holds().await?;
    cluster.hand_over(world, &endpoint, next.id).await?;
    let led = |look: &Look| match look.leader() {
        Some(id) if id != own.id => Ok(()),
        Some(_) => Err(format!("{name} still leads")),
        None => Err("nobody leads yet".to_owned()),
    };
    until(world, cluster, READY, gate, &led).await?;
    Ok(true)
}

/// Members for a rolling restart: followers first, in the order of the script, the leader last.
pub(super) fn order(look: &Look) -> Vec<String> {
    let leader = look.leader();
    let (mut first, last): (Vec<_>, Vec<_>) = look.members.iter().partition(|seen| leader != Some(seen.id));
    first.extend(last);
    first.iter().map(|seen| seen.host.clone()).collect()
}
