//! One test a rule of the script surface.

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

#[test]
fn rule_9_the_first_refusal_stays_whatever_the_script_does() {
    for script in [
        "try { bundle::of([1]) } catch (e) { }\nphase(\"p\", \"w\").settle(\"x\", k8s::restart(\"x\"));",
        "let f = || bundle::of([1]);\ntry { f.call() } catch { }",
        "[1].map(|x| bundle::of([x]));",
        "let p = phase(\"p\", \"w\");\nlet ca = p.stage(\"x\", mint::create(#{}));\ntry { bundle::of([1]) } catch { }\nif ca == 1 { }",
        "fn f() { bundle::of([1]) }\ntry { try { f() } catch { throw \"other\"; } } catch { }",
    ] {
        let (code, message, _) = only(script);
        assert_eq!(code, "script::primitive", "{script}");
        assert_eq!(message, "`bundle::of` failed: that is no PEM");
    }
}

#[test]
fn rule_9_a_need_cannot_be_swallowed_either() {
    let case = Case::new("let s = [];\ntry { s = k8s::secrets(\"tidb\"); } catch { }\nnote(`${s.len()}`);");
    let plan = case.evaluate().unwrap();
    assert_eq!(plan.notes.first().unwrap().text, "2");
}

#[test]
fn rule_10_a_file_is_loaded_once_however_often_it_is_imported() {
    let case = Case::new(
        "import \"parts\" as a;\nimport \"lib/shared\" as b;\nimport \"parts\" as c;\nnote(`${a::N}`);",
    )
    .with("parts.rhai", "note(\"parts\");\nexport const N = 7;")
    .with("lib/shared.rhai", "import \"parts\" as p;\nnote(\"shared\");");
    let notes: Vec<_> =
        case.evaluate().unwrap().notes.into_iter().map(|note| (note.at.file, note.text)).collect();
    let said: Vec<_> = notes.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    assert_eq!(said, [("parts.rhai", "parts"), ("lib/shared.rhai", "shared"), ("main.rhai", "7")]);
}

#[test]
fn rule_10_eval_sleep_exit_and_unknown_variables_do_not_exist() {
    for (script, code) in [
        ("eval(\"1\");", "script::forbidden"),
        ("sleep(1);", "script::forbidden"),
        ("sleep(1.5);", "script::forbidden"),
        ("exit();", "script::forbidden"),
        ("exit(1);", "script::forbidden"),
        ("let cluster = 1;\nnote(clustr);", "script::unknown-variable"),
        ("let m = #{ a: 1 };\nnote(m.b);", "script::no-field"),
        ("timestamp();", "script::unknown-function"),
    ] {
        assert_eq!(only(script).0, code, "{script}");
    }
}

#[test]
fn rule_10_nothing_is_named_like_a_native() {
    for script in [
        "import \"other\" as k8s;",
        "fn mint() { }",
        "fn param(x) { x }",
        "fn stage(x) { x }",
        "fn len(x) { x }",
        "let phase = 1;",
        "fn f(item) { item }",
        "let f = |item| item;",
    ] {
        let case = Case::new(script).with("other.rhai", "");
        let findings = case.evaluate().expect_err(script);
        assert!(findings.iter().all(|finding| finding.code == "script::shadow"), "{script}: {findings:?}");
    }
}

