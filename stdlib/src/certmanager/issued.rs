//! `certmanager::issued`: that cert-manager is done, and what it keeps is what was wanted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bundle;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::args;
use crate::k8s::client::Objects;
use crate::world::World;

use super::state::{State, named};

/// How often it is looked before an answer is final.
const LOOKS: usize = 120;

/// `certmanager::issued(certificate, expected)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let (object, _) = named(args)?;
    let expected = args::map(args, 1, "expected")?;
    let list = |key: &str| {
        expected.get(key).map(|value| bundle::certificates(value, &format!("expected.{key}"))).transpose()
    };
    let (issuers, alike) = (list("issued_by")?, list("same_key_as")?);
    if issuers.is_none() && alike.is_none() {
        return Err(PrimError::argument("`expected` names neither `issued_by` nor `same_key_as`"));
    }
    let age = match expected.get("in_force_for").and_then(Value::as_str) {
        None => Duration::ZERO,
        Some(text) => crate::duration::parse(text)
            .map_err(|e| PrimError::argument(format!("expected.in_force_for: {e}")))?,
    };
    let objects = Objects::of(world)?;
    let mut looks = 0;
    let state = loop {
        let state = State::read(world, &objects, &object).await?;
        match state.open() {
            None => break state,
            Some(why) if looks >= LOOKS => {
                return Err(PrimError::new(Code::Unproved, why).on(object.to_string()));
            }
            Some(_) => looks += 1,
        }
        world.clock.sleep(super::state::PAUSE).await;
    };
    let pair = state.pair()?;
    let leaf = state.chained(&pair, issuers.as_deref())?;
    leaf.check_valid_at(world.clock.now()).map_err(|e| e.on(state.secret().to_string()))?;
    if let Some(other) = alike.iter().flatten().find(|other| other.spki() != leaf.spki()) {
        return Err(PrimError::new(Code::Unproved, "it has another key than before")
            .on(state.secret().to_string())
            .expected(other.spki_fingerprint(), leaf.spki_fingerprint())
            .hint("what the former key has signed is worth nothing under this one: a workflow that replaces the CA with a new key is needed"));
    }
    // It is not backdated: a clock that goes slow takes it for one of the future.
    loop {
        let left = leaf.not_before() + age - world.clock.now();
        if !left.is_positive() {
            break;
        }
        let text = format!("{}: waits {} s, for clocks that go slow", object.name, left.whole_seconds() + 1);
        gate.progress(Progress { text, done: None });
        let left = Duration::try_from(left).unwrap_or(super::state::PAUSE);
        world.clock.sleep(left.min(super::state::PAUSE * 5)).await;
    }
    Ok(json!({ "revision": state.revision(), "fingerprint": leaf.fingerprint() }))
}
