//! Dates at and beyond the borders: 2038, where seconds outgrow 31 bits, and 2050, where X.509 changes the time's type.
//! One source document issues certificates for 50 years.

use std::path::Path;

use proptest::prelude::*;
use stdlib::ca;
use stdlib::cert::{Certificate, Key, KeyKind, Template};
use stdlib::cfssl::{self as ours, Config};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::judges;
use crate::peers::{Court, NO, YES};
use crate::support::*;

/// Each with its neighbours.
const BORDERS: [OffsetDateTime; 8] = [
    datetime!(1970-01-01 0:00 UTC),
    datetime!(2000-02-29 23:59:59 UTC),
    datetime!(2038-01-19 03:14:08 UTC),
    datetime!(2050-01-01 0:00 UTC),
    datetime!(2076-11-09 06:13 UTC),
    datetime!(2100-03-01 0:00 UTC),
    datetime!(2106-02-07 06:28:16 UTC),
    datetime!(9999-12-31 23:59:58 UTC),
];

fn with_dates(key: &Key, start: OffsetDateTime, end: OffsetDateTime) -> Certificate {
    let subject = request(CLIENT).subject().unwrap();
    Template::authority(subject, key.spki(), start, end).self_sign(key).unwrap()
}

/// What openssl prints, as a time.
fn openssl_dates(folder: &Path, name: &str) -> [OffsetDateTime; 2] {
    let format = time::macros::format_description!(
        "[month repr:short] [day padding:space] [hour]:[minute]:[second] [year] GMT"
    );
    let text = run(folder, "openssl", &["x509", "-in", name, "-noout", "-dates"], true);
    let date = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        time::PrimitiveDateTime::parse(line, format).unwrap_or_else(|e| panic!("{line}: {e}")).assume_utc()
    };
    [date("notBefore="), date("notAfter=")]
}

/// What we write at every border is what we, openssl and Go read, and of the type that RFC 5280 asks for.
#[test]
fn dates_at_the_borders_are_the_same_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let key = Key::generate(KeyKind::P256).unwrap();
    let mut questions = String::new();
    let mut expected = Vec::new();
    for border in BORDERS {
        for start in [border - Duration::SECOND, border, border + Duration::SECOND] {
            // RFC 5280's word for `no end` is the last second that there is.
            let last = datetime!(9999-12-31 23:59:59 UTC);
            let end = start.checked_add(Duration::days(18_250)).map_or(last, |end| end.min(last));
            if start >= end {
                continue;
            }
            let made = with_dates(&key, start, end);
            assert_eq!([made.not_before(), made.not_after()], [start, end]);
            write(folder, &[("it.pem", &made.pem())]);
            assert_eq!(openssl_dates(folder, "it.pem"), [start, end]);
            let text = run(folder, "openssl", &["asn1parse", "-in", "it.pem"], true);
            let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
            let late = [start, end].iter().filter(|at| at.year() >= 2050).count();
            assert_eq!((count("UTCTIME"), count("GENERALIZEDTIME")), (2 - late, late), "{start} {end}");
            questions.push_str(&format!("dates {}\n", hex::encode(made.der())));
            expected.push(format!("{} {}", start.unix_timestamp(), end.unix_timestamp()));
        }
    }
    assert!(expected.len() >= 22);
    assert_eq!(judges::ask_go(questions), expected);
}

/// What openssl has made with such dates we read as it does.
#[test]
fn dates_of_openssl_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(
        folder,
        &[(
            "ca.cnf",
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\nCN=supplied\n",
        )],
    );
    let new = [
        "req", "-new", "-newkey", "ed25519", "-nodes", "-keyout", "k.pem", "-out", "a.csr", "-subj", "/CN=x",
    ];
    run(folder, "openssl", &new, true);
    for (start, end) in [
        ("20260101000000Z", "20760101000000Z"),
        ("20371231235959Z", "20380119031408Z"),
        ("20491231235959Z", "20500101000000Z"),
        ("20500101000000Z", "20991231235959Z"),
        ("20000229000000Z", "99991231235959Z"),
    ] {
        write(folder, &[("index.txt", ""), ("serial", "01")]);
        let sign = [
            "ca",
            "-batch",
            "-config",
            "ca.cnf",
            "-selfsign",
            "-keyfile",
            "k.pem",
            "-in",
            "a.csr",
            "-notext",
        ];
        let dates = ["-startdate", start, "-enddate", end, "-out", "it.pem"];
        run(folder, "openssl", &[&sign[..], &dates[..]].concat(), true);
        let read = read_certificate(&folder.join("it.pem"));
        assert_eq!([read.not_before(), read.not_after()], openssl_dates(folder, "it.pem"), "{start} {end}");
        let written = |at: OffsetDateTime| stdlib::cert::date(at).replace(['-', ':', 'T'], "");
        assert_eq!((written(read.not_before()), written(read.not_after())), (start.into(), end.into()));
    }
}