#[test]
fn rule_10_a_variable_named_like_a_namespace_hides_nothing() {
    let plan = plan(
        r#"let k8s = k8s::secrets("tidb");
        let mint = phase("p", "w").stage("ca", mint::create(#{ n: k8s[0].name }));
        phase("q", "w").stage("more", mint::create(#{ ca: mint.cert }));"#,
    );
    assert_eq!(plan.step("q/stage/more").unwrap().action.primitive, "mint::create");
}

#[test]
fn rule_10_imports_come_from_the_own_folder_and_the_shared_modules() {
    assert_eq!(only("import \"../other/main\" as x;").0, "script::import");
    assert_eq!(only("import \"lib/none\" as x;").0, "script::unknown-import");
    assert_eq!(only("import \"lib/\" + \"x\" as x;").0, "script::import");
    let circle = Case::new("import \"a\" as a;")
        .with("a.rhai", "import \"b\" as b;")
        .with("b.rhai", "import \"a\" as a;");
    assert_eq!(circle.evaluate().unwrap_err().first().unwrap().code, "script::circular-import");
}

#[test]
fn rule_12_captured_and_shared_values_make_the_same_keys_and_arguments() {
    let plan = plan(
        r#"let p = phase("p", "w");
        let ns = "tidb";
        let declare = |n| { p.change(`${ns}/${n}`, k8s::patch_secret(n, #{ ns: ns })); };
        for n in ["a", "b"] { declare.call(n); }"#,
    );
    let keys: Vec<_> = plan.steps().map(|(_, step)| step.key.as_str()).collect();
    assert_eq!(keys, ["p/change/tidb/a", "p/change/tidb/b"]);
    assert_eq!(
        plan.step("p/change/tidb/a").unwrap().action.args.get(1),
        Some(&Expr::Lit(json!({"ns": "tidb"})))
    );
}

#[test]
fn a_shared_module_declares_steps_while_it_is_called_with_handles() {
    let case = Case::new(
        r#"import "lib/rotation" as rotation;
let both = phase("trust-both", "w");
let made = both.stage("ca", mint::create(#{}));
rotation::write_all(both, ["a", "b"], made.cert);"#,
    )
    .with(
        "lib/rotation.rhai",
        r#"fn write_all(stage_of, names, pem) {
    for n in names { one(stage_of, n, pem); }
}
private fn one(stage_of, n, pem) {
    stage_of.change(n, k8s::patch_secret(n, #{ "ca.crt": pem })).parallel(4);
}"#,
    );
    let plan = case.evaluate().unwrap();
    let step = plan.step("trust-both/change/b").unwrap();
    assert_eq!((step.at.file.as_str(), step.at.line), ("lib/rotation.rhai", 5));
    assert_eq!(step.parallel.map(|parallel| parallel.width), Some(4));
}

#[test]
fn reads_inside_trust_when_and_each_are_made_by_the_run() {
    let plan = plan(
        r#"trust(k8s::trust("basic"));
        let p = phase("p", "w");
        p.change("x", k8s::patch_secret(item().name, #{})).when(k8s::ready("x").ok).each(k8s::secrets("tidb"));"#,
    );
    assert!(plan.facts.is_empty());
    assert_eq!(plan.trust.as_ref().unwrap().primitive, "k8s::trust");
    let step = serde_json::to_value(plan.step("p/change/x").unwrap()).unwrap();
    assert_eq!(step["when"], json!({"$call": "k8s::ready", "args": ["x"], "path": ["ok"]}));
    assert_eq!(step["each"], json!({"$call": "k8s::secrets", "args": ["tidb"]}));
    assert_eq!(step["action"]["args"][0], json!({"$item": ["name"]}));
    assert_eq!(only("let t = k8s::trust(\"x\");\ntrust(t);").0, "script::trust");
    assert_eq!(
        only("phase(\"p\", \"w\").settle(\"x\", k8s::restart(item()));").0,
        "script::item-without-each"
    );
}

#[test]
fn an_action_that_no_step_carries_is_an_error() {
    let (code, message, line) = only(
        "let p = phase(\"p\", \"w\");\nk8s::patch_secret(\"x\", #{});\np.settle(\"x\", k8s::restart(\"x\"));",
    );
    assert_eq!((code.as_str(), line), ("script::unused-action", 2));
    assert!(message.starts_with("`k8s::patch_secret` is called but no step carries"), "{message}");
}

#[test]
fn an_action_or_a_phase_is_no_value() {
    assert_eq!(
        only("let a = k8s::restart(\"x\");\nphase(\"p\", \"w\").change(\"x\", k8s::patch_secret(a, #{}));").0,
        "script::action-as-value"
    );
    assert_eq!(
        only("let p = phase(\"p\", \"w\");\np.change(\"x\", k8s::patch_secret(p, #{}));").0,
        "script::not-data"
    );
}

#[test]
fn what_the_script_announces_the_manifest_must_too() {
    let plan = plan(
        r#"forward_only();
        let p = phase("p", "w").outage().final();
        p.settle("x", k8s::restart("x"));"#,
    );
    let phase = plan.phases.first().unwrap();
    assert!(plan.forward_only && phase.outage && phase.final_);
    let mut case = Case::new(
        "forward_only();\nlet p = phase(\"p\", \"w\").outage().final();\np.settle(\"x\", k8s::restart(\"x\"));",
    );
    case.manifest = Manifest::parse("title: t").unwrap();
    let codes: Vec<_> = case.evaluate().unwrap_err().into_iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["script::unannounced"; 3]);
}

#[test]
fn a_target_is_named_once_and_completely() {
    let good = r#"target(#{ api_version: "v1", kind: "TidbCluster", namespace: "tidb", name: "basic", uid: "u1" });"#;
    let target = plan(good).target.unwrap();
    assert_eq!(
        (target.title.as_str(), target.lease.as_str()),
        ("TidbCluster tidb/basic", "rollover-tidbcluster-basic")
    );
    assert_eq!(only(&format!("{good}\n{good}")).0, "script::twin");
    assert_eq!(only("target(#{ kind: \"x\", nmae: \"y\" });").1, "the target has no `name`");
}

#[test]
fn a_thrown_reason_is_the_diagnostic() {
    let (code, message, line) = only("let n = 1;\nif n == 1 { throw \"the cluster is paused\"; }");
    assert_eq!((code.as_str(), message.as_str(), line), ("script::thrown", "the cluster is paused", 2));
    let findings = findings("throw #{ message: \"paused\", hint: \"resume it\" };");
    assert_eq!(findings.first().unwrap().hint.as_deref(), Some("resume it"));
}

#[test]
fn a_step_touches_only_what_the_manifest_names() {
    let mut case = Case::new("phase(\"p\", \"w\").change(\"x\", k8s::patch_secret(\"x\", #{}));");
    case.params.insert("namespace".into(), json!("other"));
    let findings = case.evaluate().unwrap_err();
    assert_eq!(findings.first().unwrap().code, "script::capability");
    let mut case = Case::new("k8s::secrets(\"nowhere\");");
    case.manifest = Manifest::parse("title: t").unwrap();
    let findings = case.evaluate().unwrap_err();
    assert!(
        findings.first().unwrap().message.contains("secrets tidb/*"),
        "a read is refused before it is made"
    );
}

#[test]
fn options_follow_a_step_and_say_what_they_take() {
    let step = "let p = phase(\"p\", \"w\");\nlet s = p.settle(\"x\", k8s::restart(\"x\"));\n";
    for (option, says) in [
        ("s.deadline(\"0s\");", "a deadline is at least `1s`"),
        ("s.deadline(\"soon\");", "`soon` is no duration"),
        ("s.deadline(5);", "a deadline must be a text, found integer"),
        ("s.retry(0, \"1s\");", "the number of retries is an integer from 1 to 100"),
        ("s.parallel(1001);", "the width of `.parallel` is an integer from 1 to 1000"),
        ("s.when(1);", "`.when` takes `true`, `false` or a promise, found integer"),
        ("s.each(\"x\");", "`.each` takes a list or a promise of one, found text"),
        ("s.name.deadline(\"5s\");", "`.deadline` follows the declaration of a step, nothing else"),
    ] {
        let (code, message, line) = only(&format!("{step}{option}"));
        assert!(message.contains(says) && line == 3 && code.starts_with("script::"), "{option}: {message}");
    }
    let plan = plan(&format!("{step}s.when(false).ask();\np.settle(\"y\", k8s::restart(\"y\")).when(true);"));
    let skipped = plan.step("p/settle/x").unwrap();
    assert_eq!((&skipped.when, skipped.on_failure), (&Some(Expr::Lit(json!(false))), OnFailure::Ask));
    assert_eq!(plan.step("p/settle/y").unwrap().when, None);
}
