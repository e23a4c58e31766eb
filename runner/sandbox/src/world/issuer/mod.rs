//! A certificate issuer that behaves as cert-manager does: an ordinary API client that makes Secrets of Certificates, by
//! issuers of kind `selfSigned` and `ca`, and renews them before they expire.
//!
//! Names, words and the order of its checks are cert-manager's ([`policy`]), and so is what it does not do: that the CA's
//! Secret has changed re-issues nothing, and what stands in `ca.crt` is never looked at.

mod policy;
mod requests;
mod secret;
mod sign;
mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stdlib::cert::Key as PrivateKey;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::bell::Bell;
use super::cache::{Cache, Key};
use super::ctx::{Ctx, kube_time};
use super::faults::Fault;
use super::json as js;
use super::kube::{CERTIFICATE_REQUESTS, CERTIFICATES, CLUSTER_ISSUERS, ISSUERS, Kind, Kube, SECRETS, is};
use super::timing::Dice;
use policy::Input;

/// Where the Secrets of ClusterIssuers lie.
pub const RESOURCES: &str = "cert-manager";
/// Who writes, as the API server notes it.
const MANAGER: &str = "cert-manager-certificates-issuing";
/// The longest that nothing is looked at although something is due.
const LONGEST: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Issuing {
    ctx: Arc<Ctx>,
    kube: Kube,
    certificates: Cache,
    requests: Cache,
    issuers: Cache,
    cluster_issuers: Cache,
    secrets: Cache,
    dice: Dice,
}

/// What one Certificate is now, read anew.
struct Seen {
    certificate: Value,
    secret: Option<Arc<Value>>,
    requests: Vec<Arc<Value>>,
}

/// Runs until it is dropped.
pub async fn run(kube: Kube, ctx: Arc<Ctx>) {
    let (bell, mut tasks) = (Bell::default(), JoinSet::new());
    let mut heard = bell.listen();
    let mut follow = |kind| Cache::follow(&kube, kind, &bell, &mut tasks);
    let issuing = Issuing {
        certificates: follow(CERTIFICATES),
        requests: follow(CERTIFICATE_REQUESTS),
        issuers: follow(ISSUERS),
        cluster_issuers: follow(CLUSTER_ISSUERS),
        secrets: follow(SECRETS),
        dice: ctx.dice("issuer"),
        kube: kube.clone(),
        ctx: Arc::clone(&ctx),
    };
    loop {
        heard.mark_heard();
        let wait = if ctx.faults.has(&Fault::IssuerAway) {
            RETRY
        } else if issuing.synced() {
            issuing.pass().await
        } else {
            LONGEST
        };
        let _ = tokio::time::timeout(wait, heard.rings()).await;
        // It works from queues: many events in a row are one look.
        ctx.pause(&issuing.dice, ctx.timing.issue).await;
    }
}

impl Issuing {
    fn synced(&self) -> bool {
        let caches =
            [&self.certificates, &self.requests, &self.issuers, &self.cluster_issuers, &self.secrets];
        caches.iter().all(|cache| cache.synced())
    }

    /// One step for everything that is due; how long nothing will be.
    async fn pass(&self) -> Duration {
        let mut wait = LONGEST;
        for (kind, issuer) in self.all_issuers() {
            if let Err(e) = self.issuer_status(kind, &issuer).await {
                wait = wait.min(report(&issuer, &e));
            }
        }
        for request in self.requests.all() {
            if let Err(e) = self.answer(&request).await {
                wait = wait.min(report(&request, &e));
            }
        }
        for certificate in self.certificates.all() {
            let next = match self.certificate(&certificate).await {
                Ok(next) => next,
                Err(e) => report(&certificate, &e),
            };
            wait = wait.min(next);
        }
        wait
    }

    fn all_issuers(&self) -> Vec<(Kind, Arc<Value>)> {
        let own = self.issuers.all().into_iter().map(|issuer| (ISSUERS, issuer));
        own.chain(self.cluster_issuers.all().into_iter().map(|issuer| (CLUSTER_ISSUERS, issuer))).collect()
    }

    fn now(&self) -> OffsetDateTime {
        self.ctx.clock.now() - Duration::from_secs(self.ctx.timing.issued_ago.into())
    }

