//! A certificate as the emulated verifiers need it: parsed once, with the fields of RFC 5280 that their rules look at.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

/// `keyCertSign` in [`Cert::key_usage`]: named bit 5.
pub(super) const KEY_CERT_SIGN: u16 = 1 << 5;
/// `digitalSignature`: named bit 0.
pub(super) const DIGITAL_SIGNATURE: u16 = 1;
/// `keyEncipherment`: named bit 2.
pub(super) const KEY_ENCIPHERMENT: u16 = 1 << 2;
/// `keyAgreement`: named bit 4.
pub(super) const KEY_AGREEMENT: u16 = 1 << 4;

/// The basic constraints extension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basic {
    pub(super) ca: bool,
    pub(super) path_len: Option<u32>,
}

/// The extended key usage extension.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExtendedUsage {
    pub(super) any: bool,
    pub(super) server: bool,
    pub(super) client: bool,
    /// Microsoft's or Netscape's server gated crypto, which OpenSSL takes for `serverAuth`.
    pub(super) sgc: bool,
    pub(super) empty: bool,
}

/// The authority key identifier extension.
#[derive(Debug, Clone, Default)]
pub(super) struct AuthorityKey<'a> {
    pub(super) key_id: Option<&'a [u8]>,
    pub(super) issuer: Option<Canonical>,
    pub(super) serial: Option<&'a [u8]>,
}

/// A general name of a SAN extension or a name constraint.
#[derive(Debug, Clone)]
pub(super) enum Name<'a> {
    Dns(&'a str),
    Ip(&'a [u8]),
    Email(&'a str),
    Uri(&'a str),
    Directory(Canonical),
    Other,
}

/// The name constraints extension.
#[derive(Debug, Clone, Default)]
pub(super) struct Constraints<'a> {
    pub(super) permitted: Vec<Name<'a>>,
    pub(super) excluded: Vec<Name<'a>>,
}

/// A distinguished name in OpenSSL's canonical form, one entry an RDN: strings as UTF-8, in lower case, with white
/// space trimmed and collapsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Canonical(pub(super) Vec<Vec<u8>>);

/// A parsed certificate.
pub(super) struct Cert<'a> {
    pub(super) x: X509Certificate<'a>,
    pub(super) der: &'a [u8],
    /// 1, 2 or 3.
    pub(super) version: u32,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) subject: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) canonical_subject: Canonical,
    pub(super) canonical_issuer: Canonical,
    extensions: Extensions<'a>,
}

/// The extensions that the verifiers read.
#[derive(Default)]
pub(super) struct Extensions<'a> {
    pub(super) basic: Option<Basic>,
    pub(super) key_usage: Option<u16>,
    pub(super) extended: Option<ExtendedUsage>,
    pub(super) key_id: Option<&'a [u8]>,
    pub(super) authority: Option<AuthorityKey<'a>>,
    pub(super) names: Option<Vec<Name<'a>>>,
    pub(super) names_raw: Option<&'a [u8]>,
    pub(super) constraints: Option<Constraints<'a>>,
    pub(super) constraints_critical: bool,
    /// Object identifiers of the critical extensions.
    pub(super) critical: Vec<String>,
}

impl<'a> std::ops::Deref for Cert<'a> {
    type Target = Extensions<'a>;

    fn deref(&self) -> &Self::Target {
        &self.extensions
    }
}

