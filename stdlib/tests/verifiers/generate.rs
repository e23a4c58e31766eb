//! Random public key infrastructures, mostly sound, each wrong in a few ways.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rustls_pki_types::CertificateDer;
use stdlib::trust::Usage;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::der::{Authority, General, Key, Spec, name};
pub(crate) use crate::judges::Case;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

pub(crate) const CN: &str = "2.5.4.3";
pub(crate) const O: &str = "2.5.4.10";
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const SERVER: &str = "1.3.6.1.5.5.7.3.1";
pub(crate) const CLIENT: &str = "1.3.6.1.5.5.7.3.2";
pub(crate) const ANY: &str = "2.5.29.37.0";
pub(crate) const CODE: &str = "1.3.6.1.5.5.7.3.3";
pub(crate) const SGC: &str = "1.3.6.1.4.1.311.10.3.3";
pub(crate) const UNKNOWN: &str = "1.3.6.1.4.1.99999.1";
pub(crate) const CERT_SIGN: u16 = 1 << 5;
pub(crate) const DIGITAL_SIGNATURE: u16 = 1;
pub(crate) const KEY_ENCIPHERMENT: u16 = 1 << 2;

/// Keys of every kind: made once, they are slow.
pub(crate) struct Keys {
    authorities: Vec<Key>,
    leaves: Vec<Key>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            authorities: vec![
                Key::p256(),
                Key::p256(),
                Key::p256(),
                Key::p256(),
                Key::p384(),
                Key::rsa(false),
                Key::rsa(true),
                Key::ed25519(),
            ],
            leaves: vec![Key::p256(), Key::p256(), Key::rsa(false)],
        }
    }
}

/// A name for an authority or a leaf; several are equal for OpenSSL and different for the others.
pub(crate) fn subject(index: usize) -> Vec<u8> {
    match index {
        0 => name(&[(O, PRINTABLE, "PingCAP"), (CN, PRINTABLE, "TiDB")]),
        1 => name(&[(O, UTF8, "PingCAP"), (CN, UTF8, "TiDB CA")]),
        2 => name(&[(CN, UTF8, "Other CA")]),
        3 => name(&[(O, UTF8, "pingcap"), (CN, PRINTABLE, "TiDB")]),
        4 => name(&[(O, PRINTABLE, " PingCAP "), (CN, UTF8, "TiDB")]),
        5 => name(&[(CN, UTF8, "pd-0.peer.tidb.svc")]),
        6 => name(&[]),
        _ => name(&[(CN, UTF8, "leaf")]),
    }
}

/// A sound authority.
pub(crate) fn authority(subject: Vec<u8>, key: &Key, serial: u64) -> Spec {
    Spec {
        version: 3,
        serial,
        subject,
        not_before: NOW - Duration::days(1),
        not_after: NOW + Duration::days(3650),
        basic: Some((true, None)),
        key_usage: Some(CERT_SIGN | 1 << 6),
        extended: None,
        key_id: Some(key.id()),
        authority: None,
        names: Vec::new(),
        constraints: None,
        critical: None,
    }
}

/// A sound leaf, as cfssl makes it.
pub(crate) fn leaf(subject: Vec<u8>, key: &Key, issuer: Option<&Key>, serial: u64) -> Spec {
    Spec {
        basic: Some((false, None)),
        key_usage: Some(DIGITAL_SIGNATURE | KEY_ENCIPHERMENT),
        extended: Some(vec![SERVER, CLIENT]),
        authority: issuer.map(|issuer| Authority::KeyId(issuer.id())),
        names: vec![General::Dns("pd-0.peer.tidb.svc".into()), General::Ip(vec![127, 0, 0, 1])],
        not_after: NOW + Duration::days(365),
        ..authority(subject, key, serial)
    }
}

pub(crate) struct Made {
    pub(crate) spec: Spec,
    key: usize,
    cert: CertificateDer<'static>,
}

/// Draws cases.
pub(crate) struct Generator<'k> {
    keys: &'k Keys,
    pub(crate) random: StdRng,
    label: Vec<String>,
    serial: u64,
}

impl<'k> Generator<'k> {
    pub(crate) fn new(keys: &'k Keys, seed: u64) -> Self {
        Self { keys, random: StdRng::seed_from_u64(seed), label: Vec::new(), serial: 1 }
    }

    pub(crate) fn one_in(&mut self, many: u32) -> bool {
        self.random.random_ratio(1, many)
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from.choose(&mut self.random).unwrap().clone()
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.label.push(text.into());
    }

    /// A self-signed authority, or one that only looks so.
    fn root(&mut self, subject_of: usize, key: usize) -> Made {
        self.serial += 1;
        let keys = self.keys;
        let holder = &keys.authorities[key];
        let mut spec = authority(subject(subject_of), holder, self.serial);
        self.note(format!("root s{subject_of} k{key}"));
        if self.one_in(3) {
            spec.authority = Some(Authority::KeyId(holder.id()));
        }
        if self.one_in(3) {
            self.spoil_authority(&mut spec);
        }
        let cert = spec.sign(holder, &spec.subject, holder);
        Made { spec, key, cert }
    }

