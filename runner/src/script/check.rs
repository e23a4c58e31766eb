//! What can be said of a script without running it: syntax, names and counts of arguments of everything that it calls
//! (in branches that no run may take, too), parameters, imports, names that would hide others.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Module, Position, Stmt};
use stdlib::registry::Registry;

use super::calls::is_word;
use super::engine::bare;
use super::failure::{at, explain_parse};
use super::parallel;
use super::sources::{Sources, import_file};
use super::surface::{FUNCTIONS, unknown_param};
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

pub(super) fn namespaces(registry: &Registry) -> Vec<&str> {
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

pub(super) struct Inspector<'a> {
    pub(super) asts: &'a BTreeMap<String, AST>,
    pub(super) sources: &'a Sources,
    pub(super) manifest: &'a Manifest,
    pub(super) registry: &'a Registry,
    /// Functions of Rhai by name and number of arguments, receiver included.
    pub(super) exact: BTreeSet<(String, usize)>,
    /// Their names, and those of the keywords that look like functions.
    pub(super) builtins: BTreeSet<String>,
    pub(super) findings: Vec<Diagnostic>,
    /// Parameters that are read by a literal name.
    pub(super) params: BTreeSet<String>,
    /// Whether one is read by a computed name.
    pub(super) dynamic: bool,
}

/// What a file declares itself.
pub(super) struct Own {
    /// Functions: name and number of parameters.
    pub(super) functions: BTreeSet<(String, usize)>,
    /// Import aliases and the files behind them.
    pub(super) imports: BTreeMap<String, String>,
}

impl Inspector<'_> {
    pub(super) fn text(&self, file: &str) -> Option<&str> {
        self.sources.text(file)
    }

    pub(super) fn add(&mut self, diagnostic: Diagnostic, at: At) {
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

    pub(super) fn param(&mut self, file: &str, call: &FnCallExpr) {
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
