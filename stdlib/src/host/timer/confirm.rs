//! Restarts under a timer: armed before, confirmed when a proof holds, and what became of one that was not.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Guard, State, Timer};
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, Progress};
use crate::host::change;
use crate::host::inventory::Entry;
use crate::host::port::{Host, Put};
use crate::host::service::Service;
use crate::world::World;

/// How long a host's own restart waits until somebody else has started the service again.
const RESTART: Duration = Duration::from_secs(600);

/// What a restart is guarded by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guarded {
    /// Files that the service loads when it starts.
    pub(crate) paths: Vec<String>,
    /// How long the host waits for us.
    pub(crate) within: Duration,
}

/// The field `confirm` of a call's options; nothing where it is left out or empty.
pub(crate) fn within(options: Option<&Value>) -> Result<Option<Duration>, PrimError> {
    let wrong = |found: String| {
        PrimError::argument("`options.confirm` is no time to wait for a confirmation")
            .expected("at least `5s`, e.g. `5m`", found)
    };
    let Some(given) = options.and_then(|options| options.get("confirm")).filter(|given| !given.is_null())
    else {
        return Ok(None);
    };
    let text = given.as_str().ok_or_else(|| wrong(given.to_string()))?;
    if text.is_empty() {
        return Ok(None);
    }
    let within = crate::duration::parse(text).map_err(wrong)?;
    if within < Duration::from_secs(5) { Err(wrong(format!("`{text}`"))) } else { Ok(Some(within)) }
}

/// A timer that waits for us.
#[derive(Debug, Clone)]
pub(crate) struct Armed {
    key: String,
    id: String,
    files: Vec<String>,
    /// When it fires, by our clock.
    pub(crate) until: OffsetDateTime,
}

impl Armed {
    /// What happens without us, for the end of an error.
    pub(crate) fn owed(&self, entry: &Entry, service: &Service) -> String {
        format!(
            "unless a resume confirms it, {} puts {} back by itself at {} and restarts {}",
            entry.name,
            self.files.join(", "),
            crate::lease::seconds(self.until),
            service.name()
        )
    }
}

/// What an earlier attempt left on the host.
pub(crate) enum Earlier {
    /// Nothing that counts.
    Nothing,
    /// A timer of this very step, still waiting.
    Waiting,
    /// It fired; the files are as the run left them again, and the service must be started anew.
    PutInPlace,
}

fn waiting(gate: &dyn Gate, entry: &Entry, timer: &Timer) {
    let text = match timer.state {
        State::Armed => {
            format!("{} puts files back in {}s unless it is confirmed", entry.name, timer.left.as_secs())
        }
        _ => format!("{} is putting files back by itself", entry.name),
    };
    gate.progress(Progress { text, done: None });
}

/// Looks what became of a timer that was armed for this service before, and comes to terms with it.
pub(crate) async fn earlier(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    key: &str,
) -> Result<Earlier, PrimError> {
    let host = world.hosts.host(entry)?;
    let host = host.as_ref();
    let fence = world.hosts.fence(&entry.name);
    loop {
        let timers = host.timers().await?;
        let Some(timer) = timers.into_iter().find(|timer| timer.key == key) else {
            return Ok(Earlier::Nothing);
        };
        let ours = timer.marker == gate.marker();
        match timer.state {
            State::Armed if ours => return Ok(Earlier::Waiting),
            State::Firing => {
                waiting(gate, entry, &timer);
                world.clock.sleep(Duration::from_millis(500)).await;
                continue;
            }
            State::Fired | State::Lost if ours && !(timer.undone.is_empty() && timer.kept.is_empty()) => {
                put_in_place(world, gate, entry, &timer).await?;
            }
            State::Fired if ours => {}
            // Of another phase or direction: what it guards is settled anew by this step.
            State::Armed | State::Fired | State::Lost => {
                gate.holds().await?;
                if host.disarm(key, &timer.id, timer.state, fence.as_ref()).await? {
                    return Ok(Earlier::Nothing);
                }
                continue;
            }
        }
        gate.holds().await?;
        if host.disarm(key, &timer.id, timer.state, fence.as_ref()).await? {
            return Ok(Earlier::PutInPlace);
        }
    }
}

