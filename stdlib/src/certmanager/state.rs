//! A Certificate and its Secret as they are at one moment.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cert::Certificate;
use crate::error::{Code, PrimError};
use crate::gate::{Gate, Progress};
use crate::k8s::args;
use crate::k8s::client::Objects;
use crate::k8s::content::{self, Flavor};
use crate::k8s::data::{self, Present};
use crate::k8s::object::{Ref, at, number, text};
use crate::k8s::restart::Poll;
use crate::k8s::rollout::condition;
use crate::k8s::secret::Tls;
use crate::world::World;

use super::API_VERSION;

/// The annotation of a Secret that names its Certificate.
pub(super) const CERTIFICATE_NAME: &str = "cert-manager.io/certificate-name";
/// The annotation of a CertificateRequest that says for which revision it was made.
const REVISION: &str = "cert-manager.io/certificate-revision";
/// How often it is looked while something is put back.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// The Certificate that a call names.
pub(super) fn named(args: &[Value]) -> Result<(Ref, &Map<String, Value>), PrimError> {
    let named = args::map(args, 0, "certificate")?;
    let field = |field: &str| args::field(named, field, "certificate");
    Ok((Ref::new(API_VERSION, "Certificate", field("namespace")?, field("name")?), named))
}

/// What is there.
pub(super) struct State {
    /// Which Certificate.
    pub object: Ref,
    /// The Certificate as the API gave it.
    pub certificate: Value,
    /// What lies in its Secret.
    pub held: Present,
}

impl State {
    pub(super) async fn read(world: &World, objects: &Objects<'_>, object: &Ref) -> Result<Self, PrimError> {
        let certificate = objects.get(object).await?;
        let secret = Ref::secret(&object.namespace, text(&certificate, &["spec", "secretName"]));
        let held = data::present(world, objects, &secret).await?;
        Ok(Self { object: object.clone(), certificate, held })
    }

    /// The Secret that it is kept in.
    pub(super) fn secret(&self) -> Ref {
        Ref::secret(&self.object.namespace, text(&self.certificate, &["spec", "secretName"]))
    }

    pub(super) fn revision(&self) -> i64 {
        number(&self.certificate, &["status", "revision"])
    }

    pub(super) fn issuing(&self) -> bool {
        condition(&self.certificate, "Issuing").is_some_and(|c| text(c, &["status"]) == "True")
    }

    /// Why it is not as cert-manager wants it, or is not yet; nothing where all is done.
    pub(super) fn open(&self) -> Option<String> {
        let told = |c: &Value| format!("{}: {}", text(c, &["reason"]), text(c, &["message"]));
        if let Some(issuing) = condition(&self.certificate, "Issuing")
            && text(issuing, &["status"]) == "True"
        {
            return Some(format!("it is being issued ({})", told(issuing)));
        }
        let Some(ready) = condition(&self.certificate, "Ready") else {
            return Some("cert-manager has not looked at it yet".into());
        };
        if text(ready, &["status"]) != "True" {
            return Some(format!("it is not ready ({})", told(ready)));
        }
        if number(ready, &["observedGeneration"]) != number(&self.certificate, &["metadata", "generation"]) {
            return Some("cert-manager has not looked at its present form yet".into());
        }
        None
    }

    /// What cert-manager says of the last attempt, where that failed.
    pub(super) fn failure(&self) -> Option<String> {
        let issuing = condition(&self.certificate, "Issuing")?;
        let failed = !text(&self.certificate, &["status", "lastFailureTime"]).is_empty();
        (failed && text(issuing, &["status"]) == "False").then(|| text(issuing, &["message"]).to_owned())
    }

    /// What lies in the Secret, where that is sound.
    pub(super) fn pair(&self) -> Result<Tls, PrimError> {
        let secret = self.secret();
        if self.held.value.is_null() {
            return Err(PrimError::not_found("it does not exist").on(secret.to_string()));
        }
        Tls::of(&secret, self.held.value.clone())
    }

