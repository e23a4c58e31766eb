//! The way back: phases in reverse, each by the same three as on the way forward. What its changes changed is restored
//! in reverse, the settles run again, and the proofs of the nearest earlier phase that has any must hold.

use std::time::Duration;

use serde_json::Value;
use stdlib::PrimError;
use stdlib::error::Code;
use stdlib::gate::{EffectClass, RecordedEffect};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::core::Core;
use super::gate::{Restoring, half};
use super::ledger::{Made, StepId};
use super::step::{Patience, millis};
use super::stop::Stop;
use crate::error::Failure;
use crate::events::{Direction, Event, StepResult};
use crate::exit_code::ExitCode;
use crate::plan::{Call, OnFailure, Phase, Role, Step};

impl Core {
    /// Whether there is a way back from here; says why not.
    pub(crate) fn way_back(&self) -> Result<(), Failure> {
        let on = match self.ledger.ended() {
            Some(journal::EndState::Done) => "to replace what is there now, begin a new run",
            _ => "resume the run: it goes forward",
        };
        let refuse = |text: String| Failure::new(ExitCode::NoWayBack, text).hint(on);
        if self.plan.forward_only {
            return Err(refuse("the workflow began with a broken target and only goes forward".into()));
        }
        let effects = self.ledger.made(false);
        let compromised = self.plan.params.get("reason").and_then(|r| r.as_str()) == Some("compromise");
        for phase in &self.plan.phases {
            let begun = effects.iter().any(|effect| effect.phase == phase.name);
            if begun && phase.final_ {
                return Err(refuse(format!(
                    "the run is past its point of no return, phase `{}`",
                    phase.name
                )));
            }
            if begun && compromised && phase.name.starts_with("distrust") {
                let text = "going back would trust the compromised certificate authority again";
                return Err(refuse(format!("{text} (phase `{}` has begun)", phase.name)));
            }
        }
        if let Some(effect) = effects.iter().find(|effect| effect.class == EffectClass::Final) {
            return Err(refuse(format!("what was done at {} cannot be undone", effect.place.0)));
        }
        let now = self.world.clock.now();
        match effects.iter().find_map(|effect| Some((effect, expired(effect, now)?))) {
            Some((effect, why)) => Err(refuse(format!(
                "going back would put something at {} that is worthless: {why}",
                effect.place.0
            ))),
            None => Ok(()),
        }
    }

    /// What stands in the way of going back, where a primitive can tell before anything is changed. What cannot be asked
    /// now is met when it is put back, or has passed by then.
    pub(crate) async fn unobstructed(&self) -> Result<(), Failure> {
        let made = self.ledger.made(true);
        // What a later step has changed again, that step puts back first.
        let last = |effect: &Made| !made.iter().any(|e| e.place == effect.place && e.seq > effect.seq);
        let gate = self.read_gate("", Direction::Back);
        for (key, effects) in by_step(&made) {
            let primitive = effects.first().map_or("", |effect| effect.primitive.as_str());
            let Some(obstacle) = self.options.registry.obstacle(primitive) else { continue };
            let standing = effects.iter().filter(|effect| last(effect));
            let recorded = standing.map(|effect| self.recorded(effect)).collect::<Result<Vec<_>, _>>();
            let told = match recorded {
                Ok(effects) => obstacle(&self.world, &effects, &gate).await,
                Err(error) => Err(error),
            };
            if let Err(error) = told
                && error.code == Code::Conflict
            {
                let failure = Failure::of(ExitCode::Conflict, error);
                let phase =
                    self.plan.phases.iter().find(|phase| effects.iter().any(|e| e.phase == phase.name));
                return Err(match phase {
                    Some(phase) => failure.in_step(key, &undo_step(phase, key, &effects).at),
                    None => failure,
                });
            }
        }
        Ok(())
    }

    pub(crate) async fn back(&self) -> Result<(), Stop> {
        self.take_lock().await?;
        for (index, phase) in self.plan.phases.iter().enumerate().rev() {
            let begun = self.ledger.phase_begun(&phase.name, Direction::Forward);
            if begun && !self.ledger.phase_ended(&phase.name, Direction::Back) {
                self.phase_back(index, phase).await?;
            }
        }
        Ok(())
    }

