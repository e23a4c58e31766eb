//! Facts: asked one at a time, answered from the record, never confused.

use serde_json::json;

use super::*;
use crate::plan::At;

fn fact(args: Value, answer: Value) -> Fact {
    let at = At { file: "main.rhai".into(), line: 1, column: 1 };
    Fact { primitive: "k8s::secrets".into(), args: vec![args], answer, at }
}

const TWO: &str = "let a = k8s::secrets(\"a\");\nlet b = k8s::secrets(a[0].name);\nnote(`${b.len()}`);";

#[test]
fn each_read_ends_the_evaluation_until_its_answer_is_known() {
    let case = Case::new(TWO);
    let Declared::Need(first) = case.declare(&[]).unwrap() else { panic!("a need") };
    assert_eq!((first.args, first.at.line), (vec![json!("a")], 1));
    let known = [fact(json!("a"), json!([{"name": "pd"}]))];
    let Declared::Need(second) = case.declare(&known).unwrap() else { panic!("a need") };
    assert_eq!((second.args, second.at.line), (vec![json!("pd")], 2));
    let known = [known[0].clone(), fact(json!("pd"), json!([]))];
    let Declared::Plan(plan) = case.declare(&known).unwrap() else { panic!("a plan") };
    assert_eq!(plan.notes.first().unwrap().text, "0");
    assert_eq!(plan.facts, known);
}

#[test]
fn the_same_facts_give_the_same_plan_and_digest() {
    let case = Case::new(TWO);
    let first = case.evaluate().unwrap();
    let Declared::Plan(second) = case.declare(&first.facts).unwrap() else { panic!("a plan") };
    assert_eq!(first.digest().unwrap(), second.digest().unwrap());
    let text = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), first);
}

#[test]
fn another_question_than_the_recorded_one_is_refused() {
    let findings = Case::new(TWO).declare(&[fact(json!("z"), json!([]))]).unwrap_err();
    let finding = findings.first().unwrap();
    assert_eq!(finding.code, "script::facts-differ");
    assert_eq!(
        finding.hint.as_deref(),
        Some("read 1 was k8s::secrets(\"z\"), at main.rhai:1:1; now it is k8s::secrets(\"a\")")
    );
}

#[test]
fn facts_that_nobody_asks_for_are_refused() {
    let findings = Case::new("note(\"x\");").declare(&[fact(json!("a"), json!([]))]).unwrap_err();
    assert_eq!(findings.first().unwrap().message, "the record holds 1 reads, the script asks for 0");
}

#[test]
fn the_same_question_twice_is_one_fact() {
    let plan = plan("let a = k8s::secrets(\"tidb\"); let b = k8s::secrets(\"tidb\"); note(`${a == b}`);");
    assert_eq!(plan.facts.len(), 1);
    assert_eq!(plan.notes.first().unwrap().text, "true");
}

#[test]
fn a_read_that_fails_is_told_at_its_place() {
    let findings = findings("let a = 1;\nlet b = k8s::secrets(\"nowhere\");");
    let finding = findings.first().unwrap();
    assert_eq!(finding.message, "`k8s::secrets` failed: Namespace nowhere: there is no such namespace");
    assert_eq!((finding.at().unwrap().line, finding.failure), (2, Some(stdlib::error::Code::NotFound)));
}
