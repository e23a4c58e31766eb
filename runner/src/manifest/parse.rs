//! Reading `workflow.yaml`: duplicate keys, unknown fields and contradictions are refused with their line.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::touches::placeholders;
use super::{Manifest, ParamSpec, ParamType, Params};
use crate::diagnostic::{Diagnostic, nearest};
use crate::plan::At;
use crate::script::MANIFEST;

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn parse(text: &str) -> Result<Self, Vec<Diagnostic>> {
        let manifest: Manifest = serde_saphyr::from_str(text).map_err(|error| vec![explain(text, &error)])?;
        let findings = contradictions(&manifest, text);
        if findings.is_empty() { Ok(manifest) } else { Err(findings) }
    }

    /// Where a parameter is declared.
    pub fn param_place(text: &str, name: &str) -> At {
        let lines = text.lines().enumerate().skip_while(|(_, line)| !line.starts_with("params:"));
        place(lines, &format!("{name}:"))
    }
}

fn place<'a>(lines: impl Iterator<Item = (usize, &'a str)>, key: &str) -> At {
    let found = lines.into_iter().find_map(|(index, line)| {
        let bare = line.trim_start();
        bare.starts_with(key).then(|| (index + 1, line.chars().count() - bare.chars().count() + 1))
    });
    let (line, column) = found.unwrap_or((1, 1));
    At { file: MANIFEST.to_owned(), line, column }
}

fn top_level(text: &str, key: &str) -> At {
    place(text.lines().enumerate(), &format!("{key}:"))
}

fn explain(text: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let message = words(error);
    let hint = misspelt(&message);
    let diagnostic = Diagnostic::error("manifest::malformed", message).maybe_hint(hint);
    match error.location() {
        None => diagnostic,
        Some(location) => {
            let number = |number: u64| usize::try_from(number).unwrap_or(1);
            let (line, column) = (number(location.line()), number(location.column()));
            diagnostic.spot(At { file: MANIFEST.to_owned(), line, column }, Some(text), "")
        }
    }
}

/// The parser's message without its own place and its advice to programmers.
pub(super) fn words(error: &serde_saphyr::Error) -> String {
    let shown = error.without_snippet().to_string();
    let mut message = shown.lines().next().unwrap_or_default();
    if let Some((head, rest)) = message.split_once(": ")
        && head.starts_with("error")
        && head.contains("line ")
    {
        message = rest;
    }
    message = message.rfind(" at line ").and_then(|cut| message.get(..cut)).unwrap_or(message);
    match message.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split(',').next()) {
        Some(key) => format!("`{key}` is given twice"),
        None => message.to_owned(),
    }
}

/// From ``unknown field `x`, expected one of a, b`` to a suggestion.
fn misspelt(message: &str) -> Option<String> {
    let (wrong, expected) = message.strip_prefix("unknown ")?.split_once(", expected ")?;
    let wrong = wrong.split('`').nth(1)?;
    let words = expected.trim_start_matches("one of ").split([',', ' ']).map(|word| word.trim_matches('`'));
    Some(format!("did you mean `{}`?", nearest(wrong, words.filter(|word| *word != "or"))?))
}

fn contradictions(manifest: &Manifest, text: &str) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    if manifest.title.trim().is_empty() {
        let finding = Diagnostic::error("manifest::title", "the title is empty");
        findings.push(finding.spot(top_level(text, "title"), Some(text), ""));
    }
    for (name, spec) in manifest.params.iter() {
        for message in wrong_with(name, spec) {
            let finding = Diagnostic::error("manifest::parameter", format!("parameter `{name}`: {message}"));
            findings.push(finding.spot(Manifest::param_place(text, name), Some(text), ""));
        }
    }
    for allowed in &manifest.touches {
        for name in allowed.templates().into_iter().flat_map(placeholders) {
            if manifest.params.get(name).is_none() {
                let near = nearest(name, manifest.params.names())
                    .map(|near| format!("did you mean `{{{{{near}}}}}`?"));
                let message = format!("`touches` speaks of `{{{{{name}}}}}`, which is no parameter");
                let finding = Diagnostic::error("manifest::unknown-parameter", message).maybe_hint(near);
                findings.push(finding.spot(top_level(text, "touches"), Some(text), ""));
            }
        }
    }
    findings
}

fn wrong_with(name: &str, spec: &ParamSpec) -> Vec<String> {
    let mut wrong = Vec::new();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
        wrong.push("names are lower-case letters, digits, `-` and `_`, a letter first".to_owned());
    }
    if (spec.ty == ParamType::Choice) == spec.choices.is_empty() {
        wrong.push("`choices` belong to `type: choice`, and must not be empty there".to_owned());
    }
    if let Some(pattern) = &spec.pattern {
        if spec.ty != ParamType::Text {
            wrong.push("`pattern` belongs to `type: text`".to_owned());
        }
        if let Err(error) = regex_lite::Regex::new(pattern) {
            let text = error.to_string();
            wrong.push(format!(
                "`pattern` is no regular expression: {}",
                text.lines().last().unwrap_or_default()
            ));
        }
    }
    let ends = [("min", &spec.min), ("max", &spec.max)];
    for (end, bound) in ends.into_iter().filter_map(|(end, bound)| Some((end, bound.as_ref()?))) {
        if spec.measure(bound).is_none() {
            wrong.push(format!("`{end}` is a number with `type: int`, a duration with `type: duration`, and not for other types"));
        }
    }
    if spec.secret && (spec.default.is_some() || !matches!(spec.ty, ParamType::Text | ParamType::Path)) {
        wrong.push("a secret is of type text and has no default".to_owned());
    }
    if spec.required == Some(true) && spec.default.is_some() {
        wrong.push("what has a default is not required".to_owned());
    }
    if let Some(default) = &spec.default
        && let Err(error) = spec.accept(default.clone())
    {
        wrong.push(format!("its default: {error}"));
    }
    wrong
}

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Params;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of parameters")
            }
            fn visit_unit<E>(self) -> Result<Params, E> {
                Ok(Params::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
                let mut params = Vec::new();
                while let Some((name, spec)) = map.next_entry::<String, Option<ParamSpec>>()? {
                    params.push((name, spec.unwrap_or_default()));
                }
                Ok(Params(params))
            }
        }
        deserializer.deserialize_any(InOrder)
    }
}
