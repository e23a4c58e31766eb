//! Issuing a leaf from a request and a profile.

use time::{Duration, OffsetDateTime};

use super::{Profile, Request};
use crate::cert::{Certificate, Issuer, Key, KeyUsage, San, SigningRequest, Template, date};
use crate::error::PrimError;

/// Makes a key and issues a certificate for it, as `cfssl gencert -ca … -profile …` does.
///
/// What differs from cfssl, all of it towards what every verifier accepts: the issuer is always named by key id, also
/// where the leaf's name is the CA's own (cfssl leaves it out there, and OpenSSL then takes the leaf for self-signed or
/// tries the wrong one of two CAs); the end is never later than the CA's; a certificate that would be born expired is
/// refused.
///
/// # Errors
/// The CA is none, has expired or is not its key's; the request has a `ca` section; the profile cannot be used.
pub fn issue(
    ca: &Certificate,
    ca_key: &Key,
    request: &Request,
    profile: &Profile,
    now: OffsetDateTime,
) -> Result<(Certificate, Key), PrimError> {
    check_authority(ca, ca_key, now)?;
    let key = Key::generate(request.key).map_err(|error| error.on(request.what.clone()))?;
    let certificate = certify(ca, ca_key, request, profile, key.spki(), now)?;
    Ok((certificate, key))
}

/// As [`issue`], for a public key that is there already.
///
/// # Errors
/// As [`issue`].
pub fn issue_for(
    ca: &Certificate,
    ca_key: &Key,
    request: &Request,
    profile: &Profile,
    spki: &[u8],
    now: OffsetDateTime,
) -> Result<Certificate, PrimError> {
    check_authority(ca, ca_key, now)?;
    certify(ca, ca_key, request, profile, spki, now)
}

/// As [`issue_for`], with an authority that was looked at.
fn certify(
    ca: &Certificate,
    ca_key: &Key,
    request: &Request,
    profile: &Profile,
    spki: &[u8],
    now: OffsetDateTime,
) -> Result<Certificate, PrimError> {
    if request.ca.is_some() {
        return Err(PrimError::invalid("ca: this section belongs only into the request of an authority")
            .on(request.what.clone())
            .expected("a request for a leaf", "a section `ca`")
            .hint("remove it, or make an authority with `ca::create`"));
    }
    // As with `ca::create`: nobody dials an authority.
    let sans = if profile.basic.ca { Vec::new() } else { request.hosts.clone() };
    let template = Template { sans, ..template(ca, profile, request.subject()?, spki, now)? };
    let nobody = request.hosts.is_empty() && request.cn.is_empty() && request.names.is_empty();
    if nobody && !request.rules.are_cfssls() {
        return Err(PrimError::invalid("names nobody: it has no CN, no names and no hosts")
            .on(request.what.clone())
            .expected("at least a `CN`", "none")
            .hint("add `\"CN\": \"…\"`"));
    }
    template.sign(Issuer { certificate: ca, key: ca_key })
}

/// Issues what a signing request asks for, as `cfssl sign` does: its name, key and alternative names; all else is the
/// profile's.
///
/// # Errors
/// As [`issue`].
pub fn sign(
    ca: &Certificate,
    ca_key: &Key,
    csr: &SigningRequest,
    profile: &Profile,
    now: OffsetDateTime,
) -> Result<Certificate, PrimError> {
    check_authority(ca, ca_key, now)?;
    if csr.ca && !profile.basic.ca {
        return Err(PrimError::invalid(
            "the signing request asks to be an authority, which this profile does not make",
        )
        .on(format!("{} profile `{}`", profile.what, profile.name))
        .expected("a request for a leaf, or a profile with `\"ca_constraint\": {\"is_ca\": true}`", "CA:TRUE")
        .hint("have the request made again without CA:TRUE, or name the profile for authorities"));
    }
    let template = template(ca, profile, csr.subject.clone(), &csr.spki, now)?;
    Template { sans: csr.sans.clone(), ..template }.sign(Issuer { certificate: ca, key: ca_key })
}

/// Issues a leaf like one that is there: the same name (byte for byte), alternative names and usages, its length of life
/// or the one that is given, with a new key of the same kind or the key that is given. It never outlives its authority.
///
/// # Errors
/// The old one is an authority, or as [`issue`].
pub fn reissue(
    ca: &Certificate,
    ca_key: &Key,
    old: &Certificate,
    key: Option<Key>,
    lifetime: Option<Duration>,
    now: OffsetDateTime,
) -> Result<(Certificate, Key), PrimError> {
    check_authority(ca, ca_key, now)?;
    if old.is_ca() {
        return Err(PrimError::invalid("is an authority, which is renewed and not issued again")
            .on(old.to_string())
            .expected("a leaf", "CA:TRUE")
            .hint("use `ca::renew`, or `ca::create` for one with a new key"));
    }
    let key = match key {
        Some(key) => key,
        None => Key::generate(old.key_kind().ok_or_else(|| {
            PrimError::invalid(format!("has a key of a kind that cannot be made: `{}`", old.key_text()))
                .on(old.to_string())
                .expected("RSA of 2048, 3072, 4096 or 8192 bits, ECDSA or Ed25519", old.key_text())
                .hint("issue it from a request that names another key")
        })?)?,
    };
    let not_before = whole_minute(now) - super::BACKDATE;
    let not_after = not_before
        .checked_add(lifetime.unwrap_or_else(|| old.not_after() - old.not_before()))
        .ok_or_else(|| past_9999("would live past the year 9999").on(old.to_string()))?;
    let template = Template {
        sans: old.sans().to_vec(),
        key_usage: old.key_usage(),
        ext_usage: old.ext_usage().unwrap_or_default().to_vec(),
        basic: old.basic_constraints(),
        ..Template::leaf(old.subject().to_vec(), key.spki(), not_before, not_after.min(ca.not_after()))
    };
    Ok((template.sign(Issuer { certificate: ca, key: ca_key })?, key))
}

