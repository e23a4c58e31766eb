//! What each verifier says of a chain, and why they differ: the same question to webpki, Go and OpenSSL.

use time::OffsetDateTime;

use super::{Certificate, San, date};
use crate::trust::{self, Ask, Rejection, Usage, Verifier};

/// Every verifier, in the order in which they are told.
const ALL: [Verifier; 3] = [Verifier::Webpki, Verifier::Go, Verifier::Openssl];

/// What a verifier is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// As server or as client.
    pub usage: Usage,
    /// Names dialled; all must hold. Empty asks about none.
    pub names: Vec<String>,
    /// Common names that the leaf may have; empty allows all.
    pub allowed_cn: Vec<String>,
    /// At which time.
    pub at: OffsetDateTime,
}

/// What one verifier answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// Who.
    pub verifier: Verifier,
    /// The anchor in which its path ends (an index), or why it refuses.
    pub verdict: Result<usize, Rejection>,
}

/// Asks every verifier about a chain, leaf first, under every name.
pub fn opinions(chain: &[Certificate], anchors: &[Certificate], question: &Question) -> Vec<Opinion> {
    let chain: Vec<_> = chain.iter().map(|one| one.der().clone()).collect();
    let anchors: Vec<_> = anchors.iter().map(|one| one.der().clone()).collect();
    let ask = |verifier, name: Option<&str>| {
        let ask = Ask { usage: question.usage, name, allowed_cn: &question.allowed_cn, at: question.at };
        trust::verify(verifier, &chain, &anchors, &ask)
    };
    ALL.into_iter()
        .map(|verifier| {
            let first = ask(verifier, question.names.first().map(String::as_str));
            let verdict = first.and_then(|anchor| {
                question.names.iter().skip(1).try_for_each(|name| ask(verifier, Some(name)).map(|_| ()))?;
                Ok(anchor)
            });
            Opinion { verifier, verdict }
        })
        .collect()
}

/// Which programs judge so.
pub fn who(verifier: Verifier) -> &'static str {
    match verifier {
        Verifier::Webpki => "programs on rustls",
        Verifier::Go => "PD, TiDB, TiCDC, TiProxy, Kubernetes, etcd",
        Verifier::Openssl => "TiKV, TiFlash, MySQL clients, curl, nginx",
    }
}

/// A verifier's name, as options take it.
pub fn names_of(verifier: Verifier) -> &'static str {
    match verifier {
        Verifier::Webpki => "webpki",
        Verifier::Go => "go",
        Verifier::Openssl => "openssl",
    }
}

/// Why the verifiers do not agree, in sentences; empty where they do.
pub fn differences(
    opinions: &[Opinion],
    chain: &[Certificate],
    anchors: &[Certificate],
    question: &Question,
) -> Vec<String> {
    let (accept, refuse): (Vec<&Opinion>, Vec<&Opinion>) =
        opinions.iter().partition(|opinion| opinion.verdict.is_ok());
    if accept.is_empty() || refuse.is_empty() {
        return Vec::new();
    }
    let mut said = Vec::new();
    let mut say = |text: String| {
        if !said.contains(&text) {
            said.push(text);
        }
    };
    let webpki_accepts = accept.iter().find(|opinion| opinion.verifier == Verifier::Webpki);
    let anchor = webpki_accepts
        .and_then(|opinion| opinion.verdict.as_ref().ok())
        .and_then(|index| anchors.get(*index));
    let leaf = chain.first();
    for opinion in &refuse {
        let Err(rejection) = &opinion.verdict else { continue };
        let name = names_of(opinion.verifier);
        match (opinion.verifier, rejection.code.as_str()) {
            (_, "expired" | "not-yet-valid") if anchor.is_some_and(|anchor| !anchor.valid_at(question.at)) => {
                let until = anchor.map(|anchor| date(anchor.not_after())).unwrap_or_default();
                say(format!(
                    "webpki takes an anchor for its name and key alone and does not look at its dates; Go and OpenSSL do (it ends on {until})"
                ));
            }
            (_, "not-a-ca") if anchor.is_some_and(|anchor| !anchor.may_sign()) => say(
                "webpki takes an anchor for its name and key alone; Go and OpenSSL ask that it is a CA that may sign".into(),
            ),
            (_, "usage") => say(format!(
                "the extended usages of the authorities on the path, and of the leaf, count differently: {name} asks that each of them allows the use, and OpenSSL does not take `any` for it"
            )),
            (Verifier::Openssl, "self-signed") => say(
                "the leaf's name is its issuer's and it has no authority key id: OpenSSL takes it for self-signed; the others try the issuer's key. Issue it again with an authority key id".into(),
            ),
            (Verifier::Openssl, "bad-signature") if twins(leaf, anchors) => say(
                "two trusted CAs have the issuer's name and the leaf does not say by key id which of them signed: OpenSSL tries only the first, Go and webpki try both. Issue the leaf again with an authority key id, or put the right CA first".into(),
            ),
            (Verifier::Openssl, "unknown-authority") => say(
                "the path ends in an intermediate: OpenSSL accepts only a path that ends in a self-signed anchor, Go and webpki end it at any anchor".into(),
            ),
            (_, "name-mismatch") => say(match short_wildcard(leaf, question) {
                Some(wildcard) => format!(
                    "a wildcard before a single label, as `{wildcard}`, holds for Go alone; webpki and OpenSSL ask for two labels after it"
                ),
                None if leaf.is_some_and(|leaf| leaf.sans().is_empty()) => {
                    "there is no alternative name: OpenSSL falls back to the common name, Go and webpki do not".into()
                }
                None => format!("names are compared differently: {name} alone refuses: {}", rejection.text),
            }),
            (_, "bad-signature") => say(format!("{name} does not accept the signature algorithm of the path")),
            (_, "malformed") => say(format!("{name} cannot read a certificate that the others read")),
            (_, "cn-not-allowed") => say(
                "the subject has several common names: Go looks at the last, OpenSSL at the first".into(),
            ),
            (_, code) => say(format!("{name} alone applies the rule `{code}`: {}", rejection.text)),
        }
    }
    said
}

/// Whether several anchors have the issuer's name and the leaf does not say which it is.
fn twins(leaf: Option<&Certificate>, anchors: &[Certificate]) -> bool {
    leaf.is_some_and(|leaf| {
        leaf.akid().is_none() && anchors.iter().filter(|anchor| anchor.subject() == leaf.issuer()).count() > 1
    })
}

/// A wildcard of the leaf with a single label after it that one of the names dialled falls under.
fn short_wildcard<'a>(leaf: Option<&'a Certificate>, question: &Question) -> Option<&'a str> {
    leaf?.sans().iter().find_map(|san| {
        let San::Dns(wildcard) = san else { return None };
        let parent = wildcard.strip_prefix("*.").filter(|parent| !parent.contains('.'))?;
        let falls_under =
            |name: &String| name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent));
        question.names.iter().any(falls_under).then_some(wildcard.as_str())
    })
}
