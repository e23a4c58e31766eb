//! A certificate, a signing request or a key in a person's words, what is needed first coming first.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stdlib::cert::{Certificate, ExtUsage, KeyUsage, San, SigningRequest, describe, usage};
use time::OffsetDateTime;

use super::lines::{Facts, table};
use crate::output::{style, table as tables};

/// How many alternative names are told without being asked.
const NAMES: usize = 12;

/// What kind of certificate it is.
pub(super) fn what(certificate: &Certificate) -> String {
    if certificate.is_ca() {
        let length = certificate.basic_constraints().and_then(|basic| basic.path_len);
        let below = length.map(|length| format!(", path length {length}")).unwrap_or_default();
        let kind = if certificate.self_issued() { "root CA" } else { "intermediate CA" };
        let fit = if certificate.may_sign() { "" } else { " that may not sign certificates" };
        return format!("{kind}{fit}{below}");
    }
    let allows = |oid: &str| certificate.allows(&ExtUsage::from_oid(oid));
    let usages = match (certificate.ext_usage(), allows(usage::SERVER_AUTH), allows(usage::CLIENT_AUTH)) {
        (None, _, _) => "any use",
        (_, true, true) => "server and client",
        (_, true, false) => "server",
        (_, false, true) => "client",
        _ => "other uses",
    };
    let own = if certificate.self_issued() { ", issued by itself" } else { "" };
    format!("certificate for {usages}{own}")
}

/// A certificate's subject, or what stands for it where that is empty.
pub(super) fn whose(certificate: &Certificate) -> String {
    match (certificate.subject_text(), certificate.sans().first()) {
        ("", Some(name)) => format!("(no subject) {name}"),
        ("", None) => "(nobody)".into(),
        (subject, _) => subject.into(),
    }
}

/// `2027-11-22 09:14 UTC`.
pub(super) fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// How far away a moment is: `364 days left`, `expired 3 hours ago`.
pub(super) fn left(certificate: &Certificate, now: OffsetDateTime) -> String {
    let span = |from: OffsetDateTime, to: OffsetDateTime| {
        let minutes = u64::try_from((to - from).whole_minutes()).unwrap_or_default();
        match minutes {
            0..120 => style::plural(minutes, "minute"),
            120..2880 => style::plural(minutes / 60, "hour"),
            _ => style::plural(minutes / 1440, "day"),
        }
    };
    if now < certificate.not_before() {
        format!(
            "begins only in {}, on {}",
            span(now, certificate.not_before()),
            minute(certificate.not_before())
        )
    } else if now > certificate.not_after() {
        format!("EXPIRED {} ago", span(certificate.not_after(), now))
    } else {
        format!("{} left", span(now, certificate.not_after()))
    }
}

/// Who signed a certificate, as far as the certificates at hand tell.
#[derive(Debug, Clone)]
pub(super) enum SignedBy {
    /// Itself, and the signature holds.
    Itself,
    /// This one, which was found there; the signature holds.
    Found(String),
    /// Somebody whose certificate is not at hand.
    Unknown,
    /// Certificates of the issuer's name are at hand, and none of them signed it.
    NoneOf(String),
}

impl SignedBy {
    /// Looks among named groups of certificates.
    pub(super) fn find(certificate: &Certificate, groups: &[(String, &[Certificate])]) -> Self {
        if certificate.check_signed_by(certificate).is_ok() {
            return Self::Itself;
        }
        let mut seen = None;
        for (name, group) in groups {
            for issuer in group.iter().filter(|one| one.subject() == certificate.issuer()) {
                if certificate.check_signed_by(issuer).is_ok() {
                    return Self::Found(name.clone());
                }
                seen = Some(name.clone());
            }
        }
        seen.map_or(Self::Unknown, Self::NoneOf)
    }

    fn words(&self, certificate: &Certificate) -> String {
        let issuer = certificate.issuer_text();
        match self {
            Self::Itself => "itself".into(),
            Self::Found(place) => format!("{issuer} (the one in {place}: its signature holds)"),
            Self::Unknown => format!("{issuer} (not at hand, so the signature was not checked)"),
            Self::NoneOf(place) => {
                format!("{issuer}, but NOT by the one in {place}: another key of the same name")
            }
        }
    }

    fn brief(&self, certificate: &Certificate) -> String {
        match self {
            Self::Itself => "itself".into(),
            _ => certificate.issuer_text().to_owned(),
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Itself => json!({ "by": "itself", "checked": true }),
            Self::Found(place) => json!({ "by": place, "checked": true }),
            Self::Unknown => json!({ "by": null, "checked": false }),
            Self::NoneOf(place) => json!({ "by": null, "checked": false, "not_by": place }),
        }
    }
}

/// Whether a certificate's private key is at hand.
#[derive(Debug, Clone)]
pub(super) enum Pair {
    /// In this place, and it is the right one.
    Fits(String),
    /// In this place, and it is another's.
    Foreign(String),
    /// In this place, encrypted, and no passphrase was given.
    Sealed(String),
    /// In this place, unreadable for this reason.
    Broken(String, String),
    /// Nowhere.
    None,
}

