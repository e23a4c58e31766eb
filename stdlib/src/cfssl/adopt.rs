//! Whether a leaf that is there already is as good as a new one.

use time::OffsetDateTime;

use super::issue::union;
use super::{Profile, Request};
use crate::cert::{Certificate, Key, San};
use crate::error::PrimError;

/// Why a leaf is not kept, in words; `None` keeps it.
///
/// Kept is what this CA signed, whose key is there, which has the request's CN, all its names and the profile's usages,
/// and more than half of its life before it.
pub(crate) fn reason_against(
    leaf: &Certificate,
    key: Option<&Key>,
    ca: &Certificate,
    request: &Request,
    profile: &Profile,
    now: OffsetDateTime,
) -> Option<String> {
    if let Err(error) = leaf.check_signed_by(ca) {
        return Some(error.message);
    }
    match key {
        None => return Some("its private key is not there".into()),
        Some(key) if !key.matches(leaf) => return Some("its private key is another's".into()),
        Some(_) => {}
    }
    if leaf.common_name() != request.cn {
        return Some(format!(
            "its CN is `{}`, not `{}`",
            leaf.common_name().escape_debug(),
            request.cn.escape_debug()
        ));
    }
    let missing: Vec<String> = request
        .hosts
        .iter()
        .filter(|host| !leaf.sans().iter().any(|san| san.same(host)))
        .map(San::to_string)
        .collect();
    if !missing.is_empty() {
        return Some(format!("it does not name {}", missing.join(", ")));
    }
    if let Some(usage) = profile.ext_usage.iter().find(|usage| !leaf.allows(usage)) {
        return Some(format!("it lacks the usage `{}`", usage.name()));
    }
    if leaf.key_usage().is_some_and(|usage| !usage.contains(profile.key_usage)) {
        return Some("it lacks a key usage of the profile".into());
    }
    let life = leaf.not_after() - leaf.not_before();
    if !leaf.valid_at(now) || leaf.not_after() - now <= life / 2 {
        return Some("half of its life is over".into());
    }
    None
}

/// The request for a leaf that follows `old`: with all of the old one's names besides its own.
///
/// # Errors
/// The CN would change: parties that check it (`cert-allowed-cn`, `cluster-verify-cn`) would refuse the new leaf.
pub(crate) fn following(old: &Certificate, request: &Request) -> Result<(Request, Vec<San>), PrimError> {
    if old.common_name() != request.cn {
        return Err(PrimError::invalid("CN: the request names another than the certificate in use")
            .on(request.what.clone())
            .expected(
                format!("`{}`, as in the certificate in use", old.common_name().escape_debug()),
                format!("`{}`", request.cn.escape_debug()),
            )
            .hint("set the CN of the request as it was: components that check it (`cert-allowed-cn`, `cluster-verify-cn`) would refuse the new certificate"));
    }
    let hosts = union(&request.hosts, old.sans());
    let added = hosts.iter().skip(request.hosts.len()).cloned().collect();
    Ok((Request { hosts, ..request.clone() }, added))
}
