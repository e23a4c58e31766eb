//! What cert-manager has issued by itself since a run had it issue: whether a way back may begin from there.
//!
//! A Certificate says what is to lie in its Secret, and cert-manager renews that when it is due. A later certificate of the
//! same CA continues what the run has ordered: the way back puts it on record, since pods may have loaded it, keeps a copy,
//! and goes on from it. What anybody else has written there, or another CA has signed, is not ours to replace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::cert::{Certificate, parse_many};
use crate::error::{Code, PrimError};
use crate::gate::{Effect, EffectClass, Gate, Past, Place, RecordedEffect};
use crate::k8s::client::Objects;
use crate::k8s::content::{self, Flavor};
use crate::k8s::object::{Ref, at, text};
use crate::world::World;

use super::state::{State, later_requests};

/// A later certificate than the one that the run has left.
pub(super) struct Since {
    leaf: Certificate,
    /// What is on record as the last that lay there: its digest and its public content.
    known: (String, Value),
}

impl Since {
    /// Tells of it, to the operator and in the record.
    pub(super) fn note(&self, gate: &dyn Gate, state: &State) -> Result<(), PrimError> {
        gate.note(&format!(
            "cert-manager has issued {} again since this run had it issued (revision {}, {}): the way back replaces it, and keeps a copy",
            state.secret(),
            state.revision(),
            self.leaf.fingerprint(),
        ))
    }

    /// That it lies there, for the record: cert-manager has written it, not we.
    pub(super) fn effect(&self, world: &World, state: &State) -> Effect {
        Effect {
            place: state.secret().place(),
            before: self.known.0.clone(),
            after: state.held.digest.clone(),
            class: EffectClass::Restorable,
            backup: None,
            summary: json!({ "before": self.known.1, "after": state.summary(world) }),
        }
    }
}

/// Looks whether what lies in the Secret is known. `together` are the effects of the step that is put back, `wanted` is the
/// digest of what is to be there.
///
/// # Errors
/// [`Code::Conflict`] where it is neither known nor cert-manager's own by the same CA.
pub(super) async fn found(
    objects: &Objects<'_>,
    gate: &dyn Gate,
    state: &State,
    together: &[RecordedEffect],
    wanted: &str,
) -> Result<Option<Since>, PrimError> {
    let secret = state.secret();
    let place = secret.place();
    // Where the run was stopped before it found what was issued, whatever lies there came of its order.
    let Some(left) = together.iter().find(|effect| effect.place == place) else { return Ok(None) };
    let now = state.held.digest.as_str();
    let last = gate.replaced(&place)?.map_or_else(|| left.after.clone(), |noted| noted.after);
    if state.held.value.is_null() || [wanted, &left.before, &left.after, &last].contains(&now) {
        return Ok(None);
    }
    let known = written(gate, &place);
    let leaf = own(objects, state, &known).await?.ok_or_else(|| foreign(state, &secret, &left.after))?;
    same_authority(state, &secret, &leaf, &known)?;
    Ok(Some(Since { leaf, known: (last, known) }))
}

/// What stands in the way of putting back what one order has changed; `effects` are those of its step, the last first.
///
/// # Errors
/// See [`found`].
pub(super) async fn obstacle(
    world: &World,
    effects: &[RecordedEffect],
    gate: &dyn Gate,
) -> Result<(), PrimError> {
    let objects = Objects::of(world)?;
    let orders = effects.iter().filter_map(|effect| {
        let object = Ref::from_place(&effect.place).ok()?;
        (object.kind == "Certificate").then_some((object, effect))
    });
    for (object, order) in orders {
        let state = State::read(world, &objects, &object).await?;
        if state.issuing() {
            continue;
        }
        let content = order.backup.as_ref().map(content::unseal).transpose()?.unwrap_or_default();
        let wanted = content::digest(Flavor::Secret, &content, world.secrets.as_ref());
        found(&objects, gate, &state, effects, &wanted).await?;
    }
    Ok(())
}

/// The public content that this run has last written or found at a place.
fn written(gate: &dyn Gate, place: &Place) -> Value {
    let here = |past: &Past| match past {
        Past::Wrote { place: there, summary } if there == place => at(summary, &["after"]).cloned(),
        _ => None,
    };
    gate.history().iter().rev().find_map(here).unwrap_or_default()
}

/// The leaf in the Secret, where that holds what cert-manager has issued for the Certificate's present revision, and
/// nothing that was not there before.
async fn own(objects: &Objects<'_>, state: &State, known: &Value) -> Result<Option<Certificate>, PrimError> {
    if state.open().is_some() || state.held.content.keys().any(|key| known.get(key).is_none()) {
        return Ok(None);
    }
    let Ok(pair) = state.pair() else { return Ok(None) };
    let Ok(leaf) = state.chained(&pair, None) else { return Ok(None) };
    let requests = later_requests(objects, state, state.revision() - 1).await?;
    let field = |request: &Value, field: &str| {
        let bytes = BASE64.decode(text(request, &["status", field])).unwrap_or_default();
        parse_many(&bytes, field).unwrap_or_default()
    };
    let issued = |request: &Value| {
        let beside = field(request, "ca");
        field(request, "certificate") == pair.chain && (beside.is_empty() || beside == pair.anchors)
    };
    Ok(requests.iter().any(issued).then_some(leaf))
}

/// That it was signed by a CA that stood beside the one before. A root is its own: what it has signed is put back first.
fn same_authority(state: &State, secret: &Ref, leaf: &Certificate, known: &Value) -> Result<(), PrimError> {
    if leaf.check_signed_by(leaf).is_ok() {
        return Ok(());
    }
    let authorities = parse_many(text(known, &["ca.crt"]).as_bytes(), "ca.crt").unwrap_or_default();
    if authorities.iter().any(|ca| leaf.check_signed_by(ca).is_ok()) {
        return Ok(());
    }
    let trusted: Vec<String> = authorities.iter().map(Certificate::fingerprint).collect();
    let why = "cert-manager has issued it again since this run had it issued, and by another CA: it has renewed the CA too";
    Err(PrimError::new(Code::Conflict, why)
        .on(secret.to_string())
        .expected(trusted.join(" or "), format!("{leaf}, issued by `{}`", leaf.issuer_text()))
        .hint(format!(
            "there is no way back to the CA before; what is in force now is replaced by a new run: `rollover run tidb/cert-manager-ca-gapless`, or, where not everybody trusts that CA yet, `rollover run tidb/cert-manager-ca --set ca=keep` (`kubectl --namespace {} describe certificate {}` shows its history)",
            state.object.namespace, state.object.name
        )))
}

fn foreign(state: &State, secret: &Ref, left: &str) -> PrimError {
    let writer = content::last_foreign_writer(&state.held.value, "")
        .map_or_else(|| "somebody".to_owned(), |writer| format!("`{writer}`"));
    let why = format!(
        "{writer} has changed it since this run had it issued, and it holds something else than cert-manager has issued last"
    );
    PrimError::new(Code::Conflict, why).on(secret.to_string()).expected(left, &state.held.digest).hint(format!(
        "it is not ours to replace: take out what was added, have cert-manager issue it again where it is another certificate (`cmctl renew --namespace {} {}`), then `rollover rollback`",
        state.object.namespace, state.object.name
    ))
}