    /// One look at one Certificate: trigger, key, request, issuing, readiness; when to look again.
    async fn certificate(&self, known: &Value) -> kube::Result<Duration> {
        let key = (js::namespace(known).to_owned(), js::name(known).to_owned());
        let Some(seen) = self.see(&key, js::uid(known)) else { return Ok(LONGEST) };
        if js::condition(&seen.certificate, "Issuing") == "True" {
            self.issue(&key, &seen).await?;
            return Ok(LONGEST);
        }
        let (certificate, now) = (&seen.certificate, self.now());
        let input = seen.input(now);
        if let Some((reason, message)) = policy::trigger(&input).filter(|_| !self.backs_off(certificate)) {
            tracing::info!("{}/{}: {message}", key.0, key.1);
            let conditions = with_condition(certificate, ("Issuing", "True"), reason, &message, now);
            self.status(&key, certificate, json!({ "conditions": conditions })).await?;
            return Ok(LONGEST);
        }
        self.tidy(&key, &seen).await?;
        self.readiness(&key, &seen).await?;
        let due =
            policy::leaf(seen.secret.as_deref()).map(|leaf| spec::renewal_time(certificate, &leaf) - now);
        Ok(due.and_then(|due| Duration::try_from(due).ok()).unwrap_or(LONGEST).clamp(RETRY, LONGEST))
    }

    fn see(&self, key: &Key, uid: &str) -> Option<Seen> {
        let certificate = self.certificates.get(&key.0, &key.1)?;
        if js::terminating(&certificate) || js::uid(&certificate) != uid {
            return None;
        }
        let secret = self.secrets.get(&key.0, js::text(&certificate, "/spec/secretName"));
        let requests = self.requests.within(&key.0, |request| js::controller(request) == uid);
        Some(Seen { certificate: (*certificate).clone(), secret, requests })
    }

    /// After a failure: an hour, and each time twice as long, up to 32 hours.
    fn backs_off(&self, certificate: &Value) -> bool {
        let format = time::format_description::well_known::Rfc3339;
        let Ok(failed) = OffsetDateTime::parse(js::text(certificate, "/status/lastFailureTime"), &format)
        else {
            return false;
        };
        let attempts = js::number(certificate, "/status/failedIssuanceAttempts").unwrap_or(1).clamp(1, 6);
        let hours = 1_i64.checked_shl(u32::try_from(attempts - 1).unwrap_or(0)).unwrap_or(32);
        self.now() < failed + time::Duration::hours(hours)
    }

    /// One step towards a new certificate.
    async fn issue(&self, key: &Key, seen: &Seen) -> kube::Result<()> {
        let certificate = &seen.certificate;
        let next_key = js::text(certificate, "/status/nextPrivateKeySecretName");
        if next_key.is_empty() {
            return self.choose_key(key, seen).await;
        }
        let Some(held) = self.secrets.get(&key.0, next_key) else { return Ok(()) };
        let Some(private) =
            secret::value(&held, "tls.key").and_then(|k| PrivateKey::from_pem(&k, "tls.key").ok())
        else {
            return Ok(());
        };
        let revision = seen.revision() + 1;
        let Some(request) = policy::request_of(&seen.requests, revision) else {
            return self.ask(key, certificate, &private, revision, next_key).await;
        };
        let csr = policy::csr(request);
        let stale = csr.as_ref().is_none_or(|csr| {
            csr.spki != private.spki() || !spec::differences(certificate, request, csr).is_empty()
        });
        if stale {
            let at = (key.0.as_str(), js::name(request));
            return self.kube.delete(CERTIFICATE_REQUESTS, at, js::uid(request), None).await;
        }
        let ready = js::items(request, "/status/conditions").iter().find(|c| js::text(c, "/type") == "Ready");
        match ready.map_or("", |ready| js::text(ready, "/reason")) {
            "Issued" => self.store(key, seen, request, &private, revision).await,
            "Failed" => {
                self.fail(key, certificate, request, js::text(ready.unwrap_or(request), "/message")).await
            }
            _ => Ok(()),
        }
    }