impl Pair {
    /// In words, and whether they are good ones; nothing to say where no key is at hand.
    fn words(&self) -> Option<(bool, String)> {
        match self {
            Self::Fits(place) => Some((true, format!("{place} belongs to it"))),
            Self::Foreign(place) => Some((false, format!("{place} does NOT belong to it"))),
            Self::Sealed(place) => {
                Some((true, format!("{place} is encrypted; `--passphrase-file` compares it")))
            }
            Self::Broken(place, why) => Some((false, format!("{place} cannot be read: {why}"))),
            Self::None => None,
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Fits(place) => json!({ "in": place, "matches": true }),
            Self::Foreign(place) => json!({ "in": place, "matches": false }),
            Self::Sealed(place) => json!({ "in": place, "matches": null, "why": "encrypted" }),
            Self::Broken(place, why) => json!({ "in": place, "matches": null, "why": why }),
            Self::None => Value::Null,
        }
    }
}

/// Everything that is known about one certificate.
pub(super) struct Shown<'a> {
    /// It.
    pub certificate: &'a Certificate,
    /// Who signed it.
    pub signed_by: SignedBy,
    /// Its key.
    pub pair: Pair,
}

fn names(sans: &[San], long: bool) -> String {
    let told = if long { sans.len() } else { sans.len().min(NAMES) };
    let mut text = sans.iter().take(told).map(San::to_string).collect::<Vec<_>>().join(", ");
    if told < sans.len() {
        let _ = write!(text, " and {} more (--long tells all)", sans.len() - told);
    }
    text
}

impl Shown<'_> {
    /// The facts, under a heading.
    pub(super) fn facts(&self, heading: &str, now: OffsetDateTime, long: bool) -> String {
        let one = self.certificate;
        let mut facts = Facts::under(heading);
        facts.fact("what", &what(one));
        facts.fact("whose", &whose(one));
        facts.fact("names", &names(one.sans(), long));
        let until = format!("{}, {}", minute(one.not_after()), left(one, now));
        facts.verdict("until", one.valid_at(now), &until);
        let signed = self.signed_by.words(one);
        match self.signed_by {
            SignedBy::NoneOf(_) => facts.verdict("signed by", false, &signed),
            _ => facts.fact("signed by", &signed),
        }
        match self.pair.words() {
            None => facts.fact("key", one.key_text()),
            Some((good, words)) => facts.verdict("key", good, &format!("{}; {words}", one.key_text())),
        }
        facts.fact("sha256", one.fingerprint().trim_start_matches("sha256:"));
        if long {
            more(&mut facts, one);
        }
        facts.text()
    }

    /// The facts as a value.
    pub(super) fn to_value(&self) -> Value {
        let mut value = describe(self.certificate);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("signed".into(), self.signed_by.to_value());
            fields.insert("private_key".into(), self.pair.to_value());
        }
        value
    }
}

/// What only some people need.
fn more(facts: &mut Facts, one: &Certificate) {
    facts.fact("from", &minute(one.not_before()));
    facts.fact("serial", &one.serial_hex());
    facts.fact("version", &one.version().to_string());
    facts.fact("usages", &one.key_usage().map(KeyUsage::names).unwrap_or_default().join(", "));
    let extended = one.ext_usage().unwrap_or_default();
    facts.fact("extended", &extended.iter().map(ExtUsage::name).collect::<Vec<_>>().join(", "));
    facts.fact("limits", &one.name_constraints().join(", "));
    facts.fact("own key id", &one.skid().map_or_else(|| "none".into(), hex::encode));
    facts.fact("its CA's", &one.akid().map_or_else(|| "none".into(), hex::encode));
    facts.fact("signature", one.signature_algorithm());
    facts.fact("spki", one.spki_fingerprint().trim_start_matches("spki:"));
    facts.fact("pin", &one.pin());
    facts.fact("sha1", one.sha1_fingerprint().trim_start_matches("sha1:"));
    let others = one.other_extensions().iter();
    let others: Vec<String> = others
        .map(|(oid, critical, _)| if *critical { format!("{oid} (critical)") } else { oid.clone() })
        .collect();
    facts.fact("also has", &others.join(", "));
}

/// Several certificates as a table.
pub(super) fn list(all: &[Shown<'_>], now: OffsetDateTime) -> String {
    let mut rows = table(&["#", "what", "whose", "until", "signed by"]);
    for (index, shown) in all.iter().enumerate() {
        let one = shown.certificate;
        let until = if one.valid_at(now) {
            one.not_after().date().to_string()
        } else {
            format!(
                "{} {}",
                one.not_after().date(),
                if now > one.not_after() { "EXPIRED" } else { "NOT YET" }
            )
        };
        rows.add_row([
            (index + 1).to_string(),
            what(one).trim_start_matches("certificate for ").to_owned(),
            whose(one),
            until,
            shown.signed_by.brief(one),
        ]);
    }
    tables::text(&rows)
}

/// A signing request's facts.
pub(super) fn request(heading: &str, request: &SigningRequest, pair: &Pair) -> String {
    let mut facts = Facts::under(heading);
    facts.fact("what", "signing request, signed by its own key");
    facts.fact("whose", &request.subject_text);
    facts.fact("names", &names(&request.sans, true));
    match pair.words() {
        None => facts.fact("key", &request.key_text),
        Some((good, words)) => facts.verdict("key", good, &format!("{}; {words}", request.key_text)),
    }
    facts.fact("spki", request.spki_fingerprint().trim_start_matches("spki:"));
    facts.text()
}
