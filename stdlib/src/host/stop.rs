//! `host::stop`: a service that stays down until it is restarted.

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::calls::entry_of;
use super::port::ABSENT;
use super::restart;
use super::service::{Service, Status};
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Permit, Progress};
use crate::world::World;

/// How long a stop may take, until the step's own deadline.
const STOP: Duration = Duration::from_secs(600);
/// How long a service may still be seen after its command has returned.
const DOWN: Duration = Duration::from_secs(30);

/// What runs now, in a digest. What does not run may be about to: it waits for a quorum, or is started again by itself.
fn known(status: &Status) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(format!("{} {}", status.started, status.words))))
}

/// `host::stop(host, service)`. A service that does not run is stopped all the same: whoever keeps it may be about to start it.
pub(super) async fn stop(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let entry = entry_of(args, 0)?;
    let service = Service::of(args.get(1).unwrap_or(&Value::Null))?;
    let host = world.hosts.host(&entry)?;
    let host = host.as_ref();
    let earlier = service.status(host).await?;
    let effect = Effect {
        place: restart::place(&entry.name, &service),
        before: known(&earlier),
        after: ABSENT.to_owned(),
        class: EffectClass::Compensable,
        backup: None,
        summary: json!({ "before": earlier.words, "after": "stopped" }),
    };
    let told = |stopped: bool| json!({ "host": entry.name, "service": service.name(), "stopped": stopped });
    if gate.effect(effect).await? == Permit::AlreadyDone {
        return Ok(told(true));
    }
    gate.holds().await?;
    gate.progress(Progress { text: format!("{}: stopping {}", entry.name, service.name()), done: None });
    if !service.stop(host, STOP, world.hosts.fence(&entry.name)).await? {
        gate.note(&format!(
            "{}: {} runs on until it is restarted, for it would be started again, or nobody has said how it is stopped",
            entry.name,
            service.name()
        ))?;
        return Ok(told(false));
    }
    let until = world.clock.now() + DOWN;
    loop {
        let now = service.status(host).await?;
        if !now.active {
            return Ok(told(true));
        }
        if world.clock.now() >= until {
            return Err(PrimError::new(Code::Unproved, "runs all the same")
                .on(format!("{}: service {}", entry.name, service.name()))
                .expected("stopped", now.words)
                .hint(format!("see who starts it again on {}", entry.title())));
        }
        world.clock.sleep(Duration::from_millis(200)).await;
    }
}
