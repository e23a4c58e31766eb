//! Each finding by a host that has just that.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use time::macros::datetime;

use super::judge::{File, KeyFile, Port, Row, judge};
use crate::cert::{Certificate, Key};
use crate::cfssl::{Config, Request, issue};
use crate::trust::Certs;

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const SOON: Duration = Duration::from_secs(30 * 86_400);

fn ca(name: &str) -> (Certificate, Key) {
    let request = json!({ "CN": name, "key": { "algo": "ecdsa", "size": 256 } }).to_string();
    crate::ca::create(&Request::from_json(request.as_bytes(), "ca").unwrap(), NOW - time::Duration::days(100))
        .unwrap()
}

fn leaf((ca, key): &(Certificate, Key), days: i64) -> (Certificate, Key) {
    let request =
        json!({ "CN": "m1", "hosts": ["10.0.0.1"], "key": { "algo": "ecdsa", "size": 256 } }).to_string();
    let profile = r#"{"signing": {"default": {"expiry": "HOURSh", "usages": ["signing", "server auth", "client auth"]}}}"#
        .replace("HOURS", &(days * 24).to_string());
    let config = Config::from_json(profile.as_bytes(), "profile").unwrap();
    let request = Request::from_json(request.as_bytes(), "leaf").unwrap();
    issue(ca, key, &request, config.profile("default").unwrap(), NOW - time::Duration::days(1)).unwrap()
}

fn file(path: &str, certificate: &Certificate, key: Option<(&Key, u32)>) -> File {
    let key = key.map(|(key, mode)| KeyFile {
        path: path.replace(".pem", "-key.pem"),
        mode,
        key: Ok(Key::from_pem(key.to_pem().unwrap().as_bytes(), "key").unwrap()),
    });
    File { path: path.to_owned(), held: Ok(certificate.pem().into_bytes()), key }
}

fn served(port: u16, certificate: &Certificate) -> Port {
    Port { port, served: Ok(Certs(vec![certificate.der().clone()])) }
}

fn found(rows: &[Row]) -> Vec<String> {
    let each = |row: &Row| row.findings.iter().map(|f| format!("{}: {f}", row.place)).collect::<Vec<_>>();
    rows.iter().flat_map(each).collect()
}

#[test]
fn a_host_in_order_has_no_findings_and_says_what_each_is() {
    let authority = ca("etcd");
    let (cert, key) = leaf(&authority, 365);
    let files =
        [file("/pki/server.pem", &cert, Some((&key, 0o600))), file("/pki/ca.pem", &authority.0, None)];
    let rows = judge("m1", &files, &[served(2379, &cert)], NOW, SOON);
    assert_eq!(found(&rows), Vec::<String>::new());
    let told: Vec<_> =
        rows.iter().map(|r| (r.place.as_str(), r.what.as_str(), r.name.as_str(), r.days_left)).collect();
    assert_eq!(
        told,
        [
            ("/pki/ca.pem", "CA", "etcd", Some(1724)),
            ("/pki/server.pem", "server and client", "m1", Some(363)),
            ("port 2379", "server and client", "m1", Some(363)),
        ]
    );
}

#[test]
fn each_thing_that_is_wrong_is_a_finding() {
    let (authority, other) = (ca("etcd"), ca("etcd"));
    let (cert, key) = leaf(&authority, 365);
    let (foreign, _) = leaf(&other, 365);
    let (renewed, _) = leaf(&authority, 400);
    let said = |files: &[File], ports: &[Port]| found(&judge("m1", files, ports, NOW, SOON)).join("\n");
    let anchor = || file("/ca.pem", &authority.0, None);

    let mut late = said(&[anchor(), file("/s.pem", &leaf(&authority, 20).0, None)], &[]);
    assert_eq!(late, "/s.pem: expires within 19 days");
    late = found(&judge(
        "m1",
        &[anchor(), file("/s.pem", &cert, None)],
        &[],
        NOW + time::Duration::days(365),
        SOON,
    ))
    .join("");
    assert!(late.starts_with("/s.pem: expired on 2027-05-31"), "{late}");
    let early = found(&judge(
        "m1",
        &[anchor(), file("/s.pem", &cert, None)],
        &[],
        NOW - time::Duration::days(2),
        SOON,
    ));
    assert!(early[0].contains("is not valid before 2026-05-31"), "{early:?}");

    let swapped = said(&[anchor(), file("/s.pem", &renewed, Some((&key, 0o600)))], &[]);
    assert_eq!(swapped, "/s.pem: the key /s-key.pem does not belong to it");
    let open = said(&[anchor(), file("/s.pem", &cert, Some((&key, 0o604)))], &[]);
    assert!(open.contains("everybody on the host may read or write its key /s-key.pem (0604)"), "{open}");

    let unsigned = said(&[anchor(), file("/s.pem", &foreign, None)], &[]);
    assert_eq!(unsigned, "/s.pem: was not signed by the key of /ca.pem, though that has its issuer's name");
    let orphan = said(&[file("/s.pem", &cert, None)], &[]);
    assert!(orphan.contains("is in none of the files"), "{orphan}");

    let broken = File { path: "/b.pem".into(), held: Ok(cert.pem().as_bytes()[..200].to_vec()), key: None };
    let rows = judge("m1", &[anchor(), broken], &[], NOW, SOON);
    assert_eq!((rows[0].what.as_str(), rows[0].findings.len()), ("damaged", 1));

    // Renewed on disk, not restarted.
    let stale = said(&[anchor(), file("/s.pem", &renewed, None)], &[served(2379, &cert)]);
    assert!(
        stale.starts_with("port 2379: is stale: /s.pem holds another certificate of the same names"),
        "{stale}"
    );
    let strange = said(&[anchor()], &[served(2379, &foreign)]);
    assert!(strange.contains("port 2379: serves a certificate that is in none of the files"), "{strange}");
    let closed = said(&[anchor()], &[Port { port: 1, served: Err("refused".into()) }]);
    assert_eq!(closed, "port 1: refused");
}