    /// Makes the next key, or takes the present one where it is kept, and notes where it lies.
    async fn choose_key(&self, key: &Key, seen: &Seen) -> kube::Result<()> {
        let certificate = &seen.certificate;
        let present = || {
            let bytes = secret::value(seen.secret.as_deref()?, "tls.key")?;
            PrivateKey::from_pem(&bytes, "tls.key").ok()
        };
        let kept = if spec::new_key_each_time(certificate) { None } else { present() };
        let made = match kept {
            Some(kept) => Ok(kept),
            None => spec::key_kind(certificate).and_then(PrivateKey::generate),
        };
        let pem = match made.and_then(|key| key.to_pem()) {
            Ok(pem) => pem,
            Err(e) => {
                tracing::warn!("{}/{}: no key can be made: {e}", key.0, key.1);
                return Ok(());
            }
        };
        let name = format!("{}-{}", key.1, self.dice.hex(3));
        self.kube.create(SECRETS, &key.0, secret::next_key(certificate, &name, &pem)).await?;
        self.status(key, certificate, json!({ "nextPrivateKeySecretName": name })).await
    }

    /// Makes the CertificateRequest of a revision.
    async fn ask(
        &self,
        key: &Key,
        certificate: &Value,
        private: &PrivateKey,
        revision: i64,
        next_key: &str,
    ) -> kube::Result<()> {
        let csr = match spec::request(certificate, private) {
            Ok(csr) => csr,
            Err(e) => {
                tracing::warn!("{}/{}: no request can be made: {e}", key.0, key.1);
                return Ok(());
            }
        };
        let request = requests::object(certificate, &csr, revision, next_key);
        self.kube.ensure(CERTIFICATE_REQUESTS, &key.0, request).await
    }

    /// Puts what was issued into the Secret, in one write, and closes the revision.
    async fn store(
        &self,
        key: &Key,
        seen: &Seen,
        request: &Value,
        private: &PrivateKey,
        revision: i64,
    ) -> kube::Result<()> {
        let certificate = &seen.certificate;
        let issued =
            |field: &str| secret::decoded(js::text(request, &format!("/status/{field}"))).unwrap_or_default();
        let chain = issued("certificate");
        let leaf =
            stdlib::cert::parse_many(&chain, "status.certificate").ok().and_then(|c| c.into_iter().next());
        let Some(leaf) = leaf.filter(|leaf| private.matches(leaf)) else {
            let why = "Issuer returned a certificate with a public key that does not match the CSR.";
            return self.fail(key, certificate, request, why).await;
        };
        let Ok(pem) = private.to_pem() else { return Ok(()) };
        let data = secret::Data { key: pem.as_bytes().to_vec(), chain, ca: issued("ca") };
        let wanted = secret::wanted(certificate, seen.secret.as_deref(), &data, &leaf);
        self.kube.apply(SECRETS, &wanted, MANAGER).await?;
        let mut conditions = js::items(certificate, "/status/conditions").to_vec();
        conditions.retain(|condition| js::text(condition, "/type") != "Issuing");
        let status = json!({
            "revision": revision, "conditions": conditions, "nextPrivateKeySecretName": null,
            "lastFailureTime": null, "failedIssuanceAttempts": null,
        });
        self.status(key, certificate, status).await
    }

    async fn fail(&self, key: &Key, certificate: &Value, request: &Value, why: &str) -> kube::Result<()> {
        let at = (key.0.as_str(), js::name(request));
        self.kube.delete(CERTIFICATE_REQUESTS, at, js::uid(request), None).await?;
        let attempts = js::number(certificate, "/status/failedIssuanceAttempts").unwrap_or(0) + 1;
        let message = format!("The certificate request has failed to complete and will be retried: {why}");
        let now = self.now();
        let status = json!({
            "conditions": with_condition(certificate, ("Issuing", "False"), "Failed", &message, now),
            "lastFailureTime": kube_time(now), "failedIssuanceAttempts": attempts,
        });
        self.status(key, certificate, status).await
    }

