//! Restarts of services, each known by a marker on its host: what carries this step's marker was restarted by it, and is
//! not restarted again when the step is resumed.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::inventory::Entry;
use super::port::{ABSENT, Host, Put, digest};
use super::service::Service;
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

fn path(entry: &Entry, service: &Service) -> String {
    let safe: String = service
        .name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.@".contains(c) { c } else { '_' })
        .collect();
    format!("{}/restarts/{safe}", entry.state)
}

/// The marker that a service carries, empty where it has none, and the digest of its file.
async fn carried(host: &dyn Host, entry: &Entry, service: &Service) -> Result<(String, String), PrimError> {
    Ok(match host.read(&path(entry, service), 4096).await? {
        None => (String::new(), ABSENT.to_owned()),
        Some(file) => (String::from_utf8_lossy(&file.bytes).trim().to_owned(), digest(&file.bytes)),
    })
}

/// The marker of the restart that a service had last, of any run; empty where it had none.
pub(crate) async fn marker(world: &World, entry: &Entry, service: &Service) -> Result<String, PrimError> {
    let host = world.hosts.host(entry)?;
    Ok(carried(host.as_ref(), entry, service).await?.0)
}

/// Restarts a service unless it carries this step's marker. `check` has the last word before it is stopped. Returns
/// whether it was restarted.
pub(crate) async fn restart(
    world: &World,
    gate: &dyn Gate,
    entry: &Entry,
    service: &Service,
    within: Duration,
    check: Check<'_, '_>,
) -> Result<bool, PrimError> {
    let on = || format!("{}: service {}", entry.name, service.name());
    let marker = gate.marker();
    if marker.is_empty() {
        return Err(PrimError::new(Code::Refused, "only a step of a run may restart this").on(on()));
    }
    let host = world.hosts.host(entry)?;
    let host = host.as_ref();
    let (present, raw) = carried(host, entry, service).await?;
    if present == marker {
        return Ok(false);
    }
    let earlier = service.status(host).await?;
    check().await?;
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
        summary: json!({ "marker": marker, "before": present }),
    };
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(false);
    }
    gate.holds().await?;
    let fence = world.hosts.fence(&entry.name);
    gate.progress(Progress { text: format!("{}: restarting {}", entry.name, service.name()), done: None });
    service.restart(host, within, fence.clone()).await?;
    let until = world.clock.now() + UP;
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
        world.clock.sleep(Duration::from_millis(200)).await;
    }
    let put = Put {
        path: path(entry, service),
        before: raw,
        bytes: Some(format!("{marker}\n").into_bytes().into()),
        mode: Some(0o644),
        owner: None,
    };
    host.replace(&[put], fence.as_ref()).await?;
    Ok(true)
}
