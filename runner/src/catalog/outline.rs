//! The phases that a script declares, from its text: for `describe`, which reads no cluster.

use regex::Regex;

use crate::script::Sources;

/// Names and reasons in the order of the main script's text, following its calls into the modules that it imports.
pub(super) fn phases(sources: &Sources) -> Vec<(String, String)> {
    let (Ok(phase), Ok(call)) = (Regex::new(PHASE), Regex::new(CALL)) else { return Vec::new() };
    let mut found = Vec::new();
    let main = sources.text(&sources.main).unwrap_or_default();
    walk(sources, &sources.main, main, &phase, &call, 0, &mut found);
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|(name, _)| seen.insert(name.clone()));
    found
}

const PHASE: &str = r#"phase\(\s*"([^"]+)"\s*,\s*(?:"([^"]*)"|`([^`]*)`)"#;
const CALL: &str = r"(?:(\w+)::)?(\w+)\(";
const DEPTH: usize = 8;

fn walk(
    sources: &Sources,
    file: &str,
    text: &str,
    phase: &Regex,
    call: &Regex,
    depth: usize,
    found: &mut Vec<(String, String)>,
) {
    if depth > DEPTH {
        return;
    }
    let whole = sources.text(file).unwrap_or_default();
    let text = uncommented(text);
    for captures in call.captures_iter(&text) {
        let Some(at) = captures.get(0) else { continue };
        let name = captures.get(2).map_or("", |name| name.as_str());
        if name == "phase" && captures.get(1).is_none() {
            if let Some(declared) = text
                .get(at.start()..)
                .and_then(|rest| phase.captures(rest))
                .filter(|c| c.get(0).is_some_and(|m| m.start() == 0))
            {
                let group = |n: usize| declared.get(n).map(|m| m.as_str().to_owned());
                found.push((group(1).unwrap_or_default(), group(2).or_else(|| group(3)).unwrap_or_default()));
            }
            continue;
        }
        let target = match captures.get(1) {
            Some(alias) => imported(whole, alias.as_str()),
            None => Some(file.to_owned()),
        };
        let before = text.get(..at.start()).unwrap_or_default().trim_end();
        if before.ends_with("fn") {
            continue;
        }
        if let Some(target) = target
            && let Some(body) = sources.text(&target).and_then(|module| function(module, name))
        {
            walk(sources, &target, body, phase, call, depth + 1, found);
        }
    }
}

/// Without comments and without the bodies of functions, which are walked where they are called. A function's own body is
/// handed in without its head.
fn uncommented(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) =
        rest.find("\nfn ").map(|at| at + 1).or_else(|| rest.starts_with("fn ").then_some(0))
    {
        kept.push_str(rest.get(..start).unwrap_or_default());
        let tail = rest.get(start..).unwrap_or_default();
        let end = tail.find("\n}").map_or(tail.len(), |at| at + 2);
        rest = tail.get(end..).unwrap_or_default();
    }
    kept.push_str(rest);
    kept.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn imported(text: &str, alias: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix("import")?.trim_start().strip_prefix('"')?;
        let (path, rest) = rest.split_once('"')?;
        let name = rest.trim_start().strip_prefix("as")?.trim().trim_end_matches(';').trim();
        (name == alias).then(|| crate::script::import_file(path))?
    })
}

/// The body of a function, from its head's brace to the brace at the start of a line.
fn function<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let head = format!("fn {name}(");
    let start =
        text.find(&format!("\n{head}")).map(|at| at + 1).or_else(|| text.starts_with(&head).then_some(0))?;
    let tail = text.get(start..)?;
    let open = tail.find('{')?;
    let end = tail.find("\n}").unwrap_or(tail.len());
    tail.get(open + 1..end)
}
