//! `rollover cert verify`.

use serde_json::Value;
use stdlib::cert::{self, Certificate, Opinion, Question, names_of, opinions, opinions_value, who};
use stdlib::trust::{self, Verifier};

use super::args::{By, Usage, Verify};
use super::files::{all_certificates, failed};
use super::inspect::note;
use super::lines::{Facts, WIDTH};
use super::show::{left, minute, whose};
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, style};

impl By {
    /// Whether this verifier is among those that count.
    pub(super) fn counts(self, verifier: Verifier) -> bool {
        match self {
            Self::All => true,
            Self::Webpki => verifier == Verifier::Webpki,
            Self::Go => verifier == Verifier::Go,
            Self::Openssl => verifier == Verifier::Openssl,
        }
    }
}

impl Usage {
    fn of(self) -> trust::Usage {
        match self {
            Self::Server => trust::Usage::Server,
            Self::Client => trust::Usage::Client,
        }
    }
}

pub(super) fn verify(context: &Context, args: &Verify) -> Result<ExitCode, Failure> {
    let chain = all_certificates(&args.chain)?;
    let anchors = all_certificates(&args.anchors)?;
    let at = match &args.at {
        None => super::now(),
        Some(text) => cert::time_of(text).map_err(|error| failed(error.on("--at")))?,
    };
    let question = Question {
        usage: args.usage.of(),
        names: args.name.clone(),
        allowed_cn: args.allowed_cn.clone(),
        at,
    };
    let all = opinions(&chain, &anchors, &question);
    let accepted = all.iter().filter(|one| args.by.counts(one.verifier)).all(|one| one.verdict.is_ok());
    if context.json() {
        let mut value = opinions_value(&all, &chain, &anchors, &question);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("accepted".into(), Value::Bool(accepted));
            fields.insert("at".into(), cert::date(at).into());
        }
        output::data(&value.to_string());
    } else {
        output::data(&text(&all, &chain, &anchors, &question));
    }
    Ok(if accepted { ExitCode::Ok } else { ExitCode::CertRefused })
}

fn text(all: &[Opinion], chain: &[Certificate], anchors: &[Certificate], question: &Question) -> String {
    let mut parts = Vec::new();
    if let Some(leaf) = chain.first() {
        let mut facts = Facts::under(&whose(leaf));
        facts.fact("until", &format!("{}, {}", minute(leaf.not_after()), left(leaf, question.at)));
        facts.fact("asked", &asked(question));
        parts.push(facts.text());
    }
    parts.push(judged(all, anchors));
    parts.extend(cert::differences(all, chain, anchors, question).iter().map(|text| note(text)));
    parts.join("\n")
}

fn asked(question: &Question) -> String {
    let role = match question.usage {
        trust::Usage::Server => "as a server",
        trust::Usage::Client => "as a client",
    };
    let names = match question.names.as_slice() {
        [] => "under no name".to_owned(),
        names => format!("under {}", names.join(", ")),
    };
    format!("{role}, {names}, at {}", minute(question.at))
}

/// What each verifier says, one after the other, and in which anchors their paths end.
pub(super) fn judged(all: &[Opinion], anchors: &[Certificate]) -> String {
    let mut lines = Vec::new();
    let mut ends = Vec::new();
    for one in all {
        let mark = match &one.verdict {
            Ok(index) => {
                ends.extend(anchors.get(*index));
                style::good().apply_to("ok  ")
            }
            Err(_) => style::bad().apply_to("FAIL"),
        };
        let programs = style::faint().apply_to(who(one.verifier)).to_string();
        lines.push(format!("  {mark} {:<8} {programs}", names_of(one.verifier)));
        if let Err(rejection) = &one.verdict {
            lines.push(style::wrap(&rejection.text, 16, WIDTH));
        }
    }
    let mut told: Vec<&Certificate> = Vec::new();
    for anchor in ends {
        if !told.contains(&anchor) {
            told.push(anchor);
            let print = anchor.fingerprint();
            let text = format!("ends in {} ({}…)", whose(anchor), print.get(..15).unwrap_or_default());
            lines.push(style::wrap(&text, 2, WIDTH));
        }
    }
    lines.join("\n")
}