/// Checks that an authority can issue now.
///
/// # Errors
/// Which of being an authority, being valid and having its key does not hold.
pub fn check_authority(ca: &Certificate, ca_key: &Key, now: OffsetDateTime) -> Result<(), PrimError> {
    if !ca.may_sign() {
        return Err(PrimError::invalid("may not sign certificates")
            .on(ca.to_string())
            .expected(
                "CA:TRUE, and `cert sign` among its key usages",
                if ca.is_ca() { "no `cert sign`" } else { "no CA" },
            )
            .hint("pass the certificate of the CA, not that of a server"));
    }
    // The name of a certificate takes its digest: only where it is told.
    if !ca_key.matches(ca) {
        ca_key.check_matches(ca, &ca.to_string())?;
    }
    ca.check_valid_at(now).map_err(|error| match error.hint {
        Some(_) => error,
        None => error.hint("what an expired CA signs is refused everywhere; make a new CA"),
    })
}

/// The template of a leaf of this profile: dates, usages, constraints and URLs.
pub(crate) fn template(
    ca: &Certificate,
    profile: &Profile,
    subject: Vec<u8>,
    spki: &[u8],
    now: OffsetDateTime,
) -> Result<Template, PrimError> {
    let place = || format!("{} profile `{}`", profile.what, profile.name);
    if let Some(field) = profile.unsupported.first() {
        return Err(PrimError::invalid(format!("`{field}` is not supported"))
            .on(place())
            .expected("a profile without it", format!("`{field}`"))
            .hint("remove the field, or use a profile without it"));
    }
    if !profile.has_usages() {
        return Err(PrimError::invalid("has no usages")
            .on(place())
            .expected("as `\"usages\": [\"server auth\"]`", "none")
            .hint("name a profile with usages"));
    }
    if profile.basic.ca && ca.basic_constraints().is_some_and(|basic| basic.path_len == Some(0)) {
        return Err(PrimError::invalid("makes authorities, which this CA does not allow below itself")
            .on(place())
            .expected("a CA without a path length, or one of 1 or more", "path length 0")
            .hint("issue leaves with it; an authority below it would be refused by every verifier"));
    }
    let not_before = profile.not_before.unwrap_or_else(|| whole_minute(now) - profile.backdate);
    let wanted = match profile.not_after {
        Some(end) => end,
        None => not_before
            .checked_add(profile.expiry)
            .ok_or_else(|| past_9999("the expiry reaches past the year 9999").on(place()))?,
    };
    let born_expired = wanted - now < Duration::minutes(1);
    if born_expired && !profile.rules.are_cfssls() {
        return Err(PrimError::invalid("a certificate of this profile would be born expired")
            .on(place())
            .expected(format!("an end after {}", date(now)), date(wanted))
            .hint("the expiry counts from the backdated start: make it longer than the backdate (5m unless set)"));
    }
    let mut template = Template::leaf(subject, spki, not_before, wanted.min(ca.not_after()));
    template.key_usage = (profile.key_usage != KeyUsage::default()).then_some(profile.key_usage);
    template.ext_usage.clone_from(&profile.ext_usage);
    template.basic = Some(profile.basic);
    template.never_valid = born_expired;
    template.extra = urls(profile)?;
    Ok(template)
}

/// No certificate can name a later year.
pub(crate) fn past_9999(message: &str) -> PrimError {
    PrimError::invalid(message)
        .expected("an end before the year 10000", "a later one")
        .hint("ask for a shorter life: `87600h` are ten years")
}

pub(crate) fn whole_minute(now: OffsetDateTime) -> OffsetDateTime {
    let seconds = now.unix_timestamp();
    OffsetDateTime::from_unix_timestamp(seconds - seconds.rem_euclid(60)).unwrap_or(now)
}

/// The extensions for a profile's URLs: authority information access and revocation list distribution points.
fn urls(profile: &Profile) -> Result<Vec<(String, bool, Vec<u8>)>, PrimError> {
    use crate::cert::der;
    let mut out = Vec::new();
    let mut access = Vec::new();
    if !profile.ocsp_url.is_empty() {
        access.push(("1.3.6.1.5.5.7.48.1", &profile.ocsp_url));
    }
    access.extend(profile.issuer_urls.iter().map(|url| ("1.3.6.1.5.5.7.48.2", url)));
    if !access.is_empty() {
        let entries = access
            .into_iter()
            .map(|(method, url)| {
                Ok(der::seq(&[&der::oid(method)?, &der::context_primitive(6, url.as_bytes())]))
            })
            .collect::<Result<Vec<_>, PrimError>>()?;
        let value = der::seq(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
        out.push(("1.3.6.1.5.5.7.1.1".to_owned(), false, value));
    }
    if !profile.crl_url.is_empty() {
        let name = der::context_primitive(6, profile.crl_url.as_bytes());
        let point = der::seq(&[&der::context(0, &der::context(0, &name))]);
        out.push(("2.5.29.31".to_owned(), false, der::seq(&[&point])));
    }
    Ok(out)
}

/// All names of `first`, then those of `second` that are not among them.
pub(crate) fn union(first: &[San], second: &[San]) -> Vec<San> {
    let mut all = first.to_vec();
    for name in second {
        if !all.iter().any(|known| known.same(name)) {
            all.push(name.clone());
        }
    }
    all
}
