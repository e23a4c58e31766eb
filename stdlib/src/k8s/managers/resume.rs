//! `k8s::resume`: a manager that was paused goes on as before, once it is proved that it leaves what this run has written.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Manager, Verdict, last_write, named};
use crate::error::{Code, PrimError};
use crate::gate::{EffectClass, Gate, Past, Progress};
use crate::k8s::client::Objects;
use crate::k8s::content::{self, Flavor};
use crate::k8s::object::Ref;
use crate::k8s::restart::Poll;
use crate::registry::Touch;
use crate::world::World;

/// How long a manager may take to look: Argo CD asks its source every three minutes.
const PATIENCE: Duration = Duration::from_secs(360);
/// How many objects an error names.
const NAMED: usize = 3;

/// `k8s::resume(manager, paused)`.
pub(in crate::k8s) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let manager = Manager::read(args)?;
    let paused = args.get(1).cloned().unwrap_or_default();
    if paused.get("paused") != Some(&Value::Bool(true)) {
        return Ok(json!({ "resumed": false }));
    }
    let was = paused.get("was").cloned().unwrap_or_default();
    let objects = Objects::of(world)?;
    let switch = manager.switch();
    let value = objects.get(&manager.object).await?;
    let now = switch.of(&value);
    let resumed = *now != was;
    if resumed {
        if *now != manager.tool.paused() {
            return Err(PrimError::new(Code::Conflict, "somebody has changed how it works meanwhile")
                .on(switch.place().0)
                .expected(format!("{} or {was}", manager.tool.paused()), now.to_string())
                .hint("set it to one of these, then `rollover resume` or `rollover rollback`"));
        }
        proved(world, gate, &objects, &manager, &was).await?;
        switch.set(world, gate, &was, EffectClass::Restorable).await?;
    }
    settled(world, gate, &objects, &manager).await?;
    Ok(json!({ "resumed": resumed }))
}

/// An object that this run has written.
struct Written {
    object: Ref,
    live: Value,
    /// When, by the API server's clock.
    at: String,
}

/// What this run has written of what the manager keeps. It must still be there.
async fn written(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    manager: &Manager,
) -> Result<Vec<Written>, PrimError> {
    let history = gate.history();
    let last = |object: &Ref| {
        history.iter().rev().find_map(|past| match past {
            Past::Wrote { place, summary } if *place == object.place() => summary.get("after").cloned(),
            _ => None,
        })
    };
    let mut all = Vec::new();
    for object in &manager.keeps {
        let Some(wrote) = last(object) else { continue };
        let live = objects.find(object).await?.unwrap_or_default();
        let flavor = Flavor::of(object)?;
        let keys: Vec<String> = wrote.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        let there = content::read(flavor, object, &live)?;
        if content::summary(flavor, &there, &keys, world.secrets.as_ref()) != wrote {
            let who = content::last_foreign_writer(&live, &world.manager);
            return Err(PrimError::new(Code::Conflict, "it does not hold any more what this run wrote")
                .on(object.to_string())
                .expected("what the run wrote", who.unwrap_or_else(|| "something else".into()))
                .hint(format!(
                    "{} may have put its own version back: pause it, put what the run wrote into its source, then `rollover rollback` or write it again",
                    manager.object
                )));
        }
        let at =
            last_write(&live, &["data"], Some(&world.manager)).or_else(|| last_write(&live, &["data"], None));
        let at = at.unwrap_or_default().to_owned();
        all.push(Written { object: object.clone(), live, at });
    }
    Ok(all)
}

/// Waiting for a manager, one look after the other.
struct Wait<'a> {
    world: &'a World,
    gate: &'a dyn Gate,
    begun: OffsetDateTime,
    poll: Poll,
}

impl<'a> Wait<'a> {
    fn begin(world: &'a World, gate: &'a dyn Gate) -> Self {
        Self { world, gate, begun: world.clock.now(), poll: Poll::default() }
    }

    fn late(&self) -> bool {
        self.world.clock.now() - self.begun > PATIENCE
    }

    /// Whether a look found nothing to wait for. What it waits for is told, and a while passes.
    async fn is_over(&mut self, look: Result<Option<String>, PrimError>) -> Result<bool, PrimError> {
        match self.poll.seen(look)? {
            Some(None) => return Ok(true),
            Some(Some(text)) => self.gate.progress(Progress { text, done: None }),
            None => {}
        }
        self.world.clock.sleep(self.poll.pause()).await;
        Ok(false)
    }
}

