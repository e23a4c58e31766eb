//! The script surface, rule by rule, against a small registry of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod check;
mod diagnostics;
mod limits;
mod replay;
mod rules;
mod surroundings;

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::error::PrimError;
use stdlib::gate::Gate;
use stdlib::registry::{Kind, Param, Primitive, Registry, Run, Touch, Type};
use stdlib::secret::handle;
use stdlib::world::World;

use super::*;
use crate::diagnostic::{Diagnostic, Paint, render_all};
use crate::manifest::Manifest;
use crate::plan::{Fact, Plan};

const fn need(name: &'static str, ty: Type) -> Param {
    Param { name, ty, optional: false, doc: "what it says" }
}

fn nothing(_: &[Value]) -> Vec<Touch> {
    Vec::new()
}

fn prim(name: &'static str, kind: Kind, params: &'static [Param], run: Run) -> Primitive {
    Primitive {
        name,
        kind,
        params,
        returns: "",
        doc: "",
        example: "",
        run,
        restore: None,
        forecast: None,
        touches: nothing,
    }
}

type Answered<'a> = BoxFuture<'a, Result<Value, PrimError>>;

fn unit<'a>(_: &'a World, _: &'a [Value], _: &'a dyn Gate) -> Answered<'a> {
    Box::pin(async { Ok(Value::Null) })
}

/// Joins texts; refuses what is none, as a real bundle refuses what is no PEM.
fn bundle<'a>(_: &'a World, args: &'a [Value], _: &'a dyn Gate) -> Answered<'a> {
    Box::pin(async move {
        let items = args.first().and_then(Value::as_array).cloned().unwrap_or_default();
        let texts: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        texts
            .map(|texts| Value::from(texts.join("+")))
            .ok_or_else(|| PrimError::invalid("that is no PEM").hint("hand it certificates"))
    })
}

fn secrets<'a>(_: &'a World, args: &'a [Value], _: &'a dyn Gate) -> Answered<'a> {
    Box::pin(async move {
        if args.first() == Some(&json!("nowhere")) {
            return Err(PrimError::not_found("there is no such namespace").on("Namespace nowhere"));
        }
        Ok(json!([{"name": "pd", "wide": 9_007_199_254_740_993_i64}, {"name": "tikv"}]))
    })
}

fn key<'a>(_: &'a World, _: &'a [Value], _: &'a dyn Gate) -> Answered<'a> {
    Box::pin(async { Ok(handle("ab12", "spki:77")) })
}

fn panics<'a>(_: &'a World, _: &'a [Value], _: &'a dyn Gate) -> Answered<'a> {
    panic!("a defect of a primitive")
}

fn waits<'a>(_: &'a World, _: &'a [Value], _: &'a dyn Gate) -> Answered<'a> {
    Box::pin(std::future::pending())
}

fn kube(name: &Value, verbs: &[&str]) -> Vec<Touch> {
    vec![Touch::Kube {
        group: String::new(),
        resource: "secrets".into(),
        namespace: "tidb".into(),
        name: name.as_str().unwrap_or_default().into(),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
    }]
}

