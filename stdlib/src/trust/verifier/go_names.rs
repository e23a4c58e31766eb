//! Name constraints as Go's crypto/x509 applies them.

use super::x509::{Cert, Constraints, Name};

/// Whether Go parses the names and constraints of the certificate at all.
pub(super) fn readable(cert: &Cert<'_>) -> bool {
    let names = cert.names.iter().flatten().all(|name| match name {
        Name::Dns(name) | Name::Email(name) => name.is_ascii(),
        Name::Uri(uri) => {
            uri.is_ascii() && host_of(uri).is_none_or(|host| host.is_empty() || labels(host).is_some())
        }
        Name::Ip(bytes) => matches!(bytes.len(), 4 | 16),
        Name::Directory(_) | Name::Other => true,
    });
    let constraints = cert.constraints.as_ref().is_none_or(|constraints| {
        let mut all = constraints.permitted.iter().chain(&constraints.excluded).peekable();
        all.peek().is_some() && all.all(constraint_readable)
    });
    names && constraints
}

fn constraint_readable(constraint: &Name<'_>) -> bool {
    let domain = |text: &str| text.is_ascii() && labels(text.strip_prefix('.').unwrap_or(text)).is_some();
    match constraint {
        Name::Dns(name) => domain(name),
        Name::Uri(name) => name.parse::<std::net::IpAddr>().is_err() && domain(name),
        Name::Email(name) => match name.rsplit_once('@') {
            Some((local, host)) => !local.is_empty() && labels(host).is_some(),
            None => domain(name),
        },
        Name::Ip(bytes) => match bytes.len() {
            8 => bytes.get(4..).is_some_and(contiguous),
            32 => bytes.get(16..).is_some_and(contiguous),
            _ => false,
        },
        Name::Directory(_) | Name::Other => true,
    }
}

fn contiguous(mask: &[u8]) -> bool {
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
    let set: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading: u32 = mask
        .iter()
        .scan(true, |open, byte| {
            let count = if *open { byte.leading_ones() } else { 0 };
            *open = *open && *byte == 0xff;
            Some(count)
        })
        .sum();
    ones == set && leading == set
}

/// Whether there are constraints of a kind that Go does not know.
pub(super) fn unhandled(constraints: &Constraints<'_>) -> bool {
    constraints
        .permitted
        .iter()
        .chain(&constraints.excluded)
        .any(|constraint| matches!(constraint, Name::Directory(_) | Name::Other))
}

/// Whether the constraints allow a name; the error is the name as text.
pub(super) fn allowed(constraints: &Constraints<'_>, name: &Name<'_>) -> Result<(), String> {
    let text = match name {
        Name::Dns(name) | Name::Email(name) | Name::Uri(name) => (*name).to_owned(),
        Name::Ip(bytes) => super::x509::address(bytes),
        Name::Directory(_) | Name::Other => return Ok(()),
    };
    let mut permitted =
        constraints.permitted.iter().filter(|constraint| same_kind(constraint, name)).peekable();
    let excluded = constraints.excluded.iter().filter(|constraint| same_kind(constraint, name));
    // Go parses the name before it compares; one that it cannot parse is refused even by constraints of another kind.
    let sound = match name {
        Name::Dns(name) => labels(name).is_some(),
        Name::Email(name) => {
            name.rsplit_once('@').is_some_and(|(local, host)| !local.is_empty() && labels(host).is_some())
        }
        _ => true,
    };
    if !sound {
        return Err(text);
    }
    for constraint in excluded {
        if matches(constraint, name).ok_or_else(|| text.clone())? {
            return Err(text);
        }
    }
    if permitted.peek().is_none() {
        return Ok(());
    }
    for constraint in permitted {
        if matches(constraint, name).ok_or_else(|| text.clone())? {
            return Ok(());
        }
    }
    Err(text)
}

fn same_kind(one: &Name<'_>, other: &Name<'_>) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// `None` where Go gives an error, which refuses.
fn matches(constraint: &Name<'_>, name: &Name<'_>) -> Option<bool> {
    match (constraint, name) {
        (Name::Dns(constraint), Name::Dns(name)) => domain_matches(name, constraint),
        (Name::Ip(constraint), Name::Ip(address)) => {
            let (base, mask) = constraint.split_at_checked(constraint.len() / 2)?;
            Some(
                base.len() == address.len()
                    && address
                        .iter()
                        .zip(base)
                        .zip(mask)
                        .all(|((byte, base), mask)| byte & mask == base & mask),
            )
        }
        (Name::Email(constraint), Name::Email(name)) => {
            let (local, host) = name.rsplit_once('@')?;
            match constraint.rsplit_once('@') {
                Some((wanted, domain)) => Some(wanted == local && domain.eq_ignore_ascii_case(host)),
                None => domain_matches(host, constraint),
            }
        }
        (Name::Uri(constraint), Name::Uri(uri)) => {
            let host = host_of(uri).filter(|host| !host.is_empty())?;
            let host =
                if host.contains(':') && !host.ends_with(']') { host.rsplit_once(':')?.0 } else { host };
            if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
                return None;
            }
            domain_matches(host, constraint)
        }
        _ => Some(false),
    }
}

fn host_of(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

fn domain_matches(domain: &str, constraint: &str) -> Option<bool> {
    if constraint.is_empty() {
        return Some(true);
    }
    let domain = labels(domain)?;
    let below = constraint.starts_with('.');
    let constraint = labels(constraint.strip_prefix('.').unwrap_or(constraint))?;
    if domain.len() < constraint.len() || (below && domain.len() == constraint.len()) {
        return Some(false);
    }
    Some(constraint.iter().zip(&domain).all(|(wanted, label)| wanted.eq_ignore_ascii_case(label)))
}

/// Go's `domainToReverseLabels`: `None` for what it does not take for a domain. One leading dot passes unseen.
fn labels(domain: &str) -> Option<Vec<&str>> {
    if domain.is_empty() {
        return Some(Vec::new());
    }
    if domain == "." {
        return None;
    }
    let labels: Vec<&str> = domain.strip_prefix('.').unwrap_or(domain).split('.').rev().collect();
    let sound =
        labels.iter().all(|label| !label.is_empty() && label.bytes().all(|c| (33..=126).contains(&c)));
    sound.then_some(labels)
}
