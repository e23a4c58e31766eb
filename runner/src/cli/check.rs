//! `rollover check`.

use serde_json::json;

use super::{Context, workflows};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::output::{self, style};

pub(crate) fn check(context: &Context, name: Option<&str>) -> Result<ExitCode, Failure> {
    let names: Vec<String> = match name {
        Some(name) => vec![name.to_owned()],
        None => workflows::catalog(context)
            .list(&stdlib::files::SystemDisk)
            .into_iter()
            .map(|entry| entry.name)
            .collect(),
    };
    let mut faulty = 0;
    for name in &names {
        let findings = match workflows::parse(context, name)? {
            Ok(workflow) => workflows::findings(&workflow),
            Err(findings) => findings,
        };
        let errors = findings.iter().filter(|finding| finding.is_error()).count();
        if context.json() {
            output::data(&json!({"workflow": name, "errors": errors, "findings": findings}).to_string());
        } else {
            if !findings.is_empty() {
                output::say(&workflows::rendered(&findings));
            }
            let mark =
                if errors == 0 { style::good().apply_to("ok  ") } else { style::bad().apply_to("FAIL") };
            output::data(&format!("{mark} {name}"));
        }
        faulty += usize::from(errors > 0);
    }
    Ok(if faulty == 0 { ExitCode::Ok } else { ExitCode::CheckFailed })
}
