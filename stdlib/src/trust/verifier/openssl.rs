//! OpenSSL 3.0's `X509_verify_cert` with the purposes of a TLS server or client: the first issuer that fits is the only
//! one tried, and a certificate that looks self-signed must be an anchor itself.

use rustls_pki_types::CertificateDer;

use super::super::{Ask, Rejection, Usage};
use super::signature::{self, KeyKind};
use super::x509::{Cert, DIGITAL_SIGNATURE, KEY_AGREEMENT, KEY_CERT_SIGN, KEY_ENCIPHERMENT};
use super::{hosts, malformed, openssl_names, reject};

/// OpenSSL's default `depth`.
const MAX_DEPTH: usize = 101;

/// A malformed certificate, in the chain or among the anchors, fails: OpenSSL does not load such a file.
pub(super) fn verify(
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    ask: &Ask<'_>,
) -> Result<usize, Rejection> {
    let presented = chain
        .iter()
        .map(Cert::parse)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| malformed("a certificate of the chain"))?;
    let store = anchors
        .iter()
        .map(Cert::parse)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| malformed("a trusted certificate"))?;
    let Some((leaf, untrusted)) = presented.split_first() else { return Err(malformed("the chain")) };
    let now = ask.at.unix_timestamp();

    let path = build(leaf, untrusted, &store, now)?;
    check_extensions(&path, ask.usage)?;
    if let Some(name) = ask.name.filter(|name| !hosts::openssl(leaf, name)) {
        return Err(super::name_mismatch(leaf, name));
    }
    check_signatures(&path, now)?;
    openssl_names::check(&path)?;
    Ok(path
        .last()
        .and_then(|anchor| store.iter().position(|known| known.der == anchor.der))
        .unwrap_or_default())
}

/// `build_chain` with "trusted first", as is the default: grow by the store, else by what the peer sent, until a
/// self-signed certificate of the store ends it.
fn build<'c, 'a>(
    leaf: &'c Cert<'a>,
    untrusted: &'c [Cert<'a>],
    store: &'c [Cert<'a>],
    now: i64,
) -> Result<Vec<&'c Cert<'a>>, Rejection> {
    let mut path = vec![leaf];
    let mut offered: Vec<&'c Cert<'a>> = untrusted.iter().collect();
    let mut from_peer = true;
    while let Some(current) = path.last().copied() {
        let too_long = path.len() > MAX_DEPTH;
        let issuer = if too_long { None } else { best(current, store.iter(), now, |_| true) };
        match issuer {
            Some(issuer) if !self_signed(current) => {
                path.push(issuer);
                if self_signed(issuer) {
                    return Ok(path);
                }
                from_peer = false;
                continue;
            }
            // A self-signed certificate is replaced by its equal of the store; a mimic is not.
            Some(issuer) if issuer.der == current.der => {
                path.pop();
                path.push(issuer);
                return Ok(path);
            }
            _ => {}
        }
        let next = if from_peer && !too_long && !self_signed(current) {
            let alone = path.len() == 1 && current.self_issued();
            best(current, offered.iter().copied(), now, |issuer| {
                alone || !path.iter().any(|known| known.der == issuer.der)
            })
        } else {
            None
        };
        let Some(issuer) = next else { break };
        offered.retain(|other| !std::ptr::eq(*other, issuer));
        path.push(issuer);
    }
    let Some(last) = path.last() else { return Err(malformed("the chain")) };
    if path.len() > MAX_DEPTH {
        return Err(reject(
            "path-length",
            format!("the path of `{}` has no end: trusted authorities have signed each other", leaf.title()),
        ));
    }
    if path.len() > 1 && self_signed(last) {
        let text = format!("certificate `{}` ends at `{}`, which is not trusted", leaf.title(), last.title());
        return Err(reject("unknown-authority", text));
    }
    if !self_signed(last) {
        return Err(super::unknown_authority(last));
    }
    Err(reject(
        "self-signed",
        format!(
            "certificate `{}` looks self-signed (its subject is its issuer{}) and is not itself trusted",
            last.title(),
            if last.authority.is_none() { " and it has no authority key identifier" } else { "" },
        ),
    ))
}

/// The first issuer that is valid now, else the one that expired last.
fn best<'c, 'a: 'c>(
    cert: &Cert<'_>,
    pool: impl Iterator<Item = &'c Cert<'a>>,
    now: i64,
    usable: impl Fn(&Cert<'_>) -> bool,
) -> Option<&'c Cert<'a>> {
    let mut latest: Option<&'c Cert<'a>> = None;
    for issuer in pool {
        if !likely_issued(issuer, cert) || !usable(issuer) {
            continue;
        }
        if in_time(issuer, now).is_ok() {
            return Some(issuer);
        }
        if latest.is_none_or(|known| issuer.not_after > known.not_after) {
            latest = Some(issuer);
        }
    }
    latest
}

