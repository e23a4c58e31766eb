//! When a certificate is issued again: cert-manager's chain of checks, in its order and its words. Pure.
//!
//! What is not among them is the trap: that the CA has changed is no reason. Nobody looks at `ca.crt`, and nobody compares
//! the leaf with the CA of today.

use std::sync::Arc;

use serde_json::Value;
use stdlib::cert::{Certificate, Key, SigningRequest};
use time::OffsetDateTime;

use super::{secret, spec};
use crate::world::json as js;

/// What is looked at.
pub(super) struct Input<'a> {
    /// The Certificate.
    pub certificate: &'a Value,
    /// The Secret that it names, if it is there.
    pub secret: Option<&'a Value>,
    /// The request that the present revision was issued for, if it is still there.
    pub request: Option<&'a Value>,
    /// The time.
    pub now: OffsetDateTime,
}

/// A check that failed: a word and a sentence.
pub(super) type Violation = (&'static str, String);

/// Why a certificate must be issued again, if it must.
pub(super) fn trigger(input: &Input<'_>) -> Option<Violation> {
    let leaf = match common(input) {
        Ok(leaf) => leaf,
        Err(violation) => return Some(violation),
    };
    let at = spec::renewal_time(input.certificate, &leaf);
    (at <= input.now).then(|| {
        let at = crate::world::ctx::kube_time(at);
        ("Renewing", format!("Renewing certificate as renewal was scheduled at {at}"))
    })
}

/// Why a certificate is not ready, if it is not.
pub(super) fn unready(input: &Input<'_>) -> Option<Violation> {
    let leaf = match common(input) {
        Ok(leaf) => leaf,
        Err(violation) => return Some(violation),
    };
    let end = leaf.not_after();
    (input.now > end).then(|| ("Expired", format!("Certificate expired on {end}")))
}

/// The leaf in the Secret, if one can be read.
pub(super) fn leaf(secret: Option<&Value>) -> Option<Certificate> {
    let text = secret::value(secret?, "tls.crt")?;
    stdlib::cert::parse_many(&text, "tls.crt").ok()?.into_iter().next()
}

/// Everything but the dates; the leaf, where it holds.
fn common(input: &Input<'_>) -> Result<Certificate, Violation> {
    let Input { certificate, secret, .. } = input;
    let Some(secret) = secret else {
        return Err(("DoesNotExist", "Issuing certificate as Secret does not exist".into()));
    };
    let missing =
        |what: &str| ("MissingData", format!("Issuing certificate as Secret does not contain {what}"));
    let present = |key: &str| secret::value(secret, key).filter(|bytes| !bytes.is_empty());
    let key = present("tls.key").ok_or_else(|| missing("a private key"))?;
    if present("tls.crt").is_none() {
        return Err(missing("a certificate"));
    }
    let key = Key::from_pem(&key, "tls.key").map_err(|e| {
        let text = format!("Issuing certificate as Secret contains invalid private key data: {e}");
        ("InvalidKeyPair", text)
    })?;
    let Some(leaf) = leaf(Some(secret)) else {
        return Err((
            "InvalidCertificate",
            "Issuing certificate as Secret contains an invalid certificate".into(),
        ));
    };
    if !key.matches(&leaf) {
        let text = "Issuing certificate as Secret contains a private key that does not match the certificate";
        return Err(("InvalidKeyPair", text.into()));
    }
    // Annotations count only where they are.
    let wanted = secret::issuer_annotations(certificate);
    let other = wanted.iter().any(|(name, value)| {
        let found = js::annotation(secret, name);
        !found.is_empty() && found != value
    });
    if other {
        let name = js::annotation(secret, secret::ISSUER_NAME);
        return Err((
            "IncorrectIssuer",
            format!("Issuing certificate as Secret was previously issued by \"{name}\""),
        ));
    }
    let name = js::annotation(secret, secret::CERTIFICATE_NAME);
    if !name.is_empty() && name != js::name(certificate) {
        return Err(("IncorrectCertificate", format!("Secret was issued for \"{name}\"")));
    }
    if !spec::key_kind(certificate).is_ok_and(|kind| kind == key.kind()) {
        let text = "Existing private key is not up to date for spec: [spec.privateKey.algorithm]";
        return Err(("SecretMismatch", text.into()));
    }
    requested(input, &key, &leaf)?;
    Ok(leaf)
}

/// What the request of the present revision says; where it has been deleted, only the names are compared.
fn requested(input: &Input<'_>, key: &Key, leaf: &Certificate) -> Result<(), Violation> {
    let Some(request) = input.request else {
        if spec::names_fit(input.certificate, leaf) {
            return Ok(());
        }
        let text = "Issuing certificate as Existing issued Secret is not up to date for spec";
        return Err(("SecretMismatch", text.into()));
    };
    let Some(csr) = csr(request) else {
        return Err(("InvalidCertificateRequest", "Failed to decode current CertificateRequest".into()));
    };
    if csr.spki != key.spki() {
        let text = "Secret contains a private key that does not match the current CertificateRequest";
        return Err(("SecretMismatch", text.into()));
    }
    let differences = spec::differences(input.certificate, request, &csr);
    if differences.is_empty() {
        return Ok(());
    }
    let text = format!("Fields on existing CertificateRequest resource not up to date: {differences:?}");
    Err(("RequestChanged", text))
}

/// The signing request of a CertificateRequest.
pub(super) fn csr(request: &Value) -> Option<SigningRequest> {
    let text = secret::decoded(js::text(request, "/spec/request"))?;
    SigningRequest::from_pem(&text, "spec.request").ok()
}

/// The revision that a request was made for.
pub(super) fn revision(request: &Value) -> i64 {
    js::annotation(request, "cert-manager.io/certificate-revision").parse().unwrap_or(0)
}

/// The request of a revision.
pub(super) fn request_of(requests: &[Arc<Value>], revision: i64) -> Option<&Value> {
    requests.iter().find(|request| self::revision(request) == revision).map(AsRef::as_ref)
}