    /// Its leaf, signed by what stands beside it and by one of these.
    pub(super) fn chained(
        &self,
        pair: &Tls,
        issuers: Option<&[Certificate]>,
    ) -> Result<Certificate, PrimError> {
        let secret = self.secret().to_string();
        let unproved = |why: &str| PrimError::new(Code::Unproved, why).on(secret.clone());
        let leaf = pair.chain.first().ok_or_else(|| unproved("it holds no certificate"))?;
        let signed = |by: &[Certificate]| {
            // A root is its own issuer.
            by.iter().any(|ca| leaf == ca || pair.chain.iter().any(|c| c.check_signed_by(ca).is_ok()))
        };
        if !signed(&pair.anchors) {
            return Err(unproved("its certificate is not signed by the CA beside it"));
        }
        if issuers.is_some_and(|issuers| !signed(issuers)) {
            let wanted = issuers.into_iter().flatten().map(Certificate::fingerprint).collect::<Vec<_>>();
            return Err(unproved("its certificate is signed by another CA")
                .expected(wanted.join(" or "), format!("{leaf}, issued by `{}`", leaf.issuer_text())));
        }
        Ok(leaf.clone())
    }

    /// Public content for the record.
    pub(super) fn summary(&self, world: &World) -> Value {
        let keys: Vec<String> = self.held.content.keys().cloned().collect();
        content::summary(Flavor::Secret, &self.held.content, &keys, world.secrets.as_ref())
    }

    /// As facts and outcomes tell of it.
    pub(super) fn fact(&self) -> Value {
        json!({
            "namespace": self.object.namespace,
            "name": self.object.name,
            "secret": text(&self.certificate, &["spec", "secretName"]),
            "revision": self.revision(),
            "immutable": at(&self.held.value, &["immutable"]) == Some(&Value::Bool(true)),
            "rotation_policy": text(&self.certificate, &["spec", "privateKey", "rotationPolicy"]),
            "renewal_time": text(&self.certificate, &["status", "renewalTime"]),
        })
    }
}

/// Waits until cert-manager has nothing left to do for a Certificate and `enough` says so too.
pub(super) async fn wait(
    world: &World,
    objects: &Objects<'_>,
    gate: &dyn Gate,
    object: &Ref,
    enough: &(dyn Fn(&State) -> bool + Send + Sync),
) -> Result<State, PrimError> {
    let mut poll = Poll::default();
    loop {
        let state = poll.seen(State::read(world, objects, object).await)?;
        let told = match state {
            Some(state) => {
                let open = state.open();
                if open.is_none() && enough(&state) {
                    return Ok(state);
                }
                if let Some(failure) = state.failure() {
                    return Err(PrimError::new(Code::Unproved, format!("cert-manager cannot issue it: {failure}"))
                        .on(object.to_string())
                        .hint("repair what it names; it tries again by itself after an hour, or at once after `cmctl renew`; then `rollover resume`"));
                }
                open.unwrap_or_else(|| {
                    "cert-manager has not acted on it yet; does its controller run?".into()
                })
            }
            None => "waiting for the API server".to_owned(),
        };
        gate.progress(Progress { text: format!("{}: {told}", object.name), done: None });
        world.clock.sleep(poll.pause()).await;
    }
}

/// The CertificateRequests of a Certificate that were made for a later revision than this.
pub(super) async fn later_requests(
    objects: &Objects<'_>,
    state: &State,
    revision: i64,
) -> Result<Vec<Value>, PrimError> {
    let uid = text(&state.certificate, &["metadata", "uid"]);
    let mut all = objects.list(API_VERSION, "CertificateRequest", &state.object.namespace, "").await?;
    all.retain(|request| {
        let owners = at(request, &["metadata", "ownerReferences"]).and_then(Value::as_array);
        let made_for: i64 = text(request, &["metadata", "annotations", REVISION]).parse().unwrap_or(0);
        owners.into_iter().flatten().any(|owner| text(owner, &["uid"]) == uid) && made_for > revision
    });
    Ok(all)
}
