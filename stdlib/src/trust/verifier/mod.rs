//! Whether a verifier accepts a chain: the real webpki, and emulations of Go's crypto/x509 and of OpenSSL.
//!
//! The emulations follow the rules of the originals, in their order, their oddities included; a test compares them with
//! the originals on a thousand generated chains. They do no revocation, no policies and no proxy certificates.

mod go;
mod go_names;
mod hosts;
mod openssl;
mod openssl_names;
mod signature;
mod webpki;
mod x509;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
pub(super) use x509::validity;
pub use x509::{Described, describe};

use self::x509::Cert;
use super::{Ask, Rejection, Usage, Verifier};

/// What a verifier with these anchors answers to a peer that presents this chain, leaf first: the index of the anchor
/// that the path ends in, or why it refuses.
///
/// # Errors
/// The verifier refuses the chain, or it is malformed.
pub fn verify(
    verifier: Verifier,
    chain: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    ask: &Ask<'_>,
) -> Result<usize, Rejection> {
    let Some(leaf) = chain.first() else {
        return Err(reject("empty-chain", "the peer presents no certificate"));
    };
    let anchor = match verifier {
        Verifier::Webpki => webpki::verify(chain, anchors, ask),
        Verifier::Go => go::verify(chain, anchors, ask),
        Verifier::Openssl => openssl::verify(chain, anchors, ask),
    }?;
    check_common_name(verifier, leaf, ask.allowed_cn)?;
    Ok(anchor)
}

/// The allowed common names of PD, TiKV and their like, which come after the verifier's own rules. Go keeps the last
/// common name of a subject, OpenSSL's accessor gives the first.
fn check_common_name(
    verifier: Verifier,
    leaf: &CertificateDer<'_>,
    allowed: &[String],
) -> Result<(), Rejection> {
    if allowed.is_empty() {
        return Ok(());
    }
    let leaf = Cert::parse(leaf).ok_or_else(|| malformed("the leaf certificate"))?;
    let names = leaf.common_names();
    let name = if verifier == Verifier::Go { names.last() } else { names.first() };
    let name = name.map_or("", String::as_str);
    if allowed.iter().any(|allowed| allowed == name) {
        return Ok(());
    }
    Err(reject(
        "cn-not-allowed",
        format!("common name `{name}` is not among the allowed: {}", allowed.join(", ")),
    ))
}

fn reject(code: &str, text: impl Into<String>) -> Rejection {
    Rejection { code: code.to_owned(), text: text.into() }
}

fn malformed(what: &str) -> Rejection {
    reject("malformed", format!("{what} is malformed"))
}

fn expired(cert: &Cert<'_>) -> Rejection {
    reject("expired", format!("certificate `{}` expired on {}", cert.title(), date(cert.not_after)))
}

fn not_yet_valid(cert: &Cert<'_>) -> Rejection {
    reject(
        "not-yet-valid",
        format!("certificate `{}` is not valid before {}", cert.title(), date(cert.not_before)),
    )
}

fn usage(cert: &Cert<'_>, usage: Usage) -> Rejection {
    let role = match usage {
        Usage::Server => "server",
        Usage::Client => "client",
    };
    reject("usage", format!("certificate `{}` may not be used for {role} authentication", cert.title()))
}

fn unknown_authority(cert: &Cert<'_>) -> Rejection {
    reject(
        "unknown-authority",
        format!(
            "certificate `{}` is issued by `{}`, which is not trusted",
            cert.title(),
            cert.issuer_title()
        ),
    )
}

fn bad_signature(cert: &Cert<'_>) -> Rejection {
    reject(
        "bad-signature",
        format!(
            "the signature on `{}` is not by the key of the trusted `{}`",
            cert.title(),
            cert.issuer_title()
        ),
    )
}

fn name_mismatch(cert: &Cert<'_>, name: &str) -> Rejection {
    reject(
        "name-mismatch",
        format!("certificate `{}` is not valid for `{name}`; it names {}", cert.title(), cert.name_list()),
    )
}

fn not_a_ca(cert: &Cert<'_>) -> Rejection {
    reject("not-a-ca", format!("certificate `{}` may not sign certificates", cert.title()))
}

fn path_length(cert: &Cert<'_>) -> Rejection {
    reject(
        "path-length",
        format!("the path length of `{}` does not allow the intermediate authorities below it", cert.title()),
    )
}

fn name_constraint(cert: &Cert<'_>, name: &str) -> Rejection {
    reject("name-constraint", format!("the name constraints of `{}` do not allow `{name}`", cert.title()))
}

fn critical_extension(cert: &Cert<'_>) -> Rejection {
    reject(
        "critical-extension",
        format!("certificate `{}` has a critical extension that is not understood", cert.title()),
    )
}

fn date(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}
