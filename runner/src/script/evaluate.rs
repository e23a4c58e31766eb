//! Evaluation by replay: a read whose answer is not known ends it, the caller answers, and it begins again.
//!
//! So declaring is a pure function of sources, parameters and facts, without threads; facts are in order by
//! construction; and a resumed run that evaluates nothing can still show which reads its plan rests on.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{AST, Dynamic, Engine, EvalAltResult, Scope};
use serde_json::Value;
use stdlib::gate::ReadOnly;
use stdlib::registry::Registry;
use stdlib::world::World;

use super::check::{compile, inspect};
use super::deferred::Deferred;
use super::engine::full;
use super::failure::{explain, trace};
use super::finish;
use super::sources::Sources;
use super::state::{Need, Refused, Shared, Stop};
use crate::capabilities;
use crate::diagnostic::Diagnostic;
use crate::manifest::Manifest;
use crate::plan::{Fact, Plan};

/// Reads of the world that one script may make.
const MAX_FACTS: usize = 1_000;

/// Everything that a declaration depends on, facts aside.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// `tidb/cfssl-rotate`.
    pub workflow: &'a str,
    /// The script files.
    pub sources: &'a Sources,
    /// The manifest.
    pub manifest: &'a Manifest,
    /// Resolved parameters.
    pub params: &'a BTreeMap<String, Value>,
    /// For pure primitives (the secret store) and, in [`evaluate`], for reads.
    pub world: &'a World,
    /// The primitives.
    pub registry: &'a Registry,
}

/// What an evaluation comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Declared {
    /// The whole plan.
    Plan(Box<Plan>),
    /// A read must be answered first.
    Need(Need),
}

/// Evaluates a script against what was read so far.
///
/// # Errors
/// What is wrong with the script, found before it runs or while it does; or facts that are not those it asks for.
pub fn declare(input: &Input, facts: &[Fact]) -> Result<Declared, Vec<Diagnostic>> {
    Session::new(input)?.replay(facts)
}

/// Evaluates a script, reading the world where it asks: each read only if the manifest allows it.
///
/// # Errors
/// As [`declare`], and what the reads answer, at their places; steps that touch what the manifest does not name.
pub async fn evaluate(input: &Input<'_>) -> Result<Plan, Vec<Diagnostic>> {
    let session = Session::new(input)?;
    let allowance = input.manifest.allowance(input.params, &input.world.folder);
    let mut facts: Vec<Fact> = Vec::new();
    loop {
        let need = match session.replay(&facts)? {
            Declared::Need(need) => need,
            Declared::Plan(plan) => {
                let findings = capabilities::check(&plan, &allowance, input.registry, input.sources);
                return if findings.is_empty() { Ok(*plan) } else { Err(findings) };
            }
        };
        let refuse = |diagnostic: Diagnostic| {
            Err(vec![diagnostic.spot(need.at.clone(), input.sources.text(&need.at.file), "")])
        };
        let Some(primitive) = input.registry.get(&need.primitive) else {
            return refuse(Diagnostic::error(
                "script::internal",
                format!("no primitive is named `{}`", need.primitive),
            ));
        };
        if facts.len() >= MAX_FACTS {
            return refuse(Diagnostic::error(
                "script::limit",
                format!("the script reads more than {MAX_FACTS} times"),
            ));
        }
        let touches = (primitive.touches)(&need.args);
        if let Some(diagnostic) = capabilities::first_forbidden(&allowance, primitive.name, &touches) {
            return refuse(diagnostic);
        }
        match (primitive.run)(input.world, &need.args, &ReadOnly).await {
            Ok(answer) => {
                facts.push(Fact { primitive: need.primitive, args: need.args, answer, at: need.at });
            }
            Err(error) => return refuse(Diagnostic::from_primitive(primitive.name, &error)),
        }
    }
}

/// A compiled and checked script, to be evaluated as often as facts come.
pub struct Session<'a> {
    input: Input<'a>,
    shared: Arc<Shared>,
    engine: Engine,
    asts: Arc<BTreeMap<String, AST>>,
}

impl<'a> Session<'a> {
    /// Compiles and checks a script.
    ///
    /// # Errors
    /// Every error that `check` finds.
    pub fn new(input: &Input<'a>) -> Result<Self, Vec<Diagnostic>> {
        let (asts, mut findings) = compile(input.sources, input.registry);
        findings.extend(inspect(&asts, input.sources, input.manifest, input.registry));
        findings.retain(Diagnostic::is_error);
        if !findings.is_empty() {
            return Err(findings);
        }
        let mut deferred = Deferred::default();
        for (file, ast) in &asts {
            deferred.add(file, ast);
        }
        let shared = Shared::new(
            input.sources.clone(),
            input.manifest.clone(),
            input.params.clone(),
            input.world.clone(),
            deferred,
        );
        let asts = Arc::new(asts);
        let engine = full(&shared, input.registry, &asts);
        Ok(Self { input: *input, shared, engine, asts })
    }

    /// Evaluates against these facts, from the beginning.
    ///
    /// # Errors
    /// As [`declare`].
    pub fn replay(&self, facts: &[Fact]) -> Result<Declared, Vec<Diagnostic>> {
        self.shared.reset(facts);
        let Some(ast) = self.asts.get(&self.input.sources.main) else {
            return Err(vec![Diagnostic::error("script::no-main", "the workflow has no main script")]);
        };
        // A panic of the engine must not take a run with it.
        let run = std::panic::AssertUnwindSafe(|| {
            self.engine.eval_ast_with_scope::<Dynamic>(&mut Scope::new(), ast)
        });
        let result = std::panic::catch_unwind(run);
        let stop = self.shared.state().stop.take();
        match (stop, result) {
            (_, Err(_)) => Err(vec![Diagnostic::error("script::internal", "the script engine panicked")]),
            (Some(Stop::Needs(need)), _) => Ok(Declared::Need(need)),
            (Some(Stop::Refused(diagnostic)), Ok(result)) => {
                Err(vec![self.surfaced(*diagnostic, result.err())])
            }
            (None, Ok(Err(error))) => Err(vec![explain(&self.shared, &error)]),
            (None, Ok(Ok(_))) => finish::plan(&self.shared, self.input.workflow, self.input.registry)
                .map(|plan| Declared::Plan(Box::new(plan))),
        }
    }

    /// Gives a refusal the calls that led to it, and its place where it has none, if it is what surfaced.
    fn surfaced(&self, mut diagnostic: Diagnostic, error: Option<Box<EvalAltResult>>) -> Diagnostic {
        let Some(error) = error else { return diagnostic };
        let trace = trace(&self.shared, &error);
        let ours = match trace.cause {
            EvalAltResult::ErrorRuntime(value, _) => value.is::<Refused>(),
            EvalAltResult::ErrorFunctionNotFound(..) => diagnostic.spots.is_empty(),
            _ => false,
        };
        if !ours {
            return diagnostic;
        }
        if let (true, Some(at)) = (diagnostic.spots.is_empty(), &trace.at) {
            diagnostic = self.shared.spot(diagnostic, at, "");
        }
        diagnostic.chain = trace.chain;
        diagnostic
    }
}
