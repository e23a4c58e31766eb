//! Restarts of services, each known by a marker on its host: what carries this step's marker was restarted by it, and is
//! not restarted again when the step is resumed.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::inventory::Entry;
use super::port::{ABSENT, Found, Host, Put, digest};
use super::service::{Service, Status};
use super::timer::confirm::{self, Armed, Earlier, Guarded};
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, Place, Progress};
use crate::world::World;

/// How long a service may take until it runs again, after its restart has returned.
const UP: Duration = Duration::from_secs(30);

/// A question that is asked right before a service is stopped.
pub(crate) type Check<'c, 'f> = &'c (dyn Fn() -> BoxFuture<'f, Result<(), PrimError>> + Send + Sync);

/// The place of a service.
pub(crate) fn place(host: &str, service: &Service) -> Place {
    Place(format!("host:{host}:service:{}", service.name()))
}

/// What names a service in the state folder: its marker's file and its timer.
fn key(service: &Service) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_@".contains(c) { c } else { '_' };
    // A name that begins with a dot or a dash is no folder's.
    let first = |(n, c): (usize, char)| if c == '.' && n > 0 { '.' } else { safe(c) };
    let name: String = service.name().chars().enumerate().map(first).collect();
    if name.starts_with('-') { format!("_{name}") } else { name }
}

/// Where a service's marker lies.
pub(super) fn path(entry: &Entry, service: &Service) -> String {
    format!("{}/restarts/{}", entry.state, key(service))
}

/// The marker that a service carries, empty where it has none, and the digest of its file.
async fn carried(host: &dyn Host, entry: &Entry, service: &Service) -> Result<(String, String), PrimError> {
    Ok(match host.read(&path(entry, service), 4096).await? {
        None => (String::new(), ABSENT.to_owned()),
        Some(file) => (marker_of(Some(&file)), digest(&file.bytes)),
    })
}

/// The marker of the restart that a service had last, of any run, by its file; empty where it had none.
pub(super) fn marker_of(file: Option<&Found>) -> String {
    file.map(|file| String::from_utf8_lossy(&file.bytes).trim().to_owned()).unwrap_or_default()
}

/// What came of a restart.
pub(crate) struct Restarted {
    /// Whether it was restarted just now.
    pub(crate) anew: bool,
    /// Whether the host had put its files back by itself before.
    pub(crate) came_back: bool,
    /// The timer that waits to be confirmed.
    pub(crate) armed: Option<Armed>,
}

/// Restarts a service unless it carries this step's marker. `check` has the last word before it is stopped. With `guarded`
/// the host takes the change back unless it is confirmed in time, which is the caller's, who knows the proof.
pub(crate) async fn restart(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    service: &Service,
    within: Duration,
    guarded: Option<&Guarded>,
    check: Check<'_, '_>,
) -> Result<Restarted, PrimError> {
    let on = || format!("{}: service {}", entry.name, service.name());
    let marker = gate.marker();
    if marker.is_empty() {
        return Err(PrimError::new(Code::Refused, "only a step of a run may restart this").on(on()));
    }
    let key = key(service);
    let host = world.hosts.host(entry)?;
    let host = host.as_ref();
    let earlier = match guarded {
        Some(_) => confirm::earlier(world, gate, entry, &key).await?,
        None => Earlier::Nothing,
    };
    let came_back = matches!(earlier, Earlier::PutInPlace);
    let (mut present, raw) = carried(host, entry, service).await?;
    if came_back {
        // Whatever lies there, the timer has restarted the service since.
        present.clear();
    }
    if present == marker {
        // The whole time again: a resume begins its proof anew.
        let armed = match (&earlier, guarded) {
            (Earlier::Waiting, Some(guarded)) => {
                confirm::arm(world, gate, entry, service, &key, guarded).await?
            }
            _ => None,
        };
        return Ok(Restarted { anew: false, came_back, armed });
    }
    let earlier_start = service.status(host).await?;
    check().await?;
    let summary = match guarded {
        None => json!({ "marker": marker, "before": present }),
        Some(guarded) => {
            let puts = confirm::way_back(world, gate, entry, guarded).await?;
            let paths: Vec<&str> = puts.iter().map(|put| put.path.as_str()).collect();
            let within = format!("{}s", guarded.within.as_secs());
            json!({ "marker": marker, "before": present, "unless_confirmed": { "within": within, "puts_back": paths } })
        }
    };
    let known = |text: &str| {
        if text.is_empty() {
            ABSENT.to_owned()
        } else {
            format!("sha256:{}", hex::encode(Sha256::digest(text)))
        }
    };
    let effect = Effect {
        place: place(&entry.name, service),
        before: known(&present),
        after: known(&marker),
        class: EffectClass::Compensable,
        backup: None,
        summary,
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(Restarted { anew: false, came_back, armed: None });
    }
    gate.holds().await?;
    let armed = match guarded {
        Some(guarded) => confirm::arm(world, gate, entry, service, &key, guarded).await?,
        None => None,
    };
    // What follows may fail with the timer running: then it is said what the host will do.
    match again(world, gate, entry, service, within, &earlier_start, raw).await {
        Ok(()) => Ok(Restarted { anew: true, came_back, armed }),
        Err(error) => Err(match &armed {
            Some(armed) => owing(error, armed, entry, service),
            None => error,
        }),
    }
}

/// An error, and what the host will do by itself.
pub(crate) fn owing(error: PrimError, armed: &Armed, entry: &Entry, service: &Service) -> PrimError {
    let owed = armed.owed(entry, service);
    let hint = error.hint.as_ref().map_or_else(|| owed.clone(), |hint| format!("{hint}; {owed}"));
    error.hint(hint)
}

/// Restarts it, waits until it runs, and leaves the marker.
async fn again(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    service: &Service,
    within: Duration,
    earlier: &Status,
    raw: String,
) -> Result<(), PrimError> {
    let on = || format!("{}: service {}", entry.name, service.name());
    let host = world.hosts.host(entry)?;
    let host = host.as_ref();
    let fence = world.hosts.fence(&entry.name);
    gate.progress(Progress { text: format!("{}: restarting {}", entry.name, service.name()), done: None });
    service.restart(host, within, fence.clone()).await?;
    let until = world.clock.now() + UP;
    let mut pause = Duration::from_millis(20);
    loop {
        let now = service.status(host).await?;
        let again = now.started.is_empty() || now.started != earlier.started;
        if now.active && again {
            break;
        }
        if world.clock.now() >= until {
            let text =
                if again { "does not run after its restart" } else { "was not restarted: it runs as before" };
            return Err(PrimError::new(Code::Unproved, text)
                .on(on())
                .expected("running, started anew", now.words)
                .hint(format!("look at its log on {}", entry.title())));
        }
        world.clock.sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(200));
    }
    let put = Put {
        path: path(entry, service),
        before: raw,
        bytes: Some(format!("{}\n", gate.marker()).into_bytes().into()),
        mode: Some(0o644),
        owner: None,
    };
    host.replace(&[put], fence.as_ref()).await
}
