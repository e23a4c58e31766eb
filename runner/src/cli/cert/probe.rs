//! `rollover cert probe`.

use std::sync::Arc;

use stdlib::cert::{Certificate, Key, Question, differences, opinions};
use stdlib::tls::TlsFailure;
use stdlib::tls::config::{Identity, Trust};
use stdlib::tls::probe::{Probed, Target};
use stdlib::trust::{Certs, Usage, Verifier};

use super::args::{By, Probe};
use super::ask::judged;
use super::files::{all_certificates, certificates, failed, key_beside};
use super::inspect::note;
use super::lines::Facts;
use super::show::{left, minute, whose};
use super::source::{ask, endpoint, served, target};
use super::{here, now};
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output;

fn certs(all: &[Certificate]) -> Certs {
    Certs(all.iter().map(|one| one.der().clone()).collect())
}

/// Whose rules judge what is served. With `all`, OpenSSL's: the strictest on what these clusters have.
fn verifier(by: By) -> Verifier {
    match by {
        By::Webpki => Verifier::Webpki,
        By::Go => Verifier::Go,
        By::All | By::Openssl => Verifier::Openssl,
    }
}

pub(super) async fn probe(context: &Context, args: &Probe) -> Result<ExitCode, Failure> {
    let (host, port) = endpoint(&args.endpoint).ok_or_else(|| {
        Failure::new(ExitCode::Usage, "is no endpoint").on(args.endpoint.clone()).hint("write HOST:PORT")
    })?;
    let anchors = all_certificates(&args.anchors)?;
    let identity = identity(args)?;
    let trust = (!anchors.is_empty()).then(|| Trust {
        verifier: verifier(args.by),
        anchors: Arc::new(certs(&anchors)),
        allowed_cn: Vec::new(),
    });
    let target = Target { identity, trust, ..target(&host, port, &args.dial) };
    let world = here();
    let found = ask(&world, &target).await?;
    let chain = served(&found)?;
    let question = Question {
        usage: Usage::Server,
        names: vec![target.name.clone()],
        allowed_cn: Vec::new(),
        at: now(),
    };
    let all = if anchors.is_empty() { Vec::new() } else { opinions(&chain, &anchors, &question) };
    let trusted = all.iter().filter(|one| args.by.counts(one.verifier)).all(|one| one.verdict.is_ok());
    let shook = !matches!(found.attempt, Some(Err(_)));
    if context.json() {
        let answer = stdlib::tls::answer(&world, &target, &found).map_err(failed)?;
        output::data(&answer.to_string());
    } else {
        output::data(&facts(&target, &found, &chain));
        if !all.is_empty() {
            output::data(&judged(&all, &anchors));
            for text in differences(&all, &chain, &anchors, &question) {
                output::data(&note(&text));
            }
        }
    }
    Ok(if trusted && shook { ExitCode::Ok } else { ExitCode::CertRefused })
}

fn identity(args: &Probe) -> Result<Option<Identity>, Failure> {
    let Some(path) = &args.cert else { return Ok(None) };
    let chain = certificates(path)?;
    let key_path = args.key.clone().unwrap_or_else(|| key_beside(path));
    let key: Key = args.passphrase.key(&key_path)?;
    if let Some(leaf) = chain.first() {
        key.check_matches(leaf, &key_path.display().to_string()).map_err(failed)?;
    }
    let secret = key.to_secret().map_err(failed)?;
    Identity::new(&certs(&chain), &secret).map(Some).map_err(failed)
}

fn facts(target: &Target, found: &Probed, chain: &[Certificate]) -> String {
    let mut facts = Facts::under(&format!("{}:{}", target.host, target.port));
    if let Some(greeting) = &found.greeting {
        facts.fact("server", &format!("MySQL, version {}", greeting.version));
    }
    facts.fact("protocol", &found.observed.protocol);
    for (index, one) in chain.iter().enumerate() {
        let label = if index == 0 { "serves" } else { "then" };
        facts
            .fact(label, &format!("{}, until {}, {}", whose(one), minute(one.not_after()), left(one, now())));
    }
    if let Some(leaf) = chain.first() {
        facts.fact("signed by", leaf.issuer_text());
        facts.fact("sha256", leaf.fingerprint().trim_start_matches("sha256:"));
    }
    facts.fact(
        "asks",
        if found.observed.asks_client { "for a client certificate" } else { "for no client certificate" },
    );
    match (found.unjudged.as_ref().or(found.attempt.as_ref()), target.identity.is_some()) {
        (None, _) => {}
        (Some(Ok(_)), true) => facts.verdict("accepts", true, "the certificate that was presented"),
        (Some(Ok(_)), false) => facts.verdict("accepts", true, "a client without a certificate"),
        (Some(Err(failure)), shown) => facts.verdict("accepts", false, &refusal(failure, shown)),
    }
    facts.text()
}

/// A refusal, by whom, in words.
fn refusal(failure: &TlsFailure, shown: bool) -> String {
    match (failure, shown) {
        (TlsFailure::RefusedBy(alert), true) => {
            format!("NOT the certificate that was presented: it answers with the alert `{alert}`")
        }
        (TlsFailure::RefusedBy(alert), false) => {
            format!("NO client without a certificate (alert `{alert}`); `--cert FILE` presents one")
        }
        (TlsFailure::Rejected(rejection), _) => {
            format!("not tried: we refuse what it serves: {}", rejection.text)
        }
        (other, _) => other.to_string(),
    }
}
