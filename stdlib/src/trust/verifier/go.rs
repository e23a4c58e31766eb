//! Go's crypto/x509 (as of 1.19, the rules that its later versions share): every path is tried.

use rustls_pki_types::CertificateDer;

use super::super::{Ask, Rejection, Usage};
use super::x509::{Cert, KEY_CERT_SIGN, Name};
use super::{go_names, hosts, malformed, reject, signature};

/// Go's `maxChainSignatureChecks`.
const MAX_SIGNATURE_CHECKS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Leaf,
    Intermediate,
    Root,
}

/// A path from the leaf (first) to an anchor (last).
type Path<'c, 'a> = Vec<&'c Cert<'a>>;

/// Go's crypto/tls: a malformed certificate in the chain fails, one among the anchors is passed over.
pub(super) fn verify(
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    ask: &Ask<'_>,
) -> Result<usize, Rejection> {
    let chain = chain
        .iter()
        .map(|der| Cert::parse(der).filter(|cert| go_names::readable(cert)))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| malformed("a certificate of the chain"))?;
    let (Some(leaf), intermediates) = (chain.first(), chain.get(1..).unwrap_or_default()) else {
        return Err(malformed("the chain"));
    };
    let roots: Vec<(usize, Cert<'_>)> = anchors
        .iter()
        .enumerate()
        .filter_map(|(index, der)| {
            Cert::parse(der).filter(|cert| go_names::readable(cert)).map(|cert| (index, cert))
        })
        .collect();
    let index_of = |root: &Cert<'_>| {
        roots.iter().find(|(_, known)| known.der == root.der).map_or(0, |(index, _)| *index)
    };

    is_valid(leaf, Place::Leaf, &[], ask)?;
    if let Some(name) = ask.name.filter(|name| !hosts::go(leaf, name)) {
        return Err(super::name_mismatch(leaf, name));
    }
    let paths = if roots.iter().any(|(_, root)| root.der == leaf.der) {
        vec![vec![leaf]]
    } else {
        let mut search = Search { roots: &roots, intermediates, ask, signature_checks: 0 };
        search.paths(leaf, &vec![leaf])?
    };
    let mut refused = leaf;
    for path in &paths {
        match first_without_usage(path, ask.usage) {
            None => return Ok(path.last().map_or(0, |root| index_of(root))),
            Some(cert) => refused = cert,
        }
    }
    Err(super::usage(refused, ask.usage))
}

struct Search<'s, 'a> {
    roots: &'s [(usize, Cert<'a>)],
    intermediates: &'s [Cert<'a>],
    ask: &'s Ask<'s>,
    signature_checks: usize,
}