    /// An authority signed by another: an intermediate, or a cross-signed root.
    fn below(&mut self, above: &Made, subject_of: Vec<u8>, key: usize) -> Made {
        self.serial += 1;
        let keys = self.keys;
        let (holder, signer) = (&keys.authorities[key], &keys.authorities[above.key]);
        let mut spec = authority(subject_of, holder, self.serial);
        spec.authority = if self.one_in(3) {
            None
        } else {
            Some(Authority::KeyId(above.spec.key_id.clone().unwrap_or_default()))
        };
        self.note(format!("below k{key}"));
        if self.one_in(3) {
            self.spoil_authority(&mut spec);
        }
        let cert = spec.sign(holder, &above.spec.subject, signer);
        Made { spec, key, cert }
    }

    /// The next case.
    pub(crate) fn case(&mut self) -> Case {
        self.label.clear();
        let keys = self.keys;
        let mut roots = Vec::new();
        for index in 0..self.random.random_range(1..4) {
            // The second and third often bear the name of the first: the case that verifiers differ on most.
            let subject_of = if index == 0 || self.one_in(3) { self.random.random_range(0..3) } else { 0 };
            let key = self.random.random_range(0..keys.authorities.len());
            roots.push(self.root(subject_of, key));
        }
        let mut path: Vec<Made> = Vec::new();
        let depth: usize = self.pick(&[0, 0, 0, 1, 1, 2]);
        let signer = self.random.random_range(0..roots.len());
        for level in 0..depth {
            let key = self.random.random_range(0..keys.authorities.len());
            let subject_of = match self.random.random_range(0..6) {
                0 => roots[signer].spec.subject.clone(),
                1 => subject(0),
                _ => name(&[(CN, UTF8, &format!("level {level}"))]),
            };
            let made = match path.last() {
                Some(_) => {
                    let above = path.pop().unwrap();
                    let made = self.below(&above, subject_of, key);
                    path.push(above);
                    made
                }
                None => {
                    let above = roots.swap_remove(signer);
                    let made = self.below(&above, subject_of, key);
                    roots.push(above);
                    let last = roots.len() - 1;
                    roots.swap(signer, last);
                    made
                }
            };
            path.push(made);
        }
        if depth > 0 && self.one_in(4) {
            // The new root, cross-signed by another: the same name and key, another issuer.
            let (name, key) = (roots[signer].spec.subject.clone(), roots[signer].key);
            let other = self.random.random_range(0..roots.len());
            let above = roots.swap_remove(other);
            let crossed = self.below(&above, name, key);
            roots.push(above);
            path.push(crossed);
            self.note("cross-signed");
        }
        let issuer = if depth == 0 { &roots[signer] } else { &path[depth - 1] };
        let issuer = Made { spec: issuer.spec.clone(), key: issuer.key, cert: issuer.cert.clone() };
        let holder = &keys.leaves[self.random.random_range(0..keys.leaves.len())];
        self.serial += 1;
        let mut spec = leaf(subject(7), holder, None, self.serial);
        spec.authority = issuer.spec.key_id.clone().map(Authority::KeyId);
        if self.one_in(2) {
            self.spoil_leaf(&mut spec, &issuer);
        }
        if self.one_in(6) {
            spec.authority = None;
            self.note("no AKI");
        }
        let mut signing = &keys.authorities[issuer.key];
        if self.one_in(20) {
            signing = &keys.authorities[(issuer.key + 1) % keys.authorities.len()];
            self.note("signed by another key");
        }
        let leaf = spec.sign(holder, &issuer.spec.subject, signing);
        self.assemble(leaf, &path, &roots)
    }

    fn assemble(&mut self, leaf: CertificateDer<'static>, path: &[Made], roots: &[Made]) -> Case {
        let mut rest: Vec<CertificateDer<'static>> =
            path.iter().rev().map(|made| made.cert.clone()).collect();
        if self.one_in(6) {
            rest.extend(roots.iter().map(|root| root.cert.clone()));
            self.note("roots in the chain");
        }
        if self.one_in(5) {
            rest.shuffle(&mut self.random);
        }
        if !rest.is_empty() && self.one_in(8) {
            rest.pop();
            self.note("one left out");
        }
        let mut anchors: Vec<CertificateDer<'static>> = roots.iter().map(|root| root.cert.clone()).collect();
        anchors.shuffle(&mut self.random);
        if anchors.len() > 1 && self.one_in(5) {
            anchors.pop();
            self.note("a root not trusted");
        }
        if self.one_in(10) {
            anchors.extend(path.iter().map(|made| made.cert.clone()));
            anchors.shuffle(&mut self.random);
            self.note("intermediates trusted");
        }
        if self.one_in(30) {
            anchors.push(leaf.clone());
            self.note("leaf trusted");
        }
        if self.one_in(30) {
            anchors.insert(0, anchors[anchors.len() - 1].clone());
            self.note("an anchor twice");
        }
        let usage = self.pick(&[Usage::Server, Usage::Server, Usage::Client]);
        let names = [
            "pd-0.peer.tidb.svc",
            "pd-0.peer.tidb.svc",
            "pd-0.peer",
            "127.0.0.1",
            "pd-9.peer.tidb.svc",
            "pd-0.peer.tidb.svc.",
        ];
        let name = (usage == Usage::Server).then(|| self.pick(&names).to_owned());
        self.note(format!("{usage:?} {name:?}"));
        let chain = std::iter::once(leaf).chain(rest).collect();
        Case { label: self.label.join("; "), chain, anchors, usage, name, at: NOW }
    }
}