    async fn phase_back(&self, index: usize, phase: &Phase) -> Result<(), Stop> {
        let began = Instant::now();
        let direction = Direction::Back;
        self.tell_phase(index, phase, direction);
        self.ledger.phase_begin(&phase.name, direction)?;
        self.note_on_target(&phase.name).await;
        let mut effects = self.ledger.made(false);
        effects.retain(|effect| effect.phase == phase.name && effect.class == EffectClass::Restorable);
        let changed = !effects.is_empty();
        let settled = phase.steps.iter().any(|step| step.role == Role::Settle && self.has_begun(phase, step));
        if !changed && !settled {
            self.ledger.phase_end(&phase.name, direction, None)?;
            let head = self.ledger.checkpoint()?;
            self.hub.tell(&Event::PhaseEnded { phase: phase.name.clone(), direction, ms: 0, head });
            return Ok(());
        }
        self.forecast_back(phase, &effects).await?;
        if phase.back.is_empty() {
            for (key, effects) in by_step(&effects) {
                self.restore(phase, key, &effects).await?;
            }
        } else {
            self.run_role(&phase.name, direction, &phase.back, Role::Back).await.map_err(stuck)?;
        }
        self.settle_again(phase, changed).await?;
        if let Some(proven) =
            self.plan.phases.iter().take(index).rev().find(|p| p.steps.iter().any(|s| s.role == Role::Prove))
        {
            self.run_role(&phase.name, direction, &proven.steps, Role::Prove).await.map_err(stuck)?;
        }
        self.phase_over(phase, None, direction, began).await
    }

    fn has_begun(&self, phase: &Phase, step: &Step) -> bool {
        self.ledger.was_begun(&phase.name, &step.key)
    }

    /// Settles that had begun run again. Once a change of the phase was begun, so do the others: a process that
    /// restarted by itself in between has loaded what was just taken away, and only a restart makes sure of the
    /// opposite. What cannot be said without a step that never ran is left out, and told.
    async fn settle_again(&self, phase: &Phase, changed: bool) -> Result<(), Stop> {
        let wanted: Vec<Step> = phase
            .steps
            .iter()
            .filter(|step| step.role == Role::Settle)
            .filter(|step| self.has_begun(phase, step) || (changed && self.can_be_said(step)))
            .cloned()
            .collect();
        self.run_role(&phase.name, Direction::Back, &wanted, Role::Settle).await.map_err(stuck)
    }

    fn can_be_said(&self, step: &Step) -> bool {
        let exprs = step.action.args.iter().chain(&step.when).chain(&step.each);
        let missing = exprs.flat_map(crate::plan::Expr::steps).find(|key| self.ledger.output(key).is_none());
        if let Some(missing) = missing {
            self.hub.note(format!(
                "`{}` is not run on the way back: it needs `{missing}`, which never ran",
                step.key
            ));
        }
        missing.is_none()
    }

    /// Puts back what one step changed, last effect first, or leaves the run stuck.
    async fn restore(&self, phase: &Phase, key: &str, effects: &[&Made]) -> Result<(), Stop> {
        let id = StepId { phase: phase.name.clone(), direction: Direction::Back, key: key.to_owned() };
        if self.ledger.is_done(&id) {
            return Ok(());
        }
        let step = undo_step(phase, key, effects);
        let until = Instant::now() + Duration::from_secs(step.deadline_s);
        let mut patience = Patience::for_undo(&step);
        let inputs: Vec<Value> = effects.iter().map(|effect| effect.seq.into()).collect();
        loop {
            self.ledger.intent(&id, &step.action, &inputs)?;
            self.started(&id, &step);
            let begun = Instant::now();
            let Err(error) = self.put_back(&id, effects, until).await else {
                self.ledger.done(&id, &Value::Null)?;
                self.ended(&id, StepResult::Done, millis(begun), None, None);
                return Ok(());
            };
            self.ledger.alive()?;
            self.ledger.failed(&id, &error)?;
            let pause = patience.next(&error, until);
            let failure = self.failed(&id, &step, error);
            let again = pause.and_then(|pause| u64::try_from(pause.as_millis()).ok());
            self.ended(&id, StepResult::Failed, millis(begun), Some(failure.clone()), again);
            let Some(pause) = pause else { return Err(stuck(Stop::Failed(failure))) };
            self.world.clock.sleep(pause).await;
        }
    }

    fn recorded(&self, effect: &Made) -> Result<RecordedEffect, PrimError> {
        let backup = self.ledger.backup(effect)?;
        let (place, before, after) = (effect.place.clone(), effect.before.clone(), effect.after.clone());
        Ok(RecordedEffect { place, before, after, backup })
    }

