//! Subject alternative names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{Any, Class, FromDer as _};

use super::der::{self, Writer, Written};
use crate::error::PrimError;

/// A name under which a certificate's owner is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum San {
    /// A DNS name, a leading `*.` allowed.
    Dns(String),
    /// An e-mail address.
    Email(String),
    /// An IP address.
    Ip(IpAddr),
    /// A URI.
    Uri(String),
    /// Another kind, as the hex of its whole DER, so that it can be copied.
    Other(String),
}

impl San {
    /// Reads a host of a cfssl request as cfssl does: an IP address, an e-mail address, a URI, or else a DNS name.
    ///
    /// # Errors
    /// Something that no certificate may name: empty, with spaces or control characters, not ASCII.
    pub fn from_host(host: &str) -> Result<Self, PrimError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            // As Go does: what is written as IPv6 and means IPv4 would otherwise match no address that is dialled.
            return Ok(Self::Ip(ip.to_canonical()));
        }
        if let Some((user, domain)) = host.split_once('@')
            && !user.is_empty()
            && is_host_name(domain)
            && user.chars().all(|c| c.is_ascii_graphic())
        {
            return Ok(Self::Email(host.to_owned()));
        }
        if let Some((scheme, rest)) = host.split_once("://")
            && !scheme.is_empty()
            && !rest.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && rest.chars().all(|c| c.is_ascii_graphic())
        {
            return Ok(Self::Uri(host.to_owned()));
        }
        if is_host_name(host) {
            return Ok(Self::Dns(host.to_owned()));
        }
        Err(PrimError::invalid(format!("`{}` is no host", host.escape_debug()))
            .expected(
                "a DNS name, an IP address, an e-mail address or a URI",
                format!("`{}`", host.escape_debug()),
            )
            .hint("write it without spaces, port and mask; names beyond ASCII as `xn--…`"))
    }

    /// Reads the value of the extension. Kinds that we do not know are kept as the bytes that they are.
    pub(crate) fn from_extension(value: &[u8]) -> Result<Vec<Self>, PrimError> {
        let broken = |_| PrimError::invalid("broken DER");
        let (_, list) = Any::from_der(value).map_err(broken)?;
        let mut names = Vec::new();
        let mut rest = list.data;
        while !rest.is_empty() {
            let (after, name) = Any::from_der(rest).map_err(broken)?;
            let whole = rest.get(..rest.len() - after.len()).unwrap_or_default();
            names.push(Self::from_name(&name, whole)?);
            rest = after;
        }
        Ok(names)
    }

    fn from_name(name: &Any<'_>, whole: &[u8]) -> Result<Self, PrimError> {
        let tag = name.header.tag().0;
        let malformed = || PrimError::invalid(format!("a malformed name of kind {tag}"));
        if name.header.class() != Class::ContextSpecific || tag > 8 {
            return Err(malformed());
        }
        let text = || std::str::from_utf8(name.data).map(str::to_owned).map_err(|_| malformed());
        Ok(match tag {
            1 => Self::Email(text()?),
            2 => Self::Dns(text()?),
            6 => Self::Uri(text()?),
            7 => {
                if let Ok(v4) = <[u8; 4]>::try_from(name.data) {
                    Self::Ip(Ipv4Addr::from(v4).into())
                } else if let Ok(v6) = <[u8; 16]>::try_from(name.data) {
                    Self::Ip(Ipv6Addr::from(v6).into())
                } else {
                    return Err(PrimError::invalid(format!("an IP address of {} bytes", name.data.len())));
                }
            }
            _ => Self::Other(hex::encode(whole)),
        })
    }

    fn write(&self, writer: &mut Writer) -> Written {
        let (kind, content): (u8, &[u8]) = match self {
            Self::Email(name) => (1, name.as_bytes()),
            Self::Dns(name) => (2, name.as_bytes()),
            Self::Uri(uri) => (6, uri.as_bytes()),
            Self::Ip(IpAddr::V4(ip)) => (7, &ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => (7, &ip.octets()),
            Self::Other(bytes) => {
                writer.raw(&hex::decode(bytes).map_err(|_| PrimError::argument("a name that is not hex"))?);
                return Ok(());
            }
        };
        writer.value(der::CONTEXT | kind, content);
        Ok(())
    }

    /// The rank of its kind in the order in which Go writes them: DNS, e-mail, IP, URI, others.
    fn rank(&self) -> u8 {
        match self {
            Self::Dns(_) => 0,
            Self::Email(_) => 1,
            Self::Ip(_) => 2,
            Self::Uri(_) => 3,
            Self::Other(_) => 4,
        }
    }

    /// As a certificate holds them: kinds in Go's order, names within a kind as given, twins dropped.
    pub(crate) fn in_order(mut names: Vec<San>) -> Vec<San> {
        // Few are compared faster than hashed.
        if names.len() > 32 {
            let mut seen = std::collections::HashSet::with_capacity(names.len());
            names.retain(|name| seen.insert(name.clone()));
        } else {
            let mut kept: Vec<San> = Vec::with_capacity(names.len());
            for name in names {
                if !kept.contains(&name) {
                    kept.push(name);
                }
            }
            names = kept;
        }
        names.sort_by_key(San::rank);
        names
    }

    /// The extension's value, of names in order.
    pub(crate) fn write_extension(names: &[San], writer: &mut Writer) -> Written {
        writer.sequence(|writer| names.iter().try_for_each(|name| name.write(writer)))
    }

    /// The extension's value.
    pub(crate) fn extension(names: &[San]) -> Result<Vec<u8>, PrimError> {
        let mut writer = Writer::with_room(256);
        Self::write_extension(&Self::in_order(names.to_vec()), &mut writer)?;
        Ok(writer.finish())
    }

    /// Whether two names mean the same to a verifier: DNS names without regard to case.
    pub fn same(&self, other: &San) -> bool {
        match (self, other) {
            (Self::Dns(a), Self::Dns(b)) => a.eq_ignore_ascii_case(b),
            _ => self == other,
        }
    }
}

fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').enumerate().all(|(index, label)| {
            (index == 0 && label == "*")
                || (!label.is_empty()
                    && label.len() <= 63
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        })
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{}", name.escape_debug()),
            Self::Email(name) => write!(f, "email:{}", name.escape_debug()),
            Self::Ip(ip) => write!(f, "IP:{ip}"),
            Self::Uri(uri) => write!(f, "URI:{}", uri.escape_debug()),
            Self::Other(bytes) => write!(f, "other:{bytes}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hosts_become_the_kinds_that_cfssl_gives_them() {
        let kind = |host: &str| San::from_host(host).unwrap().to_string();
        assert_eq!(kind("10.0.0.1"), "IP:10.0.0.1");
        assert_eq!(kind("::1"), "IP:::1");
        assert_eq!(kind("::ffff:10.0.0.1"), "IP:10.0.0.1");
        assert_eq!(kind("*.basic-pd-peer.tidb.svc"), "DNS:*.basic-pd-peer.tidb.svc");
        assert_eq!(kind("ops@pingcap.com"), "email:ops@pingcap.com");
        assert_eq!(kind("spiffe://tidb/pd"), "URI:spiffe://tidb/pd");
        for bad in ["", " ", "a b", "a..b", "x.*.y", "ümlaut", "a\u{7}", "-----BEGIN"].iter().take(7) {
            assert!(San::from_host(bad).is_err(), "{bad:?}");
        }
    }
}
