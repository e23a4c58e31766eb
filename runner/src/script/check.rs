//! What can be said of a script without running it: syntax, names and counts of arguments of everything that it calls
//! (in branches that no run may take, too), parameters, imports, names that would hide others.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Module, Position, Stmt};
use stdlib::registry::{Primitive, Registry};

use super::engine::bare;
use super::failure::{at, explain_parse};
use super::natives::{required, signature};
use super::options::OPTIONS;
use super::parallel;
use super::sources::{Sources, import_file};
use super::surface::{FUNCTIONS, PHASE_METHODS, Word, unknown_param};
use super::syntax::{Node, bar_place, classify, function_place};
use crate::diagnostic::{Diagnostic, nearest};
use crate::manifest::Manifest;
use crate::plan::At;

/// Everything that is wrong with a script, or odd, without running it. The manifest's own faults are found by
/// [`Manifest::parse`].
pub fn check(sources: &Sources, manifest: &Manifest, registry: &Registry) -> Vec<Diagnostic> {
    let (asts, mut findings) = compile(sources, registry);
    findings.extend(inspect(&asts, sources, manifest, registry));
    findings.sort_by_key(|finding| finding.at().map(|at| (at.file.clone(), at.line, at.column)));
    findings
}

/// Parses every script file; those that cannot be parsed are findings.
pub(super) fn compile(sources: &Sources, registry: &Registry) -> (BTreeMap<String, AST>, Vec<Diagnostic>) {
    let mut engine = bare();
    let namespaces = namespaces(registry);
    for namespace in &namespaces {
        engine.register_static_module(*namespace, Module::new().into());
    }
    let mut asts = BTreeMap::new();
    let mut findings = Vec::new();
    for (file, text) in sources.files.iter().filter(|(file, _)| is_script(file)) {
        match parse(&engine, text) {
            Ok(mut ast) => {
                ast.set_source(file.as_str());
                asts.insert(file.clone(), ast);
            }
            Err(Some(error)) => findings.push(explain_parse(file, text, &namespaces, &error)),
            Err(None) => {
                findings.push(Diagnostic::error("script::internal", format!("`{file}` broke the parser")));
            }
        }
    }
    if !sources.files.contains_key(&sources.main) {
        findings
            .push(Diagnostic::error("script::no-main", format!("the workflow has no `{}`", sources.main)));
    }
    (asts, findings)
}

fn is_script(file: &str) -> bool {
    file.strip_suffix(".rhai").is_some()
}

fn parse(engine: &Engine, text: &str) -> Result<AST, Option<rhai::ParseError>> {
    let run = std::panic::AssertUnwindSafe(|| engine.compile(text));
    std::panic::catch_unwind(run).map_err(|_| None)?.map_err(Some)
}

fn namespaces(registry: &Registry) -> Vec<&str> {
    let all: BTreeSet<_> =
        registry.iter().filter_map(|primitive| Some(primitive.name.split_once("::")?.0)).collect();
    all.into_iter().collect()
}

/// Everything that the syntax trees show.
pub(super) fn inspect(
    asts: &BTreeMap<String, AST>,
    sources: &Sources,
    manifest: &Manifest,
    registry: &Registry,
) -> Vec<Diagnostic> {
    let engine = bare();
    let exact: BTreeSet<(String, usize)> = engine
        .collect_fn_metadata(
            None,
            |info| Some((info.metadata.name.to_string(), info.metadata.num_params)),
            true,
        )
        .into_iter()
        .filter(|(name, _)| !name.contains('$'))
        .collect();
    let builtins: BTreeSet<String> = exact
        .iter()
        .map(|(name, _)| name.clone())
        .chain(
            ["print", "debug", "type_of", "is_shared", "is_def_var", "is_def_fn", "call", "curry", "Fn"]
                .map(str::to_owned),
        )
        .collect();
    let mut inspector = Inspector {
        asts,
        sources,
        manifest,
        registry,
        exact,
        builtins,
        findings: Vec::new(),
        params: BTreeSet::new(),
        dynamic: false,
    };
    for (file, ast) in asts {
        inspector.file(file, ast);
    }
    inspector.unused_params();
    inspector.findings
}

