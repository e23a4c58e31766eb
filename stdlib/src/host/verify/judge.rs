//! What is wrong with the certificates of a host: by its files, their keys, and what its ports serve. Pure.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::cert::{self, Certificate, Key};
use crate::trust::Certs;

/// A file that is named as certificates are.
pub(super) struct File {
    pub(super) path: String,
    /// What it holds, or why it cannot be read.
    pub(super) held: Result<Vec<u8>, String>,
    /// The key that lies beside it, where there is one.
    pub(super) key: Option<KeyFile>,
}

/// A key beside a certificate.
pub(super) struct KeyFile {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) key: Result<Key, String>,
}

/// A port that was dialled.
pub(super) struct Port {
    pub(super) port: u16,
    /// The chain that it serves, or why it serves none.
    pub(super) served: Result<Certs, String>,
}

/// One certificate, where it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) host: String,
    /// A path, or `port 2379`.
    pub(super) place: String,
    /// `CA`, `server`, `client`, `server and client`, or what it is instead of a certificate.
    pub(super) what: String,
    /// Its common name, or else its first name.
    pub(super) name: String,
    pub(super) not_after: String,
    pub(super) days_left: Option<i64>,
    pub(super) fingerprint: String,
    pub(super) findings: Vec<String>,
}

/// A certificate of a file.
struct Held<'f> {
    file: &'f File,
    certificate: Certificate,
    /// First of its file: the one that its key belongs to.
    first: bool,
}

fn role(certificate: &Certificate) -> &'static str {
    use crate::cert::ExtUsage;
    if certificate.is_ca() {
        return "CA";
    }
    match (certificate.allows(&ExtUsage::server_auth()), certificate.allows(&ExtUsage::client_auth())) {
        (true, true) => "server and client",
        (true, false) => "server",
        (false, true) => "client",
        (false, false) => "leaf",
    }
}

fn name(certificate: &Certificate) -> String {
    match certificate.common_name() {
        "" => certificate
            .sans()
            .first()
            .map_or_else(|| certificate.subject_text().to_owned(), ToString::to_string),
        name => name.to_owned(),
    }
}

/// What its dates say.
fn dated(certificate: &Certificate, now: OffsetDateTime, soon: Duration) -> Option<String> {
    let until = cert::date(certificate.not_after());
    if now > certificate.not_after() {
        return Some(format!("expired on {until}"));
    }
    if now < certificate.not_before() {
        return Some(format!("is not valid before {}", cert::date(certificate.not_before())));
    }
    let left = certificate.not_after() - now;
    (left < soon).then(|| format!("expires within {} days", left.whole_days() + 1))
}

fn row(host: &str, place: String, certificate: &Certificate, now: OffsetDateTime) -> Row {
    Row {
        host: host.to_owned(),
        place,
        what: role(certificate).to_owned(),
        name: name(certificate),
        not_after: cert::date(certificate.not_after()),
        days_left: Some((certificate.not_after() - now).whole_days()),
        fingerprint: certificate.fingerprint(),
        findings: Vec::new(),
    }
}

fn without(host: &str, place: String, what: &str, finding: String) -> Row {
    Row {
        host: host.to_owned(),
        place,
        what: what.to_owned(),
        name: String::new(),
        not_after: String::new(),
        days_left: None,
        fingerprint: String::new(),
        findings: vec![finding],
    }
}

