//! Signing what a CertificateRequest asks for, by an issuer of kind `ca` or `selfSigned`.

use serde_json::Value;
use stdlib::PrimError;
use stdlib::cert::{BasicConstraints, Certificate, Issuer, Key, SigningRequest, Template};
use time::OffsetDateTime;

use super::{policy, secret, spec};
use crate::world::json as js;

/// What was issued, PEM.
pub(super) struct Issued {
    /// The chain without its root.
    pub chain: String,
    /// The root.
    pub ca: String,
}

/// Why nothing was.
pub(super) enum Refusal {
    /// Something is not there yet: looked at again later.
    Pending(String),
    /// It never will be.
    Failed(String),
}

fn failed(error: &PrimError) -> Refusal {
    Refusal::Failed(format!("Error signing certificate: {error}"))
}

/// What the request asks for. Nothing is backdated, and the end is not cut to the CA's.
fn template(request: &Value, csr: &SigningRequest, now: OffsetDateTime) -> Result<Template, PrimError> {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let (key_usage, ext_usage) = spec::usages(request)?;
    Ok(Template {
        key_usage: Some(key_usage),
        ext_usage,
        basic: Some(BasicConstraints { ca: spec::is_ca(request), path_len: None }),
        sans: csr.sans.clone(),
        ..Template::leaf(csr.subject.clone(), &csr.spki, now, now + spec::duration(request))
    })
}

fn csr(request: &Value) -> Result<SigningRequest, Refusal> {
    policy::csr(request).ok_or_else(|| Refusal::Failed("Error decoding the signing request".into()))
}

/// By the key of an authority.
pub(super) fn by_ca(
    request: &Value,
    authority: Option<&Value>,
    place: &str,
    now: OffsetDateTime,
) -> Result<Issued, Refusal> {
    let authority =
        authority.ok_or_else(|| Refusal::Pending(format!("Referenced secret {place} not found")))?;
    let unusable = || Refusal::Pending(format!("Failed to parse signing CA keypair from secret {place}"));
    let data = secret::held(authority);
    let chain = stdlib::cert::parse_many(&data.chain, place).map_err(|_| unusable())?;
    let ca: &Certificate = chain.first().ok_or_else(unusable)?;
    let key = Key::from_pem(&data.key, place).map_err(|_| unusable())?;
    if !ca.is_ca() {
        return Err(unusable());
    }
    let issuer = Issuer { certificate: ca, key: &key };
    let leaf = template(request, &csr(request)?, now).and_then(|template| template.sign(issuer));
    let leaf = leaf.map_err(|error| failed(&error))?;
    // What is not a root goes into the chain; the last of it is the root.
    let mut signed = leaf.pem();
    for link in chain.iter().filter(|link| !link.self_issued()) {
        signed.push_str(&link.pem());
    }
    Ok(Issued { chain: signed, ca: chain.last().map_or_else(String::new, Certificate::pem) })
}

/// By its own key, which lies in the Secret that the request names.
pub(super) fn by_itself(
    request: &Value,
    next_key: Option<&Value>,
    now: OffsetDateTime,
) -> Result<Issued, Refusal> {
    let missing = || Refusal::Pending("Referenced private key secret not found".into());
    let key = secret::value(next_key.ok_or_else(missing)?, "tls.key").ok_or_else(missing)?;
    let key = Key::from_pem(&key, "tls.key").map_err(|error| failed(&error))?;
    let own = template(request, &csr(request)?, now).and_then(|template| template.self_sign(&key));
    let own = own.map_err(|error| failed(&error))?.pem();
    Ok(Issued { chain: own.clone(), ca: own })
}

/// The place of the authority's Secret that an issuer names.
pub(super) fn authority<'a>(issuer: &'a Value, resources: &'a str) -> Option<(&'a str, &'a str)> {
    let name = Some(js::text(issuer, "/spec/ca/secretName")).filter(|name| !name.is_empty())?;
    let namespace = match js::namespace(issuer) {
        "" => resources,
        own => own,
    };
    Some((namespace, name))
}
