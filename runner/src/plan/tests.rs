//! Resolving promises, and what is found in a plan that somebody else wrote.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use stdlib::error::PrimError;
use stdlib::gate::{Gate, ReadOnly};
use stdlib::registry::{Kind, Param, Primitive, Registry, Run, Type};
use stdlib::secret::handle;
use stdlib::world::World;

use super::*;

const ONE: &[Param] = &[Param { name: "value", ty: Type::Any, optional: false, doc: "" }];

fn echo<'a>(_: &'a World, args: &'a [Value], _: &'a dyn Gate) -> BoxFuture<'a, Result<Value, PrimError>> {
    Box::pin(async move { Ok(json!({ "said": args })) })
}

fn prim(name: &'static str, kind: Kind) -> Primitive {
    let run: Run = echo;
    Primitive {
        name,
        kind,
        params: ONE,
        returns: "",
        doc: "",
        example: "",
        run,
        restore: None,
        forecast: None,
        touches: |_| Vec::new(),
    }
}

fn registry() -> Registry {
    Registry::new([
        prim("t::read", Kind::Read),
        prim("t::pure", Kind::Pure),
        prim("t::make", Kind::Make),
        prim("t::change", Kind::Change),
        prim("t::settle", Kind::Settle),
        prim("t::prove", Kind::Prove),
    ])
}

fn resolved(expr: &Value, item: Option<&Value>) -> Result<Value, PrimError> {
    let expr = Expr::from_value(expr.clone()).unwrap();
    let outputs = |step: &str| {
        (step == "p/stage/ca")
            .then(|| json!({"cert": "PEM", "chain": ["a", "b"], "key": handle("ab12", "spki:77")}))
    };
    let world = World::system(None, PathBuf::from("."));
    resolve(&expr, &outputs, item, &world, &ReadOnly, &registry()).now_or_never().unwrap()
}

#[test]
fn promises_become_values_and_secrets_pass_as_handles() {
    let expr = json!({
        "pem": {"$ref": "p/stage/ca", "path": ["cert"]},
        "second": {"$ref": "p/stage/ca", "path": ["chain", "1"]},
        "key": {"$ref": "p/stage/ca", "path": ["key"]},
        "pod": {"$item": ["name"]},
        "said": {"$call": "t::read", "args": [[{"$ref": "p/stage/ca", "path": ["cert"]}, 7]], "path": ["said", "0"]},
        "schema": {"$lit": {"$ref": "#/x"}},
    });
    assert_eq!(
        resolved(&expr, Some(&json!({"name": "pd-0"}))).unwrap(),
        json!({"pem": "PEM", "second": "b", "key": {"$secret": "ab12", "fp": "spki:77"}, "pod": "pd-0",
            "said": ["PEM", 7], "schema": {"$ref": "#/x"}})
    );
}

#[test]
fn what_cannot_be_resolved_says_why_and_never_shows_a_secret() {
    for (expr, says) in [
        (json!({"$ref": "p/stage/none"}), "step `p/stage/none`: it has produced nothing"),
        (
            json!({"$ref": "p/stage/ca", "path": ["crt"]}),
            "output of step `p/stage/ca`: a field is missing (expected a field `crt`, found `cert`, `chain`, `key`)",
        ),
        (json!({"$ref": "p/stage/ca", "path": ["chain", "2"]}), "expected an item 2, found a list of 2"),
        (json!({"$ref": "p/stage/ca", "path": ["key", "$secret"]}), "a secret has no field `$secret`"),
        (json!({"$ref": "p/stage/ca", "path": ["cert", "x"]}), "it is no map"),
        (json!({"$item": []}), "`item()` outside a step with `.each`"),
        (json!({"$call": "t::change", "args": [1]}), "only pure and reading primitives"),
        (json!({"$call": "t::none", "args": []}), "no primitive is named `t::none`"),
    ] {
        let error = resolved(&expr, None).unwrap_err().to_string();
        assert!(error.contains(says), "{expr}: {error}");
    }
}

fn step(key: &str, primitive: &str, arg: &Value) -> Value {
    let mut parts = key.split('/');
    let (_, role, item) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    json!({"key": key, "role": role, "item": item, "action": {"primitive": primitive, "args": [arg]}, "deadline_s": 60,
        "on_failure": "stop", "parallel": null, "when": null, "each": null, "at": {"file": "main.rhai", "line": 1, "column": 1}})
}

fn plan(steps: &[Value], back: &[Value]) -> Plan {
    serde_json::from_value(json!({
        "workflow": "t", "title": "t", "params": {}, "facts": [], "target": null, "trust": null, "forward_only": false,
        "phases": [{"name": "p", "why": "w", "final_": false, "outage": false, "steps": steps, "back": back,
            "at": {"file": "main.rhai", "line": 1, "column": 1}}],
    }))
    .unwrap()
}

fn codes(steps: &[Value], back: &[Value]) -> Vec<&'static str> {
    plan(steps, back).validate(&registry()).into_iter().map(|flaw| flaw.code).collect()
}

#[test]
fn a_sound_plan_has_no_flaws_and_a_stable_digest() {
    let make = step("p/stage/ca", "t::make", &json!(1));
    let change =
        step("p/change/x", "t::change", &json!({"$call": "t::pure", "args": [{"$ref": "p/stage/ca"}]}));
    let back = step("p/back/x", "t::settle", &json!({"$ref": "p/stage/ca"}));
    let sound = plan(&[make, change, step("p/prove/x", "t::prove", &json!(null))], &[back]);
    assert_eq!(sound.validate(&registry()), []);
    let digest = sound.digest().unwrap();
    assert_eq!(digest.len(), "sha256:".len() + 64);
    let mut other = sound.clone();
    other.title = "u".into();
    assert_ne!(other.digest().unwrap(), digest);
    assert_eq!(sound.step("p/back/x").map(|step| step.role), Some(Role::Back));
}

#[test]
fn an_altered_plan_is_found_out() {
    let change = |key: &str, arg: Value| step(key, "t::change", &arg);
    let one = json!(1);
    assert_eq!(codes(&[change("p/change/x", one.clone()), change("p/change/x", one.clone())], &[]), ["twin"]);
    assert_eq!(codes(&[change("p/change/x", json!({"$ref": "q/stage/y"}))], &[]), ["unknown-reference"]);
    assert_eq!(codes(&[change("p/change/x", json!({"$ref": "p/change/x"}))], &[]), ["late-reference"]);
    assert_eq!(codes(&[step("p/change/x", "t::chnge", &one)], &[]), ["unknown-primitive"]);
    assert_eq!(codes(&[step("p/prove/x", "t::change", &one)], &[]), ["wrong-role"]);
    assert_eq!(codes(&[], &[step("p/back/x", "t::make", &one)]), ["wrong-role"]);
    assert_eq!(
        codes(&[change("p/change/x", json!({"$call": "t::settle", "args": [1]}))], &[]),
        ["wrong-role"]
    );
    assert_eq!(
        codes(&[step("p/prove/x", "t::prove", &one), change("p/change/y", one.clone())], &[]),
        ["order"]
    );
    let undone = [step("p/back/x", "t::change", &one)];
    assert_eq!(codes(&[change("p/change/y", json!({"$ref": "p/back/x"}))], &undone), ["late-reference"]);
}