/// Everything of one host, in the order of its files, the ports last.
pub(super) fn judge(
    host: &str,
    files: &[File],
    ports: &[Port],
    now: OffsetDateTime,
    soon: Duration,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut held: Vec<Held<'_>> = Vec::new();
    for file in files {
        let bytes = match &file.held {
            Ok(bytes) => bytes,
            Err(why) => {
                rows.push(without(host, file.path.clone(), "unreadable", why.clone()));
                continue;
            }
        };
        match cert::parse_many(bytes, &file.path) {
            Ok(list) => held.extend(list.into_iter().enumerate().map(|(n, certificate)| Held {
                file,
                certificate,
                first: n == 0,
            })),
            Err(error) => rows.push(without(host, file.path.clone(), "damaged", error.message)),
        }
    }
    for one in &held {
        let mut row = row(host, one.file.path.clone(), &one.certificate, now);
        row.findings.extend(dated(&one.certificate, now, soon));
        if one.first {
            row.findings.extend(one.file.key.as_ref().and_then(|key| beside(key, &one.certificate)));
        }
        row.findings.extend(issued(&one.certificate, &held, now));
        rows.push(row);
    }
    rows.sort_by(|a, b| a.place.cmp(&b.place));
    rows.extend(ports.iter().map(|port| serves(host, port, &held, now, soon)));
    rows
}

/// What is wrong with the key beside a certificate.
fn beside(file: &KeyFile, certificate: &Certificate) -> Option<String> {
    match &file.key {
        Err(why) => Some(format!("its key {} cannot be read: {why}", file.path)),
        Ok(key) if !key.matches(certificate) => Some(format!("the key {} does not belong to it", file.path)),
        Ok(_) if file.mode & 0o007 != 0 => {
            Some(format!("everybody on the host may read or write its key {} ({:04o})", file.path, file.mode))
        }
        Ok(_) => None,
    }
}

/// What is wrong with who issued it, by the CAs that lie on the same host.
fn issued(certificate: &Certificate, held: &[Held<'_>], now: OffsetDateTime) -> Option<String> {
    if certificate.is_ca() && certificate.self_issued() {
        return None;
    }
    let cas: Vec<&Held<'_>> = held.iter().filter(|one| one.certificate.is_ca()).collect();
    let issuers: Vec<&&Held<'_>> =
        cas.iter().filter(|ca| certificate.check_signed_by(&ca.certificate).is_ok()).collect();
    if issuers.is_empty() {
        let named = cas.iter().find(|ca| ca.certificate.subject() == certificate.issuer());
        return Some(match named {
            Some(ca) => {
                format!("was not signed by the key of {}, though that has its issuer's name", ca.file.path)
            }
            None => format!("its issuer `{}` is in none of the files", certificate.issuer_text()),
        });
    }
    let valid = issuers.iter().any(|ca| ca.certificate.valid_at(now));
    (!valid)
        .then(|| format!("its issuer in {} is not valid now", issuers.first().map_or("", |ca| &ca.file.path)))
}

/// What a port serves, beside what lies in the files.
fn serves(host: &str, port: &Port, held: &[Held<'_>], now: OffsetDateTime, soon: Duration) -> Row {
    let place = format!("port {}", port.port);
    let chain = match &port.served {
        Ok(chain) => chain,
        Err(why) => return without(host, place, "no TLS", why.clone()),
    };
    let leaf = chain.0.first().and_then(|der| Certificate::from_der(der.to_vec()).ok());
    let Some(leaf) = leaf else {
        return without(host, place, "damaged", "serves what is no certificate".into());
    };
    let mut row = row(host, place, &leaf, now);
    row.findings.extend(dated(&leaf, now, soon));
    let lies = held.iter().any(|one| one.certificate.fingerprint() == row.fingerprint);
    if !lies {
        // The same names, issued later: what it would serve if it had loaded it.
        let same = |one: &&Held<'_>| {
            let c = &one.certificate;
            !c.is_ca() && c.subject() == leaf.subject() && c.sans() == leaf.sans()
        };
        let newer = held.iter().filter(same).max_by_key(|one| one.certificate.not_before());
        row.findings.push(match newer {
            Some(one) => format!(
                "is stale: {} holds another certificate of the same names, until {}; what listens has not loaded it and must be restarted",
                one.file.path,
                cert::date(one.certificate.not_after())
            ),
            None => "serves a certificate that is in none of the files".into(),
        });
        row.findings.extend(issued(&leaf, held, now));
    }
    row
}
