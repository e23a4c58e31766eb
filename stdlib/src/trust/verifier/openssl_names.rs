//! Name constraints as OpenSSL applies them: of every authority above, to every certificate below that is not
//! self-issued, the leaf always, its directory name and (without DNS names) its common names too.

use super::super::Rejection;
use super::x509::{Cert, Constraints, Name};

/// Checks a whole path, leaf first.
pub(super) fn check(path: &[&Cert<'_>]) -> Result<(), Rejection> {
    for (depth, cert) in path.iter().enumerate().rev() {
        if depth > 0 && cert.self_issued() {
            continue;
        }
        for above in path.iter().skip(depth + 1).rev() {
            let Some(constraints) = &above.constraints else { continue };
            permits(constraints, cert, depth == 0).map_err(|name| super::name_constraint(above, &name))?;
        }
    }
    Ok(())
}

fn permits(constraints: &Constraints<'_>, cert: &Cert<'_>, leaf: bool) -> Result<(), String> {
    if !cert.canonical_subject.0.is_empty() {
        one(constraints, &Name::Directory(cert.canonical_subject.clone())).map_err(|()| cert.title())?;
        for email in cert.x.subject().iter_email() {
            let email = email.as_str().map_err(|_| cert.title())?;
            one(constraints, &Name::Email(email)).map_err(|()| email.to_owned())?;
        }
    }
    let names = cert.names.as_deref().unwrap_or_default();
    for name in names {
        one(constraints, name).map_err(|()| shown(name))?;
    }
    if leaf && !names.iter().any(|name| matches!(name, Name::Dns(_))) {
        for name in cert.common_names() {
            if looks_like_host(&name) {
                one(constraints, &Name::Dns(&name)).map_err(|()| name.clone())?;
            }
        }
    }
    Ok(())
}

fn shown(name: &Name<'_>) -> String {
    match name {
        Name::Dns(name) | Name::Email(name) | Name::Uri(name) => (*name).to_owned(),
        Name::Ip(bytes) => super::x509::address(bytes),
        Name::Directory(_) => "its directory name".to_owned(),
        Name::Other => "a name of another kind".to_owned(),
    }
}

/// `nc_match`.
fn one(constraints: &Constraints<'_>, name: &Name<'_>) -> Result<(), ()> {
    let same = |constraint: &&Name<'_>| std::mem::discriminant(*constraint) == std::mem::discriminant(name);
    let (mut asked, mut matched) = (false, false);
    for permitted in constraints.permitted.iter().filter(same) {
        asked = true;
        matched = matched || matches(permitted, name)?;
    }
    if asked && !matched {
        return Err(());
    }
    for excluded in constraints.excluded.iter().filter(same) {
        if matches(excluded, name)? {
            return Err(());
        }
    }
    Ok(())
}

/// `nc_match_single`; the error is a syntax that OpenSSL refuses.
fn matches(base: &Name<'_>, name: &Name<'_>) -> Result<bool, ()> {
    Ok(match (base, name) {
        (Name::Directory(base), Name::Directory(name)) => name.0.starts_with(&base.0),
        (Name::Dns(base), Name::Dns(name)) => {
            if base.is_empty() {
                return Ok(true);
            }
            ends_with(name, base)
                && (name.len() == base.len()
                    || base.starts_with('.')
                    || name.as_bytes().get(name.len() - base.len() - 1) == Some(&b'.'))
        }
        (Name::Ip(base), Name::Ip(address)) => {
            let (net, mask) = base.split_at_checked(base.len() / 2).ok_or(())?;
            if !matches!(address.len(), 4 | 16) || !matches!(base.len(), 8 | 32) {
                return Err(());
            }
            net.len() == address.len()
                && address.iter().zip(net).zip(mask).all(|((byte, net), mask)| byte & mask == net & mask)
        }
        (Name::Email(base), Name::Email(email)) => {
            let (local, host) = email.rsplit_once('@').ok_or(())?;
            match base.rsplit_once('@') {
                None if base.starts_with('.') => email.len() > base.len() && ends_with(email, base),
                None => base.eq_ignore_ascii_case(host),
                Some((wanted, domain)) => {
                    (wanted.is_empty() || wanted == local) && domain.eq_ignore_ascii_case(host)
                }
            }
        }
        (Name::Uri(base), Name::Uri(uri)) => {
            let rest = uri.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//")).ok_or(())?;
            let host = match rest.split_once(':') {
                Some((host, _)) => host,
                None => rest.split('/').next().unwrap_or_default(),
            };
            if host.is_empty() {
                return Err(());
            }
            if base.starts_with('.') {
                host.len() > base.len() && ends_with(host, base)
            } else {
                base.eq_ignore_ascii_case(host)
            }
        }
        _ => return Err(()),
    })
}

fn ends_with(text: &str, tail: &str) -> bool {
    text.len()
        .checked_sub(tail.len())
        .and_then(|at| text.as_bytes().get(at..))
        .is_some_and(|end| end.eq_ignore_ascii_case(tail.as_bytes()))
}

/// `cn2dnsid`: whether a common name could be a host name of two labels or more.
fn looks_like_host(name: &str) -> bool {
    let bytes = name.trim_end_matches('\0').as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    let mut dotted = false;
    for (index, byte) in bytes.iter().enumerate() {
        let inner = index > 0 && index + 1 < bytes.len();
        match byte {
            byte if byte.is_ascii_alphanumeric() || *byte == b'_' => {}
            b'-' if inner => {}
            b'.' if inner && at(index + 1) != b'.' && at(index - 1) != b'-' && at(index + 1) != b'-' => {
                dotted = true;
            }
            _ => return false,
        }
    }
    dotted
}