impl<'a> Cert<'a> {
    /// Reads a certificate; `None` when it is malformed.
    pub(super) fn parse(der: &'a CertificateDer<'_>) -> Option<Self> {
        let der: &'a [u8] = der.as_ref();
        let (rest, x) = X509Certificate::from_der(der).ok()?;
        let ragged = x.signature_value.unused_bits != 0 || !same_algorithm(der, x.tbs_certificate.as_ref());
        if !rest.is_empty() || ragged || x.signature_algorithm != x.tbs_certificate.signature {
            return None;
        }
        // Every ordinary verifier refuses a certificate in which an extension occurs twice.
        x.extensions_map().ok()?;
        let version = x.version().0.saturating_add(1);
        if version > 3 {
            return None;
        }
        let mut read = Extensions::default();
        for extension in x.extensions() {
            if extension.critical {
                read.critical.push(extension.oid.to_id_string());
            }
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(basic) => {
                    read.basic = Some(Basic { ca: basic.ca, path_len: basic.path_len_constraint });
                }
                ParsedExtension::KeyUsage(usage) => read.key_usage = Some(usage.flags),
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    let sgc = usage.other.iter().any(|id| {
                        let id = id.to_id_string();
                        id == "1.3.6.1.4.1.311.10.3.3" || id == "2.16.840.1.113730.4.1"
                    });
                    read.extended = Some(ExtendedUsage {
                        any: usage.any,
                        server: usage.server_auth,
                        client: usage.client_auth,
                        sgc,
                        empty: !(usage.any
                            || usage.server_auth
                            || usage.client_auth
                            || usage.code_signing
                            || usage.email_protection
                            || usage.time_stamping
                            || usage.ocsp_signing)
                            && usage.other.is_empty(),
                    });
                }
                ParsedExtension::SubjectKeyIdentifier(id) => read.key_id = Some(id.0),
                ParsedExtension::AuthorityKeyIdentifier(authority) => {
                    let issuer = authority.authority_cert_issuer.as_ref().and_then(|names| {
                        names.iter().find_map(|name| match name {
                            GeneralName::DirectoryName(name) => Some(canonical(name)),
                            _ => None,
                        })
                    });
                    read.authority = Some(AuthorityKey {
                        key_id: authority.key_identifier.as_ref().map(|id| id.0),
                        issuer,
                        serial: authority.authority_cert_serial,
                    });
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    read.names = Some(general_names(names.general_names.iter())?);
                    read.names_raw = Some(extension.value);
                }
                ParsedExtension::NameConstraints(constraints) => {
                    let subtrees = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'a>>>| {
                        general_names(trees.iter().flatten().map(|tree| &tree.base))
                    };
                    let constraints = Constraints {
                        permitted: subtrees(&constraints.permitted_subtrees)?,
                        excluded: subtrees(&constraints.excluded_subtrees)?,
                    };
                    read.constraints = Some(constraints);
                    read.constraints_critical = extension.critical;
                }
                ParsedExtension::ParseError { .. } => return None,
                _ => {}
            }
        }
        Some(Self {
            version,
            not_before: x.validity().not_before.timestamp(),
            not_after: x.validity().not_after.timestamp(),
            subject: x.tbs_certificate.subject.as_raw(),
            issuer: x.tbs_certificate.issuer.as_raw(),
            canonical_subject: canonical(x.subject()),
            canonical_issuer: canonical(x.issuer()),
            extensions: read,
            der,
            x,
        })
    }

    /// The common names of the subject, in order.
    pub(super) fn common_names(&self) -> Vec<String> {
        self.x.subject().iter_common_name().map(|name| text(name.attr_value())).collect()
    }

    /// The subject as people write it.
    pub(super) fn title(&self) -> String {
        title(self.x.subject())
    }

    /// The issuer as people write it.
    pub(super) fn issuer_title(&self) -> String {
        title(self.x.issuer())
    }

    /// Whether subject and issuer are the same name by OpenSSL's comparison.
    pub(super) fn self_issued(&self) -> bool {
        self.canonical_subject == self.canonical_issuer
    }

    /// The DNS names and addresses of the certificate, for messages.
    pub(super) fn name_list(&self) -> String {
        let names: Vec<String> = self
            .names
            .iter()
            .flatten()
            .filter_map(|name| match name {
                Name::Dns(name) => Some((*name).to_owned()),
                Name::Ip(bytes) => Some(address(bytes)),
                _ => None,
            })
            .collect();
        if names.is_empty() { "no names".to_owned() } else { names.join(", ") }
    }
}

/// Whether the algorithm after the signed part is, byte by byte, one that stands in it: the parser compares what it
/// made of the two, and is lenient about tags.
fn same_algorithm(der: &[u8], tbs: &[u8]) -> bool {
    let header = match der.get(1) {
        Some(length @ 0x80..) => 2 + usize::from(length & 0x7f),
        _ => 2,
    };
    let outer = header.checked_add(tbs.len()).and_then(|at| der.get(at..)).and_then(|rest| {
        let length = rest.get(1).filter(|length| **length < 0x80)?;
        rest.get(..2 + usize::from(*length))
    });
    outer.is_some_and(|outer| tbs.windows(outer.len()).any(|inner| inner == outer))
}

