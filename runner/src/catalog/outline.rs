//! The phases that a script declares, from its text: for `describe`, which reads no cluster.

use regex_lite::Regex;

use super::condition::{self, Block};
use crate::script::Sources;

/// A phase as the text declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlined {
    /// Its name.
    pub name: String,
    /// Why it exists.
    pub why: String,
    /// Under which condition it is declared, in words; none where it always is.
    pub only: Option<String>,
}

/// The phases in the order of the main script's text, following its calls into the modules that it imports.
pub(super) fn phases(sources: &Sources) -> Vec<Outlined> {
    let (Ok(phase), Ok(call)) = (Regex::new(PHASE), Regex::new(CALL)) else { return Vec::new() };
    let main = sources.text(&sources.main).unwrap_or_default();
    let mut walk = Walk { sources, phase, call, found: Vec::new() };
    walk.text(&sources.main, main, &[], 0);
    walk.found
}

const PHASE: &str = r#"^phase\(\s*"([^"]+)"\s*,\s*(?:"([^"]*)"|`([^`]*)`)"#;
const CALL: &str = r"(?:(\w+)::)?(\w+)\(";
const DEPTH: usize = 8;

struct Walk<'a> {
    sources: &'a Sources,
    phase: Regex,
    call: Regex,
    found: Vec<Outlined>,
}

impl Walk<'_> {
    /// Looks through a text of this file, whose own place has these conditions.
    fn text(&mut self, file: &str, text: &str, outer: &[String], depth: usize) {
        if depth > DEPTH {
            return;
        }
        let whole = self.sources.text(file).unwrap_or_default();
        let text = uncommented(text);
        let blocks = condition::blocks(&text);
        let calls: Vec<_> = self.call.clone().captures_iter(&text).map(|found| Call::of(&found)).collect();
        for Call { at, alias, name } in calls {
            let before = text.get(..at).unwrap_or_default().trim_end();
            if before.ends_with("fn") {
                continue;
            }
            let here = blocks.iter().filter(|block| block.range.contains(&at)).map(Block::words);
            let conditions: Vec<String> = outer.iter().cloned().chain(here).collect();
            if name == "phase" && alias.is_none() {
                self.declared(text.get(at..).unwrap_or_default(), &conditions);
                continue;
            }
            let target = match alias {
                Some(alias) => imported(whole, &alias),
                None => Some(file.to_owned()),
            };
            if let Some(target) = target
                && let Some(body) = self.sources.text(&target).and_then(|module| function(module, &name))
            {
                let body = body.to_owned();
                self.text(&target, &body, &conditions, depth + 1);
            }
        }
    }

    fn declared(&mut self, text: &str, conditions: &[String]) {
        let Some(found) = self.phase.captures(text) else { return };
        let group = |n: usize| found.get(n).map(|m| m.as_str().to_owned());
        let name = group(1).unwrap_or_default();
        let only = (!conditions.is_empty()).then(|| conditions.join(", and "));
        match self.found.iter_mut().find(|known| known.name == name) {
            // Declared in several branches: under one condition or another.
            Some(known) => known.only = known.only.take().zip(only).map(|(a, b)| format!("{a}; or {b}")),
            None => {
                let why = group(2).or_else(|| group(3)).unwrap_or_default();
                self.found.push(Outlined { name, why, only });
            }
        }
    }
}

struct Call {
    at: usize,
    alias: Option<String>,
    name: String,
}

impl Call {
    fn of(found: &regex_lite::Captures) -> Self {
        let group = |n: usize| found.get(n).map(|m| m.as_str().to_owned());
        Self {
            at: found.get(0).map_or(0, |m| m.start()),
            alias: group(1),
            name: group(2).unwrap_or_default(),
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