/// `ossl_x509_likely_issued`: names, authority key identifier, and the kind of key; not the signature.
fn likely_issued(issuer: &Cert<'_>, cert: &Cert<'_>) -> bool {
    issuer.canonical_subject == cert.canonical_issuer
        && authority_matches(issuer, cert)
        && key_fits(issuer, cert)
}

fn authority_matches(issuer: &Cert<'_>, cert: &Cert<'_>) -> bool {
    let Some(authority) = &cert.authority else { return true };
    let key = match (authority.key_id, issuer.key_id) {
        (Some(wanted), Some(has)) => wanted == has,
        _ => true,
    };
    let serial = authority.serial.is_none_or(|serial| serial == issuer.x.raw_serial());
    let name = authority.issuer.as_ref().is_none_or(|name| *name == issuer.canonical_issuer);
    key && serial && name
}

fn key_fits(issuer: &Cert<'_>, cert: &Cert<'_>) -> bool {
    let kind = signature::key_kind(issuer.x.public_key());
    kind != KeyKind::Other && signature::signer_kind(cert) == Some(kind)
}

/// `EXFLAG_SS`: decided without the signature, so a leaf whose DN is that of its CA can look self-signed.
fn self_signed(cert: &Cert<'_>) -> bool {
    cert.self_issued() && authority_matches(cert, cert) && key_fits(cert, cert)
}

/// `X509_check_ca`: 0 is no authority, 1 is one, 3 and 4 pass for an anchor only.
fn ca_rank(cert: &Cert<'_>) -> u8 {
    if cert.key_usage.is_some_and(|usage| usage & KEY_CERT_SIGN == 0) {
        return 0;
    }
    match cert.basic {
        Some(basic) => u8::from(basic.ca),
        None if cert.version == 1 && self_signed(cert) => 3,
        None if cert.key_usage.is_some() => 4,
        None => 0,
    }
}

fn check_extensions(path: &[&Cert<'_>], usage: Usage) -> Result<(), Rejection> {
    let mut authorities_below = 0_u32;
    for (depth, cert) in path.iter().enumerate() {
        if cert.critical.iter().any(|id| !supported(id)) {
            return Err(super::critical_extension(cert));
        }
        if depth > 0 {
            let rank = ca_rank(cert);
            if rank == 0 || (depth + 1 < path.len() && rank != 1) {
                return Err(super::not_a_ca(cert));
            }
        }
        if !fits_purpose(cert, usage, depth > 0) {
            return Err(super::usage(cert, usage));
        }
        let limit = cert.basic.and_then(|basic| basic.path_len);
        if depth > 1 && limit.is_some_and(|limit| authorities_below > limit) {
            return Err(super::path_length(cert));
        }
        if depth > 0 && !cert.self_issued() {
            authorities_below += 1;
        }
    }
    Ok(())
}

/// The critical extensions that OpenSSL processes.
fn supported(id: &str) -> bool {
    matches!(
        id,
        "2.16.840.1.113730.1.1"
            | "2.5.29.15"
            | "2.5.29.17"
            | "2.5.29.19"
            | "2.5.29.32"
            | "2.5.29.31"
            | "2.5.29.37"
            | "1.3.6.1.5.5.7.1.7"
            | "1.3.6.1.5.5.7.1.8"
            | "2.5.29.36"
            | "2.5.29.30"
            | "2.5.29.33"
            | "2.5.29.54"
    )
}

/// `check_purpose_ssl_server` and `check_purpose_ssl_client`; an authority is held to the extended usage too, and
/// `anyExtendedKeyUsage` is not enough.
fn fits_purpose(cert: &Cert<'_>, usage: Usage, authority: bool) -> bool {
    let listed = cert.extended.is_none_or(|extended| match usage {
        Usage::Server => extended.server || extended.sgc,
        Usage::Client => extended.client,
    });
    if !listed {
        return false;
    }
    if authority {
        return ca_rank(cert) != 0;
    }
    let wanted = match usage {
        Usage::Server => DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT,
        Usage::Client => DIGITAL_SIGNATURE | KEY_AGREEMENT,
    };
    cert.key_usage.is_none_or(|usage| usage & wanted != 0)
}

/// `internal_verify`: from the anchor down, the signature and then the time of each; the anchor's time counts too.
fn check_signatures(path: &[&Cert<'_>], now: i64) -> Result<(), Rejection> {
    for (depth, cert) in path.iter().enumerate().rev() {
        if let Some(issuer) = path.get(depth + 1) {
            if issuer.key_usage.is_some_and(|usage| usage & KEY_CERT_SIGN == 0) {
                return Err(super::not_a_ca(issuer));
            }
            if !signature::verifies(cert, issuer) {
                return Err(super::bad_signature(cert));
            }
        }
        in_time(cert, now)?;
    }
    Ok(())
}

/// OpenSSL's comparison: valid from the first second on, and no longer in the last.
fn in_time(cert: &Cert<'_>, now: i64) -> Result<(), Rejection> {
    if cert.not_before > now {
        return Err(super::not_yet_valid(cert));
    }
    if cert.not_after <= now {
        return Err(super::expired(cert));
    }
    Ok(())
}
