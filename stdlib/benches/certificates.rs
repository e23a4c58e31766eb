//! What certificates cost. `tests/bench certificates` runs this beside cfssl and openssl and compares; alone it prints a
//! line for each measurement: name, how many, seconds.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement of the real clock"
)]
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use stdlib::cert::{Certificate, Key, KeyKind};
use stdlib::cfssl::{self, Config, Profile, Request};
use stdlib::trust::{Ask, Usage, Verifier, verify};
use stdlib::{bundle, ca};
use time::OffsetDateTime;

const CA_CSR: &str = r#"{"CN":"TiDB","CA":{"expiry":"87600h"},"key":KEY,"names":[{"C":"US","L":"CA","O":"PingCAP","ST":"Beijing","OU":"TiDB"}]}"#;
const CONFIG: &str = r#"{"signing":{"profiles":{"internal":{"expiry":"8760h","usages":["signing","key encipherment","server auth","client auth"]}}}}"#;
const PD: &str = r#"{"CN":"TiDB","hosts":["127.0.0.1","::1","basic-pd","basic-pd.tidb","basic-pd.tidb.svc","basic-pd-peer","basic-pd-peer.tidb","basic-pd-peer.tidb.svc","*.basic-pd-peer","*.basic-pd-peer.tidb","*.basic-pd-peer.tidb.svc"],"key":KEY,"names":[{"C":"US","L":"CA","ST":"San Francisco"}]}"#;

struct Setting {
    kind: KeyKind,
    ca: Certificate,
    ca_key: Key,
    request: Request,
    profile: Profile,
}

fn setting(algorithm: &str) -> Setting {
    let json = match algorithm {
        "rsa" => r#"{"algo":"rsa","size":2048}"#,
        _ => r#"{"algo":"ecdsa","size":256}"#,
    };
    let request = |text: &str| Request::from_json(text.replace("KEY", json).as_bytes(), "request").unwrap();
    let (ca, ca_key) = ca::create(&request(CA_CSR), now()).unwrap();
    let profile =
        Config::from_json(CONFIG.as_bytes(), "config").unwrap().profile("internal").unwrap().clone();
    Setting { kind: ca_key.kind(), ca, ca_key, request: request(PD), profile }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

impl Setting {
    /// Key and certificate, as a workflow makes them.
    fn issue(&self) {
        cfssl::issue(&self.ca, &self.ca_key, &self.request, &self.profile, now()).unwrap();
    }
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let made = std::hint::black_box(work());
    *total += begin.elapsed();
    made
}

fn say(name: &str, count: u32, time: Duration) {
    println!("{name}\t{count}\t{:.9}", time.as_secs_f64());
}

/// One at a time: key and certificate; and apart, from the same keys: the key, what is around it, the bare signature.
fn single(algorithm: &str, count: u32) {
    let setting = setting(algorithm);
    let [mut key_time, mut certificate_time, mut signature_time] = [Duration::ZERO; 3];
    for _ in 0..count {
        let key = timed(&mut key_time, || Key::generate(setting.kind).unwrap());
        let leaf = timed(&mut certificate_time, || {
            let Setting { ca, ca_key, request, profile, .. } = &setting;
            cfssl::issue_for(ca, ca_key, request, profile, key.spki(), now()).unwrap()
        });
        timed(&mut signature_time, || setting.ca_key.sign(leaf.der()).unwrap());
    }
    say("key", count, key_time);
    say("certificate", count, certificate_time);
    say("signature", count, signature_time);
}

/// Many, on several threads.
fn many(algorithm: &str, count: u32, threads: u32) {
    let setting = setting(algorithm);
    let mut total = Duration::ZERO;
    timed(&mut total, || {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..count / threads).for_each(|_| setting.issue()));
            }
        });
    });
    say("many", count, total);
}

/// A bundle of the old and the new authority is read from PEM, and a leaf of the new one verified against it, for its
/// name and use.
fn bundles(algorithm: &str, count: u32, threads: u32) {
    let (old, new) = (setting(algorithm), setting(algorithm));
    let (leaf, _) = cfssl::issue(&new.ca, &new.ca_key, &new.request, &new.profile, now()).unwrap();
    let text = bundle::encode(&[new.ca.clone(), old.ca]).unwrap();
    let ask = Ask { usage: Usage::Server, name: Some("basic-pd.tidb.svc"), allowed_cn: &[], at: now() };
    let one = || {
        let anchors: Vec<_> =
            bundle::parse(text.as_bytes(), "ca.crt").unwrap().iter().map(|ca| ca.der().clone()).collect();
        verify(Verifier::Webpki, &[leaf.der().clone()], &anchors, &ask).unwrap();
    };
    let mut total = Duration::ZERO;
    timed(&mut total, || {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..count / threads).for_each(|_| one()));
            }
        });
    });
    say("bundles", count, total);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap();
    match words.as_slice() {
        ["single", algorithm, count] => single(algorithm, number(count)),
        ["many", algorithm, count, threads] => many(algorithm, number(count), number(threads)),
        ["bundles", algorithm, count, threads] => bundles(algorithm, number(count), number(threads)),
        _ => {
            single("ecdsa", 2_000);
            single("rsa", 20);
            many("ecdsa", 1_000, 2);
            bundles("ecdsa", 2_000, 2);
            bundles("rsa", 2_000, 2);
        }
    }
}
