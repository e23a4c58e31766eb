//! `rollover audit`: the records, for whoever must believe them.

use journal::VerifierKey;
use serde_json::{Value, json};
use stdlib::files::SystemDisk;
use stdlib::world::Disk as _;

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
    let Read { loaded, plan } = records::read(&dir)?;
    if context.json() {
        for record in &loaded.records {
            let line = record.encode().map_err(|error| {
                Failure::new(ExitCode::Unknown, format!("cannot print a record: {error}"))
            })?;
            output::data(String::from_utf8_lossy(&line).trim_end());
        }
    } else {
        output::data(&story::text(&loaded, plan.as_ref()));
    }
    Ok(ExitCode::Ok)
}

/// A key as text, or a file that holds one.
fn key(given: &str) -> Result<VerifierKey, Failure> {
    let path = std::path::Path::new(given);
    let text = if path.exists() {
        let bytes = SystemDisk.read(path).map_err(|error| {
            Failure::new(ExitCode::Parameter, format!("cannot read the key: {error}")).on(given)
        })?;
        String::from_utf8_lossy(&bytes).trim().to_owned()
    } else {
        given.to_owned()
    };
    text.parse().map_err(|error| {
        Failure::new(ExitCode::Parameter, format!("`--key` is no public key: {error}"))
            .hint("a public key reads NAME+HASH+BASE64; it lies beside the signing key in the state folder of whoever ran the workflow")
    })
}

fn verify(
    context: &Context,
    run: &str,
    keys: &[String],
    expect_head: Option<&str>,
) -> Result<ExitCode, Failure> {
    let dir = records::folder(&records::store(context), run)?;
    let own = keys.is_empty();
    let keys = if own {
        vec![signing::signer(context)?.public().clone()]
    } else {
        keys.iter().map(|given| key(given)).collect::<Result<_, _>>()?
    };
    let expected = expect_head.map(str::parse).transpose().map_err(|error| {
        Failure::new(ExitCode::Usage, format!("`--expect-head` is no head: {error}"))
            .hint("a head reads SIZE:HASH, as a run prints it at its end")
    })?;
    let audit = journal::verify(&SystemDisk, &dir, &keys, expected).map_err(records::failure)?;
    let named = [
        ("integrity", &audit.integrity),
        ("completeness", &audit.completeness),
        ("authenticity", &audit.authenticity),
    ];
    if context.json() {
        let verdicts: serde_json::Map<String, Value> = named
            .iter()
            .map(|(name, verdict)| {
                (
                    (*name).to_owned(),
                    json!({"holds": verdict.holds, "why": verdict.why, "record": verdict.at}),
                )
            })
            .collect();
        let object = json!({
            "run": audit.run_id, "record": dir.display().to_string(), "holds": audit.holds(), "verdicts": verdicts, "records": audit.records,
            "unsigned_tail": audit.unsigned_tail(), "head": audit.head.to_string(), "signers": audit.signers,
        });
        output::data(&object.to_string());
    } else {
        let mut lines = vec![format!("{} {}", style::strong().apply_to("Record"), dir.display())];
        for (name, verdict) in named {
            let mark =
                if verdict.holds { style::good().apply_to("ok  ") } else { style::bad().apply_to("FAIL") };
            let at = verdict.at.map(|seq| format!("record {seq}: ")).unwrap_or_default();
            lines.push(format!("  {mark} {name:<13} {at}{}", verdict.why));
        }
        lines.push(format!("  {}, head {}", style::plural(audit.records, "record"), audit.head));
        if own {
            lines.push(format!(
                "  {}",
                style::faint().apply_to("judged by this machine's own key; name another with `--key`")
            ));
        }
        output::data(&lines.join("\n"));
    }
    Ok(if audit.holds() { ExitCode::Ok } else { ExitCode::AuditFailed })
}