/// An authority and a leaf for 50 years, as cfssl's expiry says it: 438000 hours. Judged today, beyond 2038, beyond 2050,
/// at the last second and after it.
#[test]
fn certificates_for_fifty_years_hold_for_fifty_years() {
    let at = datetime!(2026-11-22 06:18:42 UTC);
    let csr = CA_CSR.replace("87600h", "438000h");
    let (ca, key) = ca::create(&request(&csr), at).unwrap();
    let config =
        Config::from_json(CA_CONFIG.replace("8760h", "438000h").as_bytes(), "ca-config.json").unwrap();
    let (leaf, _) = ours::issue(&ca, &key, &request(PD), config.profile("internal").unwrap(), at).unwrap();
    let end = datetime!(2076-11-09 06:13 UTC);
    assert_eq!([ca.not_after(), leaf.not_after()], [end, end]);
    let mut court = Court::default();
    for (then, answer) in [
        (at, YES),
        (datetime!(2038-01-19 03:14:08 UTC), YES),
        (datetime!(2049-12-31 23:59:59 UTC), YES),
        (datetime!(2050-01-01 0:00 UTC), YES),
        // To OpenSSL the last second is one too many.
        (end, [false, true, true]),
        (end + Duration::SECOND, NO),
        (leaf.not_before(), YES),
        (leaf.not_before() - Duration::SECOND, NO),
    ] {
        court.server(&format!("at {then}"), &[&leaf], &[&ca], ("basic-pd.tidb.svc", then), answer);
        court.client(&format!("at {then}"), &[&leaf], &[&ca], then, answer);
    }
    assert_eq!(court.judge(), 16);
}

/// The backdate reaches over the border, so that the two dates of one certificate are of different types; and a life that
/// would reach beyond the year 9999 is refused.
#[test]
fn the_backdate_at_the_border_and_the_end_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let at = datetime!(2050-01-01 0:04:59 UTC);
    let (ca, key) = ca::create(&request(CA_CSR), at).unwrap();
    assert_eq!(ca.not_before(), datetime!(2049-12-31 23:59 UTC));
    write(folder, &[("ca.pem", &ca.pem())]);
    let text = run(folder, "openssl", &["asn1parse", "-in", "ca.pem"], true);
    assert!(text.contains("UTCTIME           :491231235900Z"), "{text}");
    assert!(text.contains("GENERALIZEDTIME   :20591229235900Z"), "{text}");
    let (leaf, _) = ours::issue(&ca, &key, &request(PD), config().profile("internal").unwrap(), at).unwrap();
    let mut court = Court::default();
    court.server("over the border", &[&leaf], &[&ca], ("basic-pd.tidb.svc", at), YES);
    court.server(
        "before it",
        &[&leaf],
        &[&ca],
        ("basic-pd.tidb.svc", datetime!(2049-12-31 23:59:30 UTC)),
        YES,
    );
    court.judge();

    let at = datetime!(9995-01-01 0:00 UTC);
    let error = ca::create(&request(CA_CSR), at).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request.json: ca.expiry: reaches past the year 9999 (expected an end before the year 10000, found a later one)"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any second of any year is read as it was written.
    #[test]
    fn any_date_is_read_as_it_was_written(start in 0i64..253_402_300_798, life in 1i64..100_000_000_000) {
        thread_local!(static KEY: Key = Key::generate(KeyKind::Ed25519).unwrap());
        let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds.min(253_402_300_799)).unwrap();
        let made = KEY.with(|key| with_dates(key, at(start), at(start + life)));
        prop_assert_eq!([made.not_before(), made.not_after()], [at(start), at(start + life)]);
    }
}
