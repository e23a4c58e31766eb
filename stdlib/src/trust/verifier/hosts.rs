//! Matching a dialled name against the names of a certificate, once as Go and once as OpenSSL does it.

use std::net::IpAddr;

use super::x509::{Cert, Name};

/// A dialled name without the brackets of an IPv6 address.
pub(super) fn bare(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    }
}

/// Go's `VerifyHostname`: SAN only, a wildcard is the whole first label, perfect matches even of invalid names.
pub(super) fn go(cert: &Cert<'_>, host: &str) -> bool {
    let names = cert.names.as_deref().unwrap_or_default();
    if let Ok(address) = bare(host).parse::<IpAddr>() {
        return names.iter().any(|name| match name {
            // Go takes an IPv4 address and its mapping into IPv6 for the same.
            Name::Ip(bytes) => {
                ip_of(bytes).is_some_and(|named| named.to_canonical() == address.to_canonical())
            }
            _ => false,
        });
    }
    let host = host.to_ascii_lowercase();
    let valid = go_valid(&host, false);
    names.iter().any(|name| match name {
        Name::Dns(pattern) if valid && go_valid(pattern, true) => go_matches(pattern, &host),
        Name::Dns(pattern) => {
            !matches!(host.as_str(), "" | ".")
                && !matches!(*pattern, "" | ".")
                && pattern.eq_ignore_ascii_case(&host)
        }
        _ => false,
    })
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn go_valid(host: &str, pattern: bool) -> bool {
    let host = if pattern { host } else { host.strip_suffix('.').unwrap_or(host) };
    if host.is_empty() {
        return false;
    }
    host.split('.').enumerate().all(|(index, label)| {
        (pattern && index == 0 && label == "*")
            || (!label.is_empty()
                && !label.starts_with('-')
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'))
    })
}

fn go_matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if pattern.is_empty() || host.is_empty() {
        return false;
    }
    let (patterns, labels): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len()
        && patterns.iter().zip(&labels).enumerate().all(|(index, (pattern, label))| {
            (index == 0 && *pattern == "*") || pattern.eq_ignore_ascii_case(label)
        })
}

/// OpenSSL's `X509_check_host` and `X509_check_ip` with default flags: the common name counts where the certificate has
/// no DNS name, and a wildcard needs two dots after it, so `*.basic-pd-peer` matches nothing.
pub(super) fn openssl(cert: &Cert<'_>, host: &str) -> bool {
    let names = cert.names.as_deref().unwrap_or_default();
    if let Ok(address) = bare(host).parse::<IpAddr>() {
        let address = octets(address);
        return names.iter().any(|name| matches!(name, Name::Ip(bytes) if *bytes == address));
    }
    let mut dns = names.iter().filter_map(|name| match name {
        Name::Dns(name) => Some(*name),
        _ => None,
    });
    if names.iter().any(|name| matches!(name, Name::Dns(_))) {
        return dns.any(|pattern| openssl_matches(pattern, host));
    }
    cert.common_names().iter().any(|pattern| openssl_matches(pattern, host))
}

fn openssl_matches(pattern: &str, host: &str) -> bool {
    if pattern.is_empty() {
        return false;
    }
    let star = if host.len() > 1 && host.starts_with('.') { None } else { valid_star(pattern) };
    let Some((prefix, suffix)) = star.and_then(|at| Some((pattern.get(..at)?, pattern.get(at + 1..)?)))
    else {
        if host.len() > 1 && host.starts_with('.') {
            // A leading dot asks for any name below a domain.
            let tail = pattern.len().checked_sub(host.len()).and_then(|at| pattern.get(at..));
            return tail.is_some_and(|tail| tail.eq_ignore_ascii_case(host));
        }
        return pattern.eq_ignore_ascii_case(host);
    };
    let Some(middle_end) = host.len().checked_sub(suffix.len()) else { return false };
    if middle_end < prefix.len() {
        return false;
    }
    let (Some(head), Some(middle), Some(tail)) =
        (host.get(..prefix.len()), host.get(prefix.len()..middle_end), host.get(middle_end..))
    else {
        return false;
    };
    if !head.eq_ignore_ascii_case(prefix) || !tail.eq_ignore_ascii_case(suffix) {
        return false;
    }
    let whole_label = prefix.is_empty() && suffix.starts_with('.');
    if whole_label && middle.is_empty() {
        return false;
    }
    if !whole_label && host.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--")) {
        return false;
    }
    middle == "*" || middle.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

/// Where the one legal wildcard of a pattern stands.
fn valid_star(pattern: &str) -> Option<usize> {
    let bytes = pattern.as_bytes();
    let (mut star, mut dots) = (None, 0);
    let (mut start, mut hyphen, mut idna) = (true, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'*' => {
                let at_end = bytes.get(at + 1).is_none_or(|next| *next == b'.');
                if star.is_some() || idna || dots > 0 || (!start && !at_end) {
                    return None;
                }
                star = Some(at);
                start = false;
            }
            b'.' => {
                if hyphen || start {
                    return None;
                }
                (start, hyphen, idna) = (true, false, false);
                dots += 1;
            }
            b'-' => {
                if start {
                    return None;
                }
                hyphen = true;
            }
            byte if byte.is_ascii_alphanumeric() => {
                if start && bytes.get(at..at + 4).is_some_and(|start| start.eq_ignore_ascii_case(b"xn--")) {
                    idna = true;
                }
                (start, hyphen) = (false, false);
            }
            _ => return None,
        }
    }
    if start || hyphen || dots < 2 { None } else { star }
}
