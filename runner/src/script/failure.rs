//! From what the engine reports to a diagnostic: the innermost place, the calls that led there, plain words.

use rhai::{EvalAltResult, ParseError, ParseErrorType, Position};

use super::refusals::PROMISE;
use super::sources::import_file;
use super::state::{Shared, unknown_yet};
use super::values::plain_type;
use crate::diagnostic::{Diagnostic, Frame, nearest};
use crate::plan::At;

/// Where an error arose and how the script got there.
pub(super) struct Trace<'a> {
    pub(super) cause: &'a EvalAltResult,
    pub(super) at: Option<At>,
    pub(super) chain: Vec<Frame>,
}

/// Unwraps the layers that each call and import adds.
pub(super) fn trace<'a>(shared: &Shared, error: &'a EvalAltResult) -> Trace<'a> {
    let mut file = shared.sources.main.clone();
    let mut chain = Vec::new();
    let mut cause = error;
    loop {
        match cause {
            EvalAltResult::ErrorInFunctionCall(name, source, inner, position) => {
                let callee = if name.starts_with("anon$") {
                    "a closure".to_owned()
                } else {
                    format!("function `{name}`")
                };
                chain.push(Frame { callee, at: shared.place(Some(&file), *position) });
                if !source.is_empty() {
                    file.clone_from(source);
                }
                cause = inner;
            }
            EvalAltResult::ErrorInModule(path, inner, position) => {
                chain.push(Frame {
                    callee: format!("import \"{path}\""),
                    at: shared.place(Some(&file), *position),
                });
                file = import_file(path).unwrap_or(file);
                cause = inner;
            }
            _ => break,
        }
    }
    let position = cause.position();
    let at = (!position.is_none()).then(|| shared.place(Some(&file), position));
    Trace { cause, at, chain }
}

/// A diagnostic for an error that no native of ours refused with.
pub(super) fn explain(shared: &Shared, error: &EvalAltResult) -> Diagnostic {
    let trace = trace(shared, error);
    let mut diagnostic = words(shared, trace.cause);
    if let Some(at) = &trace.at {
        diagnostic = shared.spot(diagnostic, at, "");
    }
    diagnostic.chain = trace.chain;
    diagnostic
}