pub(super) fn registry() -> Registry {
    const NAME: &[Param] = &[need("name", Type::Text)];
    const PATCH: &[Param] = &[
        need("name", Type::Any),
        need("data", Type::Map),
        Param { name: "options", ty: Type::Map, optional: true, doc: "how" },
    ];
    let patch = Primitive {
        touches: |args| kube(args.first().unwrap_or(&Value::Null), &["get", "patch"]),
        ..prim("k8s::patch_secret", Kind::Change, PATCH, unit)
    };
    let list = Primitive {
        touches: |_| kube(&Value::Null, &["list"]),
        ..prim("k8s::secrets", Kind::Read, const { &[need("namespace", Type::Text)] }, secrets)
    };
    Registry::new([
        patch,
        list,
        prim("k8s::ready", Kind::Read, NAME, unit),
        prim("k8s::restart", Kind::Settle, NAME, unit),
        prim("k8s::trust", Kind::Read, NAME, unit),
        prim("mint::create", Kind::Make, const { &[need("request", Type::Map)] }, unit),
        prim("mint::key", Kind::Read, &[], key),
        prim("mint::use_key", Kind::Change, const { &[need("key", Type::Secret)] }, unit),
        prim("bundle::of", Kind::Pure, const { &[need("parts", Type::List)] }, bundle),
        prim("bundle::panics", Kind::Pure, &[], panics),
        prim("bundle::waits", Kind::Pure, &[], waits),
        prim(
            "tls::serves",
            Kind::Prove,
            const { &[need("name", Type::Text), need("expect", Type::Map)] },
            unit,
        ),
        prim(
            "tls::wait",
            Kind::Prove,
            const { &[need("limit", Type::Duration), need("count", Type::Int)] },
            unit,
        ),
    ])
}

pub(super) const MANIFEST_TEXT: &str = r#"
title: A test
params:
  namespace: { default: tidb }
  count: { type: int, default: 3 }
  password: { secret: true, required: false }
touches:
  - kube: { resource: secrets, namespace: "{{namespace}}", write: true }
outage: the test says so
point_of_no_return: the old CA is gone
forward_only: true
"#;

pub(super) struct Case {
    pub(super) sources: Sources,
    pub(super) manifest: Manifest,
    pub(super) params: BTreeMap<String, Value>,
    pub(super) world: World,
    pub(super) registry: Registry,
}

impl Case {
    pub(super) fn new(script: &str) -> Self {
        Self {
            sources: Sources::single(script).with(MANIFEST, MANIFEST_TEXT),
            manifest: Manifest::parse(MANIFEST_TEXT).unwrap(),
            params: BTreeMap::from([
                ("namespace".into(), json!("tidb")),
                ("count".into(), json!(3)),
                ("password".into(), handle("77aa", "hmac:12")),
            ]),
            world: World::system(None, PathBuf::from(".")),
            registry: registry(),
        }
    }

    pub(super) fn with(mut self, file: &str, text: &str) -> Self {
        self.sources = self.sources.with(file, text);
        self
    }

    pub(super) fn input(&self) -> Input<'_> {
        Input {
            workflow: "test/case",
            sources: &self.sources,
            manifest: &self.manifest,
            params: &self.params,
            world: &self.world,
            registry: &self.registry,
        }
    }

    pub(super) fn declare(&self, facts: &[Fact]) -> Result<Declared, Vec<Diagnostic>> {
        declare(&self.input(), facts)
    }

    pub(super) fn evaluate(&self) -> Result<Plan, Vec<Diagnostic>> {
        evaluate(&self.input()).now_or_never().expect("test primitives never wait")
    }

    pub(super) fn check(&self) -> Vec<Diagnostic> {
        check(&self.sources, &self.manifest, &self.registry)
    }
}

/// The plan of a script that must be good.
pub(super) fn plan(script: &str) -> Plan {
    Case::new(script).evaluate().unwrap_or_else(|findings| panic!("{}", render_all(&findings, Paint::Plain)))
}

/// What is wrong with a script that must not be good, rendered.
pub(super) fn refusal(script: &str) -> String {
    render_all(&findings(script), Paint::Plain)
}

/// The same as data.
pub(super) fn findings(script: &str) -> Vec<Diagnostic> {
    match Case::new(script).evaluate() {
        Err(findings) => findings,
        Ok(plan) => {
            panic!("this must be refused, but is a plan: {}", serde_json::to_string_pretty(&plan).unwrap())
        }
    }
}

/// The code, message and line of the only finding.
pub(super) fn only(script: &str) -> (String, String, usize) {
    let findings = findings(script);
    assert_eq!(findings.len(), 1, "{}", render_all(&findings, Paint::Plain));
    let finding = findings.first().unwrap();
    (finding.code.clone(), finding.message.clone(), finding.at().map_or(0, |at| at.line))
}
