//! The end of a run, for people: what changed, where the record is, what to type next.

use std::path::{Path, PathBuf};

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
    if let Some(success) = &ending.success {
        lines.push(style::good().apply_to(success).to_string());
    }
    // That it was interrupted is said already.
    if let Some(failure) = ending.failure.as_ref().filter(|_| ending.state != EndState::Interrupted) {
        lines.push(problem::within(failure, style::width()));
    }
    if !ending.changed.is_empty() {
        lines.push(String::new());
        lines.push(style::strong().apply_to("What changed").to_string());
        lines.extend(all_changed(&ending.changed));
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

/// Every changed place, those that are files below their folder.
fn all_changed(places: &[ChangedPlace]) -> Vec<String> {
    let mut lines = Vec::new();
    let files: Vec<(&Path, &ChangedPlace)> = places
        .iter()
        .filter_map(|place| Some((Path::new(place.place.strip_prefix("file:")?), place)))
        .collect();
    for place in places.iter().filter(|place| !place.place.starts_with("file:")) {
        lines.push(format!("  {}", place.place.strip_prefix("k8s:").unwrap_or(&place.place)));
        let fields = differences(&place.was, &place.is);
        let wide = fields.iter().map(|(key, _)| key.len()).max().unwrap_or(0).max(8);
        lines.extend(fields.iter().map(|(key, change)| format!("    {key:<wide$} {change}")));
        if fields.is_empty() {
            lines.push(format!("    {} -> {}", short(&place.before), short(&place.after)));
        }
    }
    let Some(folder) = common_folder(files.iter().map(|(path, _)| *path)) else { return lines };
    lines.push(format!("  files in {}", folder.display()));
    let name = |path: &Path| path.strip_prefix(&folder).unwrap_or(path).display().to_string();
    let wide = files.iter().map(|(path, _)| name(path).len()).max().unwrap_or(0);
    for (path, place) in &files {
        let change = match differences(&place.was, &place.is).pop() {
            Some((_, change)) => change,
            None => format!("{} -> {}", short(&place.before), short(&place.after)),
        };
        lines.push(format!("    {:<wide$} {change}", name(path)));
    }
    lines
}

/// The deepest folder that all of these files are in.
fn common_folder<'a>(mut files: impl Iterator<Item = &'a Path>) -> Option<PathBuf> {
    let first = files.next()?.parent()?.to_owned();
    Some(files.fold(first, |mut folder, file| {
        while !file.starts_with(&folder) && folder.pop() {}
        folder
    }))
}

/// What differs between two public contents, key by key: from what, to what.
pub(super) fn differences(was: &Value, is: &Value) -> Vec<(String, String)> {
    let mut keys: Vec<&String> =
        [was, is].into_iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys).collect();
    keys.sort();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| was.get(*key) != is.get(*key));
    differing.map(|key| (key.clone(), format!("{} -> {}", brief(was.get(key)), brief(is.get(key))))).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(place: &str, was: Value, is: Value) -> ChangedPlace {
        let (before, after) = ("sha256:00".into(), "sha256:11".into());
        ChangedPlace { place: place.into(), before, after, was, is }
    }

    #[test]
    fn objects_are_told_key_by_key_and_files_below_their_folder() {
        let places = [
            place("file:/srv/pki/ca.pem", json!({"ca.pem": "one"}), json!({"ca.pem": "two"})),
            place("k8s:v1/ConfigMap/tidb/basic-owner", json!(null), json!({"owner": "platform team"})),
            place("file:/srv/pki/retired/ab/ca.pem", json!({"ca.pem": null}), json!({"ca.pem": "one"})),
            place("k8s:v1/Secret/tidb/odd", json!({}), json!({})),
        ];
        assert_eq!(
            all_changed(&places),
            [
                "  v1/ConfigMap/tidb/basic-owner",
                "    owner    absent -> platform team",
                "  v1/Secret/tidb/odd",
                "    sha256:00 -> sha256:11",
                "  files in /srv/pki",
                "    ca.pem            one -> two",
                "    retired/ab/ca.pem absent -> one",
            ]
        );
    }

    #[test]
    fn a_single_file_stands_in_its_own_folder() {
        let one = [place("file:/a/b/c", json!({"c": "x"}), json!({"c": null}))];
        assert_eq!(all_changed(&one), ["  files in /a/b", "    c x -> absent"]);
    }
}
