//! `k8s::pause`: a manager does nothing by itself any more, and has ended what it was at.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Manager, Tool};
use crate::error::PrimError;
use crate::gate::{EffectClass, Gate, Progress, RecordedEffect};
use crate::k8s::client::Objects;
use crate::k8s::field;
use crate::k8s::object::Ref;
use crate::k8s::restart::Poll;
use crate::world::World;

/// How often in a row a manager must be found at nothing, and how long between: one that read its object just before it
/// was paused begins a moment later.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// `k8s::pause(manager)`.
pub(in crate::k8s) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let manager = Manager::read(args)?;
    let (switch, tool) = (manager.switch(), manager.tool);
    let value = Objects::of(world)?.get(&manager.object).await?;
    let begun = gate.replaced(&switch.place())?.is_some();
    let was = if tool.rests(switch.of(&value)) && !begun {
        None
    } else {
        switch.set(world, gate, &tool.paused(), EffectClass::Restorable).await?
    };
    quiet(world, gate, &manager.object, tool).await?;
    Ok(match was {
        Some(was) => json!({ "paused": true, "was": was }),
        None => json!({ "paused": false }),
    })
}

/// Waits until it has ended what it was at.
async fn quiet(world: &World, gate: &dyn Gate, object: &Ref, tool: Tool) -> Result<(), PrimError> {
    let objects = Objects::of(world)?;
    let (mut poll, mut quiet) = (Poll::default(), 0);
    loop {
        let busy = match poll.seen(objects.get(object).await)? {
            Some(value) => tool.busy(&value),
            None => Some("waiting for the API server".into()),
        };
        quiet = if busy.is_none() { quiet + 1 } else { 0 };
        if quiet >= LOOKS {
            return Ok(());
        }
        let text = format!("{object}: {}", busy.as_deref().unwrap_or("is it at anything still?"));
        gate.progress(Progress { text, done: None });
        world.clock.sleep(PAUSE).await;
    }
}

/// Puts the field back that was changed; where it is paused by that, waits as it did on the way here.
pub(in crate::k8s) async fn restore(
    world: &World,
    effect: &RecordedEffect,
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    field::restore(world, effect, gate).await?;
    let object = Ref::from_place(&effect.place)?;
    let Some(tool) = Tool::of(&object.kind) else { return Ok(()) };
    let value = Objects::of(world)?.get(&object).await?;
    let switch = field::Field::new(&object, tool.switch());
    if tool.rests(switch.of(&value)) { quiet(world, gate, &object, tool).await } else { Ok(()) }
}
