//! What a trust store holds that somebody will trip over.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::cert::{Certificate, date};

/// One finding about one certificate of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which certificate, from 1.
    pub position: usize,
    /// Stable word: `duplicate`, `expired`, `not-yet-valid`, `not-a-ca`, `intermediate`, `same-name`, `same-key`,
    /// `weak-signature`.
    pub code: &'static str,
    /// In words.
    pub text: String,
}

impl Finding {
    /// As a value.
    pub fn to_value(&self) -> Value {
        json!({ "position": self.position, "code": self.code, "text": self.text })
    }
}

/// Goes through a bundle that serves as a trust store at this time.
pub fn check(list: &[Certificate], at: OffsetDateTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, one) in list.iter().enumerate() {
        let before = list.get(..index).unwrap_or_default();
        let mut say = |code, text: String| findings.push(Finding { position: index + 1, code, text });
        if let Some(twin) = position(before, |other| other == one) {
            say("duplicate", format!("is certificate {twin} again"));
            continue;
        }
        if at > one.not_after() {
            say(
                "expired",
                format!(
                    "expired on {}: OpenSSL and Go refuse what it signed, webpki does not look at an anchor's dates",
                    date(one.not_after())
                ),
            );
        } else if at < one.not_before() {
            say("not-yet-valid", format!("is not valid before {}", date(one.not_before())));
        }
        if !one.may_sign() {
            let is = if one.is_ca() { "may not sign certificates" } else { "is no CA" };
            say("not-a-ca", format!("{is}: OpenSSL and Go accept nothing below it, webpki does"));
        } else if !one.self_issued() {
            let place = match position(list, |other| one.check_signed_by(other).is_ok()) {
                Some(number) => format!("certificate {number}"),
                None => format!(
                    "`{}`, which is not here: OpenSSL then accepts nothing below it",
                    one.issuer_text()
                ),
            };
            say("intermediate", format!("is an intermediate, issued by {place}"));
        }
        if let Some(number) = position(before, |other| other.spki() == one.spki()) {
            say("same-key", format!("has the key of certificate {number}: one of them is enough"));
        } else if let Some(number) = position(before, |other| other.subject() == one.subject()) {
            say(
                "same-name",
                format!(
                    "has the name of certificate {number} and another key: for leaves without an authority key id, \
                     OpenSSL tries only the first of them"
                ),
            );
        }
        if one.signature_algorithm().to_ascii_lowercase().contains("sha1") && !one.self_issued() {
            say("weak-signature", "is signed with SHA-1, which Go refuses".to_owned());
        }
    }
    findings
}

fn position(list: &[Certificate], is: impl Fn(&Certificate) -> bool) -> Option<usize> {
    list.iter().position(is).map(|index| index + 1)
}
