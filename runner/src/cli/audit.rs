//! `rollover audit`: the records, for whoever must believe them.

use std::path::Path;

use journal::{Audit as Found, Head, Verdict, VerifierKey};
use serde_json::{Value, json};
use stdlib::files::SystemDisk;

use super::args::Audit;
use super::records::{self, Read};
use super::{Context, signing, status};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, story, style};

pub(crate) fn audit(context: &Context, command: Audit) -> Result<ExitCode, Failure> {
    match command {
        Audit::List => status::status(context, None),
        Audit::Show { run } => show(context, &run),
        Audit::Verify { run, key, expect_head } => verify(context, &run, &key, expect_head.as_deref()),
    }
}

fn show(context: &Context, run: &str) -> Result<ExitCode, Failure> {
    let dir = records::folder(&records::store(context), run)?;
    let Read { loaded, plan, bodies } = records::read(&dir)?;
    if context.json() {
        for record in &loaded.records {
            let line = record.encode().map_err(|error| {
                Failure::new(ExitCode::Unknown, format!("cannot print a record: {error}"))
            })?;
            output::data(String::from_utf8_lossy(&line).trim_end());
        }
    } else {
        let content = |value: &Value| bodies.resolve(value).unwrap_or_default();
        output::data(&story::text(&loaded, plan.as_ref().ok(), &content, style::width_or_endless()));
    }
    records::say_unreadable(plan.as_ref().err());
    Ok(ExitCode::Ok)
}

/// A key as text, or a file that holds one.
fn key(given: &str) -> Result<VerifierKey, Failure> {
    let path = Path::new(given);
    if path.exists() { signing::read_public(path) } else { signing::parse_public(given) }
}

/// Whose keys judge a record.
enum Judge {
    /// Those that the auditor named.
    Named,
    /// This machine's own, for want of another.
    Own,
    /// Nobody's: none was named, and this machine has none.
    None,
}

fn verify(
    context: &Context,
    run: &str,
    keys: &[String],
    expect_head: Option<&str>,
) -> Result<ExitCode, Failure> {
    let dir = records::folder(&records::store(context), run)?;
    let named: Vec<VerifierKey> = keys.iter().map(|given| key(given)).collect::<Result<_, _>>()?;
    let (judge, keys) = if named.is_empty() {
        match signing::public(context)? {
            Some(own) => (Judge::Own, vec![own]),
            None => (Judge::None, Vec::new()),
        }
    } else {
        (Judge::Named, named)
    };
    let expected: Option<Head> = expect_head.map(str::parse).transpose().map_err(|error| {
        Failure::new(ExitCode::Usage, format!("`--expect-head` is no head: {error}"))
            .hint("a head reads SIZE:HASH, as a run prints it after each phase and at its end")
    })?;
    let found = journal::verify(&SystemDisk, &dir, &keys, expected).map_err(records::failure)?;
    let limits = limits(&judge, expected.is_some());
    if context.json() {
        output::data(&object(&found, &dir, &limits).to_string());
    } else {
        output::data(&text(&found, &dir, &limits));
    }
    Ok(if found.holds() { ExitCode::Ok } else { ExitCode::AuditFailed })
}

/// What the verdicts cannot tell, and what would: an auditor must not take silence for proof.
fn limits(judge: &Judge, expected: bool) -> Vec<&'static str> {
    let mut limits = Vec::new();
    if !expected {
        limits.push(
            "no head was expected: a record that was cut off at a signed checkpoint looks whole, so it may have had more; give `--expect-head SIZE:HASH`, as the run printed it after each phase and wrote it on its target",
        );
    }
    match judge {
        Judge::Named => {}
        Judge::Own => limits.push("judged by this machine's own key; name another with `--key`"),
        Judge::None => {
            limits.push("this machine has no key of its own; name that of whoever ran it with `--key`")
        }
    }
    limits
}

fn verdicts(found: &Found) -> [(&'static str, &Verdict); 3] {
    [
        ("integrity", &found.integrity),
        ("completeness", &found.completeness),
        ("authenticity", &found.authenticity),
    ]
}

fn object(found: &Found, dir: &Path, limits: &[&str]) -> Value {
    let verdicts: serde_json::Map<String, Value> = verdicts(found)
        .into_iter()
        .map(|(name, verdict)| {
            (name.to_owned(), json!({"holds": verdict.holds, "why": verdict.why, "record": verdict.at}))
        })
        .collect();
    json!({
        "run": found.run_id, "record": dir.display().to_string(), "holds": found.holds(), "verdicts": verdicts, "records": found.records,
        "unsigned_tail": found.unsigned_tail(), "head": found.head.to_string(), "signers": found.signers, "limits": limits,
    })
}

fn text(found: &Found, dir: &Path, limits: &[&str]) -> String {
    let mut lines = vec![format!("{} {}", style::strong().apply_to("Record"), dir.display())];
    for (name, verdict) in verdicts(found) {
        let mark = if verdict.holds { style::good().apply_to("ok  ") } else { style::bad().apply_to("FAIL") };
        lines.push(format!("  {mark} {name:<13} {}", reason(verdict, found.records)));
    }
    lines.push(format!("  {}, head {}", style::plural(found.records, "record"), found.head));
    for limit in limits {
        let limit = style::wrap(limit, 8, style::width());
        lines.push(format!(
            "  {} {}",
            style::warn().apply_to("note:"),
            style::faint().apply_to(limit.trim_start())
        ));
    }
    lines.join("\n")
}

/// Why a verdict is as it is, with the record that is to blame, said once.
fn reason(verdict: &Verdict, records: u64) -> String {
    let Some(seq) = verdict.at else { return verdict.why.clone() };
    match verdict.why.strip_prefix(&format!("line {seq} ")) {
        Some(rest) if !rest.starts_with("should be") => format!("record {seq} {rest}"),
        Some(_) => verdict.why.clone(),
        None if verdict.why.starts_with("cannot be judged") => verdict.why.clone(),
        None if seq > records => format!("after record {records}: {}", verdict.why),
        None => format!("record {seq}: {}", verdict.why),
    }
}
