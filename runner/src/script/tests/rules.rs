//! One test a rule of the script surface: what a script declares.

use serde_json::json;

use super::*;
use crate::plan::{Expr, OnFailure, Role};

const ROTATION: &str = r#"// the sketch of the documentation
let ns = param("namespace");
let found = k8s::secrets(ns);

let both = phase("trust-both", "Every component trusts the old and the new CA.");
let ca = both.stage("new CA", mint::create(#{ cn: "TiDB" }));
let pair = bundle::of([ca.cert, "OLD"]);
for s in found { both.change(s.name, k8s::patch_secret(s.name, #{ "ca.crt": pair })).parallel(4); }
for s in found { both.settle(s.name, k8s::restart(s.name)).deadline("45m"); }
for s in found { both.prove(s.name, tls::serves(s.name, #{ trusted_by: pair })).retry(3, "2s"); }
"#;

#[test]
fn rule_1_declaring_gives_phases_and_steps_in_order_with_options() {
    let plan = plan(ROTATION);
    let keys: Vec<_> = plan.steps().map(|(_, step)| step.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "trust-both/stage/new CA",
            "trust-both/change/pd",
            "trust-both/change/tikv",
            "trust-both/settle/pd",
            "trust-both/settle/tikv",
            "trust-both/prove/pd",
            "trust-both/prove/tikv",
        ]
    );
    let settle = plan.step("trust-both/settle/pd").unwrap();
    assert_eq!((settle.deadline_s, settle.role, settle.at.line), (2700, Role::Settle, 9));
    let prove = plan.step("trust-both/prove/pd").unwrap();
    assert_eq!(prove.on_failure, OnFailure::Retry { times: 3, pause_ms: 2000 });
    assert_eq!(plan.phases.first().unwrap().why, "Every component trusts the old and the new CA.");
}

#[test]
fn rule_2_reads_are_facts_pure_is_computed_and_actions_are_data() {
    let plan = plan(
        r#"let found = k8s::secrets("tidb");
        let text = bundle::of(["A", "B"]);
        let p = phase("p", "why");
        p.change("x", k8s::patch_secret(found[1].name, #{ text: text }));"#,
    );
    let fact = plan.facts.first().unwrap();
    assert_eq!(
        (fact.primitive.as_str(), &fact.args, fact.at.line),
        ("k8s::secrets", &vec![json!("tidb")], 1)
    );
    let step = plan.step("p/change/x").unwrap();
    assert_eq!(step.action.args, [Expr::Lit(json!("tikv")), Expr::Lit(json!({"text": "A+B"}))]);
}

#[test]
fn rule_2_a_promise_anywhere_in_the_arguments_defers_a_read_or_a_computation() {
    let plan = plan(ROTATION);
    assert_eq!(
        serde_json::to_value(&plan.step("trust-both/change/pd").unwrap().action).unwrap(),
        json!({"primitive": "k8s::patch_secret", "args": ["pd", {"ca.crt":
            {"$call": "bundle::of", "args": [[{"$ref": "trust-both/stage/new CA", "path": ["cert"]}, "OLD"]]}}]})
    );
    assert_eq!(plan.facts.len(), 1, "only the list of secrets is a fact");
}

#[test]
fn rule_2_arguments_are_checked_by_type_whatever_rhai_would_accept() {
    let (code, message, line) = only("let p = phase(\"p\", \"w\");\np.settle(\"x\", k8s::restart(7));");
    assert_eq!((code.as_str(), line), ("script::argument-type", 2));
    assert_eq!(message, "`k8s::restart` expects a text for `name`, found the number 7");
    let (_, message, _) = only(r#"phase("p", "w").prove("x", tls::wait("soon", 1));"#);
    assert!(message.contains("`soon` is no duration"), "{message}");
}

#[test]
fn rule_2_integers_that_canonical_json_would_change_are_refused_in_arguments_but_not_in_facts() {
    let (code, message, _) = only(r#"phase("p", "w").prove("x", tls::wait("1s", 9007199254740993));"#);
    assert_eq!(code, "script::not-data");
    assert!(message.contains("too large"), "{message}");
    plan(r#"let s = k8s::secrets("tidb"); note(s[0].name);"#);
}

#[test]
fn rule_3_a_promise_can_be_projected_by_name_and_index_and_handed_on() {
    let plan = plan(
        r#"let p = phase("p", "why");
        let made = p.stage("ca", mint::create(#{}));
        p.change("x", k8s::patch_secret("x", #{ a: made.chain[1].pem, b: [made["key"], made.tag] }));"#,
    );
    assert_eq!(
        plan.step("p/change/x").unwrap().action.args.get(1).unwrap().to_value(),
        json!({
            "a": {"$ref": "p/stage/ca", "path": ["chain", "1", "pem"]},
            "b": [{"$ref": "p/stage/ca", "path": ["key"]}, {"$ref": "p/stage/ca", "path": ["tag"]}],
        })
    );
}

#[test]
fn rule_3_whatever_looks_at_a_promise_says_when_it_is_known_and_where() {
    for looks in [
        "print(ca);",
        "print(`the CA ${ca.cert}`);",
        "let x = \"CA \" + ca.cert;",
        "let x = ca.cert + \" CA\";",
        "let x = \"CA \"; x += ca.cert;",
        "if ca { }",
        "if ca.ready { }",
        "if !ca.ready { }",
        "if ca.ready && true { }",
        "while ca.ready { }",
        "if ca.cert == \"x\" { }",
        "if \"x\" != ca.cert { }",
        "if ca == ca { }",
        "if ca.days > 3 { }",
        "let x = ca.days + 1;",
        "let x = -ca.days;",
        "if ca.cert in [\"a\", \"b\"] { }",
        "if [1, ca].contains(2) { }",
        "for x in ca.list { note(x); }",
        "for x in 0..ca.count { note(x); }",
        "let x = [1, 2][ca.index];",
        "let x = #{ a: 1 }[ca.name];",
        "let x = ca.cert.len();",
        "let x = ca.to_string();",
        "let x = [ca].map(|c| c.cert.to_upper());",
        "note(ca.cert);",
        "let q = phase(ca.name, \"w\");",
        "p.change(ca.name, k8s::patch_secret(\"x\", #{}));",
        "let x = param(ca.name);",
        "let x = #{ a: ca } == #{ a: 1 };",
        "ca.cert = 1;",
        "try { print(ca.cert); } catch { }",
    ] {
        let script = format!(
            "let p = phase(\"p\", \"why\");\nlet ca = p.stage(\"ca\", mint::create(#{{}}));\n{looks}"
        );
        let findings = findings(&script);
        let finding = findings.first().unwrap();
        assert_eq!(findings.len(), 1, "{looks}");
        assert_eq!(finding.message, "this value is known only once step `p/stage/ca` has run", "{looks}");
        assert_eq!(finding.at().map(|at| at.line), Some(3), "{looks}: {finding:?}");
    }
}

#[test]
fn rule_3_switch_which_would_take_its_default_silently_is_refused_unless_its_value_is_always_known() {
    let (code, _, line) = only(
        "let p = phase(\"p\", \"w\");\nlet ca = p.stage(\"ca\", mint::create(#{}));\nswitch ca.kind { \"a\" => 1, _ => 2 };",
    );
    assert_eq!((code.as_str(), line), ("script::switch", 3));
    let plan = plan(r#"switch param("namespace") { "tidb" => note("yes"), _ => note("no") }"#);
    assert_eq!(plan.notes.first().unwrap().text, "yes");
}

#[test]
fn rule_4_twin_steps_are_an_error_with_both_places() {
    let findings = findings(
        "let p = phase(\"p\", \"w\");\nlet f = |n| p.settle(n, k8s::restart(\"x\"));\nf.call(\"a\");\np.settle(\"a\", k8s::restart(\"y\"));",
    );
    let finding = findings.first().unwrap();
    assert_eq!(finding.code, "script::twin");
    assert_eq!(finding.message, "two steps have the key `p/settle/a`");
    let lines: Vec<_> = finding.spots.iter().map(|spot| (spot.at.line, spot.label.as_str())).collect();
    assert_eq!(lines, [(4, "declared again here"), (2, "first declared here")]);
}

#[test]
fn rule_4_twin_phases_are_an_error_and_one_role_does_not_hide_another() {
    let (code, ..) = only("phase(\"p\", \"w\");\nphase(\"p\", \"w\");");
    assert_eq!(code, "script::twin-phase");
    plan(
        r#"let p = phase("p", "w");
        p.settle("a", k8s::restart("x"));
        p.prove("a", tls::serves("x", #{}));"#,
    );
}

#[test]
fn rule_4_a_promise_is_used_only_by_steps_that_run_after_its_own() {
    let (code, message, line) = only(
        "let p = phase(\"p\", \"w\");\nlet r = p.settle(\"a\", k8s::restart(\"x\"));\np.change(\"b\", k8s::patch_secret(r.name, #{}));",
    );
    assert_eq!((code.as_str(), line), ("script::late-reference", 3));
    assert_eq!(message, "step `p/change/b` needs the result of `p/settle/a`, which runs later");
}

#[test]
fn rule_4_steps_at_the_same_time_cannot_need_each_other() {
    let (code, ..) = only(
        r#"let p = phase("p", "w");
        let a = p.change("a", k8s::patch_secret("a", #{})).parallel(2);
        p.change("b", k8s::patch_secret("b", #{ x: a.digest })).parallel(2);"#,
    );
    assert_eq!(code, "script::parallel-reference");
}

#[test]
fn rule_5_settles_follow_changes_and_proofs_follow_settles_however_they_are_declared() {
    let plan = plan(
        r#"let p = phase("p", "w");
        p.prove("c", tls::serves("x", #{}));
        p.settle("b", k8s::restart("x"));
        p.change("a", k8s::patch_secret("x", #{}));
        p.stage("s", mint::create(#{}));
        p.back("undo", k8s::restart("x"));"#,
    );
    let keys: Vec<_> = plan.steps().map(|(_, step)| step.key.as_str()).collect();
    assert_eq!(keys, ["p/change/a", "p/stage/s", "p/settle/b", "p/prove/c"]);
    let back = plan.phases.first().unwrap().back.first().unwrap();
    assert_eq!((back.key.as_str(), back.role), ("p/back/undo", Role::Back));
}

#[test]
fn rule_5_each_kind_stands_only_where_it_may() {
    for (step, says) in [
        (
            r#"prove("x", k8s::patch_secret("x", #{}))"#,
            "`k8s::patch_secret` changes the world, so it cannot stand in `.prove`",
        ),
        (
            r#"change("x", mint::create(#{}))"#,
            "`mint::create` makes something random, so it cannot stand in `.change`",
        ),
        (
            r#"stage("x", k8s::restart("x"))"#,
            "`k8s::restart` makes running parties load what was changed, so it cannot stand in `.stage`",
        ),
        (
            r#"back("x", mint::create(#{}))"#,
            "`mint::create` makes something random, so it cannot stand in `.back`",
        ),
        (r#"prove("x", k8s::secrets("tidb"))"#, "`.prove` takes an action, found a value"),
        (r#"change("x", || k8s::restart("x"))"#, "`.change` takes an action, found a closure"),
    ] {
        let (_, message, _) = only(&format!("phase(\"p\", \"w\").{step};"));
        assert_eq!(message, says);
    }
}

#[test]
fn rule_5_parallel_groups_adjacent_steps_of_one_role_and_width() {
    let plan = plan(
        r#"let p = phase("p", "w");
        for n in ["a", "b"] { p.change(n, k8s::patch_secret(n, #{})).parallel(2); }
        p.change("alone", k8s::patch_secret("x", #{}));
        for n in ["c", "d"] { p.change(n, k8s::patch_secret(n, #{})).parallel(2); }
        for n in ["e"] { p.settle(n, k8s::restart(n)).parallel(2); }
        p.prove("all", tls::serves(item(), #{})).parallel(8).each(["x", "y"]);"#,
    );
    let groups: Vec<_> = plan
        .steps()
        .map(|(_, step)| (step.item.as_str(), step.parallel.map(|parallel| (parallel.group, parallel.width))))
        .collect();
    let a = groups.first().unwrap().1.unwrap().0;
    let c = groups.get(3).unwrap().1.unwrap().0;
    assert_ne!(a, c, "a step between them divides the groups");
    assert_eq!(groups.get(1).unwrap().1, Some((a, 2)));
    assert_eq!(groups.get(2).unwrap().1, None);
    assert_eq!(groups.get(5).unwrap().1, None, "a group of one is none");
    assert_eq!(groups.get(6).unwrap().1.map(|group| group.1), Some(8), "with each, the items are the group");
}

#[test]
fn rule_5_stages_between_parallel_changes_are_made_first_unless_they_need_one_of_them() {
    let keys = |script: &str| -> Vec<(String, Option<u32>)> {
        let plan = plan(script);
        plan.steps()
            .map(|(_, step)| (step.key.clone(), step.parallel.map(|parallel| parallel.group)))
            .collect()
    };
    let together = keys(
        r#"let p = phase("p", "w");
        for n in ["a", "b"] {
            let leaf = p.stage(n, mint::create(#{}));
            p.change(n, k8s::patch_secret(n, #{ crt: leaf.cert })).parallel(4);
        }"#,
    );
    let group = together.get(2).unwrap().1;
    assert!(group.is_some());
    let expected = [("p/stage/a", None), ("p/stage/b", None), ("p/change/a", group), ("p/change/b", group)];
    assert_eq!(together, expected.map(|(key, group)| (key.to_owned(), group)));
    let apart = keys(
        r#"let p = phase("p", "w");
        let a = p.change("a", k8s::patch_secret("a", #{})).parallel(4);
        let leaf = p.stage("x", mint::create(#{ after: a.digest }));
        p.change("b", k8s::patch_secret("b", #{ crt: leaf.cert })).parallel(4);"#,
    );
    assert_eq!(apart, ["p/change/a", "p/stage/x", "p/change/b"].map(|key| (key.to_owned(), None)));
}

#[test]
fn rule_6_secrets_pass_as_handles_and_never_become_text() {
    let plan = plan(
        r#"let k = mint::key();
        print(k);
        note(`${k} ${param("password")}`);
        phase("p", "w").change("x", mint::use_key(k));"#,
    );
    let notes: Vec<_> = plan.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(notes, ["secret spki:77", "secret spki:77 secret hmac:12"]);
    assert_eq!(
        plan.step("p/change/x").unwrap().action.args,
        [Expr::Lit(json!({"$secret": "ab12", "fp": "spki:77"}))]
    );
    let (code, ..) = only(r#"phase("p", "w").change("x", mint::use_key(#{ "$secret": "ab12", fp: "x" }));"#);
    assert_eq!(code, "script::not-data");
}
