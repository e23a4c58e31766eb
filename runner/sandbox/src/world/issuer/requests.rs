//! CertificateRequests and issuers: made, approved, answered.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::sign::{Issued, Refusal};
use super::{Issuing, RESOURCES, secret, sign, spec, with_condition};
use crate::world::ctx::kube_time;
use crate::world::json as js;
use crate::world::kube::{CERTIFICATE_REQUESTS, Kind, is};

/// The request of one revision of a Certificate.
pub(super) fn object(certificate: &Value, csr: &str, revision: i64, next_key: &str) -> Value {
    let mut spec = spec::copied(certificate);
    if let Some(fields) = spec.as_object_mut() {
        fields.insert("request".into(), json!(STANDARD.encode(csr)));
    }
    json!({
        "metadata": {
            "name": format!("{}-{revision}", js::name(certificate)),
            "annotations": {
                "cert-manager.io/certificate-revision": revision.to_string(),
                "cert-manager.io/private-key-secret-name": next_key,
                secret::CERTIFICATE_NAME: js::name(certificate),
            },
            "ownerReferences": [secret::owner(certificate)],
        },
        "spec": spec,
    })
}

impl Issuing {
    /// The issuer that a request names.
    fn issuer_of(&self, request: &Value) -> Option<Arc<Value>> {
        let name = js::text(request, "/spec/issuerRef/name");
        match js::text(request, "/spec/issuerRef/kind") {
            "ClusterIssuer" => self.cluster_issuers.get("", name),
            _ => self.issuers.get(js::namespace(request), name),
        }
    }

    /// One step towards the answer to a request: its approval, then what was issued.
    pub(super) async fn answer(&self, request: &Value) -> kube::Result<()> {
        let ready = js::items(request, "/status/conditions").iter().find(|c| js::text(c, "/type") == "Ready");
        if matches!(ready.map_or("", |ready| js::text(ready, "/reason")), "Issued" | "Failed" | "Denied") {
            return Ok(());
        }
        let now = self.now();
        if js::condition(request, "Denied") == "True" {
            return Ok(());
        }
        if js::condition(request, "Approved") != "True" {
            let message = "Certificate request has been approved by cert-manager.io";
            let conditions = with_condition(request, ("Approved", "True"), "cert-manager.io", message, now);
            return self.tell(request, json!({ "conditions": conditions })).await;
        }
        let signed = self.sign(request);
        let status = match signed {
            Ok(Issued { chain, ca }) => json!({
                "certificate": STANDARD.encode(chain), "ca": STANDARD.encode(ca),
                "conditions": with_condition(request, ("Ready", "True"), "Issued",
                    "Certificate fetched from issuer successfully", now),
            }),
            Err(Refusal::Pending(why)) => {
                json!({ "conditions": with_condition(request, ("Ready", "False"), "Pending", &why, now) })
            }
            Err(Refusal::Failed(why)) => json!({
                "conditions": with_condition(request, ("Ready", "False"), "Failed", &why, now),
                "failureTime": kube_time(now),
            }),
        };
        self.tell(request, status).await
    }

    fn sign(&self, request: &Value) -> Result<Issued, Refusal> {
        let issuer = self.issuer_of(request).ok_or_else(|| {
            let name = js::text(request, "/spec/issuerRef/name");
            Refusal::Pending(format!("Referenced \"Issuer\" not found: \"{name}\" not found"))
        })?;
        if issuer.pointer("/spec/selfSigned").is_some() {
            let next_key = js::annotation(request, "cert-manager.io/private-key-secret-name");
            let key = self.secrets.get(js::namespace(request), next_key);
            return sign::by_itself(request, key.as_deref(), self.now());
        }
        let Some((namespace, name)) = sign::authority(&issuer, RESOURCES) else {
            return Err(Refusal::Pending("this issuer is of a kind that is not known here".into()));
        };
        let authority = self.secrets.get(namespace, name);
        sign::by_ca(request, authority.as_deref(), &format!("{namespace}/{name}"), self.now())
    }

    async fn tell(&self, request: &Value, mut status: Value) -> kube::Result<()> {
        let now = request.get("status").unwrap_or(&Value::Null);
        if let Some(fields) = status.as_object_mut() {
            fields.retain(|field, value| now.get(field) != Some(value));
        }
        if status == json!({}) {
            return Ok(());
        }
        let version = js::text(request, "/metadata/resourceVersion");
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
        let at = (js::namespace(request), js::name(request));
        match self.kube.merge(CERTIFICATE_REQUESTS, at, "/status", &patch).await {
            Err(e) if !is(&e, 409) && !is(&e, 404) => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether an issuer can sign.
    pub(super) async fn issuer_status(&self, kind: Kind, issuer: &Value) -> kube::Result<()> {
        let said = if issuer.pointer("/spec/selfSigned").is_some() {
            Some(("True", "IsReady", String::new()))
        } else {
            sign::authority(issuer, RESOURCES).map(|(namespace, name)| {
                match self.secrets.get(namespace, name) {
                    Some(held) if secret::value(&held, "tls.crt").is_some() => {
                        ("True", "KeyPairVerified", "Signing CA verified".to_owned())
                    }
                    _ => {
                        let why = format!("Error getting keypair for CA issuer: secret \"{name}\" not found");
                        ("False", "ErrGetKeyPair", why)
                    }
                }
            })
        };
        let Some((status, reason, message)) = said else { return Ok(()) };
        let conditions = with_condition(issuer, ("Ready", status), reason, &message, self.now());
        if json!(conditions) == issuer.pointer("/status/conditions").cloned().unwrap_or_default() {
            return Ok(());
        }
        let patch = json!({ "status": { "conditions": conditions } });
        self.kube.merge(kind, (js::namespace(issuer), js::name(issuer)), "/status", &patch).await.map(|_| ())
    }
}
