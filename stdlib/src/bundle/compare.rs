//! What one bundle has that another has not.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::cert::{Certificate, date};

/// How two bundles differ. Certificates are the same when their bytes are; what only their keys have in common is told
/// apart, since a renewed authority goes on to vouch for what it has issued.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// Those that only the first has.
    pub only_first: Vec<&'a Certificate>,
    /// Those that only the second has.
    pub only_second: Vec<&'a Certificate>,
    /// Those that both have.
    pub both: Vec<&'a Certificate>,
    /// One of the first alone and one of the second alone that have the same key.
    pub same_key: Vec<(&'a Certificate, &'a Certificate)>,
    /// Whether what both have stands in the same order.
    pub same_order: bool,
}

/// Compares two bundles; twins within one count once.
pub fn compare<'a>(first: &'a [Certificate], second: &'a [Certificate]) -> Comparison<'a> {
    let (first, second) = (distinct(first), distinct(second));
    let (in_first, in_second): (HashSet<_>, HashSet<_>) =
        (first.iter().copied().collect(), second.iter().copied().collect());
    let (both, only_first): (Vec<_>, Vec<_>) = first.iter().copied().partition(|one| in_second.contains(one));
    let (other_order, only_second): (Vec<_>, Vec<_>) =
        second.iter().copied().partition(|one| in_first.contains(one));
    let mut by_key: HashMap<&[u8], Vec<&Certificate>> = HashMap::new();
    for other in &only_second {
        by_key.entry(other.spki()).or_default().push(other);
    }
    let same_key = only_first
        .iter()
        .flat_map(|one| by_key.get(one.spki()).into_iter().flatten().map(move |other| (*one, *other)))
        .collect();
    let same_order = both == other_order;
    Comparison { only_first, only_second, both, same_key, same_order }
}

fn distinct(list: &[Certificate]) -> Vec<&Certificate> {
    let mut seen = HashSet::new();
    list.iter().filter(|one| seen.insert(*one)).collect()
}

impl Comparison<'_> {
    /// Whether both trust the same.
    pub fn same(&self) -> bool {
        self.only_first.is_empty() && self.only_second.is_empty()
    }

    /// As a value.
    pub fn to_value(&self) -> Value {
        let list = |all: &[&Certificate]| all.iter().map(|one| brief(one)).collect::<Vec<_>>();
        let pairs: Vec<Value> = self
            .same_key
            .iter()
            .map(|(one, other)| json!({ "first": one.fingerprint(), "second": other.fingerprint(), "spki": one.spki_fingerprint() }))
            .collect();
        json!({
            "same": self.same(),
            "same_order": self.same_order,
            "only_first": list(&self.only_first),
            "only_second": list(&self.only_second),
            "both": list(&self.both),
            "same_key": pairs,
        })
    }
}

/// What is needed to recognise a certificate.
pub(super) fn brief(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject_text(),
        "issuer": certificate.issuer_text(),
        "fingerprint": certificate.fingerprint(),
        "spki": certificate.spki_fingerprint(),
        "not_after": date(certificate.not_after()),
    })
}
