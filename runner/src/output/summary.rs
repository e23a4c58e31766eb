//! The end of a run, for people: what changed, where the record is, what to type next.

use serde_json::Value;
use stdlib::cert;

use super::{problem, style};
use crate::events::{ChangedPlace, EndState, Ending};

/// How the run stands, as a sentence.
fn state(state: EndState) -> (console::StyledObject<&'static str>, bool) {
    let (text, good) = match state {
        EndState::Done => ("Done. Every phase is proved.", true),
        EndState::RolledBack => ("Rolled back. The target is as it was.", true),
        EndState::Stopped => ("Stopped at a failed step. Nothing goes on by itself.", false),
        EndState::Stuck => ("STUCK on the way back. Something must be repaired by hand.", false),
        EndState::Refused => ("Refused. Nothing was begun beyond what is listed below.", false),
        EndState::Aborted => ("Given up where it stands.", false),
        EndState::Interrupted => ("Interrupted. The record is whole.", false),
        EndState::Halted => ("Halted: the journal could not be written.", false),
        EndState::Killed => ("Killed.", false),
    };
    (if good { style::good() } else { style::bad() }.apply_to(text), good)
}

/// The whole ending.
pub fn text(ending: &Ending) -> String {
    let mut lines = vec![state(ending.state).0.to_string()];
    if let Some(failure) = &ending.failure {
        lines.push(problem::text(failure));
    }
    if !ending.changed.is_empty() {
        lines.push(String::new());
        lines.push(style::strong().apply_to("What changed").to_string());
        for place in &ending.changed {
            lines.extend(changed(place));
        }
    }
    lines.push(String::new());
    lines.push(format!("{} {}", style::strong().apply_to("Record"), ending.record));
    lines.push(format!("{}   {}:{}", style::strong().apply_to("Head"), ending.head.size, ending.head.root));
    if !ending.next.is_empty() {
        lines.push(String::new());
        lines.push(style::strong().apply_to("What you can type next").to_string());
        let wide = ending.next.iter().map(|next| next.command.len()).max().unwrap_or(0);
        for next in &ending.next {
            lines.push(format!(
                "  {}  {}",
                style::name().apply_to(format!("{:<wide$}", next.command)),
                style::faint().apply_to(&next.does)
            ));
        }
    }
    lines.join("\n")
}

/// One changed place: fingerprints from and to.
fn changed(place: &ChangedPlace) -> Vec<String> {
    let name = place.place.strip_prefix("k8s:").unwrap_or(&place.place);
    let mut lines = vec![format!("  {name}")];
    let mut keys: Vec<&String> = [&place.was, &place.is]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(serde_json::Map::keys)
        .collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (was, is) = (place.was.get(key), place.is.get(key));
        if was != is {
            lines.push(format!("    {key:<8} {} -> {}", brief(was), brief(is)));
        }
    }
    if lines.len() == 1 {
        lines.push(format!("    {} -> {}", short(&place.before), short(&place.after)));
    }
    lines
}

/// Certificates as fingerprints, other values short.
fn brief(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "absent".into(),
        Some(Value::String(text)) if text.contains("-----BEGIN CERTIFICATE-----") => {
            match cert::parse_many(text.as_bytes(), "") {
                Ok(certs) => {
                    certs.iter().map(|cert| short(&cert.fingerprint())).collect::<Vec<_>>().join(" + ")
                }
                Err(_) => "unreadable".into(),
            }
        }
        Some(Value::String(text)) => short(text),
        Some(Value::Object(map)) => map.get("fp").and_then(Value::as_str).map_or_else(|| "…".into(), short),
        Some(other) => short(&other.to_string()),
    }
}

/// A digest cut to what tells it apart.
pub fn short(digest: &str) -> String {
    let cut = digest.find(':').map_or(16, |colon| colon + 13);
    digest.get(..cut).unwrap_or(digest).to_owned()
}
