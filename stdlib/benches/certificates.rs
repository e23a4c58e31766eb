//! What certificates cost. `tests/bench certificates` runs this beside cfssl and openssl and compares; alone it prints a
//! line for each measurement: name, how many, seconds.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement of the real clock"
)]
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};
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

/// The cryptography library alone: a key made as PKCS#8, and a signature.
enum Library {
    Ecdsa(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

impl Library {
    fn new(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Rsa(_) => Self::Rsa(rsa::KeyPair::generate(KeySize::Rsa2048).unwrap()),
            _ => Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
        }
    }

    fn key(&self) {
        match self {
            Self::Rsa(_) => {
                let pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
                std::hint::black_box(pair.as_der().unwrap());
            }
            Self::Ecdsa(_) => {
                let random = SystemRandom::new();
                let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
                std::hint::black_box(made);
            }
        }
    }

    fn sign(&self, message: &[u8]) {
        match self {
            Self::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out).unwrap();
                std::hint::black_box(out);
            }
            Self::Ecdsa(pair) => {
                std::hint::black_box(pair.sign(&SystemRandom::new(), message).unwrap());
            }
        }
    }
}

/// One at a time, ours and the library's in turn, so that what else the machine does slows both: key and certificate;
/// the library's own key, and its own signature of as many bytes. The median of each counts, since whoever is interrupted
/// within takes many times as long; of RSA keys the mean, since each takes another time.
fn single(algorithm: &str, count: u32) {
    let setting = setting(algorithm);
    let library = Library::new(setting.kind);
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..count {
        let [key, certificate, limit_key, limit_signature] = &mut times;
        let made = each(key, || Key::generate(setting.kind).unwrap());
        let leaf = each(certificate, || {
            let Setting { ca, ca_key, request, profile, .. } = &setting;
            cfssl::issue_for(ca, ca_key, request, profile, made.spki(), now()).unwrap()
        });
        each(limit_key, || library.key());
        each(limit_signature, || library.sign(leaf.der()));
    }
    for (name, mut times) in ["key", "certificate", "limit key", "limit signature"].into_iter().zip(times) {
        times.sort();
        let varies = algorithm == "rsa" && name.ends_with("key");
        let total = if varies { times.iter().sum() } else { times[times.len() / 2] * count };
        say(name, count, total);
    }
}

fn each<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let mut time = Duration::ZERO;
    let made = timed(&mut time, work);
    times.push(time);
    made
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