    async fn put_back(&self, id: &StepId, effects: &[&Made], until: Instant) -> Result<(), PrimError> {
        let restoring = |effect: &&Made| -> Result<Restoring, PrimError> {
            Ok(Restoring { seq: effect.seq, effect: self.recorded(effect)? })
        };
        let all = effects.iter().map(restoring).collect::<Result<Vec<_>, _>>()?;
        for (turn, (effect, restoring)) in effects.iter().zip(&all).enumerate() {
            let primitive = self.primitive(&effect.primitive)?;
            let restore = primitive.restore.ok_or_else(|| {
                let text = format!("`{}` does not know how to put back what it changed", primitive.name);
                PrimError::internal(text).on(effect.place.0.clone())
            })?;
            let gate = self.step_gate(id, primitive.name, Role::Change, until).restoring(all.clone(), turn);
            self.bounded(restore(&self.world, &restoring.effect, &gate), &gate, until).await?;
        }
        Ok(())
    }
}

/// What was there before an effect, where it has expired since: a certificate that is presented, or every CA that is
/// trusted.
fn expired(effect: &Made, now: OffsetDateTime) -> Option<String> {
    let certificates = |key: &str| {
        let text = half(&effect.summary, "before", key)?;
        stdlib::cert::parse_many(text.as_bytes(), key).ok().filter(|list| !list.is_empty())
    };
    let chain = certificates("tls.crt").unwrap_or_default();
    if let Some(Err(error)) = chain.first().map(|leaf| leaf.check_valid_at(now)) {
        return Some(error.message);
    }
    let trusted = certificates("ca.crt")?;
    let mut invalid = trusted.iter().map(|ca| ca.check_valid_at(now).err());
    let last = invalid.next()?;
    invalid.try_fold(last?, |_, next| next).map(|error| error.message)
}

/// The step whose effects are put back: it gives the deadline and the place in the script.
fn undo_step(phase: &Phase, key: &str, effects: &[&Made]) -> Step {
    let whole = key.rsplit_once('[').map_or(key, |(whole, _)| whole);
    let declared = phase.steps.iter().find(|step| step.key == key || step.key == whole);
    declared.cloned().unwrap_or_else(|| Step {
        key: key.to_owned(),
        role: Role::Change,
        item: key.to_owned(),
        action: Call {
            primitive: effects.first().map(|effect| effect.primitive.clone()).unwrap_or_default(),
            args: Vec::new(),
        },
        deadline_s: 600,
        on_failure: OnFailure::Stop,
        parallel: None,
        when: None,
        each: None,
        at: phase.at.clone(),
    })
}

/// Effects by step, the step that changed something last first, and in each the last effect first.
fn by_step(effects: &[Made]) -> Vec<(&str, Vec<&Made>)> {
    let mut steps: Vec<(&str, Vec<&Made>)> = Vec::new();
    for effect in effects.iter().rev() {
        match steps.iter_mut().find(|(key, _)| *key == effect.key) {
            Some((_, list)) => list.push(effect),
            None => steps.push((&effect.key, vec![effect])),
        }
    }
    steps
}

/// On the way back, what would be a stop is a stuck run: it stands between two states.
fn stuck(stop: Stop) -> Stop {
    let Stop::Failed(mut failure) = stop else { return stop };
    failure.exit = ExitCode::Stuck;
    Stop::Stuck(failure.hint("repair what is named, then roll back again: it continues there"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;
    use stdlib::cfssl::Request;
    use stdlib::gate::Place;
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_has_expired_since_is_not_put_back() {
        let now = datetime!(2026-06-01 12:00 UTC);
        let ca = |expiry: &str| {
            let request =
                json!({"CN": "TiDB", "CA": {"expiry": expiry}, "key": {"algo": "ecdsa", "size": 256}});
            let request = Request::from_json(request.to_string().as_bytes(), "ca-csr.json").unwrap();
            stdlib::ca::create(&request, now).unwrap().0.pem()
        };
        let (short, long) = (ca("24h"), ca("8760h"));
        let wrote = |before: Value| Made {
            seq: 1,
            phase: "p".into(),
            key: "p/change/s".into(),
            place: Place("k8s:v1/Secret/tidb/s".into()),
            before: "sha256:a".into(),
            after: "sha256:b".into(),
            class: EffectClass::Restorable,
            primitive: "k8s::patch_secret".into(),
            backup: None,
            summary: json!({ "before": before, "after": {} }),
        };
        let later = now + Duration::days(2);
        let leaf = wrote(json!({"tls.crt": short}));
        assert_eq!(expired(&leaf, now), None);
        assert!(expired(&leaf, later).unwrap().contains("expired"));
        // A leftover among the trusted is no harm; none that is valid is.
        assert_eq!(expired(&wrote(json!({"ca.crt": format!("{short}{long}")})), later), None);
        assert!(expired(&wrote(json!({"ca.crt": short})), later).is_some());
        assert_eq!(expired(&wrote(json!({"text": "a file"})), later), None);
    }
}
