//! Names and counts of arguments of everything that a script calls.

use rhai::{FnCallExpr, Position};
use stdlib::registry::Primitive;

use super::check::{Inspector, Own, namespaces};
use super::failure::at;
use super::natives::required;
use super::options::OPTIONS;
use super::surface::{FUNCTIONS, PHASE_METHODS, Word};
use crate::diagnostic::{Diagnostic, nearest};
use crate::plan::At;

impl Inspector<'_> {
    pub(super) fn call(&mut self, file: &str, call: &FnCallExpr, position: Position, own: &Own) {
        let count = call.args.len();
        if !call.namespace.is_empty() {
            let at = at(file, call.namespace.position());
            return self.qualified(
                call.namespace.root(),
                call.namespace.path.len(),
                &call.name,
                count,
                at,
                own,
            );
        }
        if call.is_operator_call() || call.name.contains('$') {
            return;
        }
        let name = call.name.as_str();
        if name == "param" {
            self.param(file, call);
        }
        let word = FUNCTIONS.iter().map(|word| (word, 0)).chain(methods().map(|word| (word, 1)));
        if let Some((word, receiver)) = word.into_iter().find(|(word, _)| word.name == name) {
            let fits = count >= receiver && word.args.contains(&(count - receiver));
            if !fits && !self.builtins.contains(name) {
                self.add(wrong_count(name, count, word.usage), at(file, position));
            }
        } else if !own.functions.contains(&(name.to_owned(), count)) && !self.builtins.contains(name) {
            let diagnostic = self.unknown_function(name, count, own);
            self.add(diagnostic, at(file, position));
        }
    }

    fn unknown_function(&self, name: &str, count: usize, own: &Own) -> Diagnostic {
        let counts: Vec<_> =
            own.functions.iter().filter(|(known, _)| known == name).map(|(_, count)| *count).collect();
        if let Some(takes) = counts.first() {
            let message = format!("function `{name}` takes {}, found {count}", arguments(*takes));
            return Diagnostic::error("script::argument-count", message);
        }
        let ours =
            own.functions.iter().map(|(name, _)| name.as_str()).filter(|name| !name.starts_with("anon$"));
        let words = FUNCTIONS.iter().map(|word| word.name);
        let builtins = self.builtins.iter().map(String::as_str).filter(|name| name.len() > 2);
        let near = nearest(name, words.chain(ours)).or_else(|| nearest(name, builtins));
        let qualified =
            self.registry.iter().find(|primitive| primitive.name.rsplit("::").next() == Some(name));
        let hint = match (qualified, near) {
            (Some(primitive), _) => Some(format!("did you mean `{}`?", primitive.name)),
            (None, Some(near)) => Some(format!("did you mean `{near}`?")),
            (None, None) => None,
        };
        Diagnostic::error("script::unknown-function", format!("there is no function `{name}`"))
            .maybe_hint(hint)
    }

    fn qualified(&mut self, root: &str, depth: usize, name: &str, count: usize, at: At, own: &Own) {
        if let Some(target) = own.imports.get(root).filter(|_| depth == 1) {
            return self.imported(root, &target.clone(), name, count, at);
        }
        if !namespaces(self.registry).contains(&root) || depth != 1 {
            return;
        }
        let full = format!("{root}::{name}");
        match self.registry.get(&full) {
            Some(primitive) if (required(primitive)..=primitive.params.len()).contains(&count) => {}
            Some(primitive) => self.add(wrong_native_count(primitive, count), at),
            None => {
                let diagnostic = self.unknown_native(root, &full);
                self.add(diagnostic, at);
            }
        }
    }

    fn unknown_native(&self, root: &str, full: &str) -> Diagnostic {
        let diagnostic =
            Diagnostic::error("script::unknown-native", format!("there is no primitive `{full}`"));
        if let Some(near) = self.registry.nearest(full).and_then(|near| self.registry.get(near)) {
            return diagnostic.hint(format!("did you mean `{}`?", near.signature()));
        }
        let names = self.registry.iter().map(|primitive| primitive.name);
        let same: Vec<_> =
            names.filter(|name| name.split_once("::").is_some_and(|(space, _)| space == root)).collect();
        diagnostic.hint(format!(
            "`{root}` has {}",
            same.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ))
    }

    fn imported(&mut self, alias: &str, target: &str, name: &str, count: usize, at: At) {
        let Some(ast) = self.asts.get(target) else { return };
        let public: Vec<_> = ast
            .iter_functions()
            .filter(|function| {
                matches!(function.access, rhai::FnAccess::Public) && !function.name.starts_with("anon$")
            })
            .map(|function| (function.name.to_owned(), function.params.len()))
            .collect();
        if public.contains(&(name.to_owned(), count)) {
            return;
        }
        if let Some((_, takes)) = public.iter().find(|(known, _)| known == name) {
            let message =
                format!("`{alias}::{name}` of `{target}` takes {}, found {count}", arguments(*takes));
            return self.add(Diagnostic::error("script::argument-count", message), at);
        }
        let near = nearest(name, public.iter().map(|(name, _)| name.as_str()));
        let diagnostic =
            Diagnostic::error("script::unknown-function", format!("`{target}` has no function `{name}`"))
                .maybe_hint(near.map(|near| format!("did you mean `{alias}::{near}`?")));
        self.add(diagnostic, at);
    }

    pub(super) fn method(&mut self, file: &str, call: &FnCallExpr, position: Position, own: &Own) {
        let (name, count) = (call.name.as_str(), call.args.len());
        let in_map = self.text(file).is_some_and(|text| text.contains(&format!("{name}:")));
        let function = own.functions.iter().any(|(known, _)| known == name);
        if self.builtins.contains(name) || function || in_map || name.contains('$') {
            return;
        }
        match methods().find(|word| word.name == name) {
            Some(word) if word.args.contains(&count) => {}
            Some(word) => self.add(wrong_count(name, count, word.usage), at(file, position)),
            None => {
                let ours = methods().map(|word| word.name);
                let near =
                    nearest(name, ours).or_else(|| nearest(name, self.builtins.iter().map(String::as_str)));
                if let Some(near) = near {
                    let diagnostic =
                        Diagnostic::error("script::unknown-function", format!("there is no method `{name}`"))
                            .hint(format!("did you mean `.{near}(…)`?"));
                    self.add(diagnostic, at(file, position));
                }
            }
        }
    }
}

fn methods() -> impl Iterator<Item = &'static Word> {
    PHASE_METHODS.iter().chain(OPTIONS)
}

pub(super) fn is_word(name: &str) -> bool {
    FUNCTIONS.iter().chain(methods()).any(|word| word.name == name)
}

fn wrong_count(name: &str, found: usize, usage: &str) -> Diagnostic {
    let message = format!("`{name}` does not take {}", arguments(found));
    Diagnostic::error("script::argument-count", message).hint(format!("it is `{usage}`"))
}

fn wrong_native_count(primitive: &Primitive, found: usize) -> Diagnostic {
    let (least, most) = (required(primitive), primitive.params.len());
    let takes = if least == most { arguments(least) } else { format!("{least} to {}", arguments(most)) };
    let message = format!("`{}` takes {takes}, found {found}", primitive.name);
    Diagnostic::error("script::argument-count", message).hint(format!("it is `{}`", primitive.signature()))
}

fn arguments(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        count => format!("{count} arguments"),
    }
}
