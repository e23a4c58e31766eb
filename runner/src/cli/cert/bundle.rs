//! `rollover cert bundle`.

use std::path::Path;

use serde_json::{Value, json};
use stdlib::bundle::{self, Finding};
use stdlib::cert::{self, Certificate};

use super::args::{Bundle, TextOut};
use super::files::{certificates, failed, parsed};
use super::inspect::note;
use super::lines::WIDTH;
use super::now;
use super::show::{Pair, Shown, SignedBy, list, whose};
use super::source::anchors;
use crate::cli::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, style};

pub(super) async fn bundle(context: &Context, command: Bundle) -> Result<ExitCode, Failure> {
    match command {
        Bundle::List { bundle, at } => show(context, &bundle, at.as_deref()),
        Bundle::Merge { bundles, out } => {
            let lists = bundles.iter().map(|path| certificates(path)).collect::<Result<Vec<_>, _>>()?;
            let merged = bundle::merge(lists.iter().map(Vec::as_slice));
            write(context, &merged, &out)
        }
        Bundle::Remove { bundle, cert, fingerprint, expired, out } => {
            let all = certificates(&bundle)?;
            let unwanted = unwanted(&all, &cert, &fingerprint, expired)?;
            let left = bundle::remove(&all, &unwanted)
                .map_err(|error| failed(error.on(bundle.display().to_string())))?;
            write(context, &left, &out)
        }
        Bundle::Compare { first, second, cluster } => {
            let (first_name, first) = anchors(context, &cluster, &first).await?;
            let (second_name, second) = anchors(context, &cluster, &second).await?;
            Ok(compare(context, (&first_name, &first), (&second_name, &second)))
        }
    }
}

fn show(context: &Context, path: &Path, at: Option<&str>) -> Result<ExitCode, Failure> {
    let at = at.map_or_else(|| Ok(now()), cert::time_of).map_err(|error| failed(error.on("--at")))?;
    let parsed = parsed(path)?;
    let findings = bundle::check(&parsed.certificates, at);
    if context.json() {
        let all: Vec<Value> = parsed.certificates.iter().map(cert::describe).collect();
        let findings: Vec<Value> = findings.iter().map(Finding::to_value).collect();
        let value = json!({ "certificates": all, "findings": findings, "notes": parsed.notes });
        output::data(&value.to_string());
        return Ok(ExitCode::Ok);
    }
    let groups = [("this bundle".to_owned(), parsed.certificates.as_slice())];
    let shown: Vec<Shown<'_>> = parsed
        .certificates
        .iter()
        .map(|certificate| Shown {
            certificate,
            signed_by: SignedBy::find(certificate, &groups),
            pair: Pair::None,
        })
        .collect();
    let count = style::plural(shown.len().try_into().unwrap_or(u64::MAX), "certificate");
    output::data(&style::strong().apply_to(format!("{}: {count}", path.display())).to_string());
    output::data(&list(&shown, at));
    for finding in findings {
        output::data(&note(&format!("{}: {}", finding.position, finding.text)));
    }
    for text in &parsed.notes {
        output::data(&note(text));
    }
    Ok(ExitCode::Ok)
}

/// What is to be taken out; what is named and not there is refused, since something else was meant.
fn unwanted(
    all: &[Certificate],
    files: &[std::path::PathBuf],
    fingerprints: &[String],
    expired: bool,
) -> Result<Vec<Certificate>, Failure> {
    let mut out = Vec::new();
    for path in files {
        for one in certificates(path)? {
            if !all.contains(&one) {
                return Err(not_there(&path.display().to_string(), &one.to_string()));
            }
            out.push(one);
        }
    }
    for print in fingerprints {
        let found: Vec<&Certificate> = all.iter().filter(|one| begins(one, print)).collect();
        if found.is_empty() {
            return Err(not_there("--fingerprint", print));
        }
        out.extend(found.into_iter().cloned());
    }
    if expired {
        out.extend(all.iter().filter(|one| one.not_after() < now()).cloned());
    }
    if files.is_empty() && fingerprints.is_empty() && !expired {
        return Err(Failure::new(ExitCode::Usage, "what shall be taken out?")
            .hint("name it with `--cert FILE`, `--fingerprint sha256:…` or `--expired`"));
    }
    Ok(out)
}

