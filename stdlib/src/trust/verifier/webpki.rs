//! webpki itself: nothing is emulated here.

use ::webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};

use super::super::{Ask, Rejection, Usage};
use super::x509::Cert;
use super::{malformed, reject};

/// Anchors that webpki cannot read are left out, as rustls' `add_parsable_certificates` does.
pub(super) fn verify(
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    ask: &Ask<'_>,
) -> Result<usize, Rejection> {
    let Some((leaf, intermediates)) = chain.split_first() else { return Err(malformed("the chain")) };
    let readable: Vec<(usize, TrustAnchor<'_>)> = anchors
        .iter()
        .enumerate()
        .filter_map(|(index, anchor)| anchor_from_trusted_cert(anchor).ok().map(|anchor| (index, anchor)))
        .collect();
    let trusted: Vec<TrustAnchor<'_>> = readable.iter().map(|(_, anchor)| anchor.clone()).collect();
    let entity = EndEntityCert::try_from(leaf).map_err(|error| explain(&error, leaf, ask))?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(ask.at.unix_timestamp()).unwrap_or_default(),
    ));
    let usage = match ask.usage {
        Usage::Server => KeyUsage::server_auth(),
        Usage::Client => KeyUsage::client_auth(),
    };
    let path = entity
        .verify_for_usage(ALL_VERIFICATION_ALGS, &trusted, intermediates, now, usage, None, None)
        .map_err(|error| explain(&error, leaf, ask))?;
    let position = trusted.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
    if let Some(name) = ask.name {
        let server = ServerName::try_from(super::hosts::bare(name))
            .map_err(|_| reject("name-mismatch", format!("`{name}` is not a DNS name or an IP address")))?;
        entity.verify_is_valid_for_subject_name(&server).map_err(|error| explain(&error, leaf, ask))?;
    }
    Ok(position.and_then(|position| readable.get(position)).map_or(0, |(index, _)| *index))
}

/// webpki does not say which certificate of a path it means; the leaf names the path.
fn explain(error: &Error, leaf: &CertificateDer<'_>, ask: &Ask<'_>) -> Rejection {
    let Some(leaf) = Cert::parse(leaf) else { return malformed("the leaf certificate") };
    let title = leaf.title();
    match error {
        Error::CertExpired { not_after, .. } => {
            let seconds = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            reject(
                "expired",
                format!("in the chain of `{title}`, a certificate expired on {}", super::date(seconds)),
            )
        }
        Error::CertNotValidYet { not_before, .. } => {
            let seconds = i64::try_from(not_before.as_secs()).unwrap_or(i64::MAX);
            reject(
                "not-yet-valid",
                format!(
                    "in the chain of `{title}`, a certificate is not valid before {}",
                    super::date(seconds)
                ),
            )
        }
        Error::UnknownIssuer => super::unknown_authority(&leaf),
        Error::InvalidSignatureForPublicKey => super::bad_signature(&leaf),
        Error::CertNotValidForName(_) => super::name_mismatch(&leaf, ask.name.unwrap_or_default()),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => super::usage(&leaf, ask.usage),
        Error::PathLenConstraintViolated => reject(
            "path-length",
            format!("the chain of `{title}` is longer than one of its authorities allows"),
        ),
        Error::EndEntityUsedAsCa => {
            reject("not-a-ca", format!("the chain of `{title}` has an intermediate that is not an authority"))
        }
        Error::CaUsedAsEndEntity => {
            reject("usage", format!("certificate `{title}` is an authority, and may not be used as a leaf"))
        }
        Error::NameConstraintViolation => reject(
            "name-constraint",
            format!(
                "the name constraints of an authority do not allow the names of `{title}`: {}",
                leaf.name_list()
            ),
        ),
        Error::UnsupportedCriticalExtension => super::critical_extension(&leaf),
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => reject(
            "bad-signature",
            format!("the chain of `{title}` uses a signature algorithm that is not accepted"),
        ),
        other => reject("malformed", format!("the chain of `{title}` is not acceptable: {other}")),
    }
}