/// That the manager leaves alone what was written, once it goes on; waits as long as it has not looked.
async fn proved(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    manager: &Manager,
    was: &Value,
) -> Result<(), PrimError> {
    let mut wait = Wait::begin(world, gate);
    loop {
        let written = judged(world, gate, objects, manager, was).await;
        let look = written.and_then(|open| {
            let soon = open.iter().find_map(|(object, verdict)| match verdict {
                Verdict::Soon(why) => Some(format!("{object}: {why}")),
                _ => None,
            });
            let all_soon = open.iter().all(|(_, verdict)| matches!(verdict, Verdict::Soon(_)));
            if open.is_empty() || (all_soon && !wait.late()) { Ok(soon) } else { Err(owed(manager, &open)) }
        });
        if wait.is_over(look).await? {
            return Ok(());
        }
    }
}

/// Of what this run has written, that of which it is not proved that it stays.
async fn judged(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    manager: &Manager,
    was: &Value,
) -> Result<Vec<(Ref, Verdict)>, PrimError> {
    let value = objects.get(&manager.object).await?;
    let judged = written(world, gate, objects, manager).await?.into_iter().map(|one| {
        let verdict = if one.at.is_empty() {
            Verdict::Unproved("the server does not say when it was written".into())
        } else {
            manager.tool.verdict(&value, was, &one.object, &one.live, &one.at)
        };
        (one.object, verdict)
    });
    Ok(judged.filter(|(_, verdict)| *verdict != Verdict::Stays).collect())
}

/// What is owed before it may go on.
fn owed(manager: &Manager, open: &[(Ref, Verdict)]) -> PrimError {
    let told = open.iter().filter_map(|(object, verdict)| match verdict {
        Verdict::Unproved(why) | Verdict::Soon(why) => Some(format!("{object}: {why}")),
        Verdict::Stays => None,
    });
    let mut told: Vec<String> = told.collect();
    let more = told.len().saturating_sub(NAMED);
    told.truncate(NAMED);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    PrimError::new(
        Code::Owed,
        format!("everything is done, but it stays paused: it is not proved that it would leave what this run wrote. {}", told.join("; ")),
    )
    .on(manager.object.to_string())
    .hint(format!(
        "put what this run wrote into the source of {}, or have it leave these objects alone; then `rollover resume` of this run has it go on. Where only you can know that it is safe, let it go on by hand first",
        manager.object
    ))
}

/// Waits until the manager has looked at what it keeps, and checks that all of it is still there.
async fn settled(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    manager: &Manager,
) -> Result<(), PrimError> {
    let mut wait = Wait::begin(world, gate);
    loop {
        let looked = has_looked(world, gate, objects, manager).await;
        if wait.late() && matches!(looked, Ok(false)) {
            return gate.note(&format!(
                "{} goes on, and has not looked yet; what this run wrote is there so far",
                manager.object
            ));
        }
        let waits = || format!("{}: waits until it has looked at what it keeps", manager.object);
        if wait.is_over(looked.map(|looked| (!looked).then(waits))).await? {
            // What it found is read once more, after it has.
            return written(world, gate, objects, manager).await.map(|_| ());
        }
    }
}

/// Whether it has compared or applied what it keeps since that was written, or since it was let go on. All of it must be
/// there.
async fn has_looked(
    world: &World,
    gate: &dyn Gate,
    objects: &Objects<'_>,
    manager: &Manager,
) -> Result<bool, PrimError> {
    let value = objects.get(&manager.object).await?;
    let written = written(world, gate, objects, manager).await?;
    let newest = written.iter().map(|one| one.at.as_str()).max().unwrap_or_default();
    // The switch itself may have been set by whoever let it go on.
    let path = manager.tool.switch();
    let set = last_write(&value, path.get(..2).unwrap_or(path), None).unwrap_or_default();
    Ok(manager.tool.looked(&value, newest.max(set)) && manager.tool.busy(&value).is_none())
}

/// What it needs.
pub(in crate::k8s) fn touches(args: &[Value]) -> Vec<Touch> {
    let Some(map) = args.first().and_then(Value::as_object) else { return Vec::new() };
    let keeps = map.get("keeps").and_then(Value::as_array).into_iter().flatten();
    let keeps = keeps.filter_map(Value::as_object).filter_map(|map| named(map, "").ok());
    let manager = named(map, "").ok().map(|object| object.touch(&["get", "patch"]));
    manager.into_iter().chain(keeps.map(|object| object.touch(&["get"]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_names_the_manager_and_some_of_the_objects() {
        let manager =
            Manager::read(&[json!({"api_version": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
            "namespace": "flux-system", "name": "db"})]);
        let Ok(manager) = manager else { return assert!(manager.is_ok()) };
        let open: Vec<_> = (0..5)
            .map(|n| (Ref::secret("tidb", &format!("s{n}")), Verdict::Unproved("its chart".into())))
            .collect();
        let error = owed(&manager, &open);
        assert_eq!(error.code, Code::Owed);
        assert_eq!(error.object, "HelmRelease flux-system/db");
        assert!(error.message.ends_with("Secret tidb/s2: its chart; and 2 more"), "{}", error.message);
        assert!(error.hint.unwrap_or_default().contains("rollover resume"));
    }
}