fn title(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    if text.is_empty() { "(no subject)".to_owned() } else { text }
}

pub(super) fn address(bytes: &[u8]) -> String {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(four).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(sixteen) => std::net::Ipv6Addr::from(sixteen).to_string(),
        Err(_) => hex::encode(bytes),
    }
}

fn general_names<'a, 'b>(names: impl Iterator<Item = &'b GeneralName<'a>>) -> Option<Vec<Name<'a>>>
where
    'a: 'b,
{
    names
        .map(|name| {
            Some(match name {
                GeneralName::DNSName(name) => Name::Dns(name),
                GeneralName::IPAddress(bytes) => Name::Ip(bytes),
                GeneralName::RFC822Name(name) => Name::Email(name),
                GeneralName::URI(name) => Name::Uri(name),
                GeneralName::DirectoryName(name) => Name::Directory(canonical(name)),
                GeneralName::Invalid(..) => return None,
                _ => Name::Other,
            })
        })
        .collect()
}

/// A string of a distinguished name as UTF-8.
fn text(value: &x509_parser::asn1_rs::Any<'_>) -> String {
    use x509_parser::asn1_rs::Tag;
    match value.tag() {
        Tag::BmpString => {
            let units: Vec<u16> = value
                .data
                .chunks_exact(2)
                .filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes))
                .collect();
            String::from_utf16_lossy(&units)
        }
        Tag::T61String => value.data.iter().map(|byte| char::from(*byte)).collect(),
        _ => String::from_utf8_lossy(value.data).into_owned(),
    }
}

fn canonical(name: &X509Name<'_>) -> Canonical {
    use x509_parser::asn1_rs::Tag;
    Canonical(
        name.iter_rdn()
            .map(|rdn| {
                let mut entries: Vec<Vec<u8>> = rdn
                    .iter()
                    .map(|entry| {
                        let mut bytes = entry.attr_type().as_bytes().to_vec();
                        let value = entry.attr_value();
                        let folds = matches!(
                            value.tag(),
                            Tag::Utf8String
                                | Tag::BmpString
                                | Tag::UniversalString
                                | Tag::PrintableString
                                | Tag::T61String
                                | Tag::Ia5String
                                | Tag::VisibleString
                        );
                        bytes.push(0);
                        if folds {
                            let words = text(value);
                            let words: Vec<&str> = words
                                .split(|c: char| c.is_ascii_whitespace() || c == '\u{b}')
                                .filter(|w| !w.is_empty())
                                .collect();
                            bytes.extend(words.join(" ").to_ascii_lowercase().into_bytes());
                        } else {
                            bytes.extend(value.tag().0.to_be_bytes());
                            bytes.extend(value.data);
                        }
                        bytes
                    })
                    .collect();
                entries.sort();
                entries.join(&0xff)
            })
            .collect(),
    )
}

/// A certificate as an operator recognises it, for sentences and evidence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Described {
    /// SHA-256 of the DER, as `sha256:HEX`.
    pub fingerprint: String,
    /// The subject.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// Until when it is valid.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

/// Names a certificate; a malformed one has its fingerprint only.
pub fn describe(der: &CertificateDer<'_>) -> Described {
    use sha2::Digest as _;
    let fingerprint = format!("sha256:{}", hex::encode(sha2::Sha256::digest(der)));
    match X509Certificate::from_der(der) {
        Ok((_, x)) => Described {
            fingerprint,
            subject: title(x.subject()),
            issuer: title(x.issuer()),
            not_after: x.validity().not_after.to_datetime(),
        },
        Err(_) => Described {
            fingerprint,
            subject: "(malformed)".to_owned(),
            issuer: "(malformed)".to_owned(),
            not_after: OffsetDateTime::UNIX_EPOCH,
        },
    }
}

/// From when to when a certificate is valid; `None` when it is malformed.
pub(in crate::trust) fn validity(der: &CertificateDer<'_>) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (_, x) = X509Certificate::from_der(der).ok()?;
    Some((x.validity().not_before.to_datetime(), x.validity().not_after.to_datetime()))
}
