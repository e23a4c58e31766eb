//! The script engine: what it has, what it lacks, and its limits, the same in every build.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::packages::{
    BasicArrayPackage, BasicMapPackage, BasicMathPackage, BitFieldPackage, CorePackage, LogicPackage,
    MoreStringPackage, Package,
};
use rhai::{
    AST, Engine, EvalAltResult, GlobalRuntimeState, Module, ModuleResolver, OptimizationLevel, Position,
    Scope,
};
use stdlib::registry::Registry;

use super::sources::import_file;
use super::state::Shared;
use super::{natives, options, refusals, surface};
use crate::diagnostic::Diagnostic;

/// Operations of one evaluation.
pub(super) const MAX_OPERATIONS: u64 = 5_000_000;
const MAX_CALL_LEVELS: usize = 32;
const MAX_EXPR_DEPTH: usize = 64;
const MAX_FN_EXPR_DEPTH: usize = 32;
const MAX_STRING: usize = 4 << 20;
const MAX_ITEMS: usize = 50_000;

/// An engine that knows the language and its limits, nothing of workflows: for parsing and checking.
pub(super) fn bare() -> Engine {
    let mut engine = Engine::new_raw();
    CorePackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BitFieldPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    engine
        .set_optimization_level(OptimizationLevel::None)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true)
        .set_max_operations(MAX_OPERATIONS)
        .set_max_call_levels(MAX_CALL_LEVELS)
        .set_max_expr_depths(MAX_EXPR_DEPTH, MAX_FN_EXPR_DEPTH)
        .set_max_string_size(MAX_STRING)
        .set_max_array_size(MAX_ITEMS)
        .set_max_map_size(MAX_ITEMS)
        .set_max_variables(2_000)
        .set_max_functions(500)
        .set_max_modules(200)
        .disable_symbol("eval");
    engine
}

/// The engine of a session, with natives, the step language and imports.
pub(super) fn full(shared: &Arc<Shared>, registry: &Registry, asts: &Arc<BTreeMap<String, AST>>) -> Engine {
    let mut engine = bare();
    refusals::register(&mut engine, shared);
    surface::register(&mut engine, shared, registry);
    options::register(&mut engine, shared);
    natives::register(&mut engine, shared, registry);
    engine.set_module_resolver(Imports { shared: Arc::clone(shared), asts: Arc::clone(asts) });
    engine
}

/// Gives each file once: a second import of it is the same module, and declares nothing again.
struct Imports {
    shared: Arc<Shared>,
    asts: Arc<BTreeMap<String, AST>>,
}

impl Imports {
    fn load(
        &self,
        path: &str,
        position: Position,
        evaluate: impl FnOnce(&AST) -> Result<Module, Box<EvalAltResult>>,
    ) -> Result<Arc<Module>, Box<EvalAltResult>> {
        let file = import_file(path).unwrap_or_default();
        let missing = || Box::new(EvalAltResult::ErrorModuleNotFound(path.to_owned(), position));
        let ast = self.asts.get(&file).ok_or_else(missing)?;
        let known = self.shared.state().modules.get(&file).cloned();
        match known {
            Some(Some(module)) => return Ok(module),
            Some(None) => {
                let message = format!("`{file}` imports itself in a circle");
                return Err(self
                    .shared
                    .refuse_somewhere(Diagnostic::error("script::circular-import", message)));
            }
            None => {}
        }
        self.shared.state().modules.insert(file.clone(), None);
        let module = evaluate(ast).map_err(|error| match *error {
            wrapped @ EvalAltResult::ErrorInModule(..) => Box::new(wrapped),
            other => Box::new(EvalAltResult::ErrorInModule(path.to_owned(), other.into(), position)),
        })?;
        let module: Arc<Module> = module.into();
        self.shared.state().modules.insert(file, Some(Arc::clone(&module)));
        Ok(module)
    }
}

impl ModuleResolver for Imports {
    fn resolve(
        &self,
        engine: &Engine,
        _: Option<&str>,
        path: &str,
        position: Position,
    ) -> Result<Arc<Module>, Box<EvalAltResult>> {
        self.load(path, position, |ast| Module::eval_ast_as_new(Scope::new(), ast, engine))
    }

    fn resolve_raw(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        _: &mut Scope,
        path: &str,
        position: Position,
    ) -> Result<Arc<Module>, Box<EvalAltResult>> {
        self.load(path, position, |ast| Module::eval_ast_as_new_raw(engine, &mut Scope::new(), global, ast))
    }
}