fn words(shared: &Shared, cause: &EvalAltResult) -> Diagnostic {
    let shown = cause.to_string();
    let speaks_of_promise = shown.split(|c: char| !c.is_alphanumeric()).any(|word| word == PROMISE);
    if speaks_of_promise
        && !matches!(cause, EvalAltResult::ErrorRuntime(..))
        && let Some(when) = shared.state().last_promise.clone()
    {
        return unknown_yet(&when);
    }
    let error = |code: &str, message: String| Diagnostic::error(&format!("script::{code}"), message);
    match cause {
        EvalAltResult::ErrorRuntime(thrown, _) => thrown_words(thrown),
        EvalAltResult::ErrorPropertyNotFound(name, _) => {
            error("no-field", format!("there is no field `{name}`"))
        }
        EvalAltResult::ErrorFunctionNotFound(signature, _) => error(
            "unknown-function",
            format!("no function takes these arguments: `{}`", plain_signature(signature)),
        ),
        EvalAltResult::ErrorMismatchDataType(wanted, found, _)
        | EvalAltResult::ErrorMismatchOutputType(wanted, found, _) => {
            error("type", format!("expected {}, found {}", plain_type(wanted), plain_type(found)))
        }
        EvalAltResult::ErrorModuleNotFound(path, _) => {
            error("unknown-import", format!("there is no file for `{path}`"))
        }
        EvalAltResult::ErrorTooManyOperations(_) => {
            let message = format!("the script takes more than {} operations", super::engine::MAX_OPERATIONS);
            error("limit", message).hint("does a loop never end?")
        }
        EvalAltResult::ErrorStackOverflow(_) => {
            error("limit", "functions call each other too deeply".to_owned())
                .hint("does one call itself without end?")
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => {
            error("limit", format!("too large: {}", what.to_lowercase()))
        }
        EvalAltResult::ErrorTooManyVariables(_) => error("limit", "too many variables".to_owned()),
        EvalAltResult::ErrorTooManyModules(_) => error("limit", "too many imports".to_owned()),
        EvalAltResult::ErrorFor(_) => error("type", "`for` needs a list, a map's keys or a range".to_owned()),
        EvalAltResult::ErrorArrayBounds(length, index, _) => {
            error("no-item", format!("there is no item {index} in a list of {length}"))
        }
        EvalAltResult::ErrorParsing(kind, _) => parse_words(kind, None),
        _ => error("failed", strip_position(&shown)),
    }
}

/// What the script threw: a text, or a map with `message` and `hint`.
fn thrown_words(thrown: &rhai::Dynamic) -> Diagnostic {
    let text =
        |value: &rhai::Dynamic| value.clone().into_immutable_string().ok().map(|text| text.to_string());
    if let Ok(fields) = thrown.as_map_ref() {
        let message = fields.get("message").and_then(text).unwrap_or_else(|| "the script gave up".to_owned());
        return Diagnostic::error("script::thrown", message).maybe_hint(fields.get("hint").and_then(text));
    }
    Diagnostic::error("script::thrown", text(thrown).unwrap_or_else(|| "the script gave up".to_owned()))
}

/// Type names of Rust have no place in a signature.
fn plain_signature(signature: &str) -> String {
    signature.replace("&str | ImmutableString | String", "text").replace("i64", "int").replace("f64", "float")
}

fn strip_position(shown: &str) -> String {
    let text = shown.rfind(" (line ").map_or(shown, |cut| shown.get(..cut).unwrap_or(shown));
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// A diagnostic for a file that cannot be parsed.
pub(super) fn explain_parse(file: &str, text: &str, namespaces: &[&str], error: &ParseError) -> Diagnostic {
    let ParseError(kind, position) = error;
    let at = At {
        file: file.to_owned(),
        line: position.line().unwrap_or(1),
        column: position.position().unwrap_or(1),
    };
    // The end of the input has no character; point after the last one.
    let at = if position.is_none() { end_of(file, text) } else { at };
    let diagnostic = match &**kind {
        ParseErrorType::ModuleUndefined(name) => {
            let near =
                nearest(name, namespaces.iter().copied()).map(|near| format!("did you mean `{near}::`?"));
            let listed = namespaces.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Diagnostic::error("script::unknown-namespace", format!("there is no namespace `{name}`"))
                .hint(format!("the namespaces are {listed}; others come with `import \"lib/…\" as name;`"))
                .maybe_hint(near)
        }
        kind => parse_words(kind, Some(text)),
    };
    diagnostic.spot(at, Some(text), "")
}

fn end_of(file: &str, text: &str) -> At {
    let line = text.lines().count().max(1);
    let column = text.lines().last().map_or(1, |line| line.chars().count().max(1));
    At { file: file.to_owned(), line, column }
}

fn parse_words(kind: &ParseErrorType, text: Option<&str>) -> Diagnostic {
    match kind {
        ParseErrorType::VariableUndefined(name) => {
            let near = text.and_then(|text| nearest(name, declared(text))).map(str::to_owned);
            Diagnostic::error("script::unknown-variable", format!("there is no variable `{name}`"))
                .maybe_hint(near.map(|near| format!("did you mean `{near}`?")))
        }
        other if other.to_string().contains("'eval'") => {
            Diagnostic::error("script::forbidden", "`eval` is switched off: what runs must be there to read")
        }
        ParseErrorType::ExprTooDeep => {
            Diagnostic::error("script::limit", "an expression is nested too deeply")
        }
        other => Diagnostic::error("script::syntax", strip_position(&other.to_string())),
    }
}

/// Names that stand after `let`, `const`, `for` or between the bars of a closure, roughly: for suggestions only.
fn declared(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut words =
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        if matches!(word, "let" | "const" | "for") {
            names.extend(words.peek());
        }
    }
    names
}

/// A position that the engine gives, for other modules of this folder.
pub(super) fn at(file: &str, position: Position) -> At {
    At { file: file.to_owned(), line: position.line().unwrap_or(1), column: position.position().unwrap_or(1) }
}