/// Puts what a timer took away in place again, where it still is as the timer left it.
async fn put_in_place(world: &World, gate: &dyn Gate, entry: &Entry, timer: &Timer) -> Result<(), PrimError> {
    let paths: Vec<&str> = timer.undone.iter().map(|put| put.path.as_str()).collect();
    gate.note(&format!(
        "{}: nobody confirmed the restart in time, so the host put {} back by itself and restarted the service; the run \
         puts its files in place again and restarts it anew",
        entry.name,
        paths.join(", ")
    ))?;
    if let Some(kept) = timer.kept.first() {
        return Err(PrimError::new(
            Code::Conflict,
            "somebody else has changed the file since the run wrote it",
        )
        .on(format!("{}:{kept}", entry.name))
        .hint("the host's own timer left it alone; put back what the run left there, or roll back"));
    }
    let host = world.hosts.host(entry)?;
    let mut puts: Vec<Put> = Vec::new();
    for put in &timer.undone {
        let place = change::place(&entry.name, &put.path);
        let Some(recorded) = gate.replaced(&place)? else { continue };
        if change::stands(world, host.as_ref(), &put.path, &recorded.after).await? {
            continue;
        }
        let effect = Effect {
            place,
            before: recorded.before,
            after: recorded.after,
            // The step that wrote it first is the one whose effect is put back.
            class: EffectClass::Compensable,
            backup: None,
            summary: json!({ "after_timer": timer.marker }),
        };
        if gate.effect(effect).await? == Permit::Apply {
            puts.push(put.clone());
        }
    }
    if puts.is_empty() {
        return Ok(());
    }
    gate.holds().await?;
    host.replace(&puts, world.hosts.fence(&entry.name).as_ref()).await
}

/// What the host puts back unless it is told in time: what this phase replaced of these files.
pub(crate) async fn way_back(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    guarded: &Guarded,
) -> Result<Vec<Put>, PrimError> {
    let host = world.hosts.host(entry)?;
    let mut puts: Vec<Put> = Vec::new();
    for path in &guarded.paths {
        if puts.iter().any(|put| put.path == *path) {
            continue;
        }
        if let Some(recorded) = gate.replaced(&change::place(&entry.name, path))? {
            puts.extend(change::way_back(world, host.as_ref(), &recorded).await?);
        }
    }
    Ok(puts)
}

/// Arms a timer before a restart; nothing where there is nothing to put back.
pub(crate) async fn arm(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    service: &Service,
    key: &str,
    guarded: &Guarded,
) -> Result<Option<Armed>, PrimError> {
    let puts = way_back(world, gate, entry, guarded).await?;
    if puts.is_empty() {
        return Ok(None);
    }
    let guard = Guard {
        key: key.to_owned(),
        id: hex::encode(rand::random::<[u8; 8]>()),
        marker: gate.marker(),
        puts,
        restart: service.restart_command(RESTART),
        within: guarded.within,
    };
    // By our clock it fires a little earlier than by the host's: what we take for confirmed in time is.
    let until = world.clock.now() + guarded.within;
    gate.holds().await?;
    world.hosts.host(entry)?.arm(&guard, world.hosts.fence(&entry.name).as_ref()).await?;
    let files = guard.puts.into_iter().map(|put| put.path).collect();
    Ok(Some(Armed { key: guard.key, id: guard.id, files, until }))
}

/// Confirms a restart: the host keeps what it has.
pub(crate) async fn confirm(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    armed: &Armed,
) -> Result<(), PrimError> {
    gate.holds().await?;
    let fence = world.hosts.fence(&entry.name);
    if world.hosts.host(entry)?.disarm(&armed.key, &armed.id, State::Armed, fence.as_ref()).await? {
        return Ok(());
    }
    Err(PrimError::new(Code::Unproved, "the proof came too late: the host put its files back by itself")
        .on(entry.title())
        .hint("resume: it puts the run's files in place again and restarts anew; or roll back"))
}

/// Waits until no timer waits on these hosts: nobody else is stopped while one may restart its service by itself.
pub(crate) async fn quiet(world: &World, gate: &dyn Gate, entries: &[&Entry]) -> Result<(), PrimError> {
    for entry in entries {
        let host = world.hosts.host(entry)?;
        loop {
            let timers = host.timers().await?;
            let busy = timers.iter().find(|timer| matches!(timer.state, State::Armed | State::Firing));
            let Some(timer) = busy else { break };
            waiting(gate, entry, timer);
            world.clock.sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}

/// Removes what a run that is over has left of timers on a host; one that is at work just now is left to it.
pub(crate) async fn clear(host: &dyn Host, run: &str) -> Result<(), PrimError> {
    let of_run = |timer: &Timer| timer.marker.strip_prefix(run).is_some_and(|rest| rest.starts_with('/'));
    for timer in host.timers().await?.into_iter().filter(of_run) {
        host.disarm(&timer.key, &timer.id, timer.state, None).await?;
    }
    Ok(())
}