impl<'s, 'a> Search<'s, 'a> {
    /// Go's `buildChains`: the last error met is the one that counts when there is no path.
    fn paths(&mut self, cert: &'s Cert<'a>, so_far: &Path<'s, 'a>) -> Result<Vec<Path<'s, 'a>>, Rejection> {
        let mut found = Vec::new();
        let mut error = None;
        let mut bad_signature = false;
        let roots =
            parents(cert, self.roots.iter().map(|(_, root)| root)).into_iter().map(|c| (Place::Root, c));
        let others = parents(cert, self.intermediates.iter()).into_iter().map(|c| (Place::Intermediate, c));
        for (place, candidate) in roots.chain(others).collect::<Vec<_>>() {
            if in_chain(candidate, so_far) {
                continue;
            }
            self.signature_checks += 1;
            if self.signature_checks > MAX_SIGNATURE_CHECKS {
                error = Some(reject("unknown-authority", "too many certificates have to be tried"));
                continue;
            }
            if !may_sign(candidate) {
                error.get_or_insert_with(|| super::not_a_ca(candidate));
                continue;
            }
            if signature::is_sha1(cert) || !signature::verifies(cert, candidate) {
                bad_signature = true;
                continue;
            }
            if let Err(rejection) = is_valid(candidate, place, so_far, self.ask) {
                error = Some(rejection);
                continue;
            }
            let mut longer = so_far.clone();
            longer.push(candidate);
            if place == Place::Root {
                found.push(longer);
                continue;
            }
            match self.paths(candidate, &longer) {
                Ok(paths) => found.extend(paths),
                Err(rejection) => error = Some(rejection),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        Err(error.unwrap_or_else(|| {
            if bad_signature { super::bad_signature(cert) } else { super::unknown_authority(cert) }
        }))
    }
}

/// Go's `findPotentialParents`: by subject, those whose key id matches first.
fn parents<'s, 'a: 's>(cert: &Cert<'_>, pool: impl Iterator<Item = &'s Cert<'a>>) -> Vec<&'s Cert<'a>> {
    let wanted = cert.authority.as_ref().and_then(|authority| authority.key_id).unwrap_or_default();
    let mut ranked: Vec<(u8, &Cert<'a>)> = pool
        .filter(|candidate| candidate.subject == cert.issuer)
        .map(|candidate| {
            let has = candidate.key_id.unwrap_or_default();
            let rank = if has == wanted {
                0
            } else if has.is_empty() || wanted.is_empty() {
                1
            } else {
                2
            };
            (rank, candidate)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Go's `alreadyInChain`.
fn in_chain(candidate: &Cert<'_>, chain: &[&Cert<'_>]) -> bool {
    for cert in chain {
        if candidate.subject != cert.subject || candidate.x.public_key().raw != cert.x.public_key().raw {
            continue;
        }
        match (candidate.names_raw, cert.names_raw) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(one), Some(other)) if one == other => return true,
            _ => {}
        }
    }
    false
}

/// The conditions of Go's `CheckSignatureFrom` on the signer.
fn may_sign(parent: &Cert<'_>) -> bool {
    let authority = match parent.basic {
        Some(basic) => basic.ca,
        None => parent.version != 3,
    };
    authority && parent.key_usage.is_none_or(|usage| usage == 0 || usage & KEY_CERT_SIGN != 0)
}

/// Go's `Certificate.isValid`.
fn is_valid(cert: &Cert<'_>, place: Place, chain: &[&Cert<'_>], ask: &Ask<'_>) -> Result<(), Rejection> {
    if unhandled_critical(cert) {
        return Err(super::critical_extension(cert));
    }
    let now = ask.at.unix_timestamp_nanos();
    if now < nanos(cert.not_before) {
        return Err(super::not_yet_valid(cert));
    }
    if now > nanos(cert.not_after) {
        return Err(super::expired(cert));
    }
    if let Some(constraints) = cert.constraints.as_ref().filter(|_| place != Place::Leaf) {
        for named in chain.first().into_iter().copied().chain([cert]) {
            for name in named.names.iter().flatten() {
                go_names::allowed(constraints, name).map_err(|name| super::name_constraint(cert, &name))?;
            }
        }
    }
    if place == Place::Intermediate && !cert.basic.is_some_and(|basic| basic.ca) {
        return Err(super::not_a_ca(cert));
    }
    if let Some(limit) = cert.basic.and_then(|basic| basic.path_len) {
        let below = chain.len().saturating_sub(1);
        if below > usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(super::path_length(cert));
        }
    }
    Ok(())
}

fn nanos(seconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000
}

fn unhandled_critical(cert: &Cert<'_>) -> bool {
    cert.critical.iter().any(|id| match id.as_str() {
        "2.5.29.14" | "2.5.29.15" | "2.5.29.19" | "2.5.29.31" | "2.5.29.32" | "2.5.29.35" | "2.5.29.37"
        | "1.3.6.1.5.5.7.1.1" => false,
        "2.5.29.17" => {
            cert.names.iter().flatten().all(|name| matches!(name, Name::Other | Name::Directory(_)))
        }
        "2.5.29.30" => cert.constraints.as_ref().is_some_and(go_names::unhandled),
        _ => true,
    })
}

/// Go's `checkChainForKeyUsage` for one usage: each certificate that has the extension must list it, or any.
fn first_without_usage<'c, 'a>(path: &[&'c Cert<'a>], usage: Usage) -> Option<&'c Cert<'a>> {
    path.iter().rev().copied().find(|cert| {
        cert.extended.is_some_and(|extended| {
            !extended.empty
                && !extended.any
                && !match usage {
                    Usage::Server => extended.server,
                    Usage::Client => extended.client,
                }
        })
    })
}
