//! `certmanager::reissue`: the order to issue a certificate again, and waiting for what comes of it.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::bundle;
use crate::cert::Certificate;
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Past, Permit};
use crate::k8s::client::{Deletion, Objects};
use crate::k8s::object::{Ref, at, number, text};
use crate::k8s::secret::Tls;
use crate::trust::{self, Certs};
use crate::world::World;

use super::state::{State, named, wait};
use super::undo;

/// How often a certificate that an outdated CA has signed is issued once more.
const ROUNDS: usize = 4;
/// How often an order that lost against another write is given again.
const TRIES: usize = 20;

/// How the order is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Renewal,
    Deletion,
}

fn by(options: Option<&Value>) -> Result<By, PrimError> {
    match options.and_then(|options| options.get("by")).and_then(Value::as_str) {
        None | Some("renewal") => Ok(By::Renewal),
        Some("deletion") => Ok(By::Deletion),
        Some(other) => Err(PrimError::argument(format!("`options.by` is `{other}`"))
            .expected("`renewal` or `deletion`", format!("`{other}`"))),
    }
}

fn issued_by(options: Option<&Value>) -> Result<Option<Vec<Certificate>>, PrimError> {
    let given = options.and_then(|options| options.get("issued_by"));
    given.map(|ca| bundle::certificates(ca, "options.issued_by")).transpose()
}

/// `certmanager::reissue(certificate, options)`.
pub(super) async fn run(world: &World, args: &[Value], gate: &dyn Gate) -> Result<Value, PrimError> {
    let (object, _) = named(args)?;
    let (by, issuers) = (by(args.get(1))?, issued_by(args.get(1))?);
    let objects = Objects::behind(world, gate)?;
    let orders = given(&gate.history(), &object, &gate.marker());
    // An order that was given before this process began is waited for, not given again.
    let mut first = orders.first().cloned();
    let mut last = orders.last().map(|order| number(order, &["revision"]));
    for _ in 0..ROUNDS {
        let revision = match last {
            Some(revision) => revision,
            None => {
                let state = wait(world, &objects, gate, &object, &|_| true).await?;
                let order = announce(world, gate, &state).await?;
                first.get_or_insert(order);
                state.revision()
            }
        };
        give(world, &objects, gate, &object, revision, by).await?;
        let state = wait(world, &objects, gate, &object, &|state| state.revision() > revision).await?;
        let pair = state.pair()?;
        match state.chained(&pair, issuers.as_deref()) {
            Ok(leaf) => {
                leaf.check_valid_at(world.clock.now()).map_err(|e| e.on(state.secret().to_string()))?;
                found(world, gate, &state, first.as_ref().unwrap_or(&Value::Null)).await?;
                return told(world, &state, &pair, &leaf);
            }
            // cert-manager had the CA before this one in mind.
            Err(error) if error.code == Code::Unproved => last = None,
            Err(error) => return Err(error),
        }
    }
    let why = "cert-manager issues it by another CA than the one in force, again and again";
    Err(PrimError::new(Code::Unproved, why)
        .on(object.to_string())
        .hint("look at its issuer: which Secret does it sign with?"))
}

/// What parties that mount the Secret will load. The certificate to come is not known; the CA beside it is.
pub(super) fn forecast(_world: &World, args: &[Value]) -> Result<Vec<trust::Write>, PrimError> {
    let (object, fields) = named(args)?;
    let Some(ca) = issued_by(args.get(1))? else { return Ok(Vec::new()) };
    let secret = fields.get("secret").and_then(Value::as_str).unwrap_or_default();
    let anchors = Some(Certs(ca.iter().map(|c| c.der().clone()).collect()));
    Ok(vec![trust::Write { place: Ref::secret(&object.namespace, secret).place(), chain: None, anchors }])
}

/// The orders that this step has announced: of which revision, and what lay there.
fn given(history: &[Past], object: &Ref, marker: &str) -> Vec<Value> {
    let prefix = object.part("revision=").0;
    let ours = |past: &Past| match past {
        Past::Wrote { place, summary }
            if place.0.starts_with(&prefix) && text(summary, &["step"]) == marker =>
        {
            at(summary, &["order"]).cloned()
        }
        _ => None,
    };
    history.iter().filter_map(ours).collect()
}

