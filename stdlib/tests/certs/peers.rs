//! Keys of every kind, made once, and the three judges.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use stdlib::cert::{Certificate, Key, KeyKind};
use stdlib::trust::{Ask, Usage, Verifier, verify};
use time::OffsetDateTime;

use crate::judges::{self, Case};

/// Every kind of key that a request can name.
pub(crate) const KINDS: [KeyKind; 8] = [
    KeyKind::Rsa(2048),
    KeyKind::Rsa(3072),
    KeyKind::Rsa(4096),
    KeyKind::Rsa(8192),
    KeyKind::P256,
    KeyKind::P384,
    KeyKind::P521,
    KeyKind::Ed25519,
];

/// Whether everything is asked for (`tests/run --all`), also what takes minutes.
pub(crate) fn all_tiers() -> bool {
    std::env::var("ROLLOVER_TEST_TIER").is_ok_and(|tier| tier == "all")
}

/// A key of our making. An RSA key of 8192 bits takes half a minute: it is made once for a target folder, and each time
/// where everything is asked for.
pub(crate) fn key(kind: KeyKind) -> Key {
    if kind == KeyKind::Rsa(8192) && !all_tiers() { kept(kind) } else { Key::generate(kind).unwrap() }
}

fn kept(kind: KeyKind) -> Key {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let path = folder.join(format!("{kind}.pem"));
    if let Some(key) = std::fs::read(&path).ok().and_then(|text| Key::from_pem(&text, "kept").ok()) {
        return key;
    }
    let key = Key::generate(kind).unwrap();
    std::fs::write(&path, key.to_pem().unwrap().as_bytes()).unwrap();
    key
}

/// One key of each kind, the slow ones beside each other.
pub(crate) fn keys() -> Vec<Key> {
    std::thread::scope(|scope| {
        let making: Vec<_> = KINDS.iter().map(|kind| scope.spawn(|| key(*kind))).collect();
        making.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// Whether openssl, Go and webpki accept.
pub(crate) type Answer = [bool; 3];
pub(crate) const YES: Answer = [true; 3];
pub(crate) const NO: Answer = [false; 3];
/// Only Go takes a wildcard that stands before a single label, as in `*.basic-pd-peer`.
pub(crate) const ONLY_GO: Answer = [false, true, false];

/// A question for the judges, and the answer that is right.
pub(crate) struct Expect {
    case: Case,
    answer: Answer,
}

/// Collects questions and puts them to all judges at once.
#[derive(Default)]
pub(crate) struct Court {
    expected: Vec<Expect>,
}

impl Court {
    /// A server that is dialled under a name.
    pub(crate) fn server(
        &mut self,
        label: &str,
        chain: &[&Certificate],
        anchors: &[&Certificate],
        (name, at): (&str, OffsetDateTime),
        answer: Answer,
    ) {
        self.add(label, chain, anchors, (Usage::Server, Some(name.to_owned()), at), answer);
    }

    /// A client that dials.
    pub(crate) fn client(
        &mut self,
        label: &str,
        chain: &[&Certificate],
        anchors: &[&Certificate],
        at: OffsetDateTime,
        answer: Answer,
    ) {
        self.add(label, chain, anchors, (Usage::Client, None, at), answer);
    }

    fn add(
        &mut self,
        label: &str,
        chain: &[&Certificate],
        anchors: &[&Certificate],
        (usage, name, at): (Usage, Option<String>, OffsetDateTime),
        answer: Answer,
    ) {
        let ders = |list: &[&Certificate]| -> Vec<CertificateDer<'static>> {
            list.iter().map(|certificate| certificate.der().clone()).collect()
        };
        let label = format!("{label}, {usage:?} {}", name.as_deref().unwrap_or_default());
        let case = Case { label, chain: ders(chain), anchors: ders(anchors), usage, name, at };
        self.expected.push(Expect { case, answer });
    }

    /// Asks openssl (strictly), Go and webpki, and our own forecast of each. Panics with all wrong verdicts.
    pub(crate) fn judge(self) -> usize {
        let cases: Vec<Case> = self.expected.iter().map(|expect| expect.case.clone()).collect();
        let verdicts = [
            (Verifier::Openssl, judges::openssl(&cases, &["-x509_strict"])),
            (Verifier::Go, judges::go(&cases)),
            (Verifier::Webpki, judges::webpki(&cases)),
        ];
        let mut wrong = Vec::new();
        for (index, (verifier, verdicts)) in verdicts.into_iter().enumerate() {
            for (Expect { case, answer }, verdict) in self.expected.iter().zip(verdicts) {
                if verdict.is_ok() != answer[index] {
                    wrong.push(format!("{verifier:?}: {}: {verdict:?}", case.label));
                }
                let ask = Ask { usage: case.usage, name: case.name.as_deref(), allowed_cn: &[], at: case.at };
                let forecast = verify(verifier, &case.chain, &case.anchors, &ask);
                if forecast.is_ok() != answer[index] {
                    wrong.push(format!("our forecast of {verifier:?}: {}: {forecast:?}", case.label));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "{} wrong verdicts, the first of them:\n{}",
            wrong.len(),
            wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n")
        );
        cases.len()
    }
}