    /// While nothing is being issued: keys that were not needed go, and so do requests of earlier revisions; the Secret's
    /// metadata is put right, around whatever it holds.
    async fn tidy(&self, key: &Key, seen: &Seen) -> kube::Result<()> {
        let (certificate, uid) = (&seen.certificate, js::uid(&seen.certificate));
        let left =
            |object: &Value| js::controller(object) == uid && js::label(object, secret::NEXT_KEY) == "true";
        for left in self.secrets.within(&key.0, left) {
            self.kube.delete(SECRETS, (&key.0, js::name(&left)), js::uid(&left), None).await?;
        }
        for old in seen.requests.iter().filter(|request| policy::revision(request) < seen.revision()) {
            self.kube.delete(CERTIFICATE_REQUESTS, (&key.0, js::name(old)), js::uid(old), None).await?;
        }
        if let (Some(held), Some(leaf)) = (seen.secret.as_deref(), policy::leaf(seen.secret.as_deref()))
            && secret::untidy(certificate, held, &leaf)
        {
            let wanted = secret::wanted(certificate, Some(held), &secret::held(held), &leaf);
            self.kube.apply(SECRETS, &wanted, MANAGER).await?;
        }
        Ok(())
    }

    async fn readiness(&self, key: &Key, seen: &Seen) -> kube::Result<()> {
        let (certificate, now) = (&seen.certificate, self.now());
        let conditions = match policy::unready(&seen.input(now)) {
            Some((reason, message)) => with_condition(certificate, ("Ready", "False"), reason, &message, now),
            None => {
                let message = "Certificate is up to date and has not expired";
                with_condition(certificate, ("Ready", "True"), "Ready", message, now)
            }
        };
        let dates = match policy::leaf(seen.secret.as_deref()) {
            Some(leaf) => {
                let renewal = spec::renewal_time(certificate, &leaf);
                [leaf.not_before(), leaf.not_after(), renewal].map(|at| json!(kube_time(at)))
            }
            None => [const { Value::Null }; 3],
        };
        let mut status = serde_json::Map::from_iter([("conditions".to_owned(), json!(conditions))]);
        status.extend(["notBefore", "notAfter", "renewalTime"].map(str::to_owned).into_iter().zip(dates));
        self.status(key, certificate, Value::Object(status)).await
    }

    /// Writes the fields of a status that differ, at the version that was seen; a stale sight changes nothing.
    async fn status(&self, key: &Key, certificate: &Value, mut status: Value) -> kube::Result<()> {
        let now = certificate.get("status").unwrap_or(&Value::Null);
        if let Some(fields) = status.as_object_mut() {
            fields.retain(|field, value| now.get(field).unwrap_or(&Value::Null) != value);
        }
        if status == json!({}) {
            return Ok(());
        }
        let version = js::text(certificate, "/metadata/resourceVersion");
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
        match self.kube.merge(CERTIFICATES, (&key.0, &key.1), "/status", &patch).await {
            Err(e) if !is(&e, 409) => Err(e),
            _ => Ok(()),
        }
    }
}

impl Seen {
    fn revision(&self) -> i64 {
        js::number(&self.certificate, "/status/revision").unwrap_or(0)
    }

    fn input(&self, now: OffsetDateTime) -> Input<'_> {
        let request = policy::request_of(&self.requests, self.revision());
        Input { certificate: &self.certificate, secret: self.secret.as_deref(), request, now }
    }
}

/// The conditions of an object with one of them set; its time moves only with its status.
fn with_condition(
    object: &Value,
    (kind, status): (&str, &str),
    reason: &str,
    message: &str,
    now: OffsetDateTime,
) -> Vec<Value> {
    let mut conditions = js::items(object, "/status/conditions").to_vec();
    let known = conditions.iter().find(|c| js::text(c, "/type") == kind && js::text(c, "/status") == status);
    let since = known.map_or_else(|| kube_time(now), |c| js::text(c, "/lastTransitionTime").to_owned());
    let mut condition = BTreeMap::from([
        ("type", json!(kind)),
        ("status", json!(status)),
        ("reason", json!(reason)),
        ("message", json!(message)),
        ("lastTransitionTime", json!(since)),
    ]);
    // CertificateRequests have none.
    if js::text(object, "/kind") != "CertificateRequest" {
        condition.insert("observedGeneration", json!(js::generation(object)));
    }
    match conditions.iter_mut().find(|c| js::text(c, "/type") == kind) {
        Some(present) => *present = json!(condition),
        None => conditions.push(json!(condition)),
    }
    conditions
}

fn report(object: &Value, error: &kube::Error) -> Duration {
    if !is(error, 409) && !is(error, 404) {
        tracing::warn!(
            "{} {}/{}: {error}",
            js::text(object, "/kind"),
            js::namespace(object),
            js::name(object)
        );
    }
    RETRY
}