/// Announces that this revision is to be replaced, with everything that is needed to put it back.
async fn announce(world: &World, gate: &dyn Gate, state: &State) -> Result<Value, PrimError> {
    let revision = state.revision();
    let order = json!({ "revision": revision, "digest": state.held.digest, "content": state.summary(world) });
    let digest = |text: String| format!("sha256:{}", hex::encode(Sha256::digest(text)));
    let of = |revision: i64| digest(format!("{} revision {revision}", state.object));
    let effect = Effect {
        place: state.object.part(&format!("revision={revision}")),
        before: of(revision),
        after: of(revision + 1),
        class: EffectClass::Restorable,
        backup: Some(undo::seal(world, state)?),
        summary: json!({
            "before": { "revision": revision.to_string() },
            "after": { "revision": (revision + 1).to_string() },
            "order": order,
            "step": gate.marker(),
        }),
    };
    gate.effect(effect).await?;
    Ok(order)
}

/// Gives the order, unless it was given: the revision is a later one, or is being replaced.
async fn give(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
    revision: i64,
    by: By,
) -> Result<(), PrimError> {
    for _ in 0..TRIES {
        let state = State::read(world, objects, object).await?;
        if state.revision() != revision || state.issuing() {
            return Ok(());
        }
        let secret = state.secret();
        let value = &state.held.value;
        let done = match by {
            By::Deletion if value.is_null() => return Ok(()),
            By::Deletion => {
                let (uid, version) =
                    (text(value, &["metadata", "uid"]), text(value, &["metadata", "resourceVersion"]));
                objects.delete_as(&secret, uid, version, Deletion::default()).await
            }
            By::Renewal => {
                let patch = json!({ "status": { "conditions": triggered(world, &state.certificate) } });
                let version = text(&state.certificate, &["metadata", "resourceVersion"]);
                objects.merge_status(object, version, patch).await.map(|_| ())
            }
        };
        match done {
            Err(error) if error.code == Code::Conflict => world.clock.sleep(super::state::PAUSE).await,
            other => return other,
        }
    }
    gate.holds().await?;
    Err(PrimError::new(Code::Conflict, "it changes all the time").on(object.to_string()))
}

/// The conditions of a Certificate with the one that `cmctl renew` sets.
fn triggered(world: &World, certificate: &Value) -> Vec<Value> {
    let mut conditions: Vec<Value> =
        at(certificate, &["status", "conditions"]).and_then(Value::as_array).cloned().unwrap_or_default();
    conditions.retain(|condition| text(condition, &["type"]) != "Issuing");
    let now = world.clock.now().replace_nanosecond(0).unwrap_or(world.clock.now());
    let now = now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    conditions.push(json!({
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
        "message": "Certificate re-issuance manually triggered", "lastTransitionTime": now,
        "observedGeneration": number(certificate, &["metadata", "generation"]),
    }));
    conditions
}

/// Notes what cert-manager has put into the Secret, so that the run knows what pods may have loaded.
async fn found(world: &World, gate: &dyn Gate, state: &State, order: &Value) -> Result<(), PrimError> {
    let before = text(order, &["digest"]);
    if before == state.held.digest {
        return Ok(());
    }
    let effect = Effect {
        place: state.secret().place(),
        before: before.to_owned(),
        after: state.held.digest.clone(),
        class: EffectClass::Restorable,
        backup: None,
        summary: json!({
            "before": at(order, &["content"]),
            "after": state.summary(world),
        }),
    };
    match gate.effect(effect).await? {
        Permit::Apply | Permit::AlreadyDone => Ok(()),
    }
}

fn told(world: &World, state: &State, pair: &Tls, leaf: &Certificate) -> Result<Value, PrimError> {
    let mut told = state.fact();
    if let Some(fields) = told.as_object_mut() {
        fields.insert("cert".into(), pair.pem("tls.crt").into());
        fields.insert("key".into(), pair.key_handle(world)?);
        fields.insert("ca".into(), pair.pem("ca.crt").into());
        fields.insert("fingerprint".into(), leaf.fingerprint().into());
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Place;

    #[test]
    fn a_step_finds_its_own_orders_and_those_of_no_other() {
        let object = Ref::new(super::super::API_VERSION, "Certificate", "tidb", "basic-pd");
        let wrote = |place: Place, step: &str| Past::Wrote {
            place,
            summary: json!({ "step": step, "order": { "revision": 3 } }),
        };
        let history = [
            wrote(object.part("revision=3"), "ours"),
            wrote(object.part("revision=3"), "another's"),
            wrote(
                Ref::new(super::super::API_VERSION, "Certificate", "tidb", "basic-pd-2").part("revision=3"),
                "ours",
            ),
            wrote(object.part("spec.secretName"), "ours"),
        ];
        assert_eq!(given(&history, &object, "ours"), [json!({ "revision": 3 })]);
    }
}