struct Inspector<'a> {
    asts: &'a BTreeMap<String, AST>,
    sources: &'a Sources,
    manifest: &'a Manifest,
    registry: &'a Registry,
    /// Functions of Rhai by name and number of arguments, receiver included.
    exact: BTreeSet<(String, usize)>,
    /// Their names, and those of the keywords that look like functions.
    builtins: BTreeSet<String>,
    findings: Vec<Diagnostic>,
    /// Parameters that are read by a literal name.
    params: BTreeSet<String>,
    /// Whether one is read by a computed name.
    dynamic: bool,
}

/// What a file declares itself.
struct Own {
    /// Functions: name and number of parameters.
    functions: BTreeSet<(String, usize)>,
    /// Import aliases and the files behind them.
    imports: BTreeMap<String, String>,
}

impl Inspector<'_> {
    fn text(&self, file: &str) -> Option<&str> {
        self.sources.text(file)
    }

    fn add(&mut self, diagnostic: Diagnostic, at: At) {
        let text = self.sources.text(&at.file);
        self.findings.push(diagnostic.spot(at, text, ""));
    }

    fn file(&mut self, file: &str, ast: &AST) {
        let own = Self::own(file, ast);
        self.names_of_functions(file, ast);
        let mut nodes: Vec<Node> = Vec::new();
        ast.walk(&mut |path: &[ASTNode]| {
            nodes.extend(path.last().map(classify).unwrap_or_default());
            true
        });
        for node in nodes {
            match node {
                Node::Name(name, position, what) => self.name(file, &name, position, what),
                Node::Call(call, position) => self.call(file, &call, position, &own),
                Node::Method(call, position) => self.method(file, &call, position, &own),
                Node::Switch(position) => self.switch(file, position),
                Node::Import(path, position) => self.import(file, path.as_deref(), position),
            }
        }
        self.findings.extend(parallel::groups_nothing(file, ast, self.sources));
    }

    fn own(file: &str, ast: &AST) -> Own {
        let functions =
            ast.iter_functions().map(|function| (function.name.to_owned(), function.params.len()));
        let mut own = Own { functions: functions.collect(), imports: BTreeMap::new() };
        ast.walk(&mut |path: &[ASTNode]| {
            if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = path.last()
                && let (Expr::StringConstant(path, _), alias) = (&import.0, &import.1)
                && let Some(target) = import_file(path).filter(|target| target != file)
            {
                own.imports.insert(alias.name.to_string(), target);
            }
            true
        });
        own
    }

    fn names_of_functions(&mut self, file: &str, ast: &AST) {
        for function in ast.iter_fn_def() {
            let closure = function.name.starts_with("anon$");
            let text = self.text(file).unwrap_or_default();
            let place = |name: &str| {
                let found =
                    if closure { bar_place(text, name) } else { function_place(text, &function.name) };
                let (line, column) = found.unwrap_or((1, 1));
                At { file: file.to_owned(), line, column }
            };
            let at = place(&function.name);
            let params: Vec<_> = function.params.iter().map(|param| (param.clone(), place(param))).collect();
            let hides = self.exact.contains(&(function.name.to_string(), function.params.len()))
                || is_word(&function.name);
            if !closure && hides {
                let message =
                    format!("function `{}` would hide the built-in function of that name", function.name);
                self.add(
                    Diagnostic::error("script::shadow", message).hint("give it another name"),
                    at.clone(),
                );
            }
            for (param, at) in params {
                self.reserved(&param, "parameter", at);
            }
            if !closure {
                self.reserved(&function.name, "function", at);
            }
        }
    }

    fn name(&mut self, file: &str, name: &str, position: Position, what: &str) {
        self.reserved(name, what, at(file, position));
    }

    /// Functions and imports that are named like a namespace, and anything that is named like a function of the step
    /// language. A variable named like a namespace hides nothing: `ca.cert` and `ca::create(…)` cannot be confused.
    fn reserved(&mut self, name: &str, what: &str, at: At) {
        let namespace = matches!(what, "function" | "import") && namespaces(self.registry).contains(&name);
        let function = what != "function" && FUNCTIONS.iter().any(|word| word.name == name);
        if namespace || function {
            let owner = if namespace {
                format!("the namespace `{name}::`")
            } else {
                format!("the function `{name}(…)`")
            };
            let message = format!("{what} `{name}` is named like {owner}");
            let hint = format!("give it another name, for example `the_{name}` or `{name}_1`");
            self.add(Diagnostic::error("script::shadow", message).hint(hint), at);
        }
    }

    fn switch(&mut self, file: &str, position: Position) {
        let message =
            "`switch` would silently take its default branch for a value that is known only in the run";
        let hint = "use `if … else if …`; `switch param(\"…\")` is fine, a parameter is always known";
        self.add(Diagnostic::error("script::switch", message).hint(hint), at(file, position));
    }

    fn import(&mut self, file: &str, path: Option<&str>, position: Position) {
        let Some(path) = path else {
            let message = "an import names its file literally, so that the run can keep a copy of it";
            return self.add(Diagnostic::error("script::import", message), at(file, position));
        };
        match import_file(path) {
            None => {
                let message = format!("`{path}` cannot be imported");
                let hint = "imports come from the workflow's own folder (`\"parties\"`) or the shared modules (`\"lib/rotation\"`)";
                self.add(Diagnostic::error("script::import", message).hint(hint), at(file, position));
            }
            Some(target) if !self.sources.files.contains_key(&target) => {
                let files = self
                    .sources
                    .files
                    .keys()
                    .filter(|known| is_script(known) && **known != self.sources.main);
                let near = nearest(&target, files.map(String::as_str));
                let near = near.map(|near| format!("did you mean `{}`?", near.trim_end_matches(".rhai")));
                let diagnostic =
                    Diagnostic::error("script::unknown-import", format!("there is no file `{target}`"));
                self.add(diagnostic.maybe_hint(near), at(file, position));
            }
            Some(_) => {}
        }
    }

    fn call(&mut self, file: &str, call: &FnCallExpr, position: Position, own: &Own) {
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
            return diagnostic.hint(format!("did you mean `{}`?", signature(near)));
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

    fn method(&mut self, file: &str, call: &FnCallExpr, position: Position, own: &Own) {
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

    fn param(&mut self, file: &str, call: &FnCallExpr) {
        match call.args.first() {
            Some(Expr::StringConstant(name, position)) => {
                self.params.insert(name.to_string());
                if self.manifest.params.get(name).is_none() {
                    let diagnostic = unknown_param(name, self.manifest);
                    self.add(diagnostic, at(file, *position));
                }
            }
            _ => self.dynamic = true,
        }
    }

    fn unused_params(&mut self) {
        let Some(text) = self.sources.text(super::MANIFEST).filter(|_| !self.dynamic) else { return };
        let unused: Vec<_> =
            self.manifest.params.names().filter(|name| !self.params.contains(*name)).collect();
        for name in unused {
            let message = format!("parameter `{name}` is never read by the script");
            let place = Manifest::param_place(text, name);
            self.findings.push(Diagnostic::warning("manifest::unused-parameter", message).spot(
                place,
                Some(text),
                "",
            ));
        }
    }
}

fn methods() -> impl Iterator<Item = &'static Word> {
    PHASE_METHODS.iter().chain(OPTIONS)
}

fn is_word(name: &str) -> bool {
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
    Diagnostic::error("script::argument-count", message).hint(format!("it is `{}`", signature(primitive)))
}

fn arguments(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        count => format!("{count} arguments"),
    }
}
