//! The conditions under which parts of a script run, from its text, in the words of the command line.

use std::ops::Range;

use regex_lite::Regex;

/// A block of an `if` or an `else`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// From brace to brace.
    pub range: Range<usize>,
    words: String,
}

impl Block {
    /// When it runs: `only with remove_old_ca=true or reason=compromise`.
    pub(super) fn words(&self) -> String {
        self.words.clone()
    }
}

/// The blocks of a text that run only under a condition.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, Option<String>)> = Vec::new();
    // The condition of the block that was closed last, for an `else`.
    let mut closed: Option<String> = None;
    let mut statement = 0;
    for (at, sign) in code(text) {
        match sign {
            '{' => {
                let head = text.get(statement..at).unwrap_or_default().trim();
                let condition = match (head.strip_prefix("else"), closed.take()) {
                    (Some(rest), Some(before)) if !rest.contains("if ") => Some(format!("!({before})")),
                    _ => last_if(head),
                };
                open.push((at, condition));
                statement = at + 1;
            }
            '}' => {
                if let Some((from, condition)) = open.pop() {
                    if let Some(condition) = &condition {
                        found.push(Block { range: from..at, words: words(text, condition) });
                    }
                    closed = condition;
                }
                statement = at + 1;
            }
            _ => {
                closed = None;
                statement = at + 1;
            }
        }
    }
    // Outer ones first.
    found.sort_by_key(|block| block.range.start);
    found
}

/// What stands between the last `if` of a head and its brace.
fn last_if(head: &str) -> Option<String> {
    let at = head.rmatch_indices("if ").map(|(at, _)| at).find(|at| {
        head.get(..*at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\n', '(', '=']))
    })?;
    head.get(at + 3..).map(|condition| condition.trim().to_owned())
}

/// Braces and semicolons that are code: not within texts or comments.
fn code(text: &str) -> Vec<(usize, char)> {
    let mut signs = Vec::new();
    let mut within: Option<char> = None;
    let mut rest = text.char_indices().peekable();
    while let Some((at, sign)) = rest.next() {
        match (within, sign) {
            (Some('\n'), '\n') => within = None,
            (Some('"' | '\''), '\\') => {
                rest.next();
            }
            (Some(end), _) if end == sign => within = None,
            (Some(_), _) => {}
            (None, '/') if rest.peek().is_some_and(|(_, next)| *next == '/') => within = Some('\n'),
            (None, '"' | '`' | '\'') => within = Some(sign),
            (None, '{' | '}' | ';') => signs.push((at, sign)),
            (None, _) => {}
        }
    }
    signs
}

/// A condition as an operator would set it, where it is about parameters alone; else as it stands in the script.
fn words(text: &str, condition: &str) -> String {
    let raw = || format!("only where `{condition}`");
    let Some(written_out) = with_variables(text, condition) else { return raw() };
    let alternatives: Option<Vec<String>> = written_out
        .split("||")
        .map(|all| {
            let parts: Option<Vec<String>> = all.split("&&").map(|part| setting(part.trim())).collect();
            parts.map(|parts| parts.join(" and "))
        })
        .collect();
    alternatives.map_or_else(raw, |alternatives| format!("only with {}", alternatives.join(" or ")))
}

/// The condition with `let name = …param(…)…;` of the same text put in for the name.
fn with_variables(text: &str, condition: &str) -> Option<String> {
    let bound = Regex::new(r"(?m)^let (\w+) = ([^;{}]*param\([^;{}]*);").ok()?;
    let mut condition = condition.to_owned();
    for found in bound.captures_iter(text) {
        let (Some(name), Some(value)) = (found.get(1), found.get(2)) else { continue };
        if value.as_str().contains("||") || value.as_str().contains("&&") {
            continue;
        }
        let word = Regex::new(&format!(r"\b{}\b", regex_lite::escape(name.as_str()))).ok()?;
        condition = word.replace_all(&condition, regex_lite::NoExpand(value.as_str())).into_owned();
    }
    Some(condition)
}

/// One comparison: `param("a")`, `!param("a")`, `param("a") == "b"`.
fn setting(part: &str) -> Option<String> {
    let form = Regex::new(r#"^(!?)\s*param\("(\w+)"\)(?:\s*(==|!=)\s*"?([^"\s]*)"?)?$"#).ok()?;
    let found = form.captures(part)?;
    let group = |n: usize| found.get(n).map_or("", |m| m.as_str());
    match (group(1), group(3)) {
        ("", "") => Some(format!("{}=true", group(2))),
        ("!", "") => Some(format!("{}=false", group(2))),
        ("", "==") => Some(format!("{}={}", group(2), group(4))),
        ("", "!=") => Some(format!("{} other than {}", group(2), group(4))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        blocks(text).iter().map(Block::words).collect()
    }

    #[test]
    fn conditions_on_parameters_are_told_as_they_are_set() {
        let script = r#"
let compromised = param("reason") == "compromise";
if param("remove_old_ca") || compromised { a(); }
if !param("quick") && param("mode") != "dry" { b(); }
"#;
        assert_eq!(
            said(script),
            [
                "only with remove_old_ca=true or reason=compromise",
                "only with quick=false and mode other than dry"
            ]
        );
    }

    #[test]
    fn other_conditions_are_told_as_they_are_written() {
        let script = "if cluster.components.len() > 3 { for c in x { p(c); } } else { q(); }";
        assert_eq!(
            said(script),
            ["only where `cluster.components.len() > 3`", "only where `!(cluster.components.len() > 3)`"]
        );
    }

    #[test]
    fn braces_in_texts_and_comments_are_no_code() {
        let script = r#"let t = "if a { b"; // if c { d }
let u = `x ${y} if e { f`;
let m = #{ a: 1 };
for x in y { z(); }"#;
        assert!(said(script).is_empty(), "{:?}", said(script));
    }
}