fn not_there(place: &str, what: &str) -> Failure {
    Failure::new(ExitCode::ObjectMissing, format!("{what} is not in the bundle"))
        .on(place)
        .hint("`rollover cert bundle list FILE --output json` shows the fingerprints")
}

/// Whether a certificate's fingerprint begins so; openssl's colons and capitals are fine, less than 8 digits are not.
fn begins(certificate: &Certificate, typed: &str) -> bool {
    let (of_key, digits) = match typed.strip_prefix("spki:") {
        Some(rest) => (true, rest),
        None => (false, typed.strip_prefix("sha256:").unwrap_or(typed)),
    };
    let digits = digits.replace(':', "").to_ascii_lowercase();
    let own = if of_key { certificate.spki_fingerprint() } else { certificate.fingerprint() };
    digits.len() >= 8 && own.split_once(':').is_some_and(|(_, hex)| hex.starts_with(&digits))
}

fn write(context: &Context, list: &[Certificate], out: &TextOut) -> Result<ExitCode, Failure> {
    let text = bundle::encode(list).map_err(failed)?;
    if context.json() && out.out.is_none() {
        output::data(&json!({ "bundle": text }).to_string());
        return Ok(ExitCode::Ok);
    }
    if let Some(path) = out.write(&text)? {
        let count = style::plural(list.len().try_into().unwrap_or(u64::MAX), "certificate");
        if context.json() {
            output::data(&json!({ "written": [path], "certificates": list.len() }).to_string());
        } else {
            output::data(&path);
            output::say(&count);
        }
    }
    Ok(ExitCode::Ok)
}

fn compare(
    context: &Context,
    (first_name, first): (&str, &[Certificate]),
    (second_name, second): (&str, &[Certificate]),
) -> ExitCode {
    let compared = bundle::compare(first, second);
    let code = if compared.same() { ExitCode::Ok } else { ExitCode::CertRefused };
    if context.json() {
        output::data(&compared.to_value().to_string());
        return code;
    }
    let mut lines = Vec::new();
    let mut side = |title: String, all: &[&Certificate]| {
        if all.is_empty() {
            return;
        }
        lines.push(style::strong().apply_to(title).to_string());
        for one in all {
            let print = one.fingerprint();
            let print = print.get(7..23).unwrap_or_default();
            let text = format!("{print}… until {}: {}", one.not_after().date(), whose(one));
            lines.push(format!("  {}", style::wrap(&text, 4, WIDTH).trim_start()));
        }
    };
    side(format!("only in {first_name}"), &compared.only_first);
    side(format!("only in {second_name}"), &compared.only_second);
    side("in both".to_owned(), &compared.both);
    for (one, other) in &compared.same_key {
        lines.push(note(&format!(
            "{}… and {}… have one key: what one vouches for, so does the other",
            one.fingerprint().get(7..23).unwrap_or_default(),
            other.fingerprint().get(7..23).unwrap_or_default()
        )));
    }
    if compared.same() && !compared.same_order {
        lines.push(note("both trust the same, in another order"));
    }
    output::data(&lines.join("\n"));
    code
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_taken_as_people_copy_it() {
        let request = stdlib::cfssl::Request::from_json(br#"{"CN":"x"}"#, "x").unwrap();
        let (ca, _) = stdlib::ca::create(&request, now()).unwrap();
        let hex = ca.fingerprint().trim_start_matches("sha256:").to_owned();
        let capitals = hex.to_uppercase();
        let colons = capitals.as_bytes().chunks(2).map(|two| String::from_utf8_lossy(two).into_owned());
        assert!(begins(&ca, &colons.collect::<Vec<_>>().join(":")));
        assert!(begins(&ca, &format!("sha256:{}", &hex[..8])));
        assert!(begins(&ca, &ca.spki_fingerprint()));
        assert!(!begins(&ca, &hex[..7]), "too short to mean one");
        assert!(!begins(&ca, "sha256:0000000000"));
    }
}
